// The element types a safetensors file can hold.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace floatx::io {

enum class dtype : uint8_t {
  boolean,
  f4,
  f6_e2m3,
  f6_e3m2,
  u8,
  i8,
  f8_e5m2,
  f8_e4m3,
  f8_e8m0,
  f8_e5m2fnuz,
  f8_e4m3fnuz,
  i16,
  u16,
  f16,
  bf16,
  i32,
  u32,
  f32,
  c64,
  f64,
  i64,
  u64,
};

// "BF16", as the file spells it.
std::string_view name(dtype type);

// Bits of one element: 4 and 6 for the packed types, a multiple of 8 for the rest.
uint32_t bits(dtype type);

std::optional<dtype> parse_dtype(std::string_view name);

}  // namespace floatx::io
