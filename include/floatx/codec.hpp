// One value to a code and back: the reference semantics, which everything else must reproduce bit by bit.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "floatx/format.hpp"

namespace floatx {
namespace detail {
constexpr FLOATX_HOST_DEVICE uint32_t float_bits(float value) { return __builtin_bit_cast(uint32_t, value); }
constexpr FLOATX_HOST_DEVICE float bits_float(uint32_t bits) { return __builtin_bit_cast(float, bits); }
}  // namespace detail

// The value of a code, exactly. Bits above the format's width must be zero.
template <class Format>
constexpr FLOATX_HOST_DEVICE float decode(uint8_t code) {
  constexpr int M = Format::mantissa_bits;
  const uint32_t sign = (code & Format::sign_mask) ? 0x80000000u : 0u;
  const uint32_t magnitude = code & (Format::sign_mask - 1u);
  if (magnitude > Format::max_code) {
    const bool infinite = Format::special_codes == specials::ieee && magnitude == Format::max_code + 1u;
    return detail::bits_float(sign | (infinite ? 0x7f800000u : 0x7fc00000u));
  }
  const uint32_t exponent = magnitude >> M;
  if (exponent == 0) {
    const float value = static_cast<float>(magnitude) * Format::smallest_subnormal;
    return detail::bits_float(sign | detail::float_bits(value));
  }
  return detail::bits_float(sign |
                            ((magnitude << (23 - M)) + (static_cast<uint32_t>(127 - Format::bias) << 23)));
}

// The nearest code, ties to the even code; saturates at +-max (Inf too), keeps the sign of zero. NaN has
// no code: the callers refuse it, and here it becomes +-max.
//
// Both branches round by integer or FP32 addition, so a loop over this vectorizes.
template <class Format>
constexpr FLOATX_HOST_DEVICE uint8_t encode(float value) {
  constexpr int M = Format::mantissa_bits;
  const uint32_t bits = detail::float_bits(value);
  const uint32_t sign = (bits >> 31) << (Format::bits - 1);
  const uint32_t clamped = (bits & 0x7fffffffu) < detail::float_bits(Format::max)
                               ? (bits & 0x7fffffffu)
                               : detail::float_bits(Format::max);
  // Below the smallest normal codes count steps of smallest_subnormal. Adding 2^23 steps leaves that
  // count, rounded to nearest even, in the low mantissa bits.
  constexpr float magic = Format::smallest_subnormal * 8388608.0f;
  const uint32_t subnormal =
      detail::float_bits(detail::bits_float(clamped) + magic) - detail::float_bits(magic);
  // Above it the exponent only changes its bias, and dropping 23-M bits rounds: a carry out of the
  // mantissa is the next exponent, which is the next code. Evenness is that of the code itself.
  const uint32_t rebiased = clamped - (static_cast<uint32_t>(127 - Format::bias) << 23);
  const uint32_t normal = (rebiased + ((1u << (22 - M)) - 1) + ((rebiased >> (23 - M)) & 1)) >> (23 - M);
  const bool is_normal = clamped >= detail::float_bits(Format::smallest_normal);
  return static_cast<uint8_t>(sign | (is_normal ? normal : subnormal));
}

// Whether a code is NaN or Inf; false for every code of the formats of up to 7 bits.
template <class Format>
constexpr FLOATX_HOST_DEVICE bool is_special(uint8_t code) {
  return (code & (Format::sign_mask - 1u)) > Format::max_code;
}

// ---- The 16-bit types, as bits ---------------------------------------------------------------------

constexpr FLOATX_HOST_DEVICE float bf16_to_f32(uint16_t bits) {
  return detail::bits_float(static_cast<uint32_t>(bits) << 16);
}

// Round to nearest even; NaN stays NaN.
constexpr FLOATX_HOST_DEVICE uint16_t f32_to_bf16(float value) {
  const uint32_t bits = detail::float_bits(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1)) >> 16);
}

constexpr FLOATX_HOST_DEVICE float f16_to_f32(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const uint32_t magnitude = half & 0x7fffu;
  if (magnitude >= 0x7c00u) return detail::bits_float(sign | 0x7f800000u | ((magnitude & 0x3ffu) << 13));
  if (magnitude < 0x400u) {
    const float value = static_cast<float>(magnitude) * 5.9604644775390625e-8f;  // 2^-24
    return detail::bits_float(sign | detail::float_bits(value));
  }
  return detail::bits_float(sign | ((magnitude << 13) + (112u << 23)));
}

// Round to nearest even; overflows to Inf; NaN stays NaN.
constexpr FLOATX_HOST_DEVICE uint16_t f32_to_f16(float value) {
  const uint32_t bits = detail::float_bits(value);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u | ((magnitude >> 13) & 0x3ffu));
  if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);  // >= 65520 rounds to Inf
  if (magnitude < 0x38800000u) {  // below 2^-14: steps of 2^-24, see encode
    const uint32_t steps = detail::float_bits(detail::bits_float(magnitude) + 0.5f) - 0x3f000000u;
    return static_cast<uint16_t>(sign | steps);
  }
  const uint32_t rebiased = magnitude - (112u << 23);
  return static_cast<uint16_t>(sign | ((rebiased + 0xfffu + ((rebiased >> 13) & 1)) >> 13));
}

// ---- Scales --------------------------------------------------------------------------------------

// 2^(bits - 127); 255 is NaN.
constexpr FLOATX_HOST_DEVICE float e8m0_to_f32(uint8_t bits) {
  if (bits == 255) return detail::bits_float(0x7fc00000u);
  return detail::bits_float(bits == 0 ? 0x00400000u : static_cast<uint32_t>(bits) << 23);
}

}  // namespace floatx
