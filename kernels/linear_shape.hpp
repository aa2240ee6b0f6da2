// Sizes of the kernels of the linear layer that their launch needs, without device code.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "floatx/format.hpp"
#include "floatx/quantize.hpp"

namespace floatx::kernels {

constexpr int cell_rows = 64, tile_k = 128, cell_strips = 4, steps = 8;  // a cell: 64 rows x 128 k

constexpr FLOATX_HOST_DEVICE int cell_bytes(int bits) { return cell_rows * tile_k / 8 * bits; }

// How scales come in, and after how many steps of 16 k where that depends on the group's size:
//   rows      one scale a row, in the end
//   apart     what a group's products add up to, 128 at most, is multiplied by its scale, in FP32, and added
//             to the sums
//   folded    weights are multiplied by their scale in the type of x, which may round the product
enum class scaling { rows, apart, folded };

// ---- linear_stream ----------------------------------------------------------------------------------

constexpr int max_stages = 6;

// Warps that end tiles in turn.
constexpr int stream_helpers = 2;

// So many that multiply, and with those that end tiles, leave registers for what a warp keeps: each quarter
// of a multiprocessor has 16384 for its warps. With groups and two token tiles nvcc 13.0 spilled up to 48
// bytes, with 6 warps nothing, but 8192 x 8192 at m = 16 with groups of 32 took 19.6 microseconds with 8 and
// 22.8 with 6 in E2M1, 24.5 and 25.4 in E3M2 (H100; h100-tests.json, tile_folded); since scales are loaded at
// once it spills with groups of 16 alone. There 12 warps of one token tile spill, too, and gain: NVFP4 at
// 8192 x 28672 and m = 1 84.7 kilocycles in place of 88.9 (H200; h200-tests.json, stream_groups).
constexpr FLOATX_HOST_DEVICE int max_stream_warps(int bits, int token_tiles, int interval) {
  const bool has_short_groups = interval > 0 && interval < steps;
  if (token_tiles == 1 && (!has_short_groups || bits <= 4)) return 12;
  return token_tiles <= 2 ? 8 : 8 - stream_helpers;
}
constexpr FLOATX_HOST_DEVICE int stream_threads(int warps) { return (warps + stream_helpers) * 32; }
// A thread for each row of a tile.
constexpr FLOATX_HOST_DEVICE int least_stream_warps(int strips) { return (strips + 1) / 2; }
// Where slots begin: 12288 x 4096 at m = 1 on an H100 takes 15.8 microseconds in place of the 17.0 with slots
// that begin at multiples of 16 bytes.
constexpr int line_bytes = 128;
constexpr int ring_header_bytes = line_bytes;  // a barrier for each stage
// 16 bytes of padding put the rows that one ldmatrix reads into different banks.
constexpr int x_row_bytes = tile_k * 2 + 16;

// One piece and its x. Tokens that are not there take no room.
constexpr FLOATX_HOST_DEVICE int stage_bytes(int bits, int cell_scale_bytes, int strips, int tokens) {
  // Unsigned, for then a division is a shift.
  const unsigned bytes = static_cast<unsigned>(cell_bytes(bits) + cell_scale_bytes) / cell_strips * strips +
                         static_cast<unsigned>(tokens * x_row_bytes);
  return static_cast<int>((bytes + line_bytes - 1) / line_bytes * line_bytes);
}

// What the kernel takes besides, which counts towards the same limit.
constexpr int static_shared_bytes = 128;

constexpr FLOATX_HOST_DEVICE int reduction_bytes(int warps, int strips, int tile_tokens) {
  return warps * strips * 16 * tile_tokens * 4;
}

// ---- linear_tile: tiles of `strips` x 16 rows and `token_tiles` x 8 tokens ----------------------------

// A warpgroup fetches, the others multiply.
constexpr FLOATX_HOST_DEVICE int tile_threads(int warps) { return 128 + warps * 32; }

// Of a thread that multiplies. A thread block shares what it was launched with: for 384, 512 and 640 threads
// 168, 128 and 96 registers each.
constexpr FLOATX_HOST_DEVICE int tile_registers(int warps) {
  return warps == 8 ? 232 : warps == 12 ? 160 : 112;
}

// How scales that are folded lie where each is for one interval, and has a loop of its own; or else others:
//   pairs     of two rows, in the type of x
//   standard  of the type that standards have for so long groups, NVFP4's of 16 and MX's of 32
enum class scale_form { pairs, standard, others };

constexpr FLOATX_HOST_DEVICE scale_storage standard_type(int interval) {
  return interval == 1 ? scale_storage::e4m3fn : scale_storage::e8m0;
}
constexpr bool are_standard(scale_storage type, int64_t group_size, int interval) {
  return interval <= 2 && group_size == 16 * interval && type == standard_type(interval);
}
// A loop wants some 96 registers besides the sums. Where they leave fewer nvcc 13.0 spills in all loops with
// one more: 16 x 8 takes 50 kilocycles in place of 41 for 8192 x 8192 and groups of 32, pairs, too (H200;
// h200-tests.json, tile_standard).
constexpr FLOATX_HOST_DEVICE bool has_standard_loop(int interval, int warps, int token_tiles) {
  return interval <= 2 && 4 * token_tiles + 96 < tile_registers(warps);
}
constexpr scale_form scale_form_of(scale_storage type, bool bf16, int64_t group_size, int interval, int warps,
                                   int token_tiles) {
  const bool are_of_x = type == (bf16 ? scale_storage::bf16 : scale_storage::f16);
  if (are_of_x && group_size == 16 * interval) return scale_form::pairs;
  const bool have_loop =
      are_standard(type, group_size, interval) && has_standard_loop(interval, warps, token_tiles);
  return have_loop ? scale_form::standard : scale_form::others;
}

// A slot of x is a k block, in halves of 128 bytes a token, as far as a swizzle reaches.
constexpr int x_half_columns = 64;

constexpr FLOATX_HOST_DEVICE int x_half_bytes(int token_tiles) {
  return token_tiles * 8 * x_half_columns * 2;
}
constexpr FLOATX_HOST_DEVICE int x_slot_bytes(int token_tiles) { return 2 * x_half_bytes(token_tiles); }

constexpr FLOATX_HOST_DEVICE int cell_slot_bytes(int bits, int cell_scale_bytes, int strips) {
  return (cell_bytes(bits) + cell_scale_bytes) / cell_strips * strips;
}

// Where a tile is shared its sums lie in squares of 16 rows x 16 tokens. The thread blocks of a cluster own
// them, `warps` squares at a time in turn, and keep room for each other's, and for those of every way.
constexpr int square_bytes = 16 * 16 * 4;

constexpr FLOATX_HOST_DEVICE int owned_squares(int squares, int warps, int split) {
  return (squares + warps * split - 1) / (warps * split) * (squares < warps ? squares : warps);
}

// What two thread blocks exchange goes in groups of two squares of each warp, at most so many.
constexpr int most_pair_groups = 4;

constexpr FLOATX_HOST_DEVICE int shared_sums_bytes(int token_tiles, int warps, int ways, int split) {
  const int squares = token_tiles / 2 * warps / ways;
  return ((ways > 1 ? ways * squares : 0) + (split > 1 ? split * owned_squares(squares, warps, split) : 0)) *
         square_bytes;
}

// Whether thread blocks can share what is left of whole tiles: with more warps, tiles of 16 x 8 tokens have
// registers for their own sums alone.
constexpr FLOATX_HOST_DEVICE bool has_shares(int warps) { return warps <= 12; }

// Of each warpgroup.
constexpr int staged_square_bytes = 16 * cell_rows * 2, staging_bytes = 2 * staged_square_bytes;

// Room for the rings, in which shared sums lie in the end.
constexpr FLOATX_HOST_DEVICE int rings_bytes(int bits, int cell_scale_bytes, int strips, int token_tiles,
                                             int cell_slots, int x_slots) {
  return x_slots * x_slot_bytes(token_tiles) + cell_slots * cell_slot_bytes(bits, cell_scale_bytes, strips);
}

constexpr FLOATX_HOST_DEVICE int tile_shared_bytes(int bits, int cell_scale_bytes, int strips, int warps,
                                                   int token_tiles, int cell_slots, int x_slots) {
  return rings_bytes(bits, cell_scale_bytes, strips, token_tiles, cell_slots, x_slots) +
         warps / 4 * staging_bytes + x_slots * 32 + cell_slots * 16 +
         (most_pair_groups + 1) * 8;  // and barriers
}

}  // namespace floatx::kernels
