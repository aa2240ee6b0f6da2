// Where a code lies in the CPU's packed form.
//
// The rows are cut into strips of 16 and k into steps of 32; a step of a strip is a unit of 512 codes.
// Seen from the processor a unit of b-bit codes is b registers of 32 words of 16 bits. Lane 2 r + p
// serves row r of the strip and the k of parity p, so that a 32-bit lane holds a row and two
// neighbouring k: the shape of a BF16 dot product, and of two FP32 lanes after a shift and a mask. The
// 16 codes of a lane (slot s is k = 2 s + p) lie in its b words like this:
//
//     word w, from the lowest bit:  slots w c .. w c + c - 1, where c = 16 / b  (rounded down)
//     the 16 - c b bits on top:     a piece of the remaining slots, whose bits are strung together
//                                   lowest first and cut into one piece for each word
//
// So most codes are one shift away from the low bits, where a table lookup wants them: lookups ignore
// the bits above their index. No bit is wasted, units are multiples of 64 bytes, and units of a strip
// follow each other along k, so a strip is one stream. k is padded to whole units by zero codes.
//
// Scales lie as [strip][group][16 rows], their groups padded to whole units too.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "cpu/cpu.hpp"

namespace floatx::cpu {

constexpr int unit_k = 32;
constexpr int unit_slots = 16;
constexpr int unit_lanes = 32;

constexpr int bits_of(floatx_format format) { return 1 + ((format & 0xff) >> 4) + (format & 0xf); }

// function(std::integral_constant<int, bits>): the width of the codes as a constant.
template <class Function>
auto with_constant_bits(int bits, const Function& function) {
  switch (bits) {
    case 3:
      return function(std::integral_constant<int, 3>());
    case 4:
      return function(std::integral_constant<int, 4>());
    case 5:
      return function(std::integral_constant<int, 5>());
    case 6:
      return function(std::integral_constant<int, 6>());
    case 7:
      return function(std::integral_constant<int, 7>());
    default:
      return function(std::integral_constant<int, 8>());
  }
}

constexpr int64_t units_of(int64_t k) { return (k + unit_k - 1) / unit_k; }
constexpr int64_t strips_of(int64_t n) { return (n + strip_rows - 1) / strip_rows; }

constexpr int64_t groups_of(const weight_shape& s) {
  return s.group_size == 0 ? 1 : (s.k + s.group_size - 1) / s.group_size;
}

// Only groups of 16 can end inside a unit and need padding.
constexpr int64_t padded_groups_of(const weight_shape& s) {
  return s.group_size == 16 ? 2 * units_of(s.k) : groups_of(s);
}

constexpr size_t scale_bytes(floatx_scale_type type) {
  return type == FLOATX_SCALE_F32 ? 4 : type == FLOATX_SCALE_F16 || type == FLOATX_SCALE_BF16 ? 2 : 1;
}

constexpr size_t unit_bytes(int bits) { return static_cast<size_t>(bits) * unit_lanes * 2; }

// The codes of one unit as [k][row], one byte each.
void unpack_unit(int bits, const uint8_t* unit, uint8_t (*codes)[strip_rows]);

}  // namespace floatx::cpu
