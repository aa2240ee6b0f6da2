// Where code (n, k) lies in the canonical form, and the sizes in bytes.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "floatx/format.hpp"

namespace floatx {

// Scales of a row.
constexpr FLOATX_HOST_DEVICE int64_t group_count(int64_t k, int64_t group_size) {
  return group_size == 0 ? 1 : (k + group_size - 1) / group_size;
}

// The canonical form: codes along k, least significant bit first, each row padded to a byte.
namespace canonical {

constexpr FLOATX_HOST_DEVICE int64_t row_bytes(int bits, int64_t k) { return (k * bits + 7) / 8; }

// Writes the k codes of a row, one code a byte, as row_bytes(bits, k) bytes.
inline void store_row(int bits, int64_t k, const uint8_t* codes, uint8_t* row) {
  uint32_t pending = 0;
  int pending_bits = 0;
  for (int64_t i = 0; i < k; ++i) {
    pending |= static_cast<uint32_t>(codes[i]) << pending_bits;
    for (pending_bits += bits; pending_bits >= 8; pending_bits -= 8, pending >>= 8) {
      *row++ = static_cast<uint8_t>(pending);
    }
  }
  if (pending_bits > 0) *row = static_cast<uint8_t>(pending);
}

// The inverse. Padding bits are not looked at.
inline void load_row(int bits, int64_t k, const uint8_t* row, uint8_t* codes) {
  const uint32_t mask = (1u << bits) - 1;
  uint32_t pending = 0;
  int pending_bits = 0;
  for (int64_t i = 0; i < k; ++i) {
    if (pending_bits < bits) {
      pending |= static_cast<uint32_t>(*row++) << pending_bits;
      pending_bits += 8;
    }
    codes[i] = static_cast<uint8_t>(pending & mask);
    pending >>= bits;
    pending_bits -= bits;
  }
}

}  // namespace canonical
}  // namespace floatx
