// The linear layers on the CPU. Quantized ones are floatx_linear and nothing else; dense ones are the
// baseline.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <floatx.h>

#include <memory>
#include <variant>
#include <vector>

#include "threads.hpp"
#include "weights.hpp"

namespace llama::cpu {

// y[m, n] = x[m, k] . W[n, k]^T, where W may be several matrices that share x, one below the other.
class linear {
 public:
  // Dense parts are quantized as `scheme` says; quantized ones are only moved to the CPU's layout.
  linear(std::vector<matrix> parts, const quantization& scheme, thread_pool& threads);
  linear(matrix part, const quantization& scheme, thread_pool& threads);

  int64_t n() const { return n_; }
  int64_t k() const { return k_; }
  void run(int64_t m, const float* x, float* y);
  // Of codes, scales and dense values: what a token reads.
  size_t bytes() const;

 private:
  // A weight in the CPU's layout, in memory of ours: of one matrix, or of several one below the other.
  struct packed {
    packed(const std::vector<matrix>& sources, const quantization& scheme, const thread_pool& threads);
    void own(const std::string& where);
    floatx_weight weight = {};
    buffer codes, scales;
    std::unique_ptr<float> tensor_scale;
  };
  struct part {
    std::variant<matrix, packed> weight;
    int64_t row;  // the first of its rows in y
  };
  void run_dense(const matrix& dense, int64_t m, const float* x, float* y);

  std::vector<part> parts_;
  int64_t n_ = 0;
  int64_t k_ = 0;
  thread_pool* threads_;
  buffer prepared_;
};

}  // namespace llama::cpu
