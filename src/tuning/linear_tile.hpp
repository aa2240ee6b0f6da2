// What kernels::linear_tile costs. Each row says where it was measured.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace floatx::tuning {

// A thread block's warps take `round_us` for warps x 16 rows x 128 k (rows of several ways counted apart) by
// token_tiles x 8 tokens, and the launch, the first weights' way and the end of the sums `start_us`.
// `power_us` is the least that 10^9 products, those of tokens that are not there among them, take once the
// chip draws all the power it may and lowers its clock. Scales of groups of 128 that sums are multiplied by
// take `apart_us` longer a round, scales of groups that are folded into weights `folded_us`; where these are
// 0 in tile_rows there are no such kernels, and without `of_small_groups` none that fold groups of 16.
struct tile_row {
  int warps, token_tiles;
  double round_us, start_us, power_us;
  double apart_us = 0, folded_us = 0;
  bool of_small_groups = false;
};

// NVIDIA H100, 2026-11-26, E3M2 with one scale a row, FP16 x, cold weights in a CUDA graph, in turns with
// cuBLAS: fitted to those of the configurations of h100-tile.json that take less than twice as long
// as the best, of seven layers of 16.8 to 470 million weights and m = 16 to 4096, as is all below that has no
// other origin. What the fit chooses there takes 1.002 times as long as the best on average, at most 1.09.
// Tried there: 16 x 2 and 16 x 12, without which the best take 1.001 times as long, at most 1.02.
// Since then barriers are set up by many warps and sums are sent without waiting (h100-tests.json,
// tile_phases): start_us, the factor of four ways and the costs of clusters were lowered by hand until the
// choice was the best, or nearly, of what h100-tests.json, tile_sweep, has. What was not measured there, 8 x
// 20 to 8 x 32, 12 x 24, scales apart and clusters of 5 and more, was lowered alike.
//
// power_us: 12288 x 4096, 8192 x 8192 and 22016 x 4096, m = 4096, each configuration by itself until the
// clock has settled (h100-tests.json, tile_power). 12 x 16 and 12 x 24 scattered there: theirs are from turns
// with 8 x 32, by how much longer they took. Those of 8 x 16 and of fewer tokens are estimates.
//
// 12 x 4 and 12 x 8 on 2026-11-28 (h100-tests.json, tile_three_cells), plain | programmatic: three cells a
// tile are 115 tiles of 22016 rows, four are 86:
//   22016 x 4096, m = 32  E3M2 31.7 | 27.1 in place of 31.6 | 30.3, E2M0 20.0 | 18.7 in place of 24.5 | 22.8
//   22016 x 4096, m = 64  E3M2 32.8 | 28.9 in place of 33.6 | 32.2, E2M0 23.3 | 21.9 in place of 27.2 | 25.6
//   12288 x 4096, m = 64  E3M2 20.0 | 18.5 in place of 20.3 | 18.5, E2M0 15.0 | 13.8 in place of 16.8 | 15.6
// Their round_us is less than these plain launches take (0.90 and 0.94 at 22016 x 4096), for programmatic
// launches and few bits gain more: it is such that they are chosen where they gained, on an H200 at 57344 x
// 8192 and m = 64, too (194 kilocycles in place of 211).
// Tried there: 24 warps of 4 tiles, two ways, 36.3 | 32.1 in place of 31.7 | 27.1. In the loop, words of the
// next k block loaded before the last products of this one, barriers asked before they are waited for, cells
// given back after the first products: all within 1 %, so it does not wait for these. A descriptor of x that
// is computed ahead: 32.8 | 28.9, for nvcc then keeps it in registers that a warp does not have in common. On
// an H200, where memory is in the way of less, the last two gain (h200-tests.json, tile_scales, loop).
//
// folded_us on an H200 on 2026-11-29 (h200-tests.json, tile_largest), E3M2 with FP16 scales for groups of 32
// beside one scale a row, 8192 x 8192, but for 8 x 8, 8 x 12 and 12 x 16, which by that would have 0.09, 0.09
// and 0.11: set by hand until what is chosen took least of what was measured of four layers and groups of 32
// and 128. Those of 2 and 4 token tiles are estimates, by which what is chosen stayed as it was, of what
// scales cost there besides their bytes, which memory_us counts; with these it is 0.09 in 16 x 2, 0.08 in 16
// x 4 and 12 x 4, 0.07 in 12 x 2, 0.06 in 8 x 2, 0.05 in 8 x 4. 16 x 16 spills. Tried (h100-tests.json,
// tile_folded): sums in units of the latest group's scale, by which no weight is rounded, 292 microseconds
// for 8192 x 8192 and m = 1024, folded 201, one scale a row 189 (tile_groups has its variants). And words and
// scales of the next k block loaded before the last products of this one: nothing, and 29.2 in place of 27.3
// at m = 64.
//
// 8 x 4 and 8 x 8 on an H200 on 2026-11-28 (h200-tests.json, tile_pairs), by what they took beside others,
// kilocycles: 8192 x 8192, m = 32, 33.5 in place of 37.2, 8192 x 28672, m = 32, 94.8 in place of 106, 4096 x
// 4096, m = 64, 16.2 in place of 17.9.
//
// Since scales have a thread of their own that copies them, rows of 4 and 8 token tiles, the factors of three
// and four ways and the costs of clusters of 4 and 5 are by what was measured on an H200 (h200-tests.json,
// tile_scales, configurations), where memory is in the way of less: set by hand until what is chosen took at
// most 1.05 times as long there as the best. By two ways and two thread blocks 8192 x 28672, m = 32, took
// 88.1 kilocycles in 16 x 4, and 95.2 in 8 x 4, with groups of 32 99.7 and 118; 8192 x 8192 32.1 and 33.5,
// with groups 37.1 and 40.7. For an H100 it changes, of the rows of h100.json with one scale a row, E3M2 with
// 10240 x 8192 up to 16 tokens, and few bits up to 32; those and groups are estimates there.
//
// Tiles of 16 tokens, apart_us, 12 x 8 and the costs of pairs, of two ways and of clusters of 4 and 8 on an
// H200 on 2026-11-28 (h200-tests.json, tile_apart and tile_scales): what is chosen takes 1.003 times as long
// as the best configuration there on average, in 74 problems, at most 1.07. Up to 16 tokens a tile of 16
// takes 0.94 to 0.97 times the cycles of one of 32: 8192 x 8192 31.1 in place of 32.5 kilocycles, 22016 x
// 4096 40.2 of 42.3, 8192 x 28672 83.7 of 88.7 and linear_stream's 92.1, 57344 x 8192 157.5 of 168.1; there
// is less of x to copy and of sums to exchange. On an H100, where memory is in the way, 16 x 2 gained less
// (above).
//
// 8 x 12 on an H200 on 2026-11-29 (h200-tests.json, tile_exchange): so chosen that 22016 x 4096 and m = 96
// have it, shared, 57.2 kilocycles in place of 60.9 in 12 x 16.
//
// 8 x 12 and 8 x 24 on an H200 on 2026-11-28 (h200-tests.json, tile_shares), by what they took beside others:
// 8192 x 8192, plain, 30.4 in place of 34.7 with 96 tokens, 48.2 in place of 57.3 with 192; 8192 x 28672, 192
// tokens, 146 in place of 182. The fit above, to powers of two tokens, did not see them.
// Since codes of five bits and more lie in bytes (gpu::arrangement), tiles of few tokens take less, those of
// 8 warps most: 8 x 2 to 8 x 8, 8 x 16, 12 x 4, 12 x 8 and 16 x 8 on an H200 on 2026-11-29 (h200-tests.json,
// tile_bytes). So chosen that they are preferred where they take least there: 8192 x 8192, 8 x 2 at m = 16,
// 30.3 kilocycles, 16 x 2 30.7, 8 x 4 at m = 32 31.0 in place of 31.5, and with groups 8 x 8 at m = 64, 37.0
// in place of 38.2; 4096 x 4096 and m = 512, 8 x 16 41.2 in place of 45.0 in pairs of 8 x 32.
// clang-format off
constexpr tile_row tile_rows[] = {
    {16, 2, 0.74, 2.85, 3.2, 0.04, 0.05, true},
    {16, 4, 0.76, 2.85, 3.2, 0.05, 0.09, true},
    {16, 8, 0.95, 2.85, 3.2, 0.12, 0.107},
    {16, 16, 1.51, 3.1, 2.92},
    {12, 16, 1.09, 2.8, 3.02, 0, 0.15, true},
    {12, 2, 0.53, 2.6, 3.2, 0.045, 0.05},
    {12, 4, 0.60, 2.6, 3.2, 0.045, 0.06},
    {12, 8, 0.73, 2.6, 3.2, 0.09, 0.109, true},
    {12, 24, 1.66, 2.8, 2.98, 0, 0.1},
    {8, 2, 0.47, 1.9, 3.2, 0.05, 0.06, true},
    {8, 4, 0.48, 1.9, 3.2, 0.045, 0.07, true},
    {8, 8, 0.53, 1.9, 3.2, 0.085, 0.085, true},
    {8, 12, 0.745, 1.1, 3.2, 0.12, 0.075, true},
    {8, 16, 0.735, 1.9, 2.92, 0.135, 0.11, true},
    {8, 20, 0.90, 1.8, 3.04, 0, 0.118},
    {8, 22, 1.01, 1.7, 2.94},
    {8, 24, 1.11, 1.7, 2.92, 0, 0.041, true},
    {8, 32, 1.51, 1.7, 2.86, 0, 0.039, true},
};
// clang-format on

// With kernels::scaling::apart and smaller groups: groups of 32 on an H200 (h200-tests.json, tile_apart), by
// what they took a round more than with one scale a row.
constexpr tile_row apart_rows[] = {
    {16, 2, 0.87, 2.85, 0}, {16, 4, 0.99, 2.85, 0}, {12, 8, 1.11, 2.6, 0}, {8, 16, 1.25, 1.9, 0}};

// Where sums of groups of 128 could be apart, tiles of so many token tiles have the scales folded once a k
// block: 8192 x 8192 on an H200 (h200-tests.json, tile_largest), kilocycles with one scale a row, folded and
// apart, FP16 x: 35.1, 37.6 and 38.2 in 16 x 8, 34.3, 38.8 and 39.9 in 8 x 8, 40.1, 44.9 and 46.0 in 8 x 12,
// 43.6, 47.4 and 50.9 in 8 x 16; BF16 x: 38.1, 39.5 and 41.8, 38.8, 40.1 and 47.1, 44.4, 46.7 and 53.3, 48.4,
// 49.7 and 59.3. In 16 x 2 with BF16 x 34.1, 35.0 and 34.8 (tile_bf16).
constexpr int least_folded_tiles = 8;

// With BF16 x weights take longer to dequantize, and 8 x 16 does that twice as often as 8 x 32: so much more
// power_us that it is not preferred to that (h200-tests.json, tile_bytes): 8192 x 8192 and m = 256, 8 x 16
// 85.2 kilocycles, and 8 x 32 took 79.2 when weights took longer still.
constexpr double bf16_power_us(int warps, int token_tiles) {
  return warps == 8 && token_tiles == 16 ? 0.28 : 0;
}

// Scales of the type that standards have take so much longer a round in tiles where they have no loop of
// their own: 8192 x 8192 and E8M0 scales of groups of 32 on an H200 (h200-tests.json, tile_standard),
// kilocycles beside FP16 scales, 38.8 and 35.2 in 16 x 4, 44.8 and 40.4 in 16 x 8; with a loop 38.4 and 36.2
// in 8 x 4, 43.4 and 41.7 in 8 x 8. Less with 12 warps, so chosen that 12 x 16 and 12 x 24 stay where they
// are faster in E2M1: 22016 x 4096 and m = 128, E4M3FN, 64.4 in place of 67.6 in 8 x 16, 12288 x 4096 and m =
// 384, E8M0, 89.1 in place of 93.0 in 8 x 24.
constexpr double lacking_loop_us(int warps) { return warps == 16 ? 0.13 : 0.06; }

// Where few tokens leave memory to decide, all rounds together take as long as the weights' bytes at such a
// rate: 1.14 times the time at the 3.19 TB/s that the GPU was measured to read. Its clock and width allow
// `memory_bytes_per_us`; what is slower reads less by a factor, what is faster more by so much of the
// difference: on an H200 at the 4.5 TB/s that 12 x 2 was seen to reach.
constexpr double bytes_per_us = 2.8e6, memory_bytes_per_us = 3.352e6, faster_part = 1.16;

// By how much longer the rounds take with so many ways, 0 .. 4, even where memory decides: there are more and
// smaller copies, and more of x.
constexpr double way_factor[] = {0, 1.0, 1.04, 1.45, 1.45};

// 16 warps, four ways, 16 token tiles: 19.9 microseconds for 4096 x 4096, m = 128, on an H200, where eight
// and two ways take 15.2.
constexpr int most_way_tiles = 32;

// For thread blocks that have to wait for others' end: 8.3 as fitted, and so much more that 8192 x 28672 and
// m = 768 have whole tiles of 8 x 24, 715 kilocycles on an H200 in place of 731 (h200-tests.json,
// tile_exchange).
constexpr double next_wave_us = 8.8;

// For the end of a tile before the next, by its token tiles: 3.5 with 16 and more, as fitted, less what it
// has gained since on an H200, a kilocycle (h200-tests.json, tile_exchange); an estimate below, so chosen
// that 57344 x 8192 and m = 12 have tiles on an H200, 157 kilocycles in place of 160 to 176.
constexpr double next_tile_us(int token_tiles) {
  return token_tiles < 16 ? 1.2 + 0.10625 * token_tiles : 2.9;
}

// Many tiles need not be shared.
constexpr int most_shared_waves = 16;

// Thread blocks of a cluster; how many of a chip's multiprocessors such clusters fill, in 132nds, for they
// must not cross the chip's parts (cudaOccupancyMaxActiveClusters on an H200); and what sharing a tile costs.
struct cluster_row {
  int split, multiprocessors;
  double us;
};
constexpr cluster_row cluster_rows[] = {{1, 132, 0},   {2, 132, 2.5}, {3, 117, 2.9}, {4, 120, 2.6},
                                        {5, 110, 4.6}, {6, 102, 4.8}, {8, 120, 2.7}};

// The same for two thread blocks of one way each, kernels::store_squares_of_pair: so chosen that they are
// preferred to two ways where they gained on an H200, 8192 x 8192 and m = 128 45.5 in place of 47.1
// kilocycles, 4096 x 11008 and m = 256 56.4 in place of 59.9 (h200-tests.json, tile_pairs), but not at 14336
// x 4096 and m = 16, 16 x 2, 30.6 in place of 29.3 (tile_apart). With 32 token tiles, whose sums take longer
// to come, so much that tiles of 8 x 16 are preferred where they fill the chip alone: 8192 x 8192 and m = 256
// 75.3 in place of 78.8, 4096 x 11008 and m = 512 98.1 in place of 101.2 (tile_bytes).
constexpr double pair_us(int token_tiles) { return token_tiles < 32 ? 0.475 : 1.2; }

// What it takes to share tiles among all thread blocks, the sums of each by the way of global memory; and
// more for each 16 x 8 of a tile. So chosen that it is done where it gained on an H200 (h200-tests.json,
// tile_exchange): 22016 x 4096 and m = 256, 8 x 32, 107 kilocycles, 12 x 16 108, whole tiles 115; m = 512 199
// in place of 203; 12288 x 4096 and m = 512, 12 x 16, 119, but 115 in whole tiles. What is chosen takes 1.000
// times as long as the best configuration there on average, in 29 problems, at most 1.01. Not done where
// there are no whole tiles: clusters are mostly as fast then.
// With tiles of 16 tokens so little that 22016 x 4096 and groups of 16 have them, 8 x 2, up to 16 tokens:
// E4M3FN scales 46.5 kilocycles in E2M1 and 49.7 in E3M2 in place of 49.9 and 54.0 in whole tiles of 16 x 2,
// FP16 scales 43.1 in place of 48.8 (tile_standard, choices).
constexpr double share_us(int token_tiles) { return token_tiles <= 2 ? 0.5 : 1.5; }
constexpr double share_square_us = 0.013;

// Not where tiles at work touch more of x: thread blocks are at different columns then, and x comes from
// memory for each of them. 8192 x 28672 and m = 768, 8 x 32, 739 kilocycles, in whole tiles of 8 x 24 715
// (tile_exchange).
constexpr double most_shared_x_bytes = 32e6;

// kernels::linear_stream for 9 to 16 tokens: a piece of 16 tokens with 2 and with 4 strips, in thread blocks
// of one tile and of several; what each token less saves; and the rest. Fitted to h100-tests.json,
// few_tokens, but for the last piece, 0.286 there: with 0.272 57344 x 8192 and 22016 x 4096 have this family
// at m = 16, where plain launches take as long as with the other and programmatic ones less (stream_ends).
// What sharing the rest of the tiles takes, and sharing all, where the last thread block waits for the
// others: 10240 x 8192 and 1024 x 4096 there.
constexpr double stream_piece_us[][2] = {{0.201, 0.188}, {0.288, 0.272}};
constexpr double stream_token_us[] = {0.006, 0.002}, stream_start_us = 4.2;
// Pieces take as much less time as memory is faster, but not the rest or groups: with an H200's, 1.44 times
// as fast, the rest is 8 microseconds (h200-tests.json, tile_scales, at 1.755 GHz: 8192 x 8192, 8192 x 28672
// and 57344 x 8192, m = 9 and 16, within 5 %).
constexpr double stream_faster_us = 12.5;
// With groups of 32 and more, and of 16, a piece more: so chosen that few bits, which take half as long there
// as E3M2, have the family in which they are faster (h100-tests.json, tile_folded), and on an H200 all
// (tile_scales: 8192 x 28672, m = 16, groups of 32, 110 kilocycles, tiles 99). That was before a piece's
// scales were loaded at once: since then this family takes less, 38.2 kilocycles in place of 40.5 for 8192 x
// 8192, m = 16, groups of 32, and tiles of 16 tokens 35.0 (stream_groups, tile_apart).
constexpr double stream_group_us[][2] = {{0.04, 0.08}, {0.065, 0.08}};
constexpr double stream_share_us = 2.2, stream_all_shared_us = 8.8;

// Where the families are as close as this it is preferred: with 9 and 12 tokens, for which memory decides on
// an H100 in either, 8192 x 28672 takes 81 and 88 kilocycles on an H200, whose memory is faster, and 95 with
// tiles of 8 x 4 (h200-tests.json, tile_pairs).
constexpr double stream_preference = 1.025;

// Few tokens are the stream family's.
constexpr int least_tile_tokens = 9, least_tokens_without_stream = 17;

}  // namespace floatx::tuning
