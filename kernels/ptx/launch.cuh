// Programmatic dependent launch (sm_90); nothing on older processors, where no launch asks for it.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace floatx::ptx {

// Until the kernels before this one have ended and their writes can be read.
__device__ __forceinline__ void wait_for_previous_kernel() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// From here on the next kernel may be started as soon as there is room for it.
__device__ __forceinline__ void allow_next_kernel() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

}  // namespace floatx::ptx
