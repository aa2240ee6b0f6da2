// Launching kernels so that they may begin while the one before them ends (programmatic dependent launch,
// from compute capability 9.0 on; on older processors an ordinary launch).
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_fp16.h>

#include "gpu.hpp"
#include "kernels.hpp"

namespace llama::gpu {

inline const half* as_halves(const half_bits* bits) { return reinterpret_cast<const half*>(bits); }
inline half* as_halves(half_bits* bits) { return reinterpret_cast<half*>(bits); }

// Until the kernels before this one have ended and their writes can be read. Every block must come by here:
// that a kernel has ended shall mean that those before it have, too.
__device__ __forceinline__ void wait_for_previous() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// From here on the next kernel may be started as soon as there is room for it.
__device__ __forceinline__ void allow_next() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

template <class... Parameters, class... Arguments>
void launch(const launch_on& on, dim3 blocks, int threads, size_t shared_bytes, void (*kernel)(Parameters...),
            Arguments... arguments) {
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = blocks;
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = shared_bytes;
  config.stream = on.stream;
  config.attrs = &attribute;
  config.numAttrs = on.programmatic ? 1 : 0;
  check(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...), "kernel");
}

}  // namespace llama::gpu
