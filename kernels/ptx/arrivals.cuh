// Counters in global memory by which thread blocks find out who is the last.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace floatx::ptx {

// How many arrived before. What this thread has stored, or has seen stored, can be read by all who arrive after
// it; and it can read what those before have.
__device__ __forceinline__ unsigned count_arrival(unsigned* counter) {
  unsigned before;
  asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], 1;" : "=r"(before) : "l"(counter) : "memory");
  return before;
}

}  // namespace floatx::ptx
