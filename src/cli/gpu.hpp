// The GPU as a benchmark needs it: memory, a stream, graphs and how long they take.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace floatx::cli {

// Throws std::runtime_error("--cuda: WHAT: <what the CUDA runtime says>") unless it is a success.
void check(cudaError_t error, const std::string& what);

class gpu_buffer {
 public:
  gpu_buffer() = default;
  explicit gpu_buffer(size_t bytes);
  // Filled with bytes of this value.
  gpu_buffer(size_t bytes, int value);
  // A copy of host memory.
  gpu_buffer(const void* host, size_t bytes);
  void* get() const { return memory_.get(); }
  size_t size() const { return bytes_; }

 private:
  struct release {
    void operator()(void* memory) const { cudaFree(memory); }
  };
  std::unique_ptr<void, release> memory_;
  size_t bytes_ = 0;
};

class gpu_stream {
 public:
  gpu_stream();
  ~gpu_stream();
  gpu_stream(const gpu_stream&) = delete;
  gpu_stream& operator=(const gpu_stream&) = delete;
  cudaStream_t get() const { return stream_; }
  void wait() const;

 private:
  cudaStream_t stream_ = nullptr;
};

// What `enqueue` puts on the stream, to be replayed.
class gpu_graph {
 public:
  gpu_graph(const gpu_stream& stream, const std::function<void()>& enqueue);
  ~gpu_graph();
  gpu_graph(const gpu_graph&) = delete;
  gpu_graph& operator=(const gpu_graph&) = delete;
  void replay() const;

 private:
  cudaStream_t stream_;
  cudaGraphExec_t graph_ = nullptr;
};

struct replay_time {
  double us;
  double cycles;  // of a multiprocessor's clock, which power may lower between two samples
};

// Of a replay of each, from event to event: medians of at least 20 samples, which are taken in
// turns in random order, so that all of them find the GPU equally warm. With `settle_seconds` the turns are
// long, in every order of the graphs once: after a pause a graph is first replayed so long by itself and then
// sampled for `seconds`, so its samples find the clock that its own power, not that of the others, leaves.
// Then it is the mean of the turns' medians.
std::vector<replay_time> time_graphs(const std::vector<const gpu_graph*>& graphs, const gpu_stream& stream,
                                     double seconds, double settle_seconds = 0);
replay_time time_graph(const gpu_graph& graph, const gpu_stream& stream, double seconds);

// Copies of something to rotate among so that no cache holds them: together more than 260 MB, and more than
// five times the L2. Never fewer than four, lest the pause between two replays count.
int gpu_rotation_count(size_t bytes);

// Bytes a second: the best of several ways to read some GB of random data.
double gpu_read_bandwidth(const gpu_stream& stream);

struct gpu_description {
  std::string name;
  std::string driver;
  std::string runtime;  // "13.0"
};
gpu_description describe_gpu();

}  // namespace floatx::cli
