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
  uint32_t mask[3];    // of each plane's targets, for both halves of a word
  uint32_t turn[4];    // 3-bit formats: of the pairs of a word
  uint32_t factor[4];  // 2^turn, or what is left of it after turned_before: a product shifts, too, in a
                       // pipeline that has little else to do
  uint32_t sign_turn;  // 4-bit formats: from above the magnitude to bit 15
  uint32_t magnitude;  // bytes that are moved: the mask without signs,
  uint32_t down;       // by how much a magnitude is above its place,
  uint32_t up_factor;  // 2^(8 - down)
  uint32_t zero;       // which nvcc 13.0 must not know: it would compute signs that two registers share twice
  uint32_t bf16_factor;  // 2^(127 - bias), twice
  float unscale;         // by which sums of products are multiplied in the end
  bool halve;            // see needs_halving
  gpu::triple triple;    // formats of 3 and 6 bits; the turns of 3-bit pairs are in the fields above, too
};

// E = 5 without specials reaches exponent 31, which FP16 keeps for Inf and NaN: such values are halved.
constexpr bool needs_halving(const format_traits& format) {
  return format.exponent_bits == 5 && format.special_codes == specials::none;
}

// BF16 keeps 8 exponent bits, so the boundary of exponent and mantissa is 3 bits lower than FP16's.
constexpr int bf16_shift = 3;

// What the formats of a width that share a kernel have in common:
//   usual  turns, shifts and masks are all that it takes
//   moved  of bytes (gpu::has_bytes), magnitudes lie above where x's type has them
//   odd    codes are halved, or lie so low in FP16 that turns wrap around that are mere shifts for the others
enum class unpacking { usual, moved, odd };

constexpr unpacking unpacking_of(const format_traits& format, bool bf16) {
  const bool halves = needs_halving(format) && !bf16;
  if (gpu::has_bytes(format.bits)) {
    return halves ? unpacking::odd : bf16 || format.mantissa_bits > 2 ? unpacking::moved : unpacking::usual;
  }
  return halves || (format.exponent_bits == 1 && format.bits >= 5) ? unpacking::odd : unpacking::usual;
}

// Turns of the pairs of a word of a 3-bit format ascend, and up to some they are mere shifts: nothing that is
// wanted wraps around. The pair from whose turn on a shift takes `pair` to its targets, too; -1 where a shift
// is all it takes.
constexpr FLOATX_HOST_DEVICE int turned_before(bool bf16, int pair) { return pair < 3 ? -1 : bf16 ? 2 : 3; }

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
  const bool bytes = gpu::has_bytes(format.bits);
  const int shift = bf16 ? bf16_shift : 0;
  for (int p = 0; p < all.count; ++p) {
    const gpu::plane& plane = all.list[p];
    const int down = shift + (bytes ? plane.first_target - (10 - format.mantissa_bits) : 0);
    const uint32_t magnitude = ((1u << plane.magnitude_bits()) - 1u) << (plane.first_target - down);
    rule.mask[p] = (magnitude | (plane.with_sign ? 0x8000u : 0u)) * 0x10001u;
    if (bytes) {
      rule.magnitude = magnitude * 0x10001u;
      rule.down = static_cast<uint32_t>(down);
      rule.up_factor = 1u << (8 - down);
    }
    if (plane.width == 3) {
      for (int pair = 0; pair < 4; ++pair) {
        const int turn = plane.turn(pair), before = turned_before(bf16, pair);
        rule.turn[pair] = static_cast<uint32_t>(turn);
        rule.factor[pair] = 1u << (turn - (before < 0 ? 0 : plane.turn(before)));
      }
    }
    if (gpu::has_triples(plane.width)) rule.triple = plane.words_of_three();
    if (plane.with_sign && plane.width == 4) rule.sign_turn = static_cast<uint32_t>(15 - plane.sign_target);
  }
  rule.bf16_factor = static_cast<uint32_t>(254 - format.bias) << 7;
  rule.bf16_factor |= rule.bf16_factor << 16;
  rule.halve = needs_halving(format);
  rule.unscale = bf16 ? 1.0f : detail::power_of_two(15 - format.bias + (rule.halve ? 1 : 0));
  return rule;
}

}  // namespace floatx::kernels
