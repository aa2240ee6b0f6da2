// SPDX-License-Identifier: Apache-2.0
#include "cli/workers.hpp"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>

#include "cli/support.hpp"

namespace floatx::cli {

workers::workers(int jobs) {
  const int count = jobs > 0 ? jobs : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  const auto make = [](int threads) {
    floatx_threads* made = nullptr;
    check(floatx_threads_create(threads, nullptr, nullptr, &made), "threads");
    return handle(made);
  };
  for (int i = 0; i < count; ++i) {
    single_.push_back(make(1));
  }
  all_ = make(count);
}

void workers::run(int64_t count, const std::function<void(int64_t, int)>& task) const {
  std::atomic<int64_t> next{0};
  std::atomic<bool> failed{false};
  std::mutex mutex;
  int64_t failed_index = 0;
  std::exception_ptr failure;
  const auto work = [&](int worker) {
    while (!failed.load(std::memory_order_relaxed)) {
      const int64_t index = next.fetch_add(1, std::memory_order_relaxed);
      if (index >= count) {
        return;
      }
      try {
        throw_if_interrupted();
        task(index, worker);
      } catch (...) {
        const std::lock_guard<std::mutex> lock(mutex);
        if (!failure || index < failed_index) {
          failure = std::current_exception();
          failed_index = index;
        }
        failed.store(true, std::memory_order_relaxed);
      }
    }
  };
  std::vector<std::thread> threads;
  // Threads that cannot be had are not missed: the work is done by the others.
  try {
    for (int worker = 1; worker < std::min<int64_t>(this->count(), count); ++worker) {
      threads.emplace_back(work, worker);
    }
  } catch (const std::system_error&) {
  }
  work(0);
  for (std::thread& thread : threads) {
    thread.join();
  }
  if (failure) {
    std::rethrow_exception(failure);
  }
}

floatx_execution workers::inside(int worker) const {
  floatx_execution execution = {};
  execution.struct_size = sizeof execution;
  execution.threads = single_[static_cast<size_t>(worker)].get();
  return execution;
}

floatx_execution workers::outside() const {
  floatx_execution execution = {};
  execution.struct_size = sizeof execution;
  execution.threads = all_.get();
  return execution;
}

}  // namespace floatx::cli
