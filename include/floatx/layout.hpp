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
// A *unit* is 16 rows x 128 k: eight MMA steps, in which a lane holds 8 x 4 pairs of codes (k, k+1), a pair
// being one register of a fragment. Units lie in the order (64-row block, 128-k block, 16-row strip), so the
// share of a thread block along k is one contiguous stream. n is padded to 64, k to 128, by zeros.
//
// A code becomes an FP16 by moving its bits: sign to bit 15, exponent and mantissa to where FP16 has their
// boundary, [10 - M, 10 + E). That is the value times 2^(bias - 15), subnormals included. So a bit of a code
// has a *target*, its place in the FP16, and is stored where one rotation brings it there: pair j of a word
// is finished by rotl(word, turn(j)) & mask, both halves at once.
//
// From five bits on a word holds two pairs, with a byte of each half for each, whose highest bit is the sign.
// Where FP16 has the magnitude partly below that byte, with more than two mantissa bits, its targets are the
// lowest bits of the byte; the kernel moves it down, two pairs at a time. With three and four bits a word
// holds four pairs. In the 4-bit formats the target of the sign is the bit above the magnitude, because no
// turns of three bits and one far from them tile a word; the kernel moves it on, for a whole word at a time.
//
// What the pairs of a word leave free is lent to words that are not there: those of several words, each
// turned in its own way, are a word more. In each group of words, there or not, which are consecutive pairs,
//
//     bits          3, 6      5                                7
//     words there   3 of 4    5 of 8                           7 of 8
//     lenders       0, 1, 2   0, 1, 3 and 2, 1, 3 and 4, 1, 3  0 .. 6
//
// Within a unit: (chunk, lane, word) with chunks of 16 bytes a lane, of 8 where there are no more, so every
// load of a warp is 512 (256) contiguous bytes.
//
// Scales of groups: [64-row block][128-k block][strip][row r of 8][group in the block][r, r + 8], so that a
// lane's scales for a unit, those of two rows, are contiguous. One a row: as if k were a single block. Behind
// scales of groups lies the largest magnitude of each row's, once more as a scale for the row; zeros for
// padding.
namespace gpu {

constexpr int32_t version = 6;
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

// Of all rows, padding and, with groups, the largest of each row included.
constexpr FLOATX_HOST_DEVICE int64_t scale_count(int64_t n, int64_t k, int64_t group_size) {
  return round_up(n, block_rows) * (padded_groups(k, group_size) + (group_size == 0 ? 0 : 1));
}

// Where the scale of a row's group lies, counted in scales.
constexpr FLOATX_HOST_DEVICE int64_t scale_index(int64_t k, int64_t group_size, int64_t row, int64_t group) {
  const int64_t block_groups = group_size == 0 ? 1 : block_k / group_size;
  const int64_t k_blocks = padded_groups(k, group_size) / block_groups;
  const int64_t strip = row % block_rows / strip_rows, in_strip = row % strip_rows;
  const int64_t unit =
      (row / block_rows * k_blocks + group / block_groups) * (block_rows / strip_rows) + strip;
  return ((unit * 8 + in_strip % 8) * block_groups + group % block_groups) * 2 + in_strip / 8;
}

// Where the largest scale of a row of groups lies.
constexpr FLOATX_HOST_DEVICE int64_t largest_scale_index(int64_t n, int64_t k, int64_t group_size,
                                                         int64_t row) {
  return round_up(n, block_rows) * padded_groups(k, group_size) + scale_index(k, 0, row, 0);
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

// Where one of the 2 * bits words that a lane has of a unit lies: a chunk that is not full comes last.
constexpr FLOATX_HOST_DEVICE int place_of_word(int bits, int lane, int word) {
  const int chunk = word / 4 * 4, left = 2 * bits - chunk, chunk_words = left < 4 ? left : 4;
  return chunk * static_cast<int>(lanes) + lane * chunk_words + word - chunk;
}

// Whether a code has a byte of each half of a word.
constexpr FLOATX_HOST_DEVICE bool has_bytes(int bits) { return bits >= 5; }

constexpr FLOATX_HOST_DEVICE int word_pairs(int bits) { return has_bytes(bits) ? 2 : 4; }

// Words of a group, and how many of them are there. The others come last.
constexpr FLOATX_HOST_DEVICE int group_words(int bits) {
  return bits == 4 || bits == 8 ? 1 : bits == 5 || bits == 7 ? 8 : 4;
}
constexpr FLOATX_HOST_DEVICE int stored_words(int bits) {
  return group_words(bits) * bits / (has_bytes(bits) ? 8 : 4);
}

// Which words of its group one that is not there is made of, `number` being its number among those.
constexpr FLOATX_HOST_DEVICE int lender_count(int bits) { return bits == 7 ? 7 : 3; }
constexpr FLOATX_HOST_DEVICE int lender(int bits, int number, int i) {
  return bits != 5 ? i : i == 0 ? 2 * number : 2 * i - 1;
}

constexpr int most_lenders = 7, most_lent = 9;

// How what is lent is turned, [word that is not there][lender], and where it then is, [lender].
struct lending {
  uint32_t turn[most_lent], mask[most_lenders];
};

constexpr FLOATX_HOST_DEVICE uint32_t in_each_byte(uint32_t bits) { return bits * 0x01010101u; }

// What the pairs of a word leave free of each byte is, as first_target ascends, 0x11 and 0x50 of 3-bit
// formats, 0x70, 0x61 and 0x43 of 5-bit ones, of which one lender gives all and two a bit to each word, 0x60,
// 0x41 and 0x03 of 6-bit ones, and 0x40 and 0x01 of 7-bit ones.
constexpr FLOATX_HOST_DEVICE lending lending_of(int bits, int first_target) {
  constexpr auto each = in_each_byte;
  if (bits == 3 && first_target == 10) return {{28, 29, 1}, {each(0x05), each(0x0a), each(0xa0)}};
  if (bits == 3) return {{1, 2, 3}, {each(0x22), each(0x44), each(0x88)}};
  if (bits == 5) {
    if (first_target == 8) return {{3, 6, 7, 3, 5, 6, 3, 4, 5}, {each(0x83), each(0x04), each(0x08)}};
    if (first_target == 9) return {{4, 6, 2, 4, 5, 1, 4, 3, 7}, {each(0x16), each(0x08), each(0x80)}};
    return {{4, 5, 1, 4, 3, 7, 4, 2, 6}, {each(0x34), each(0x08), each(0x80)}};
  }
  if (bits == 6) {
    if (first_target == 8) return {{2, 4, 6}, {each(0x81), each(0x06), each(0x18)}};
    if (first_target == 9) return {{1, 4, 5}, {each(0x82), each(0x14), each(0x28)}};
    return {{2, 4, 6}, {each(0x0c), each(0x30), each(0xc0)}};
  }
  lending result = {};
  for (uint32_t i = 0; bits == 7 && i < 7; ++i) {
    result.turn[i] = i + 1;
    result.mask[i] = each(1u << ((first_target == 8 ? 6 : 0) + i + 1) % 8);
  }
  return result;
}

// Where a bit lies: a word of the lane's in the unit, and its place there.
struct bit_place {
  int word, bit;
};

// How the codes of a format lie in words. Bits of the magnitude have the targets first_target .., the sign
// has sign_target.
struct arrangement {
  int bits, first_target, sign_target;
  uint32_t turn[4];  // left, to bring the bits of each pair of a word to their targets. They ascend, so that
                     // the first ones are mere shifts: nothing wraps around.
  lending lent;

  constexpr FLOATX_HOST_DEVICE uint32_t mask() const {
    return (((1u << (bits - 1)) - 1u) << first_target | 1u << sign_target) * 0x10001u;
  }

  constexpr FLOATX_HOST_DEVICE bit_place place_of(int pair, int half, int target) const {
    const int per_word = word_pairs(bits), group = group_words(bits), stored = stored_words(bits);
    const int first = pair / per_word / group * stored, in_group = pair / per_word % group;
    const int bit = (16 * half + target - static_cast<int>(turn[pair % per_word])) & 31;
    if (in_group < stored) return {first + in_group, bit};
    int i = 0;
    while ((lent.mask[i] >> bit & 1u) == 0) ++i;
    const int number = in_group - stored;
    const auto by = static_cast<int>(lent.turn[number * lender_count(bits) + i]);
    return {first + lender(bits, number, i), (bit - by) & 31};
  }
};

constexpr FLOATX_HOST_DEVICE arrangement arrangement_of(int bits, int mantissa_bits) {
  const int of_f16 = 10 - mantissa_bits, first_target = has_bytes(bits) && of_f16 < 8 ? 8 : of_f16;
  const lending lent = lending_of(bits, first_target);
  if (has_bytes(bits)) return {bits, first_target, 15, {0, 8}, lent};
  if (bits == 4) return {bits, first_target, first_target + 3, {0, 4, 8, 12}, lent};
  if (first_target == 9) return {bits, first_target, 15, {0, 4, 8, 12}, lent};
  return {bits, first_target, 15, {0, 2, 8, 10}, lent};
}

// Calls visit(word index in the unit's bytes / 4, bit in the word, bit of the code) for each bit of a code.
template <class Visit>
constexpr void for_each_bit(const arrangement& in, fragment_place at, Visit&& visit) {
  for (int i = 0; i < in.bits; ++i) {
    const int target = i == in.bits - 1 ? in.sign_target : in.first_target + i;
    const bit_place found = in.place_of(at.pair, at.half, target);
    visit(place_of_word(in.bits, at.lane, found.word), found.bit, i);
  }
}

// Codes of a strip of 16 rows, [rows][k] one a byte, into its units and out of them. Units are disjoint, so
// strips can be written at the same time.
inline void store_strip(int bits, int mantissa_bits, int64_t k, int64_t first_row, int64_t rows,
                        const uint8_t* codes, uint8_t* packed) {
  const arrangement in = arrangement_of(bits, mantissa_bits);
  for (int64_t begin = 0; begin < k; begin += block_k) {
    uint32_t unit[strip_rows * block_k / 4] = {};
    const int64_t end = begin + block_k < k ? begin + block_k : k;
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t column = begin; column < end; ++column) {
        const uint32_t code = codes[row * k + column];
        for_each_bit(in, place(row, column),
                     [&](int word, int bit, int of_code) { unit[word] |= ((code >> of_code) & 1u) << bit; });
      }
    }
    std::memcpy(packed + unit_offset(bits, k, first_row, begin), unit, static_cast<size_t>(unit_bytes(bits)));
  }
}

inline void load_strip(int bits, int mantissa_bits, int64_t k, int64_t first_row, int64_t rows,
                       const uint8_t* packed, uint8_t* codes) {
  const arrangement in = arrangement_of(bits, mantissa_bits);
  for (int64_t begin = 0; begin < k; begin += block_k) {
    uint32_t unit[strip_rows * block_k / 4];
    std::memcpy(unit, packed + unit_offset(bits, k, first_row, begin), static_cast<size_t>(unit_bytes(bits)));
    const int64_t end = begin + block_k < k ? begin + block_k : k;
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t column = begin; column < end; ++column) {
        uint32_t code = 0;
        for_each_bit(in, place(row, column),
                     [&](int word, int bit, int of_code) { code |= ((unit[word] >> bit) & 1u) << of_code; });
        codes[row * k + column] = static_cast<uint8_t>(code);
      }
    }
  }
}

}  // namespace gpu
}  // namespace floatx
