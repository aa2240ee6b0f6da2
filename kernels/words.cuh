// A lane's words of a unit: turning and loading them.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "floatx/layout.hpp"

namespace floatx::kernels {

__device__ __forceinline__ uint32_t turned(uint32_t word, uint32_t by) {
  return __funnelshift_l(word, word, by);
}
__device__ __forceinline__ uint32_t turned_back(uint32_t word, uint32_t by) {
  return __funnelshift_r(word, word, by);
}

// Word `index` of those that a lane has of a unit, of which load(i) gives those that are there. In one that
// is not bits that no pair has are anything. `index` must be a constant where this is inlined.
template <int Bits, class Load>
__device__ __forceinline__ uint32_t word_of(int index, const gpu::lending& lent, Load&& load) {
  constexpr int group = gpu::group_words(Bits), stored = gpu::stored_words(Bits);
  const int first = index / group * stored, in_group = index % group, number = in_group - stored;
  if (number < 0) return load(first + in_group);
  constexpr int lenders = gpu::lender_count(Bits);
  uint32_t word = turned(load(first + gpu::lender(Bits, number, 0)), lent.turn[number * lenders]);
#pragma unroll
  for (int i = 1; i < lenders; ++i) {
    const uint32_t other =
        turned(load(first + gpu::lender(Bits, number, i)), lent.turn[number * lenders + i]);
    word = (word & ~lent.mask[i]) | (other & lent.mask[i]);
  }
  return word;
}

// 16 bytes at a time, of the last chunk of odd widths 8. load: *pointer, for uint4 and uint2.
template <int Bits, class Load>
__device__ __forceinline__ void load_words(uint32_t (&words)[2 * Bits], const unsigned char* unit, int lane,
                                           Load&& load) {
#pragma unroll
  for (int chunk = 0; chunk < Bits / 2; ++chunk) {
    const uint4 four = load(reinterpret_cast<const uint4*>(unit + chunk * 512 + lane * 16));
    words[4 * chunk] = four.x;
    words[4 * chunk + 1] = four.y;
    words[4 * chunk + 2] = four.z;
    words[4 * chunk + 3] = four.w;
  }
  if constexpr (Bits % 2 == 1) {
    const uint2 two = load(reinterpret_cast<const uint2*>(unit + Bits / 2 * 512 + lane * 8));
    words[2 * Bits - 2] = two.x;
    words[2 * Bits - 1] = two.y;
  }
}

}  // namespace floatx::kernels
