// The compiled instances of kernels::linear_tile, found by their template arguments.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dispatch/linear_plan.hpp"

namespace floatx::instances {

// They exist in machine code for sm_90a alone; set by the build.
#if defined(FLOATX_HAS_SM90A)
constexpr bool has_linear_tile = true;
#else
constexpr bool has_linear_tile = false;
#endif

// As find_linear_stream.
const void* find_linear_tile(const dispatch::linear_kernel& kernel);

template <int Bits>
const void* find_linear_tile_of(const dispatch::linear_kernel& kernel);

}  // namespace floatx::instances
