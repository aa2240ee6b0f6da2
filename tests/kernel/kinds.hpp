// The kinds of scales, groups and values that the tests of kernels go through.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "floatx.h"

namespace floatx::test {

constexpr floatx_scale_type all_scale_types[] = {FLOATX_SCALE_F32, FLOATX_SCALE_F16, FLOATX_SCALE_BF16,
                                                 FLOATX_SCALE_E8M0, FLOATX_SCALE_E4M3FN};
constexpr int64_t all_group_sizes[] = {0, 16, 32, 64, 128};
constexpr floatx_type all_types[] = {FLOATX_TYPE_F32, FLOATX_TYPE_F16, FLOATX_TYPE_BF16};

inline size_t bytes_of(floatx_type type) { return type == FLOATX_TYPE_F32 ? 4 : 2; }

inline size_t bytes_of(floatx_scale_type type) {
  return type == FLOATX_SCALE_F32 ? 4 : type == FLOATX_SCALE_F16 || type == FLOATX_SCALE_BF16 ? 2 : 1;
}

}  // namespace floatx::test
