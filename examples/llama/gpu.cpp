// SPDX-License-Identifier: Apache-2.0
#include "gpu.hpp"

#include <fmt/format.h>

#include "support.hpp"

namespace llama::gpu {
namespace {

int attribute(cudaDeviceAttr which) {
  int device = 0;
  int value = 0;
  check(cudaGetDevice(&device), "device");
  check(cudaDeviceGetAttribute(&value, which, device), "device attribute");
  return value;
}

}  // namespace

void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess) {
    // The runtime remembers it, and would report it again for the next kernel.
    cudaGetLastError();
    throw error(fmt::format("--device cuda: {}: {} ({})", what, cudaGetErrorString(status),
                            cudaGetErrorName(status)));
  }
}

memory::memory(size_t bytes) { ensure(bytes); }

memory memory::zeros(size_t bytes) {
  memory made(bytes);
  if (bytes > 0) {
    check(cudaMemset(made.get(), 0, bytes), "filling memory");
    check(cudaDeviceSynchronize(), "filling memory");
  }
  return made;
}

memory memory::copy(const void* host, size_t bytes) {
  memory made(bytes);
  if (bytes > 0) copy_to(made.get(), host, bytes);
  return made;
}

void copy_to(void* device, const void* host, size_t bytes) {
  // The copy may return before the data are there, and streams like ours do not wait for it.
  check(cudaMemcpy(device, host, bytes, cudaMemcpyHostToDevice), "copying to the GPU");
  check(cudaDeviceSynchronize(), "copying to the GPU");
}

void memory::ensure(size_t bytes) {
  if (bytes <= bytes_) return;
  pointer_.reset();
  bytes_ = 0;
  void* pointer = nullptr;
  check(cudaMalloc(&pointer, bytes),
        fmt::format("{} of memory", show_bytes(static_cast<double>(bytes))).c_str());
  pointer_.reset(pointer);
  bytes_ = bytes;
}

void pinned::ensure(size_t bytes) {
  if (bytes <= bytes_) return;
  pointer_.reset();
  bytes_ = 0;
  void* pointer = nullptr;
  check(cudaMallocHost(&pointer, bytes), "host memory");
  pointer_.reset(pointer);
  bytes_ = bytes;
}

stream::stream() { check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "stream"); }
stream::~stream() { cudaStreamDestroy(stream_); }
void stream::wait() const { check(cudaStreamSynchronize(stream_), "running"); }

graph::graph(const stream& on, const std::function<void()>& enqueue) : stream_(on.get()) {
  cudaGraph_t captured = nullptr;
  check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "capture");
  try {
    enqueue();
  } catch (...) {
    if (cudaStreamEndCapture(stream_, &captured) == cudaSuccess) cudaGraphDestroy(captured);
    throw;
  }
  check(cudaStreamEndCapture(stream_, &captured), "capture");
  const cudaError_t status = cudaGraphInstantiateWithFlags(&graph_, captured, 0);
  cudaGraphDestroy(captured);
  check(status, "graph");
}

graph::~graph() { cudaGraphExecDestroy(graph_); }
void graph::launch() const { check(cudaGraphLaunch(graph_, stream_), "graph"); }

double time_ms(const stream& on, const std::function<void()>& enqueue) {
  cudaEvent_t begin = nullptr, end = nullptr;
  check(cudaEventCreate(&begin), "event");
  check(cudaEventCreate(&end), "event");
  check(cudaEventRecord(begin, on.get()), "event");
  enqueue();
  check(cudaEventRecord(end, on.get()), "event");
  on.wait();
  float ms = 0;
  check(cudaEventElapsedTime(&ms, begin, end), "event");
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  return double{ms};
}

std::string device_name() {
  int device = 0;
  cudaDeviceProp properties = {};
  check(cudaGetDevice(&device), "device");
  check(cudaGetDeviceProperties(&properties, device), "device");
  return properties.name;
}

int processor_count() { return attribute(cudaDevAttrMultiProcessorCount); }
bool has_programmatic_launch() { return attribute(cudaDevAttrComputeCapabilityMajor) >= 9; }
bool is_hopper() { return attribute(cudaDevAttrComputeCapabilityMajor) == 9; }

}  // namespace llama::gpu
