// Counters in global memory by which thread blocks find out who is the last, or wait for others.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace floatx::ptx {

// How many arrived before. What this thread has stored, or has seen stored, can be read by all who arrive
// after it; and it can read what those before have.
__device__ __forceinline__ unsigned count_arrival(unsigned* counter) {
  unsigned before;
  asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], 1;" : "=r"(before) : "l"(counter) : "memory");
  return before;
}

// The same for who does not ask how many.
__device__ __forceinline__ void add_arrival(unsigned* counter) {
  asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(counter) : "memory");
}

// Until so many have arrived: what they had stored can be read then.
__device__ __forceinline__ void wait_for_arrivals(const unsigned* counter, unsigned count) {
  unsigned arrived;
  do {
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(arrived) : "l"(counter) : "memory");
  } while (arrived < count);
}

}  // namespace floatx::ptx
