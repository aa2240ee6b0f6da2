// Codes as the kernels that write and read packed weights handle them, in plain numbers that the host
// computes: the formats of a width share their kernels.
//
// Between the values and the words of a unit a pair of codes is a *register*: what dequant.cuh makes of it,
// each code's magnitude at bit `lift` of its half and its sign at bit 15. lift = 10 - M, which is where FP16
// has its mantissa; for the canonical form 0.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>

#include "floatx/codec.hpp"
#include "floatx/layout.hpp"

namespace floatx::kernels {

// ---- Registers to words of a unit --------------------------------------------------------------------

// Words of `width` bits a code, from the lane's word `first_word` on. The 4-bit formats take two, to the same
// words: magnitudes, and signs.
struct unit_move {
  int width, first_word;
  bool is_tiled;  // pair j of a word is turned by width * j, whatever M is
};

struct unit_moves {
  int count;
  unit_move list[3];
};

constexpr FLOATX_HOST_DEVICE unit_moves moves_of(int bits) {
  switch (bits) {
    case 3:
      return {2, {{2, 0, true}, {1, 4, true}}};
    case 4:
      return {2, {{4, 0, true}, {4, 0, false}}};
    case 5:
      return {2, {{4, 0, true}, {1, 8, true}}};
    case 6:
      return {2, {{4, 0, true}, {2, 8, false}}};
    case 7:
      return {3, {{4, 0, true}, {2, 8, true}, {1, 12, true}}};
    default:
      return {3, {{4, 0, true}, {2, 8, true}, {2, 12, false}}};
  }
}

// Pair j of a word: word |= rotr(register, turn[move][j]) & mask[move][j].
struct unit_rule {
  uint32_t turn[3][16], mask[3][16];
};

constexpr uint32_t turned_right(uint32_t value, uint32_t by) {
  return by % 32 == 0 ? value : value >> (by % 32) | value << (32 - by % 32);
}

constexpr unit_rule make_unit_rule(const format_traits& format) {
  unit_rule rule = {};
  const gpu::planes all = gpu::planes_of(format.bits, format.mantissa_bits);
  const auto set = [&](int move, int pair, int turn, uint32_t mask) {
    rule.turn[move][pair] = static_cast<uint32_t>(turn);
    rule.mask[move][pair] = turned_right(mask * 0x10001u, rule.turn[move][pair]);
  };
  for (int p = 0; p < all.count; ++p) {
    const gpu::plane& plane = all.list[p];
    const uint32_t magnitude = ((1u << plane.magnitude_bits()) - 1) << plane.first_target;
    const bool sign_in_place = plane.with_sign && plane.sign_target == 15;
    for (int pair = 0; pair < 16 / plane.width; ++pair) {
      set(p, pair, plane.turn(pair), magnitude | (sign_in_place ? 0x8000u : 0u));
      if (plane.with_sign && !sign_in_place) {
        set(p + 1, pair, plane.turn(pair) + 15 - plane.sign_target, 0x8000u);
      }
    }
  }
  return rule;
}

// ---- A value to the magnitude of its code ------------------------------------------------------------

// encode() of codec.hpp in half as many instructions, for a format known at run time.
struct encode_rule {
  float max;
  uint32_t smallest_normal;  // its bits
  uint32_t factor, offset;
};

constexpr encode_rule make_encode_rule(const format_traits& format) {
  const int M = format.mantissa_bits;
  const uint32_t smallest_normal = detail::float_bits(format.smallest_normal);
  return {format.max, smallest_normal, (1u << 23) + (1u << M),
          (static_cast<uint32_t>(23 - M) << 23) - ((smallest_normal >> 23) << M)};
}

// Adding 2^(23 - M) times the value's power of two, not less than that of the smallest normal, rounds to
// steps of the format and leaves their count in the low bits. On top of the power go the codes below this
// binade, which makes the count the code, and its evenness that of the code.
FLOATX_HOST_DEVICE inline uint32_t encode_magnitude(const encode_rule& rule, float value) {
  const float clamped = fminf(fabsf(value), rule.max);
  const uint32_t bits = detail::float_bits(clamped);
  const uint32_t exponent = (bits > rule.smallest_normal ? bits : rule.smallest_normal) >> 23;
  const float addend = detail::bits_float(exponent * rule.factor + rule.offset);
  return detail::float_bits(clamped + addend) & 0x7fu;
}

// ---- Division ----------------------------------------------------------------------------------------

// value / divisor as IEEE rounds it, for many values and one divisor.
struct divider {
  float divisor, reciprocal;  // of the divisor times prescale
  float prescale;             // a power of two that keeps what follows within the range of FP32
  uint32_t signs;             // of a pair; 0 where the divisor is 0, whose codes are all 0 without a sign
};

// Markstein: a quotient within one unit in the last place, corrected by its exact remainder and a correctly
// rounded reciprocal, is correctly rounded. The first correction brings it within that unit. Values so small
// that a remainder is not exact have quotients that round to the code 0 in any case.
FLOATX_HOST_DEVICE inline float divide(float value, const divider& by) {
  const float first = value * by.reciprocal;
  const float second = fmaf(fmaf(-by.divisor, first, value), by.reciprocal, first);
  return fmaf(fmaf(-by.divisor, second, value), by.reciprocal, second);
}

FLOATX_HOST_DEVICE inline divider make_divider(float divisor) {
  if (divisor == 0) return {1, 0, 1, 0};
  const float prescale = divisor < 0x1p-60f ? 0x1p64f : divisor > 0x1p100f ? 0x1p-64f : 1.0f;
  const float scaled = divisor * prescale;
  return {scaled, 1.0f / scaled, prescale, 0x80008000u};
}

}  // namespace floatx::kernels
