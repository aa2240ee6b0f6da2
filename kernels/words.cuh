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

// What the three words of a triple have left, put together; other bits are anything.
__device__ __forceinline__ uint32_t fourth_word(const uint32_t* three, const gpu::triple& rule) {
  uint32_t word = turned(three[0], rule.spare_turn[0]);
#pragma unroll
  for (int i = 1; i < 3; ++i) {
    word = (word & ~rule.spare_mask[i]) | (turned(three[i], rule.spare_turn[i]) & rule.spare_mask[i]);
  }
  return word;
}

// In plane order, 16 bytes at a time, of the last chunk of odd widths 8. load: *pointer, for uint4 and uint2.
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
