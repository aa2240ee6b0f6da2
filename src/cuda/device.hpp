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

// Launches with as much shared memory as config asks for. On one device from several threads one after the
// other, also while a launch waits because the stream is full: the limit that a kernel has to be given first
// is the same for all threads.
void launch(const void* kernel, const cudaLaunchConfig_t& config, void** parameters);

}  // namespace floatx::cuda
