#include "cpu/threads.hpp"

#include <algorithm>
#include <limits>
#include <system_error>

#if defined(__linux__)
#include <sched.h>
#endif

namespace floatx::cpu {

int processor_count() {
#if defined(__linux__)
  // The affinity mask knows about taskset and cpusets; hardware_concurrency need not.
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
#endif
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

worker_pool::worker_pool(int count, bool required) {
  try {
    workers_.reserve(static_cast<size_t>(count - 1));
    while (size() < count) workers_.emplace_back([this] { work(); });
  } catch (const std::system_error&) {
    if (!required) return;
    stop();
    throw;
  } catch (...) {
    stop();
    throw;
  }
}

worker_pool::~worker_pool() { stop(); }

void worker_pool::stop() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void worker_pool::work() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return stopping_ || next_ < count_; });
    if (stopping_) return;
    take_tasks(lock);
  }
}

// A task is tens of microseconds or more, so one mutex is cheap enough to hand them out.
void worker_pool::take_tasks(std::unique_lock<std::mutex>& lock) {
  while (next_ < count_) {
    const int32_t index = next_++;
    lock.unlock();
    task_(argument_, index);
    lock.lock();
    if (--unfinished_ == 0) done_.notify_one();
  }
}

void worker_pool::run(int32_t count, void (*task)(void*, int32_t), void* argument) {
  std::unique_lock<std::mutex> lock(mutex_);
  task_ = task;
  argument_ = argument;
  next_ = 0;
  count_ = unfinished_ = count;
  const int32_t helpers = std::min(count - 1, static_cast<int32_t>(workers_.size()));
  for (int32_t i = 0; i < helpers; ++i) wake_.notify_one();
  take_tasks(lock);
  done_.wait(lock, [this] { return unfinished_ == 0; });
}

floatx_threads* threads_create(int32_t count, floatx_parallel_for run, void* pool) {
  auto threads = std::make_unique<floatx_threads>();
  threads->count = count == 0 ? processor_count() : count;
  threads->run = run;
  threads->pool = pool;
  if (!run && threads->count > 1) threads->workers = std::make_unique<worker_pool>(threads->count, true);
  return threads.release();
}

void threads_destroy(floatx_threads* threads) { delete threads; }

team::team(floatx_threads* threads, int64_t work_ns) : threads_(threads) {
  if (threads_) {
    lock_ = std::unique_lock<std::mutex>(threads_->in_use);
    size_ = threads_->count;
    return;
  }
  // Starting and joining a thread costs some 20 us, so each one should have at least 100 us to do.
  constexpr int64_t worthwhile_ns = 100'000;
  const auto wanted =
      static_cast<int>(std::min<int64_t>(std::max<int64_t>(work_ns / worthwhile_ns, 1), processor_count()));
  if (wanted > 1) {
    own_ = std::make_unique<worker_pool>(wanted, false);
    size_ = own_->size();
  }
}

void team::run_tasks(int64_t count, void (*task)(void*, int64_t), void* argument) {
  struct window {
    void (*task)(void*, int64_t);
    void* argument;
    int64_t first;
  } now{task, argument, 0};
  const auto shifted = [](void* data, int32_t index) {
    const auto& w = *static_cast<const window*>(data);
    w.task(w.argument, w.first + index);
  };
  worker_pool* workers = threads_ ? threads_->workers.get() : own_.get();
  // The callback counts in 32 bits.
  for (; now.first < count; now.first += std::numeric_limits<int32_t>::max()) {
    const auto part =
        static_cast<int32_t>(std::min<int64_t>(count - now.first, std::numeric_limits<int32_t>::max()));
    if (threads_ && threads_->run) {
      threads_->run(threads_->pool, part, shifted, &now);
    } else if (workers) {
      workers->run(part, shifted, &now);
    } else {
      for (int32_t index = 0; index < part; ++index) shifted(&now, index);
    }
  }
}

}  // namespace floatx::cpu
