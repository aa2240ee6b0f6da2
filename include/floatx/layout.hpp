// Where code (n, k) and its scale lie in the canonical form and in the GPU's, and the sizes in bytes.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstring>

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

// The GPU arrangement, FLOATX_LAYOUT_CUDA: one for every GPU, because the A fragment of mma.m16n8k16 and that
// of wgmma with A in registers are the same for each warp. Weights are operand A, so n is the MMA's M.
//
// A *unit* is 16 rows x 128 k: eight MMA steps, in which a lane holds 8 x 4 pairs of codes (k, k+1). Codes
// are cut into planes of 4, 2 and 1 bits, the lowest bits of a code in the last plane. A word of a plane of P
// bits holds 16/P consecutive pairs of its lane; the two codes of a pair are 16 bits apart, so that one mask
// and one shift give both halves of a half2.
//
// Units lie in the order (64-row block, 128-k block, 16-row strip), so the share of a thread block along k is
// one contiguous stream. Within a unit: (plane, chunk, lane, word) with chunks of 16 bytes a lane, 8 in the
// 1-bit plane, so every load of a warp is 512 (256) contiguous bytes. n is padded to 64, k to 128, by zeros.
//
// Scales: [64-row block][128-k block][group in the block][64 rows], or [rows] for one a row. Rows r and r + 8
// of a strip, the two that a lane works on, are neighbours.
namespace gpu {

constexpr int32_t version = 1;
constexpr int64_t block_rows = 64, block_k = 128, strip_rows = 16, lanes = 32, lane_pairs = 32;

constexpr FLOATX_HOST_DEVICE int64_t round_up(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

constexpr FLOATX_HOST_DEVICE int64_t unit_bytes(int bits) { return strip_rows * block_k * bits / 8; }

constexpr FLOATX_HOST_DEVICE int64_t codes_bytes(int bits, int64_t n, int64_t k) {
  return round_up(n, block_rows) * round_up(k, block_k) / 8 * bits;
}

// Scales of a row, padding included.
constexpr FLOATX_HOST_DEVICE int64_t padded_groups(int64_t k, int64_t group_size) {
  return group_size == 0 ? 1 : round_up(k, block_k) / group_size;
}

constexpr FLOATX_HOST_DEVICE int64_t scale_count(int64_t n, int64_t k, int64_t group_size) {
  return round_up(n, block_rows) * padded_groups(k, group_size);
}

// Where the scale of a row's group lies, counted in scales.
constexpr FLOATX_HOST_DEVICE int64_t scale_index(int64_t k, int64_t group_size, int64_t row, int64_t group) {
  const int64_t in_strip = row % strip_rows;
  const int64_t in_block = row % block_rows / strip_rows * strip_rows + in_strip % 8 * 2 + in_strip / 8;
  return (row / block_rows * padded_groups(k, group_size) + group) * block_rows + in_block;
}

// The byte at which the unit of (row, column) begins.
constexpr FLOATX_HOST_DEVICE int64_t unit_offset(int bits, int64_t k, int64_t row, int64_t column) {
  const int64_t strip = row % block_rows / strip_rows;
  const int64_t k_blocks = round_up(k, block_k) / block_k;
  return ((row / block_rows * k_blocks + column / block_k) * (block_rows / strip_rows) + strip) *
         unit_bytes(bits);
}

// Where a code lies within its unit: which lane, which of the lane's pairs, which half of the pair.
struct fragment_place {
  int lane, pair, half;
};

constexpr FLOATX_HOST_DEVICE fragment_place place(int64_t row, int64_t column) {
  const int r = static_cast<int>(row % strip_rows), c = static_cast<int>(column % block_k), in_step = c % 16;
  return {r % 8 * 4 + in_step % 8 / 2, c / 16 * 4 + in_step / 8 * 2 + r / 8, c % 2};
}

// Widths of the planes of a format, the first one holding the highest bits: 6 = 4 + 2, 8 = 4 + 4.
constexpr FLOATX_HOST_DEVICE int next_plane(int bits_left) {
  return bits_left >= 4 ? 4 : bits_left >= 2 ? 2 : 1;
}

// The word of a plane of `width` bits that holds a lane's pair, counted in words from the plane's beginning.
constexpr FLOATX_HOST_DEVICE int word_index(int width, int lane, int pair) {
  const int word = pair / (16 / width), chunk_words = width == 1 ? 2 : 4;
  return (word / chunk_words * static_cast<int>(lanes) + lane) * chunk_words + word % chunk_words;
}

// Calls visit(plane's first byte in the unit, width, lowest bit of the code in this plane) for each plane.
template <class Visit>
constexpr FLOATX_HOST_DEVICE void for_each_plane(int bits, Visit&& visit) {
  int64_t offset = 0;
  for (int left = bits; left > 0;) {
    const int width = next_plane(left);
    left -= width;
    visit(offset, width, left);
    offset += strip_rows * block_k * width / 8;
  }
}

// Codes of a strip of 16 rows, [rows][k] one a byte, into its units and out of them. Units are disjoint, so
// strips can be written at the same time.
inline void store_strip(int bits, int64_t k, int64_t first_row, int64_t rows, const uint8_t* codes,
                        uint8_t* packed) {
  for (int64_t begin = 0; begin < k; begin += block_k) {
    uint8_t* unit = packed + unit_offset(bits, k, first_row, begin);
    std::memset(unit, 0, static_cast<size_t>(unit_bytes(bits)));
    const int64_t end = begin + block_k < k ? begin + block_k : k;
    for_each_plane(bits, [&](int64_t offset, int width, int lowest) {
      for (int64_t row = 0; row < rows; ++row) {
        for (int64_t column = begin; column < end; ++column) {
          const fragment_place at = place(row, column);
          const uint32_t field =
              (static_cast<uint32_t>(codes[row * k + column]) >> lowest) & ((1u << width) - 1);
          uint8_t* address = unit + offset + 4 * word_index(width, at.lane, at.pair);
          uint32_t word;
          std::memcpy(&word, address, 4);
          word |= field << (16 * at.half + at.pair % (16 / width) * width);
          std::memcpy(address, &word, 4);
        }
      }
    });
  }
}

inline void load_strip(int bits, int64_t k, int64_t first_row, int64_t rows, const uint8_t* packed,
                       uint8_t* codes) {
  std::memset(codes, 0, static_cast<size_t>(rows * k));
  for (int64_t begin = 0; begin < k; begin += block_k) {
    const uint8_t* unit = packed + unit_offset(bits, k, first_row, begin);
    const int64_t end = begin + block_k < k ? begin + block_k : k;
    for_each_plane(bits, [&](int64_t offset, int width, int lowest) {
      for (int64_t row = 0; row < rows; ++row) {
        for (int64_t column = begin; column < end; ++column) {
          const fragment_place at = place(row, column);
          uint32_t word;
          std::memcpy(&word, unit + offset + 4 * word_index(width, at.lane, at.pair), 4);
          const uint32_t field =
              (word >> (16 * at.half + at.pair % (16 / width) * width)) & ((1u << width) - 1);
          codes[row * k + column] = static_cast<uint8_t>(codes[row * k + column] | field << lowest);
        }
      }
    });
  }
}

}  // namespace gpu
}  // namespace floatx
