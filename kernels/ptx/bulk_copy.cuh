// Bulk copies (sm_90): one thread has the copy engine move a row of bytes and count them at a barrier.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "barrier.cuh"

namespace floatx::ptx {

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
constexpr bool has_bulk_copies = true;
#else
constexpr bool has_bulk_copies = false;
#endif

// Makes the barriers that this thread has initialised visible to the copy engine.
__device__ __forceinline__ void fence_barrier_init() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

// What this thread has loaded from shared memory, or stored there, it has, before copies that are asked for
// later write there.
__device__ __forceinline__ void fence_async_proxy() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// What this thread has seen stored in global memory, copies that are asked for later read.
__device__ __forceinline__ void fence_async_proxy_of_global() {
  asm volatile("fence.proxy.async.global;" ::: "memory");
}

// Arrives, and has the barrier's phase wait for `bytes` of copies.
__device__ __forceinline__ void arrive_and_expect(uint32_t barrier_smem, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier_smem), "r"(bytes)
               : "memory");
}

// Addresses and size are multiples of 16.
__device__ __forceinline__ void copy_bulk(uint32_t to_smem, const void* from, uint32_t bytes,
                                          uint32_t barrier_smem) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
          to_smem),
      "l"(from), "r"(bytes), "r"(barrier_smem)
      : "memory");
}

// For what nobody reads again soon: it is the first to leave the L2 cache.
__device__ __forceinline__ uint64_t read_once_policy() {
  uint64_t policy;
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}

__device__ __forceinline__ void copy_bulk(uint32_t to_smem, const void* from, uint32_t bytes,
                                          uint32_t barrier_smem, uint64_t policy) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1], %2, [%3], %4;" ::"r"(to_smem),
      "l"(from), "r"(bytes), "r"(barrier_smem), "l"(policy)
      : "memory");
}

// Brings the bytes to the L2 cache, for a copy that comes later. Alignment as above.
__device__ __forceinline__ void prefetch_bulk(const void* from, uint32_t bytes, uint64_t policy) {
  asm volatile("cp.async.bulk.prefetch.L2.global.L2::cache_hint [%0], %1, %2;" ::"l"(from), "r"(bytes),
               "l"(policy)
               : "memory");
}

}  // namespace floatx::ptx
