// The linear layer on the GPU as the benchmarks call it: weights to rotate among, and a check of what came
// out.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "cli/bench_problem.hpp"
#include "cli/gpu.hpp"

namespace floatx::cli {

// Copies in GPU memory of one random weight.
class gpu_weights {
 public:
  //   copies  0 = as many as gpu_rotation_count says.
  gpu_weights(const layer& shape, const quantization& scheme, const workers& threads, int copies = 0);
  const std::vector<floatx_weight>& copies() const { return copies_; }
  const random_weight& source() const { return source_; }
  // Of one copy: codes and scales.
  size_t bytes() const { return copies_[0].codes_bytes + copies_[0].scales_bytes; }

 private:
  random_weight source_;
  std::vector<floatx_weight> copies_;
  gpu_buffer memory_;
};

// x and y of a call. Strides are k and n where the tensors stand alone.
struct gpu_call {
  int64_t m;
  floatx_type type;
  const void* x;
  int64_t x_stride;
  void* y;
  int64_t y_stride;
};

// In device memory, on the stream.
floatx_execution gpu_execution(const gpu_stream& stream);

// The workspace with which calls run at full speed: zeros, as it has to be before its first use.
gpu_buffer gpu_workspace(const floatx_weight& weight, int64_t m, floatx_type type);

void enqueue_linear(const floatx_weight& weight, const gpu_call& call, const gpu_buffer& workspace,
                    uint32_t flags, const gpu_stream& stream);

// Compares eight outputs with the definition in FP64, and throws where one is wrong.
//   flags   of the call, FLOATX_EXECUTION_*.
//   x_host  [m, k], what call.x holds, without gaps.
void check_samples(const random_weight& weight, const gpu_call& call, uint32_t flags, const void* x_host,
                   const std::string& where);

}  // namespace floatx::cli
