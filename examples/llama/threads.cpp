// SPDX-License-Identifier: Apache-2.0
#include "threads.hpp"

#include <sched.h>

#include <algorithm>

namespace llama {
namespace {

// Some tens of microseconds: longer than what lies between two loops of a step.
constexpr int spins = 4000;

int processors() {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof set, &set) == 0 ? std::max(1, CPU_COUNT(&set)) : 1;
}

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

thread_pool::thread_pool(int count)
    : lent_((count > 0 ? count : processors()), &thread_pool::run_for_floatx, this) {
  const int wanted = count > 0 ? count : processors();
  for (int i = 1; i < wanted; ++i) workers_.emplace_back([this] { work(); });
}

thread_pool::~thread_pool() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    end_ = true;
    round_.fetch_add(1);
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void thread_pool::run_for_floatx(void* pool, int32_t count, void (*task)(void*, int32_t), void* argument) {
  static_cast<thread_pool*>(pool)->each(count, [&](int64_t i) { task(argument, static_cast<int32_t>(i)); });
}

void thread_pool::each(int64_t count, const std::function<void(int64_t)>& body) {
  if (workers_.empty() || count <= 1) {
    for (int64_t i = 0; i < count; ++i) body(i);
    return;
  }
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    body_ = &body;
    total_ = count;
    next_.store(0);
    busy_.store(static_cast<int>(workers_.size()));
    round_.fetch_add(1);
  }
  wake_.notify_all();
  take();
  // Every worker must have seen this round before the next may begin.
  for (int i = 0; busy_.load(std::memory_order_acquire) > 0; ++i) {
    i < spins ? pause() : std::this_thread::yield();
  }
}

void thread_pool::take() {
  for (int64_t i; (i = next_.fetch_add(1)) < total_;) (*body_)(i);
}

bool thread_pool::wait_for_work(uint64_t last) {
  for (int i = 0; i < spins && round_.load(std::memory_order_acquire) == last; ++i) pause();
  std::unique_lock<std::mutex> lock(mutex_);
  wake_.wait(lock, [&] { return round_.load() != last; });
  return !end_;
}

void thread_pool::work() {
  for (uint64_t last = 0; wait_for_work(last); ++last) {
    take();
    busy_.fetch_sub(1, std::memory_order_release);
  }
}

}  // namespace llama
