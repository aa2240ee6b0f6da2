// From a group of values to its scale: absmax, the scale rules, rounding to the storage type.
//
// The codes follow by encode<Format>(w / divisor); see floatx_pack in floatx.h for the equations.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "floatx/codec.hpp"

namespace floatx {

enum class scale_storage { f32 = 0, f16 = 1, bf16 = 2, e8m0 = 3, e4m3fn = 4 };  // floatx_scale_type

constexpr FLOATX_HOST_DEVICE int scale_bytes(scale_storage type) {
  return type == scale_storage::f32 ? 4 : type == scale_storage::f16 || type == scale_storage::bf16 ? 2 : 1;
}

// The bits of a scale's magnitude, which order as magnitudes do, NaN last.
constexpr FLOATX_HOST_DEVICE uint32_t magnitude_bits(scale_storage type, uint32_t bits) {
  return type == scale_storage::e8m0 ? bits : bits & ((1u << (8 * scale_bytes(type) - 1)) - 1u);
}

struct quantize_rules {
  bool divide_by_unrounded = false;  // FLOATX_SCALE_RULE_UNROUNDED
  bool exponent_ceil = false;        // FLOATX_EXPONENT_RULE_CEIL
};

struct group_scale {
  uint32_t bits;  // as stored, in the low scale_bytes()
  float value;    // what the bits stand for, tensor scale included
  float divisor;  // what the values are divided by; 0 = all codes of the group are 0
};

// Whether a finite value > 0 is a power of two, by its bits: a loop over powers is slow on a GPU.
constexpr FLOATX_HOST_DEVICE bool is_power_of_two(float value) {
  const uint32_t bits = detail::float_bits(value);
  return (bits >> 23 ? bits & 0x7fffffu : bits & (bits - 1)) == 0;
}

// floor(log2(value)) for a finite value > 0, subnormal ones too.
constexpr FLOATX_HOST_DEVICE int floor_log2(float value) {
  const uint32_t bits = detail::float_bits(value);
  if (bits >> 23) return static_cast<int>(bits >> 23) - 127;
  int exponent = -149;
  for (uint32_t rest = bits >> 1; rest; rest >>= 1) ++exponent;
  return exponent;
}

// All that scales depend on in a format, so that a GPU kernel can serve every format.
struct format_range {
  float max;
  int max_exponent;  // floor(log2(max))
};

template <class Format>
constexpr FLOATX_HOST_DEVICE format_range range_of() {
  return {Format::max, Format::max_exponent};
}

// The FP32 scale of a group before it is rounded to its storage type.
constexpr FLOATX_HOST_DEVICE float unrounded_scale(format_range format, float absmax) {
  return (absmax > 1e-12f ? absmax : 1e-12f) / format.max;
}
template <class Format>
constexpr FLOATX_HOST_DEVICE float unrounded_scale(float absmax) {
  return unrounded_scale(range_of<Format>(), absmax);
}

// The tensor scale of E4M3FN scales.
constexpr FLOATX_HOST_DEVICE float tensor_scale(format_range format, float tensor_absmax) {
  return (tensor_absmax > 1e-12f ? tensor_absmax : 1e-12f) / (format.max * 448.0f);
}
template <class Format>
constexpr FLOATX_HOST_DEVICE float tensor_scale(float tensor_absmax) {
  return tensor_scale(range_of<Format>(), tensor_absmax);
}

// What stored bits stand for.
constexpr FLOATX_HOST_DEVICE float scale_value(scale_storage type, uint32_t bits, float tensor_scale_value) {
  switch (type) {
    case scale_storage::f16:
      return f16_to_f32(static_cast<uint16_t>(bits));
    case scale_storage::bf16:
      return bf16_to_f32(static_cast<uint16_t>(bits));
    case scale_storage::e8m0:
      return e8m0_to_f32(static_cast<uint8_t>(bits));
    case scale_storage::e4m3fn:
      return decode<float8_e4m3fn>(static_cast<uint8_t>(bits)) * tensor_scale_value;
    default:
      return detail::bits_float(bits);
  }
}

// The scale of a group whose largest magnitude is absmax, which must be finite.
constexpr FLOATX_HOST_DEVICE group_scale make_scale(format_range format, float absmax, scale_storage type,
                                                    quantize_rules rules, float tensor_scale_value) {
  if (type == scale_storage::e8m0) {
    int exponent = -127;
    if (absmax > 0) {
      const int floor = floor_log2(absmax);
      exponent = floor + (rules.exponent_ceil && !is_power_of_two(absmax) ? 1 : 0) - format.max_exponent;
      exponent = exponent < -127 ? -127 : exponent > 127 ? 127 : exponent;
    }
    const auto bits = static_cast<uint32_t>(exponent + 127);
    const float value = e8m0_to_f32(static_cast<uint8_t>(bits));
    return {bits, value, value};
  }
  const float scale = unrounded_scale(format, absmax);
  uint32_t bits = 0;
  switch (type) {
    case scale_storage::f16:
      bits = f32_to_f16(scale);
      break;
    case scale_storage::bf16:
      bits = f32_to_bf16(scale);
      break;
    case scale_storage::e4m3fn:
      bits = encode<float8_e4m3fn>(scale / tensor_scale_value);
      break;
    default:
      bits = detail::float_bits(scale);
      break;
  }
  const float value = scale_value(type, bits, tensor_scale_value);
  return {bits, value, value == 0 ? 0 : rules.divide_by_unrounded ? scale : value};
}

template <class Format>
constexpr FLOATX_HOST_DEVICE group_scale make_scale(float absmax, scale_storage type, quantize_rules rules,
                                                    float tensor_scale_value) {
  return make_scale(range_of<Format>(), absmax, type, rules, tensor_scale_value);
}

}  // namespace floatx
