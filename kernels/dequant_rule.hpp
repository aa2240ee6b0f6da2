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
  uint32_t mask[3];         // of each plane's targets, for both halves of a word
  uint32_t turn[8];         // of the pairs of a plane {sign, low bit}
  uint32_t factor[8];       // 2^turn, or what is left of it after turned_before: a product shifts, too, in a
                            // pipeline that has little else to do
  uint32_t sign_places[4];  // BF16: in such a plane's words, of the pairs that come together in each
  uint32_t sign_turn;       // 4-bit formats: from above the magnitude to bit 15
  uint32_t bf16_factor;     // 2^(127 - bias), twice
  float unscale;            // by which sums of products are multiplied in the end
  bool halve;               // see needs_halving
  gpu::triple triple;       // 3-bit formats, the turns of whose pairs are in the fields above, too
};

// E = 5 without specials reaches exponent 31, which FP16 keeps for Inf and NaN: such values are halved.
constexpr bool needs_halving(const format_traits& format) {
  return format.exponent_bits == 5 && format.special_codes == specials::none;
}

// BF16 keeps 8 exponent bits, so the boundary of exponent and mantissa is 3 bits lower than FP16's.
constexpr int bf16_shift = 3;

// Formats that take another way: those above; those whose codes lie so low in FP16 that turns wrap around
// that are mere shifts for the others; and E5M0 in BF16, where its sign and low bit are half of a half word
// apart, so that in their plane those of a pair are in the places of those of another, 4 before or after it.
constexpr bool is_odd(const format_traits& format, bool bf16) {
  if (format.exponent_bits == 1 && format.bits >= 5) return true;
  return bf16 ? format.bits == 6 && format.mantissa_bits == 0 : needs_halving(format);
}

// Turns ascend, and up to some they are mere shifts: nothing that is wanted wraps around. The pair from whose
// turn on a shift takes `pair` to its targets, too; -1 where a shift is all it takes.
constexpr FLOATX_HOST_DEVICE int turned_before(int width, bool bf16, bool odd, int pair) {
  if (width == 3) return pair % 4 < 3 ? -1 : bf16 ? 2 : 3;
  if (odd) return pair < 2 ? -1 : pair / 2 * 2;
  if (bf16) return pair < 3 ? -1 : pair == 5 || pair == 6 ? pair - 2 : pair;
  return pair < 5 ? -1 : 5;
}

// BF16: in which of a few words signs and low bits of a pair come together (dequant.cuh). The bits of pairs
// in one are apart from each other.
constexpr FLOATX_HOST_DEVICE int together_in(bool odd, int pair) { return odd ? pair / 2 : pair % 2; }

// Whether codes can be multiplied by scales in the type of x. Codes of up to four exponent bits are below 2
// in FP16, which leaves scales 15 of its exponents.
constexpr bool folds(const format_traits& format, bool bf16) { return bf16 || format.exponent_bits <= 4; }

// Whether no such product has to be rounded, whatever the scales are. E4M3FN has four significant bits, FP16
// eleven, BF16 eight. The powers of two that E8M0 has may be too far from each other for FP16.
constexpr bool folds_exactly(const format_traits& format, bool bf16, scale_storage scales) {
  if (scales == scale_storage::e4m3fn) return bf16 ? format.mantissa_bits <= 3 : folds(format, bf16);
  return bf16 && scales == scale_storage::e8m0;
}

constexpr dequant_rule make_dequant_rule(const format_traits& format, bool bf16) {
  dequant_rule rule = {};
  const gpu::planes all = gpu::planes_of(format.bits, format.mantissa_bits);
  const int shift = bf16 ? bf16_shift : 0;
  const bool odd = is_odd(format, bf16);
  for (int p = 0; p < all.count; ++p) {
    const gpu::plane& plane = all.list[p];
    const uint32_t magnitude = ((1u << plane.magnitude_bits()) - 1u) << plane.first_target >> shift;
    rule.mask[p] = (magnitude | (plane.with_sign ? 0x8000u : 0u)) * 0x10001u;
    if (plane.with_sign && (plane.width == 2 || plane.width == 3)) {
      for (int pair = 0; pair < 8; ++pair) {
        const int turn = plane.turn(pair), before = turned_before(plane.width, bf16, odd, pair);
        rule.turn[pair] = static_cast<uint32_t>(turn);
        rule.factor[pair] = 1u << (turn - (before < 0 ? 0 : plane.turn(before)));
        if (plane.width == 2) rule.sign_places[together_in(odd, pair)] |= 0x80008000u >> turn;
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
