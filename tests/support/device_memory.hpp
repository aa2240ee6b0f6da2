// Device memory for tests: poisoned, between guards.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "support/skip.hpp"

// In a test case, whose rest it skips where there is no GPU.
#define NEEDS_GPU \
  if (!floatx::test::has_gpu()) return floatx::test::skip("no GPU")

namespace floatx::test {

inline void cuda_check(cudaError_t error) {
  if (error != cudaSuccess) throw std::runtime_error(std::string("CUDA: ") + cudaGetErrorString(error));
}

inline bool has_gpu() {
  int count = 0;
  const bool found = cudaGetDeviceCount(&count) == cudaSuccess && count > 0;
  cudaGetLastError();
  return found;
}

class device_buffer {
 public:
  explicit device_buffer(size_t bytes) : bytes_(bytes) {
    cuda_check(cudaMalloc(&data_, bytes + 2 * guard));
    cuda_check(cudaMemset(data_, poison, bytes + 2 * guard));
  }
  device_buffer(const void* host, size_t bytes) : device_buffer(bytes) { upload(host); }
  device_buffer(device_buffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(other.bytes_) {}
  ~device_buffer() { cudaFree(data_); }

  uint8_t* data() const { return static_cast<uint8_t*>(data_) + guard; }
  size_t size() const { return bytes_; }
  void upload(const void* host) { cuda_check(cudaMemcpy(data(), host, bytes_, cudaMemcpyHostToDevice)); }
  void fill(int byte) { cuda_check(cudaMemset(data(), byte, bytes_)); }
  void download(void* host) const { cuda_check(cudaMemcpy(host, data(), bytes_, cudaMemcpyDeviceToHost)); }
  bool guards_intact() const {
    std::vector<uint8_t> all(bytes_ + 2 * guard);
    cuda_check(cudaMemcpy(all.data(), data_, all.size(), cudaMemcpyDeviceToHost));
    for (size_t i = 0; i < guard; ++i) {
      if (all[i] != poison || all[guard + bytes_ + i] != poison) return false;
    }
    return true;
  }

  static constexpr uint8_t poison = 0xa7;

 private:
  static constexpr size_t guard = 256;
  void* data_ = nullptr;
  size_t bytes_;
};

}  // namespace floatx::test
