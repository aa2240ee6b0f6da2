// What a warpgroup (sm_90a) or a part of a thread block does together.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace floatx::ptx {

// A barrier of `threads` threads, by number; 0 is that of __syncthreads.
__device__ __forceinline__ void barrier(int number, int threads) {
  asm volatile("barrier.cta.sync %0, %1;" ::"r"(number), "r"(threads) : "memory");
}

// At such a barrier, without waiting for the others.
__device__ __forceinline__ void barrier_arrive(int number, int threads) {
  asm volatile("barrier.cta.arrive %0, %1;" ::"r"(number), "r"(threads) : "memory");
}

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

// What all lanes have the same of, in a register that the warp has in common: what is computed from it alone
// takes one operation a warp.
__device__ __forceinline__ uint32_t uniform(uint32_t value) { return __reduce_or_sync(0xffffffffu, value); }

// Registers of each thread from here on, by all warps of a warpgroup: fewer than before, so that others can
// take them; or more, once they have been given.
template <int Count>
__device__ __forceinline__ void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Count));
}

template <int Count>
__device__ __forceinline__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Count));
}

#endif

}  // namespace floatx::ptx
