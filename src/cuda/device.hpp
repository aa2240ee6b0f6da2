// The current device, and the CUDA runtime's errors as failures.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include "dispatch/linear_plan.hpp"

namespace floatx::cuda {

// Throws CUDA_ERROR naming `call` and the error.
void check(cudaError_t error, const char* call);

// Throws UNSUPPORTED where there is no device that the kernels run on.
dispatch::device_limits current_device();

// Lets a kernel's thread blocks have all the shared memory that is left beside `static_bytes`. It is the same
// limit at every call: one of what a launch needs would fail that of another thread that needs more.
void allow_all_shared_memory(const void* kernel, const dispatch::device_limits& device, int static_bytes);

}  // namespace floatx::cuda
