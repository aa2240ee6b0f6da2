// The linear layers on the GPU: floatx_linear, or FP16 weights by cuBLASLt.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <floatx.h>

#include <memory>
#include <vector>

#include "cublas_lt.hpp"
#include "gpu.hpp"
#include "weights.hpp"

namespace llama::gpu {

// What all layers share.
struct linear_context {
  const stream& on;
  bool programmatic;
  bool is_hopper;
  std::unique_ptr<cublas_lt> blas;  // NULL where there is none
  memory workspace;                 // of floatx_linear: zeros, which every call leaves fit for the next
  memory unpacked;                  // the FP16 values of one layer
};

// y[m, n] = x[m, k] . W[n, k]^T, where W may be several matrices that share x, one below the other. x and y
// are FP16.
class linear {
 public:
  // Dense parts are quantized on the GPU as `scheme` says; quantized ones are moved to its layout there.
  linear(const std::vector<matrix>& parts, const quantization& scheme, linear_context& context);

  int64_t n() const { return n_; }
  int64_t k() const { return k_; }
  // The workspace for up to m tokens is taken into account; call it for every layer before the first run.
  void prepare(int64_t m);
  void run(int64_t m, const void* x, void* y) const;
  // One token's product with FP16 weights by the kernel here, which begins early, in place of cuBLASLt's.
  void begin_early() { begins_early_ = true; }
  size_t bytes() const { return bytes_; }
  // FP16 weights, for tuning; NULL for quantized ones.
  const void* dense() const { return dense_.get(); }

 private:
  struct part {
    floatx_weight weight;
    int64_t row;
    memory codes, scales, tensor_scale;
  };
  void add_dense(const std::vector<matrix>& parts);
  void pack(const std::vector<matrix>& parts, const quantization& scheme);
  void repack(const matrix& source);
  part make_part(floatx_weight description);

  linear_context* context_;
  std::vector<part> parts_;
  memory dense_;
  int64_t n_ = 0;
  int64_t k_ = 0;
  size_t bytes_ = 0;
  bool begins_early_ = false;
};

}  // namespace llama::gpu
