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
// is finished by rotl(word, turn(j)) & mask, both halves at once. Codes are cut into *planes* of 4, 2 and 1
// bits so that the targets of a plane, turned, tile a word; a word of a plane of P bits holds 16 / P
// consecutive pairs of its lane.
//
//     bits   planes, highest bits of the magnitude first; s is the sign
//     3      {s, 2 bits}         6      {s, 5 bits}
//     4      {s, 3 bits}         7      4, 2, {s}
//     5      4, {s}              8      {s, 7 bits}
//
// In the plane of the 4-bit formats the target of s is the bit above the magnitude, because no turns of
// three bits and one far from them tile a word; the kernel moves it on, for a whole word at a time.
//
// In the planes of 6 and 8 bits a word holds two pairs, with a byte of each half for each: s is its highest
// bit. Where FP16 has the magnitude partly below that byte, with more than two mantissa bits, its targets are
// the lowest bits of the byte; the kernel moves it down, two pairs at a time.
//
// In the planes of 3 and 6 bits three words are for 16 or 8 pairs. Each holds four or two pairs, which leave
// 8 bits of it; those of all three, each turned in its own way, are a fourth word, which holds the last ones.
//
// Within a unit: (plane, chunk, lane, word) with chunks of 16 bytes a lane, of 8 where a plane has no more,
// so every load of a warp is 512 (256) contiguous bytes.
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

// Where one of the 2 * width words that a lane has of a plane lies, or of a whole unit: the planes whose last
// chunk is not full come last.
constexpr FLOATX_HOST_DEVICE int place_of_word(int width, int lane, int word) {
  const int chunk = word / 4 * 4, left = 2 * width - chunk, chunk_words = left < 4 ? left : 4;
  return chunk * static_cast<int>(lanes) + lane * chunk_words + word - chunk;
}

// The words of formats of which three are for four times as many pairs as one holds: 4 of 3 bits, 2 of 6.
struct triple {
  uint32_t turn[4];        // of a word's pairs
  uint32_t spare_turn[3];  // of each of three words, to bring what its pairs leave to the fourth word,
  uint32_t spare_mask[3];  // where it is this
};

constexpr FLOATX_HOST_DEVICE bool has_triples(int width) { return width == 3 || width == 6; }
constexpr FLOATX_HOST_DEVICE int triple_word_pairs(int width) { return 12 / width; }

constexpr FLOATX_HOST_DEVICE triple triple_of(int width, int first_target) {
  if (width == 3) {
    // The targets are 15, 11, 10 and 15, 10, 9. What four pairs leave is 0x5050 and 0x1111 of each half.
    return first_target == 10 ? triple{{0, 2, 8, 10}, {28, 29, 1}, {0x05050505u, 0x0a0a0a0au, 0xa0a0a0a0u}}
                              : triple{{0, 4, 8, 12}, {1, 2, 3}, {0x22222222u, 0x44444444u, 0x88888888u}};
  }
  // What two pairs leave of each byte is 0x60, 0x41 and 0x03.
  return first_target == 8   ? triple{{0, 8}, {2, 4, 6}, {0x81818181u, 0x06060606u, 0x18181818u}}
         : first_target == 9 ? triple{{0, 8}, {1, 4, 5}, {0x82828282u, 0x14141414u, 0x28282828u}}
                             : triple{{0, 8}, {2, 4, 6}, {0x0c0c0c0cu, 0x30303030u, 0xc0c0c0c0u}};
}

// Where a bit lies: its word, counted from the beginning of the plane, and its place there.
struct bit_place {
  int word, bit;
};

// A plane: `width` bits of each code. Bits lowest .. of the magnitude have the targets first_target ..;
// with_sign tells that the sign is there, too, at target sign_target.
struct plane {
  int64_t offset;  // in the unit, in bytes
  int width, lowest, first_target;
  bool with_sign;
  int sign_target;

  constexpr FLOATX_HOST_DEVICE int magnitude_bits() const { return width - (with_sign ? 1 : 0); }

  // By how much a word is rotated left to bring the bits of its pair j to their targets. Contiguous targets
  // tile a half word side by side. Turns ascend with j, so that the first ones are mere shifts: nothing wraps
  // around.
  constexpr FLOATX_HOST_DEVICE int turn(int pair) const {
    if (!has_triples(width)) return width * (pair % (16 / width));
    return static_cast<int>(words_of_three().turn[pair % triple_word_pairs(width)]);
  }

  constexpr FLOATX_HOST_DEVICE bit_place place_of(int lane, int pair, int half, int target) const {
    const int bit = (16 * half + target - turn(pair)) & 31;
    if (!has_triples(width)) return {place_of_word(width, lane, pair / (16 / width)), bit};
    const triple three = words_of_three();
    const int per_word = triple_word_pairs(width), per_triple = 4 * per_word;
    const int first_word = pair / per_triple * 3, in_triple = pair % per_triple / per_word;
    if (in_triple < 3) return {place_of_word(width, lane, first_word + in_triple), bit};
    int lender = 0;
    while ((three.spare_mask[lender] >> bit & 1u) == 0) ++lender;
    return {place_of_word(width, lane, first_word + lender),
            (bit - static_cast<int>(three.spare_turn[lender])) & 31};
  }

  constexpr FLOATX_HOST_DEVICE triple words_of_three() const { return triple_of(width, first_target); }
};

struct planes {
  int count = 0;
  plane list[3] = {};
};

// Of which a word has two pairs, a byte of each half for each.
constexpr FLOATX_HOST_DEVICE bool has_bytes(int bits) { return bits == 6 || bits == 8; }

constexpr FLOATX_HOST_DEVICE planes planes_of(int bits, int mantissa_bits) {
  planes result;
  int left = bits - 1;  // of the magnitude
  int64_t offset = 0;
  while (left >= 0) {
    const bool whole = bits <= 4 || has_bytes(bits), last = left <= 1 || whole;
    const int width = whole ? bits : left >= 4 ? 4 : left >= 2 ? 2 : left + 1;
    left -= last ? left : width;
    const int of_f16 = 10 - mantissa_bits + left, first_target = has_bytes(bits) && of_f16 < 8 ? 8 : of_f16;
    result.list[result.count++] = {offset,       width, left,
                                   first_target, last,  !last ? 0 : bits == 4 ? first_target + 3 : 15};
    offset += strip_rows * block_k * width / 8;
    if (last) break;
  }
  return result;
}

// Calls visit(word index in the unit's bytes / 4, bit in the word, bit of the code) for each bit of a code.
template <class Visit>
constexpr void for_each_bit(const planes& all, int bits, fragment_place at, Visit&& visit) {
  for (int p = 0; p < all.count; ++p) {
    const plane& in = all.list[p];
    const auto visit_target = [&](int target, int of_code) {
      const bit_place found = in.place_of(at.lane, at.pair, at.half, target);
      visit(static_cast<int>(in.offset / 4) + found.word, found.bit, of_code);
    };
    for (int i = 0; i < in.magnitude_bits(); ++i) visit_target(in.first_target + i, in.lowest + i);
    if (in.with_sign) visit_target(in.sign_target, bits - 1);
  }
}

// Codes of a strip of 16 rows, [rows][k] one a byte, into its units and out of them. Units are disjoint, so
// strips can be written at the same time.
inline void store_strip(int bits, int mantissa_bits, int64_t k, int64_t first_row, int64_t rows,
                        const uint8_t* codes, uint8_t* packed) {
  const planes all = planes_of(bits, mantissa_bits);
  for (int64_t begin = 0; begin < k; begin += block_k) {
    uint32_t unit[strip_rows * block_k / 4] = {};
    const int64_t end = begin + block_k < k ? begin + block_k : k;
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t column = begin; column < end; ++column) {
        const uint32_t code = codes[row * k + column];
        for_each_bit(all, bits, place(row, column),
                     [&](int word, int bit, int of_code) { unit[word] |= ((code >> of_code) & 1u) << bit; });
      }
    }
    std::memcpy(packed + unit_offset(bits, k, first_row, begin), unit, static_cast<size_t>(unit_bytes(bits)));
  }
}

inline void load_strip(int bits, int mantissa_bits, int64_t k, int64_t first_row, int64_t rows,
                       const uint8_t* packed, uint8_t* codes) {
  const planes all = planes_of(bits, mantissa_bits);
  for (int64_t begin = 0; begin < k; begin += block_k) {
    uint32_t unit[strip_rows * block_k / 4];
    std::memcpy(unit, packed + unit_offset(bits, k, first_row, begin), static_cast<size_t>(unit_bytes(bits)));
    const int64_t end = begin + block_k < k ? begin + block_k : k;
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t column = begin; column < end; ++column) {
        uint32_t code = 0;
        for_each_bit(all, bits, place(row, column),
                     [&](int word, int bit, int of_code) { code |= ((unit[word] >> bit) & 1u) << of_code; });
        codes[row * k + column] = static_cast<uint8_t>(code);
      }
    }
  }
}

}  // namespace gpu
}  // namespace floatx
