// The threads that host functions run on. See floatx_threads in floatx.h for the promises.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "floatx.h"

namespace floatx::cpu {

// Workers that sleep between runs. One run at a time; the calling thread takes part.
class worker_pool {
 public:
  // Starts count - 1 workers. With `required` a thread that cannot be started throws std::system_error;
  // otherwise the pool is smaller.
  worker_pool(int count, bool required);
  ~worker_pool();
  worker_pool(const worker_pool&) = delete;
  worker_pool& operator=(const worker_pool&) = delete;

  int size() const { return static_cast<int>(workers_.size()) + 1; }
  void run(int32_t count, void (*task)(void*, int32_t), void* argument);

 private:
  void work();
  void take_tasks(std::unique_lock<std::mutex>& lock);
  void stop();

  std::mutex mutex_;
  std::condition_variable wake_, done_;
  void (*task_)(void*, int32_t) = nullptr;
  void* argument_ = nullptr;
  int32_t next_ = 0, count_ = 0;  // next_ < count_: tasks are waiting
  int32_t unfinished_ = 0;
  bool stopping_ = false;
  std::vector<std::thread> workers_;
};

// Processors that this process may run on, at least 1.
int processor_count();

}  // namespace floatx::cpu

// Either workers of our own or the caller's parallel-for.
struct floatx_threads {
  std::mutex in_use;  // a handle serves one call at a time
  int count = 1;
  floatx_parallel_for run = nullptr;
  void* pool = nullptr;
  std::unique_ptr<floatx::cpu::worker_pool> workers;  // when run is null and count > 1
};

namespace floatx::cpu {

// As floatx_threads_create and _destroy. create throws std::bad_alloc or std::system_error when memory
// or a thread cannot be had.
floatx_threads* threads_create(int32_t count, floatx_parallel_for run, void* pool);
void threads_destroy(floatx_threads* threads);

// The threads of one call, held from construction to destruction.
class team {
 public:
  // threads null: as many threads as the work is worth are started for this call, as many as the system
  // gives. work_ns estimates what one thread would take.
  team(floatx_threads* threads, int64_t work_ns);

  // How many tasks run at once.
  int size() const { return size_; }

  // Runs body(index) for every index in [0, count); returns when all have finished. body must not throw.
  template <class Body>
  void run(int64_t count, Body&& body) {
    using body_type = std::remove_reference_t<Body>;
    run_tasks(
        count, [](void* argument, int64_t index) { (*static_cast<body_type*>(argument))(index); },
        const_cast<void*>(static_cast<const void*>(&body)));
  }

 private:
  void run_tasks(int64_t count, void (*task)(void*, int64_t), void* argument);

  std::unique_lock<std::mutex> lock_;
  floatx_threads* threads_ = nullptr;
  std::unique_ptr<worker_pool> own_;
  int size_ = 1;
};

}  // namespace floatx::cpu
