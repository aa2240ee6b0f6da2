// The GPU as the runtime needs it: memory, a stream, graphs.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace llama::gpu {

// Throws error("--device cuda: WHAT: <what the CUDA runtime says>") unless it is a success.
void check(cudaError_t status, const char* what);

class memory {
 public:
  memory() = default;
  explicit memory(size_t bytes);
  static memory zeros(size_t bytes);
  static memory copy(const void* host, size_t bytes);
  // At least this large; the contents are lost when it has to grow.
  void ensure(size_t bytes);
  void* get() const { return pointer_.get(); }
  template <class T>
  T* as() const {
    return static_cast<T*>(pointer_.get());
  }
  size_t size() const { return bytes_; }

 private:
  struct release {
    void operator()(void* pointer) const { cudaFree(pointer); }
  };
  std::unique_ptr<void, release> pointer_;
  size_t bytes_ = 0;
};

// Complete when it returns, for every stream.
void copy_to(void* device, const void* host, size_t bytes);

// Host memory that the GPU reads while the CPU goes on.
class pinned {
 public:
  void ensure(size_t bytes);
  template <class T>
  T* as() const {
    return static_cast<T*>(pointer_.get());
  }

 private:
  struct release {
    void operator()(void* pointer) const { cudaFreeHost(pointer); }
  };
  std::unique_ptr<void, release> pointer_;
  size_t bytes_ = 0;
};

class stream {
 public:
  stream();
  ~stream();
  stream(const stream&) = delete;
  stream& operator=(const stream&) = delete;
  cudaStream_t get() const { return stream_; }
  void wait() const;

 private:
  cudaStream_t stream_ = nullptr;
};

// What `enqueue` puts on the stream, to be launched as often as wanted.
class graph {
 public:
  graph(const stream& on, const std::function<void()>& enqueue);
  ~graph();
  graph(const graph&) = delete;
  graph& operator=(const graph&) = delete;
  void launch() const;

 private:
  cudaStream_t stream_;
  cudaGraphExec_t graph_ = nullptr;
};

// Milliseconds of what `enqueue` puts on the stream.
double time_ms(const stream& on, const std::function<void()>& enqueue);

std::string device_name();
int processor_count();
// Programmatic dependent launch: compute capability 9.0 on.
bool has_programmatic_launch();
// Thread blocks that see each other's shared memory: the same.
inline bool has_clusters() { return has_programmatic_launch(); }
bool is_hopper();

}  // namespace llama::gpu
