// What cuda.hpp's linear is made of, for the tests: they run plans that this machine would not choose.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cuda/cuda.hpp"
#include "dispatch/linear_plan.hpp"

namespace floatx::cuda {

dispatch::linear_problem problem_of(const weight_shape& shape, int64_t m, floatx_type x_type,
                                    bool x_is_aligned, bool programmatic = false, bool exact_weights = false);

void linear_with(const dispatch::linear_plan& plan, const weight_shape& shape, const void* codes,
                 const void* scales, const float* tensor_scale, int64_t m, floatx_type x_type, const void* x,
                 int64_t x_stride, const void* bias, void* y, int64_t y_stride, const execution& how);

}  // namespace floatx::cuda
