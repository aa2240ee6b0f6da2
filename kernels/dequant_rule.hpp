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
  uint32_t mask;         // of the targets of a pair in x's type,
  uint32_t magnitude;    // without signs
  uint32_t turn[4];      // 3-bit formats: of the pairs of a word
  uint32_t factor[4];    // 2^turn, or what is left of it after turned_before: a product shifts, too, in a
                         // pipeline that has little else to do
  uint32_t sign_turn;    // 4-bit formats: from above the magnitude to bit 15
  uint32_t down;         // bytes: by how much a magnitude is above its place,
  uint32_t up_factor;    // 2^(8 - down)
  uint32_t zero;         // which nvcc 13.0 must not know: it would compute twice what two signs share
  uint32_t bf16_factor;  // 2^(127 - bias), twice
  float unscale;         // by which sums of products are multiplied in the end
  gpu::lending lent;
};

// E = 5 without specials reaches exponent 31, which FP16 keeps for Inf and NaN: such values are halved.
constexpr bool needs_halving(const format_traits& format) {
  return format.exponent_bits == 5 && format.special_codes == specials::none;
}

// BF16 keeps 8 exponent bits, so the boundary of exponent and mantissa is 3 bits lower than FP16's.
constexpr int bf16_shift = 3;

// What the formats of a width that share a kernel have in common:
//   usual   turns, shifts and masks are all that it takes
//   moved   of bytes (gpu::has_bytes), magnitudes lie above where x's type has them
//   halved  see needs_halving
enum class unpacking { usual, moved, halved };

constexpr unpacking unpacking_of(const format_traits& format, bool bf16) {
  if (!gpu::has_bytes(format.bits)) return unpacking::usual;
  if (bf16 || format.mantissa_bits > 2) return unpacking::moved;
  return needs_halving(format) ? unpacking::halved : unpacking::usual;
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
  const gpu::arrangement in = gpu::arrangement_of(format.bits, format.mantissa_bits);
  const int lowest = 10 - format.mantissa_bits - (bf16 ? bf16_shift : 0), down = in.first_target - lowest;
  rule.magnitude = (((1u << (format.bits - 1)) - 1u) << lowest) * 0x10001u;
  rule.mask = rule.magnitude | 0x80008000u;
  rule.lent = in.lent;
  for (int pair = 0; pair < gpu::word_pairs(format.bits); ++pair) {
    const int before = turned_before(bf16, pair);
    rule.turn[pair] = in.turn[pair];
    rule.factor[pair] = 1u << (in.turn[pair] - (before < 0 ? 0 : in.turn[before]));
  }
  rule.sign_turn = static_cast<uint32_t>(15 - in.sign_target);
  if (gpu::has_bytes(format.bits)) {
    rule.down = static_cast<uint32_t>(down);
    rule.up_factor = 1u << (8 - down);
  }
  rule.bf16_factor = static_cast<uint32_t>(254 - format.bias) << 7;
  rule.bf16_factor |= rule.bf16_factor << 16;
  const bool halves = unpacking_of(format, bf16) == unpacking::halved;
  rule.unscale = bf16 ? 1.0f : detail::power_of_two(15 - format.bias + (halves ? 1 : 0));
  return rule;
}

}  // namespace floatx::kernels
