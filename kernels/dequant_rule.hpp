// What dequant.cuh must know of a format, as plain numbers that the host computes.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "floatx/format.hpp"
#include "floatx/layout.hpp"
#include "floatx/quantize.hpp"

namespace floatx::kernels {

// What a kernel must know of a format beyond its width: masks and turns, in the kernel's parameters, so that
// the formats of a width share their kernels. Constant operands cost an instruction nothing.
struct dequant_rule {
  uint32_t mask[3];      // of each plane's targets, for both halves of a word
  uint32_t turn[8];      // of the pairs of a plane {sign, low bit}
  uint32_t low_turn[8];  // the same for the low bit alone: BF16 has it three bits further down
  uint32_t factor[8];    // 2^turn: a product shifts, too, in a pipeline that has little else to do. With FP16
                         // those of pairs 6 and 7 count from pair 5 on
  uint32_t low_factor[4];  // 2^(by how much an odd pair's turn exceeds that of the pair before it)
  uint32_t sign_turn;      // 4-bit formats: from above the magnitude to bit 15
  uint32_t bf16_factor;    // 2^(127 - bias), twice
  float unscale;           // by which sums of products are multiplied in the end
  bool halve;              // see needs_halving
  gpu::triple triple;      // 3-bit formats, the turns of whose pairs are in the fields above, too
};

// E = 5 without specials reaches exponent 31, which FP16 keeps for Inf and NaN: such values are halved.
constexpr bool needs_halving(const format_traits& format) {
  return format.exponent_bits == 5 && format.special_codes == specials::none;
}

// Formats that take another way: those above, and those whose codes lie so low in FP16 that turns wrap around
// that are mere shifts for the others.
constexpr bool is_odd(const format_traits& format, bool bf16) {
  return (needs_halving(format) && !bf16) || (format.exponent_bits == 1 && format.bits >= 5);
}

// Whether codes can be multiplied by scales in the type of x. Codes of up to four exponent bits are below 2
// in FP16, which leaves scales 15 of its exponents.
constexpr bool folds(const format_traits& format, bool bf16) { return bf16 || format.exponent_bits <= 4; }

// Whether no such product has to be rounded, whatever the scales are. E4M3FN has four significant bits, FP16
// eleven, BF16 eight. The powers of two that E8M0 has may be too far from each other for FP16.
constexpr bool folds_exactly(const format_traits& format, bool bf16, scale_storage scales) {
  if (scales == scale_storage::e4m3fn) return bf16 ? format.mantissa_bits <= 3 : folds(format, bf16);
  return bf16 && scales == scale_storage::e8m0;
}

// BF16 keeps 8 exponent bits, so the boundary of exponent and mantissa is 3 bits lower than FP16's.
constexpr int bf16_shift = 3;

constexpr dequant_rule make_dequant_rule(const format_traits& format, bool bf16) {
  dequant_rule rule = {};
  const gpu::planes all = gpu::planes_of(format.bits, format.mantissa_bits);
  const int shift = bf16 ? bf16_shift : 0;
  for (int p = 0; p < all.count; ++p) {
    const gpu::plane& plane = all.list[p];
    const uint32_t magnitude = ((1u << plane.magnitude_bits()) - 1u) << plane.first_target >> shift;
    // BF16 takes the sign by an instruction of its own, except where it is a plane of its own.
    const bool apart = bf16 && plane.width > 1;
    rule.mask[p] = (magnitude | (plane.with_sign && !apart ? 0x8000u : 0u)) * 0x10001u;
    if (plane.with_sign && (plane.width == 2 || plane.width == 3)) {
      for (int pair = 0; pair < 8; ++pair) {
        rule.turn[pair] = static_cast<uint32_t>(plane.turn(pair));
        rule.low_turn[pair] = static_cast<uint32_t>(plane.turn(pair) - shift) & 31u;
        rule.factor[pair] = 1u << (plane.turn(pair) - (pair > 5 && !bf16 ? plane.turn(5) : 0));
      }
      for (int two = 0; two < 4; ++two) {
        rule.low_factor[two] = 1u << (plane.turn(2 * two + 1) - plane.turn(2 * two));
      }
    }
    if (plane.width == 3) rule.triple = plane.words_of_three();
    if (plane.with_sign && plane.width == 4) rule.sign_turn = static_cast<uint32_t>(15 - plane.sign_target);
  }
  rule.bf16_factor = static_cast<uint32_t>(254 - format.bias) << 7;
  rule.bf16_factor |= rule.bf16_factor << 16;
  rule.halve = needs_halving(format);
  rule.unscale = bf16 ? 1.0f : detail::power_of_two(15 - format.bias + (rule.halve ? 1 : 0));
  return rule;
}

}  // namespace floatx::kernels
