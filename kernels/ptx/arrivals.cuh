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

// What others have stored, at this place in the program: the compiler would move it to where it is used.
__device__ __forceinline__ float4 load_from_l2(const float4* from) {
  float4 four;
  asm volatile("ld.global.cg.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(four.x), "=f"(four.y), "=f"(four.z), "=f"(four.w)
               : "l"(from)
               : "memory");
  return four;
}

}  // namespace floatx::ptx
