// The CUDA backend as the C API sees it. Buffers are in device memory; work is enqueued, never waited for.
// Errors are thrown as failures. In a build without CUDA everything fails with UNSUPPORTED (absent.cpp).
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "floatx.h"
#include "floatx/quantize.hpp"
#include "weight.hpp"

namespace floatx::cuda {

struct execution {
  CUstream_st* stream;
  void* workspace;
  size_t workspace_bytes;
  floatx_report* report;  // may be null
  bool programmatic_launch;
  bool exact_weights;
};

// Returns where kernels can run on the current device.
void check_usable();

void pack(const stored_weight& target, floatx_type values_type, const void* values, int64_t values_stride,
          quantize_rules rules, const execution& how);

void unpack(const stored_weight& source, floatx_type values_type, void* values, int64_t values_stride,
            const execution& how);

void slice(const stored_weight& source, int64_t row_begin, int64_t k_begin, const stored_weight& target,
           const execution& how);

size_t linear_workspace_bytes(const weight_shape& shape, int64_t m, floatx_type x_type);

void linear(const weight_shape& shape, const void* codes, const void* scales, const float* tensor_scale,
            int64_t m, floatx_type x_type, const void* x, int64_t x_stride, const void* bias, void* y,
            int64_t y_stride, const execution& how);

}  // namespace floatx::cuda
