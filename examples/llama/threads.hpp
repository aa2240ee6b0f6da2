// The engine's own threads, which floatx borrows: one pool serves the linear layers and everything else.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <floatx/floatx.hpp>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace llama {

// A decode step runs some hundred short loops one after another, so the workers look for the next one a while
// before they sleep.
class thread_pool {
 public:
  // count 0: one for each processor.
  explicit thread_pool(int count = 0);
  ~thread_pool();
  thread_pool(const thread_pool&) = delete;
  thread_pool& operator=(const thread_pool&) = delete;

  int count() const { return static_cast<int>(workers_.size()) + 1; }
  // body(index) once for each index in [0, count), in any order; returns when all have finished. Not from
  // within a body, and from one thread at a time. A body must not throw.
  void each(int64_t count, const std::function<void(int64_t)>& body);
  // For floatx: calls that are handed this use the pool.
  const floatx::threads& lent() const { return lent_; }

 private:
  static void run_for_floatx(void* pool, int32_t count, void (*task)(void*, int32_t), void* argument);
  void work();
  void take();
  bool wait_for_work(uint64_t last);

  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_;
  const std::function<void(int64_t)>* body_ = nullptr;
  int64_t total_ = 0;
  std::atomic<uint64_t> round_{0};
  std::atomic<int64_t> next_{0};
  std::atomic<int> busy_{0};
  bool end_ = false;
  floatx::threads lent_;
};

}  // namespace llama
