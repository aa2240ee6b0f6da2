// cp.async (sm_80): global to shared memory without passing through registers.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace floatx::ptx {

__device__ __forceinline__ uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// The launch's dynamic shared memory.
__device__ __forceinline__ unsigned char* dynamic_shared_memory() {
  extern __shared__ __align__(1024) unsigned char shared_memory[];
  return shared_memory;
}

// 16 bytes, both addresses aligned to 16; past L1, which has nothing to gain from data that is used once.
__device__ __forceinline__ void copy_async(uint32_t to_smem, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to_smem), "l"(from) : "memory");
}

// The first `bytes` (0 .. 16) of 16, the rest becomes zero. Nothing is read for 0.
__device__ __forceinline__ void copy_async(uint32_t to_smem, const void* from, int bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to_smem), "l"(from), "r"(bytes)
               : "memory");
}

__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most Pending of this thread's groups are under way.
template <int Pending>
__device__ __forceinline__ void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}

}  // namespace floatx::ptx
