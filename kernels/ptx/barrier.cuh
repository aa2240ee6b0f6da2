// Barriers in shared memory (sm_80) that count arrivals and, from sm_90 on, copied bytes.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace floatx::ptx {

constexpr uint32_t most_arrivals = (1u << 20) - 1;  // that a barrier can wait for

__device__ __forceinline__ void init_barrier(uint32_t barrier_smem, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier_smem), "r"(arrivals) : "memory");
}

__device__ __forceinline__ void arrive(uint32_t barrier_smem) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier_smem) : "memory");
}

// Arrives once all asynchronous copies that this thread has begun (async_copy.cuh) are done.
__device__ __forceinline__ void arrive_after_copies(uint32_t barrier_smem) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(barrier_smem) : "memory");
}

// Until the phase of that parity has completed.
__device__ __forceinline__ void wait_for_phase(uint32_t barrier_smem, uint32_t parity) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
#define FLOATX_WAIT "try_wait"  // sleeps for a while
#else
#define FLOATX_WAIT "test_wait"
#endif
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier." FLOATX_WAIT
      ".parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again;\n"
      "}" ::"r"(barrier_smem),
      "r"(parity)
      : "memory");
#undef FLOATX_WAIT
}

// A multiprocessor's clock.
__device__ __forceinline__ uint32_t clock_now() {
  uint32_t now;
  asm volatile("mov.u32 %0, %%clock;" : "=r"(now)::"memory");
  return now;
}

// Until the first phase has completed or `clocks` have passed since `begin`; whether it has.
__device__ __forceinline__ bool wait_for_first_phase(uint32_t barrier_smem, uint32_t begin, uint32_t clocks) {
  uint32_t is_over;
  do {
    asm volatile(
        "{\n"
        ".reg .pred done;\n"
        "mbarrier.test_wait.parity.shared::cta.b64 done, [%1], 0;\n"
        "selp.u32 %0, 1, 0, done;\n"
        "}"
        : "=r"(is_over)
        : "r"(barrier_smem)
        : "memory");
  } while (is_over == 0 && clock_now() - begin < clocks);
  return is_over != 0;
}

}  // namespace floatx::ptx
