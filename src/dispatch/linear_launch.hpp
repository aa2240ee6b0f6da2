// The parameters of a plan's kernel: plain numbers and pointers, so that they can be made without a GPU.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "dispatch/linear_plan.hpp"
#include "linear_tile_arguments.hpp"
#include "weight.hpp"

namespace floatx::dispatch {

struct linear_operands {
  const void *codes, *scales;  // gpu arrangement
  const float* tensor_scale;   // may be null
  int64_t m;
  bool bf16;  // x, y and bias, else FP16
  const void* x;
  int64_t x_stride;
  const void* bias;  // may be null
  void* y;
  int64_t y_stride;
  void* workspace;  // of the plan's workspace_bytes
};

// To 16 bytes, elements being of 2.
bool rows_are_aligned(const void* matrix, int64_t stride);

kernels::linear_arguments arguments_of(const linear_plan& plan, const weight_shape& shape,
                                       const linear_operands& of);

// Of the tile family; all but the map of x, which the driver makes.
kernels::linear_tile_arguments tile_arguments_of(const linear_plan& plan, const weight_shape& shape,
                                                 const linear_operands& of);

}  // namespace floatx::dispatch
