// Codes as the kernels that write and read packed weights handle them, in plain numbers that the host
// computes: the formats of a width share their kernels.
//
// Between the values and the words of a unit a pair of codes is a *register*, a code in each half: its
// magnitude at bit `lift` and its sign at bit 15, or, of the 4-bit formats, right above the magnitude. Where
// E <= 5 these are the targets of the layout.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>

#include "floatx/codec.hpp"
#include "floatx/layout.hpp"

namespace floatx::kernels {

// ---- Registers to words of a unit --------------------------------------------------------------------

struct unit_rule {
  uint32_t mask;  // of a pair
  uint32_t turn[4];
  gpu::lending lent;
};

// Exponents of six bits, which only the canonical form holds, have no place beside the sign where FP16 has
// its mantissa; they are one bit lower.
constexpr int lift_of(const format_traits& format) {
  const int highest = 16 - format.bits, of_f16 = 10 - format.mantissa_bits;
  if (gpu::has_bytes(format.bits) && of_f16 < 8) return 8;
  return of_f16 < highest ? of_f16 : highest;
}

constexpr unit_rule make_unit_rule(const format_traits& format) {
  const gpu::arrangement in = gpu::arrangement_of(format.bits, 10 - lift_of(format));
  return {in.mask(), {in.turn[0], in.turn[1], in.turn[2], in.turn[3]}, in.lent};
}

// ---- A value to the magnitude of its code ------------------------------------------------------------

// encode() of codec.hpp in fewer instructions, for a format known at run time.
struct encode_rule {
  float smallest_normal;
  uint32_t factor, offset;
  uint32_t largest;  // the code of max, in both halves of a pair
};

constexpr encode_rule make_encode_rule(const format_traits& format) {
  const int M = format.mantissa_bits;
  const uint32_t smallest_normal = detail::float_bits(format.smallest_normal);
  const uint32_t largest = ((detail::float_bits(format.max) - smallest_normal) >> (23 - M)) + (1u << M);
  return {format.smallest_normal, (1u << 23) + (1u << M),
          (static_cast<uint32_t>(23 - M) << 23) - ((smallest_normal >> 23) << M), largest * 0x10001u};
}

// Adding 2^(23 - M) times the value's power of two, not less than that of the smallest normal, rounds to
// steps of the format and leaves their count in the low bits. On top of the power go the codes below this
// binade, which makes the count the code, and its evenness that of the code. The code is in the low 16 bits
// and may be larger than the largest, as long as the value is within a few times the format's maximum.
FLOATX_HOST_DEVICE inline uint32_t encode_magnitude(const encode_rule& rule, float value) {
  const uint32_t exponent = detail::float_bits(fmaxf(fabsf(value), rule.smallest_normal)) >> 23;
  const float addend = detail::bits_float(exponent * rule.factor + rule.offset);
  return detail::float_bits(fabsf(value) + addend);
}

// ---- Division ----------------------------------------------------------------------------------------

// A power of two that keeps the arithmetic below within the range of FP32.
constexpr FLOATX_HOST_DEVICE float prescale_of(float divisor) {
  return divisor < 0x1p-60f ? 0x1p64f : divisor > 0x1p100f ? 0x1p-64f : 1.0f;
}

// For many values and one divisor. Values are multiplied by prescale before.
struct alignas(16) divider {
  float divisor, reciprocal;  // of the divisor times prescale
  float prescale;
  uint32_t signs;  // of a pair; 0 where the divisor is 0, whose codes are all 0 without a sign

  static FLOATX_HOST_DEVICE divider of(float divisor) {
    if (divisor == 0) return {1, 0, 1, 0};
    const float prescale = prescale_of(divisor), scaled = divisor * prescale;
    return {scaled, 1.0f / scaled, prescale, 0x80008000u};
  }
};

// value / divisor as IEEE rounds it. Markstein: a quotient within one unit in the last place, corrected by
// its exact remainder and a correctly rounded reciprocal, is correctly rounded. The first correction brings
// it within that unit. Values so small that a remainder is not exact have quotients that round to the code 0
// in any case.
FLOATX_HOST_DEVICE inline float divide(float value, const divider& by) {
  const float first = value * by.reciprocal;
  const float second = fmaf(fmaf(-by.divisor, first, value), by.reciprocal, first);
  return fmaf(fmaf(-by.divisor, second, value), by.reciprocal, second);
}

// For values of at most 11 significant bits, FP16 and BF16.
struct alignas(16) short_divider {
  float reciprocal, rest;  // of the divisor times prescale, in two parts; a little too large
  uint32_t prescale;       // a pair of BF16
  uint32_t signs;          // as above

  static FLOATX_HOST_DEVICE short_divider of(float divisor) {
    if (divisor == 0) return {0, 0, 0, 0};
    const float prescale = prescale_of(divisor), scaled = divisor * prescale;
    const float reciprocal = 1.0f / scaled;
    // The remainder is exact. Its square is left out, and two roundings here and one of value * rest make
    // errors of at most 2^-48, too: with 2^-45 more the product is never too small.
    const float rest = reciprocal * (fmaf(-scaled, reciprocal, 1.0f) + 0x1p-45f);
    return {reciprocal, rest, (detail::float_bits(prescale) >> 16) * 0x10001u, 0x80008000u};
  }
};

// Not the quotient that IEEE rounds, but one of the same code: a product too large by at most a 2^-44th
// before it is rounded.
//
// A code is decided by where the quotient lies beside a boundary t between codes, which has at most 7 bits,
// and since IEEE rounds the quotient first, beside t + h and t - h, h being half a unit in the last place of
// t: times a power of two an integer m = 2^s t' +- 1 of 25 bits, t' < 2^7, s >= 18. Value and divisor are,
// too, integers a < 2^11 and b = 2^17 j + n of 24 bits, |n| <= 2^16. Were the quotient just below m, or m, so
// that the product is above, then a 2^p = b m - N with 0 <= N <= 32 and p >= 36. So
//
//     a 2^p + N = j t' 2^(17 + s) + (+-2^17 j + 2^s t' n) +- n.
//
// All but N and +-n are multiples of 2^17, and so N = +-n. What is left are multiples of 2^35, but for the
// sum in brackets, which is smaller: it is 0. Since j and t' are positive, +-n is negative, and N is not: no
// quotient is there.
FLOATX_HOST_DEVICE inline float divide(float value, const short_divider& by) {
  return fmaf(value, by.reciprocal, value * by.rest);
}

}  // namespace floatx::kernels
