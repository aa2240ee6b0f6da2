// A caller's own pool, as floatx_threads_create takes one.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>

namespace floatx::test {

// Three threads, which hand out the tasks from the last to the first.
struct backwards_pool {
  std::atomic<int> calls{0}, inside{0}, most_inside{0};

  static void run(void* pool, int32_t count, void (*task)(void*, int32_t), void* argument) {
    auto& self = *static_cast<backwards_pool*>(pool);
    ++self.calls;
    const int now = ++self.inside;
    for (int most = self.most_inside; now > most && !self.most_inside.compare_exchange_weak(most, now);) {
    }
    std::atomic<int32_t> next{count};
    const auto work = [&] {
      for (int32_t i; (i = --next) >= 0;) task(argument, i);
    };
    std::thread a(work), b(work);
    work();
    a.join();
    b.join();
    --self.inside;
  }
};

}  // namespace floatx::test
