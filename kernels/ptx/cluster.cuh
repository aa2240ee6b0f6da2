// Thread block clusters (sm_90). Older processors have none, and every launch is of single thread blocks.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace floatx::ptx {

// All threads of the cluster that have not ended arrive, not necessarily warp by warp; what they wrote before
// is seen by those who have waited.
__device__ __forceinline__ void cluster_arrive() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.release;" ::: "memory");
#endif
}

// Orders nothing: for those who have only read.
__device__ __forceinline__ void cluster_arrive_relaxed() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
#endif
}

__device__ __forceinline__ void cluster_wait() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.wait.acquire;" ::: "memory");
#endif
}

// The word at an address of this thread block's shared memory, in that of thread block `rank` of the cluster.
__device__ __forceinline__ uint32_t load_shared_of(uint32_t address, int rank) {
  uint32_t value = 0;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile(
      "{.reg .b32 there;\n"
      "mapa.shared::cluster.u32 there, %1, %2;\n"
      "ld.shared::cluster.u32 %0, [there];}"
      : "=r"(value)
      : "r"(address), "r"(rank)
      : "memory");
#endif
  return value;
}

// Sends 16 bytes to an address of this thread block's shared memory in that of thread block `rank` of the
// cluster. The barrier at that address there counts them; nobody here waits.
__device__ __forceinline__ void send_four_to(uint32_t address, uint32_t barrier, int rank, float4 value) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile(
      "{.reg .b32 there, barrier;\n"
      "mapa.shared::cluster.u32 there, %0, %2;\n"
      "mapa.shared::cluster.u32 barrier, %1, %2;\n"
      "st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 [there], {%3, %4, %5, %6}, [barrier];}" ::
          "r"(address),
      "r"(barrier), "r"(rank), "f"(value.x), "f"(value.y), "f"(value.z), "f"(value.w)
      : "memory");
#endif
}

// Copies `bytes`, a multiple of 16, from this thread block's shared memory to the address `to` of it in that
// of thread block `rank` of the cluster. The barrier at that address there counts them; what they are copied
// from must stay until then.
__device__ __forceinline__ void send_bulk_to(uint32_t to, uint32_t from, uint32_t bytes, uint32_t barrier,
                                             int rank) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile(
      "{.reg .b32 there, barrier;\n"
      "mapa.shared::cluster.u32 there, %0, %4;\n"
      "mapa.shared::cluster.u32 barrier, %3, %4;\n"
      "cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [there], [%1], %2, "
      "[barrier];}" ::"r"(to),
      "r"(from), "r"(bytes), "r"(barrier), "r"(rank)
      : "memory");
#endif
}

}  // namespace floatx::ptx
