// cuBLAS, if it can be loaded: what floatx is compared with.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <memory>

#include "cli/gpu.hpp"
#include "floatx.h"

namespace floatx::cli {

class cublas {
 public:
  // Null where the library is not there.
  static std::unique_ptr<cublas> load(const gpu_stream& stream);
  ~cublas();
  cublas(const cublas&) = delete;
  cublas& operator=(const cublas&) = delete;

  // y[m,n] = x[m,k] . w[n,k]^T, all of the type, F16 or BF16; sums in FP32. On the stream, without
  // allocating.
  void multiply(floatx_type type, int64_t m, int64_t n, int64_t k, const void* x, const void* w,
                void* y) const;

  int version() const;

 private:
  struct functions;
  explicit cublas(std::unique_ptr<functions> library, const gpu_stream& stream);
  std::unique_ptr<functions> library_;
  void* handle_ = nullptr;
  gpu_buffer workspace_;
};

}  // namespace floatx::cli
