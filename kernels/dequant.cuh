// Packed words to pairs of FP16 or BF16: the inverse of gpu::arrangement_of (floatx/layout.hpp), a register
// of an A fragment at a time.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

#include "dequant_rule.hpp"
#include "ptx/number.cuh"
#include "words.cuh"

namespace floatx::kernels {

constexpr uint32_t signs = 0x80008000u;

// Half of two FP16 of which exponent 31 is an ordinary one: an exponent less, or the bits of a subnormal
// number moved by one, whichever is more. Their lowest bits are 0, for they are codes of up to two mantissa
// bits, so that none gets into the other half.
__device__ __forceinline__ uint32_t halved(uint32_t pair) {
  const uint32_t magnitude = pair & ~signs;
  return (pair & signs) | __viaddmax_s16x2(magnitude, 0xfc00fc00u, magnitude >> 1);
}

// `low_word`, but for the bits at `places`, which are of `word`. BF16 has a sign bf16_shift bits further from
// the bits below it than FP16, for which words are laid out. A word together with itself turned by as much
// has some of its pairs as BF16 wants them, so that one more turn and one mask are all that such a pair
// takes.
__device__ __forceinline__ uint32_t together(uint32_t word, uint32_t low_word, uint32_t places) {
  return (word & places) | (low_word & ~places);
}

// The two pairs of a word of bytes. Where magnitudes are moved the signs of both are taken at once: the other
// pair's are where a magnitude goes.
template <unpacking How>
__device__ __forceinline__ void unpack_bytes(uint32_t word, const dequant_rule& rule, uint32_t& upper,
                                             uint32_t& lower) {
  if constexpr (How == unpacking::moved) {
    const uint32_t both = (word & (signs | signs >> 8)) | rule.zero;
    upper = ((word >> rule.down) & rule.magnitude) | (both & ~rule.magnitude);
    lower = ((word * rule.up_factor) & rule.magnitude) | ((both << 8) & ~rule.magnitude);
  } else {
    upper = word & rule.mask;
    lower = (word << 8) & rule.mask;
  }
}

// a = the four registers of step `step` (0 .. 7) of a unit, whose words this lane holds.
// `step` must be a constant where this is inlined: it picks registers. How: unpacking_of(). Raw: for codes
// that fold (folds), none of which has to be halved, and of which the power of two is left to others in BF16,
// too.
template <int Bits, class Activation, unpacking How, bool Raw = false>
__device__ __forceinline__ void dequantize(const uint32_t (&words)[2 * Bits], int step,
                                           const dequant_rule& rule, uint32_t (&a)[4]) {
  constexpr bool is_bf16 = std::is_same_v<Activation, __nv_bfloat16>;
  const auto word_at = [&](int index) {
    return word_of<Bits>(index, rule.lent, [&](int word) { return words[word]; });
  };
  if constexpr (Bits == 4) {
    // word: magnitudes of the pairs i at 4 i below their target, each with its sign above it.
    const uint32_t word = words[step], signed_word = turned(word, rule.sign_turn);
    if constexpr (is_bf16) {
      // Whatever M is, two neighbours come together: signs at 15 - 4 i and 4 below.
      const uint32_t low_word = turned(word, 32 - bf16_shift);
#pragma unroll
      for (int i = 0; i < 4; i += 2) {
        const uint32_t two = turned(together(signed_word, low_word, 0x88008800u >> 4 * i), 4 * i);
        a[i] = two & rule.mask;
        a[i + 1] = (two << 4) & rule.mask;
      }
    } else {
      // One word can hold magnitudes and signs of two pairs, 8 bits apart, whatever M is.
      const uint32_t magnitudes = (rule.mask & ~signs) | (rule.mask & ~signs) >> 8;
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const uint32_t two = (turned(word, 4 * i) & magnitudes) | ((signed_word << 4 * i) & ~magnitudes);
        a[i] = two & rule.mask;
        a[i + 2] = (two << 8) & rule.mask;
      }
    }
  } else if constexpr (Bits == 3) {
    const uint32_t word = word_at(step);
    if constexpr (is_bf16) {
      // Turns are 0, 2, 8, 10 or 0, 4, 8, 12: signs of two neighbours at 15 - 4 i and 2 or 4 below.
      const uint32_t low_word = turned(word, 32 - bf16_shift);
#pragma unroll
      for (int i = 0; i < 4; i += 2) {
        const uint32_t two = turned(together(word, low_word, 0xa800a800u >> 4 * i), 4 * i);
        a[i] = two & rule.mask;
        a[i + 1] = (two * rule.factor[i + 1]) & rule.mask;
      }
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int before = turned_before(false, i);
        const uint32_t turned_word = before < 0 ? word : turned(word, rule.turn[before]);
        a[i] = (i > 0 && i != before ? turned_word * rule.factor[i] : turned_word) & rule.mask;
      }
    }
  } else {
    unpack_bytes<How>(word_at(2 * step), rule, a[0], a[1]);
    unpack_bytes<How>(word_at(2 * step + 1), rule, a[2], a[3]);
  }
  if constexpr (How == unpacking::halved && !Raw) {
#pragma unroll
    for (int i = 0; i < 4; ++i) a[i] = halved(a[i]);
  }
  if constexpr (is_bf16 && !Raw) {
    // Sums of products of numbers near 2^-124 would be below FP32's range, so BF16 cannot leave its factor to
    // the end as FP16 does. Exact: a power of two.
#pragma unroll
    for (int i = 0; i < 4; ++i) a[i] = ptx::product<__nv_bfloat16>(a[i], rule.bf16_factor);
  }
}

// This lane's words of a unit in shared memory.
template <int Bits>
__device__ __forceinline__ void load_unit(uint32_t (&words)[2 * Bits], const unsigned char* unit_smem,
                                          int lane) {
  load_words<Bits>(words, unit_smem, lane, [](const auto* chunk) { return *chunk; });
}

}  // namespace floatx::kernels
