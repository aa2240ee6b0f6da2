// A unit's codes on their way between the canonical form, shared memory and the words of the gpu arrangement.
// Everything here is done by one warp.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "epilogue.cuh"
#include "pack_arguments.hpp"
#include "words.cuh"

namespace floatx::kernels {

// ---- Units of the gpu arrangement --------------------------------------------------------------------

__device__ __forceinline__ int64_t unit_index(int64_t strip, int k_block, int k_blocks) {
  return ((strip >> 2) * k_blocks + k_block) * 4 + (strip & 3);
}

// Puts a register of a pair into the lane's words, which are 0 before. The pairs must come in descending
// order: what a word that is not there holds is first put together in the place of its first lender, whose
// own pairs come later. `pair` must be a constant where this is inlined.
template <int Bits>
__device__ __forceinline__ void scatter(uint32_t pair_register, int pair, const unit_rule& rule,
                                        uint32_t (&words)[2 * Bits]) {
  constexpr int per_word = gpu::word_pairs(Bits), group = gpu::group_words(Bits),
                stored = gpu::stored_words(Bits), lenders = gpu::lender_count(Bits);
  const int index = pair / per_word, in_group = index % group, number = in_group - stored;
  uint32_t* of_group = words + index / group * stored;
  const uint32_t bits = turned_back(pair_register & rule.mask, rule.turn[pair % per_word]);
  if (number < 0) {
    of_group[in_group] |= bits;
    return;
  }
  uint32_t& first = of_group[gpu::lender(Bits, number, 0)];
  first |= bits;
  if (pair % per_word != 0) return;
  const uint32_t word = first;
  first = 0;
#pragma unroll
  for (int i = 0; i < lenders; ++i) {
    of_group[gpu::lender(Bits, number, i)] |=
        turned_back(word & rule.lent.mask[i], rule.lent.turn[number * lenders + i]);
  }
}

// The register of pair `pair`, whose words load(i) gives.
template <int Bits, class Load>
__device__ __forceinline__ uint32_t gather(int pair, const unit_rule& rule, Load&& load) {
  constexpr int per_word = gpu::word_pairs(Bits);
  return turned(word_of<Bits>(pair / per_word, rule.lent, load), rule.turn[pair % per_word]) & rule.mask;
}

// 16 bytes of each lane at a time, 8 of the last chunk of odd widths: whole lines.
template <int Bits>
__device__ __forceinline__ void store_words(const uint32_t (&words)[2 * Bits], unsigned char* unit,
                                            int lane) {
#pragma unroll
  for (int chunk = 0; chunk < Bits / 2; ++chunk) {
    *reinterpret_cast<uint4*>(unit + chunk * 512 + lane * 16) =
        make_uint4(words[4 * chunk], words[4 * chunk + 1], words[4 * chunk + 2], words[4 * chunk + 3]);
  }
  if constexpr (Bits % 2 == 1) {
    *reinterpret_cast<uint2*>(unit + Bits / 2 * 512 + lane * 8) =
        make_uint2(words[2 * Bits - 2], words[2 * Bits - 1]);
  }
}

// ---- Tiles of codes in shared memory -----------------------------------------------------------------

// Where a lane's pair lies in a tile: rows lane / 4 and + 8, columns lane % 4 * 2 and + 8 of a step of 16.
__device__ __forceinline__ int pair_offset(int pair, int lane) {
  const int row = lane / 4 + pair % 2 * 8, column = pair / 4 * 16 + pair / 2 % 2 * 8 + lane % 4 * 2;
  return row * tile_row_bytes + column;
}

// By how much the sign of a code is further up in a register.
template <int Bits>
__device__ __forceinline__ int sign_lift(int lift) {
  return Bits == 4 ? lift : 16 - Bits;
}

// A register of lift `lift` to two codes, a byte each.
template <int Bits>
__device__ __forceinline__ uint16_t codes_of(uint32_t pair_register, int lift) {
  constexpr uint32_t sign = 0x10001u << (Bits - 1), magnitude = sign - 0x10001u;
  const uint32_t codes =
      ((pair_register >> lift) & magnitude) | ((pair_register >> sign_lift<Bits>(lift)) & sign);
  return static_cast<uint16_t>(codes | codes >> 8);
}

template <int Bits>
__device__ __forceinline__ uint32_t register_of(uint16_t codes, int lift) {
  constexpr uint32_t sign = 0x10001u << (Bits - 1), magnitude = sign - 0x10001u;
  const uint32_t apart = (codes & 0xffu) | (codes & 0xff00u) << 8;
  return (apart & magnitude) << lift | (apart & sign) << sign_lift<Bits>(lift);
}

template <int Bits>
__device__ void unit_from_tile(const unsigned char* tile, const code_rule& rule, unsigned char* unit,
                               int lane) {
  uint32_t words[2 * Bits] = {};
#pragma unroll
  for (int pair = gpu::lane_pairs - 1; pair >= 0; --pair) {
    const auto codes = *reinterpret_cast<const uint16_t*>(tile + pair_offset(pair, lane));
    scatter<Bits>(register_of<Bits>(codes, rule.lift), pair, rule.unit, words);
  }
  store_words<Bits>(words, unit, lane);
}

template <int Bits>
__device__ __forceinline__ void words_to_tile(const uint32_t (&words)[2 * Bits], const code_rule& rule,
                                              unsigned char* tile, int lane) {
#pragma unroll
  for (int pair = 0; pair < gpu::lane_pairs; ++pair) {
    *reinterpret_cast<uint16_t*>(tile + pair_offset(pair, lane)) =
        codes_of<Bits>(gather<Bits>(pair, rule.unit, [&](int word) { return words[word]; }), rule.lift);
  }
}

template <int Bits>
__device__ void unit_to_tile(const unsigned char* unit, const code_rule& rule, unsigned char* tile,
                             int lane) {
  uint32_t words[2 * Bits];
  load_words<Bits>(words, unit, lane, [](const auto* chunk) { return __ldg(chunk); });
  words_to_tile<Bits>(words, rule, tile, lane);
}

// The code at any place of a weight in the gpu arrangement.
template <int Bits>
__device__ __forceinline__ uint32_t code_at(const weight_view& source, int64_t row, int64_t column,
                                            const code_rule& rule) {
  const unsigned char* unit =
      source.codes +
      unit_index(row / unit_rows, static_cast<int>(column / unit_k), source.k_blocks) * gpu::unit_bytes(Bits);
  const gpu::fragment_place at = gpu::place(row, column);
  const uint32_t pair_register = gather<Bits>(at.pair, rule.unit, [&](int word) {
    return __ldg(reinterpret_cast<const uint32_t*>(unit) + gpu::place_of_word(Bits, at.lane, word));
  });
  const uint32_t codes = codes_of<Bits>(pair_register, rule.lift);
  return (codes >> (8 * at.half)) & 0xffu;
}

// The canonical form of a tile's part [rows][columns] whose first code is (row, column) of the weight; column
// is a multiple of 128. A lane writes eight codes at a time, which are whole bytes.
template <int Bits>
__device__ void tile_to_canonical(const unsigned char* tile, const weight_view& target, int64_t row,
                                  int64_t column, int rows, int columns, int lane) {
  const int eights = (columns + 7) / 8;
  for (int i = lane; i < rows * 16; i += 32) {
    const int r = i / 16, eight = i % 16;
    if (eight >= eights) continue;
    const auto* codes = reinterpret_cast<const uint2*>(tile + r * tile_row_bytes + eight * 8);
    uint64_t bits = 0;
#pragma unroll
    for (int c = 0; c < 8; ++c) {
      const uint64_t code = ((c < 4 ? codes->x : codes->y) >> (c % 4 * 8)) & 0xffu;
      bits |= code << (c * Bits);
    }
    const int count = columns - eight * 8 < 8 ? columns - eight * 8 : 8, bytes = (count * Bits + 7) / 8;
    unsigned char* to = target.codes + (row + r) * target.row_bytes + (column / 8 + eight) * Bits;
    for (int b = 0; b < bytes; ++b) to[b] = static_cast<unsigned char>(bits >> (8 * b));
  }
}

// The inverse, from any column; beyond the part the tile becomes zero.
template <int Bits>
__device__ void canonical_to_tile(const weight_view& source, int64_t row, int64_t column, int rows,
                                  int columns, unsigned char* tile, int lane) {
  for (int i = lane; i < unit_rows * 16; i += 32) {
    const int r = i / 16, first = i % 16 * 8;
    const int left = columns - first, count = r >= rows || left < 0 ? 0 : left < 8 ? left : 8;
    uint2 codes = {0, 0};
    if (count > 0) {
      const int64_t begin = (column + first) * Bits;
      const unsigned char* from = source.codes + (row + r) * source.row_bytes + begin / 8;
      const int skip = static_cast<int>(begin % 8), bytes = (skip + count * Bits + 7) / 8;
      uint64_t bits = 0;
      for (int b = 0; b < bytes && b < 8; ++b) bits |= static_cast<uint64_t>(__ldg(from + b)) << (8 * b);
      bits >>= skip;
      // Eight codes of 8 bits are whole bytes, and of fewer bits fit: a ninth byte is only there for 8 bits
      // or 57 bits and more.
      if (bytes == 9) bits |= static_cast<uint64_t>(__ldg(from + 8)) << (64 - skip);
#pragma unroll
      for (int c = 0; c < 8; ++c) {
        const uint32_t code = c < count ? static_cast<uint32_t>(bits >> (c * Bits)) & ((1u << Bits) - 1) : 0u;
        if (c < 4) {
          codes.x |= code << (c * 8);
        } else {
          codes.y |= code << ((c - 4) * 8);
        }
      }
    }
    *reinterpret_cast<uint2*>(tile + r * tile_row_bytes + first) = codes;
  }
}

// ---- Scales ------------------------------------------------------------------------------------------

__device__ __forceinline__ void store_scale_bits(unsigned char* scales, int64_t index, int bytes,
                                                 uint32_t bits) {
  if (bytes == 4) {
    reinterpret_cast<uint32_t*>(scales)[index] = bits;
  } else if (bytes == 2) {
    reinterpret_cast<uint16_t*>(scales)[index] = static_cast<uint16_t>(bits);
  } else {
    scales[index] = static_cast<unsigned char>(bits);
  }
}

__device__ __forceinline__ int64_t scale_index_in(const weight_view& weight, int group_size, int64_t row,
                                                  int64_t group) {
  return weight.canonical ? row * group_count(weight.k, group_size) + group
                          : gpu::scale_index(weight.k, group_size, row, group);
}

// The same for row r of a strip and group g of its unit, without divisions. 0 groups: of the row.
__device__ __forceinline__ int64_t unit_scale_index(const weight_view& weight, int unit_groups,
                                                    int64_t row_groups, int64_t strip, int k_block, int r,
                                                    int g) {
  if (weight.canonical)
    return (strip * unit_rows + r) * row_groups + static_cast<int64_t>(k_block) * unit_groups + g;
  const int groups = unit_groups == 0 ? 1 : unit_groups;
  const int64_t unit = unit_groups == 0 ? strip : unit_index(strip, k_block, weight.k_blocks);
  return unit * unit_rows * groups + (r % 8 * groups + g) * 2 + r / 8;
}

// ---- Offences ----------------------------------------------------------------------------------------

constexpr uint64_t no_offence = ~uint64_t{0};

// Keeps the least key of a warp's lanes, all of which call this.
__device__ inline void note(data_report* report, uint64_t key) {
  for (int distance = 16; distance > 0; distance /= 2) {
    const uint64_t other = __shfl_xor_sync(0xffffffffu, key, distance);
    key = other < key ? other : key;
  }
  if (threadIdx.x % 32 == 0 && key != no_offence) {
    atomicMin(reinterpret_cast<unsigned long long*>(&report->row), static_cast<unsigned long long>(key));
  }
}

}  // namespace floatx::kernels
