// The compiled instances of kernels::linear_stream, found by their template arguments.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dispatch/linear_plan.hpp"

namespace floatx::instances {

// The device function as cudaLaunchKernelExC takes it; nullptr for arguments without an instance.
const void* find_linear_stream(const dispatch::linear_kernel& kernel);

// One for each width of codes, in files of their own so that they compile side by side.
template <int Bits>
const void* find_linear_stream_of(const dispatch::linear_kernel& kernel);

}  // namespace floatx::instances
