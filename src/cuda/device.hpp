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

// Launches with as much shared memory as config asks for, beside the kernel's own static_shared_bytes. The
// limit that a kernel has to be given first is the most that there is: it is the same for every launch, so no
// other thread, and no graph that is instantiated later, finds a lower one.
void launch(const void* kernel, int static_shared_bytes, const cudaLaunchConfig_t& config, void** parameters);

}  // namespace floatx::cuda
