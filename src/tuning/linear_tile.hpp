// What kernels::linear_tile costs. Each row says where it was measured.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace floatx::tuning {

// A thread block's warps take `round_us` for warps x 16 rows x 128 k (rows of several ways counted apart) by
// token_tiles x 8 tokens, and the launch, the first weights' way and the end of the sums `start_us`. Groups'
// scales take longer, by so much a round: folded ones, relative ones for groups of 32 and of 128; where one
// of these is 0 in tile_rows there are no such kernels. `power_us` is the least that 10^9 products, those of
// tokens that are not there among them, take once the chip draws all the power it may and lowers its clock.
struct tile_row {
  int warps, token_tiles;
  double round_us, start_us;
  double folded_us, relative_32_us, relative_128_us;
  double power_us = 0;
};

// NVIDIA H100, 2026-11-26, E3M2 with one scale a row, FP16 x, cold weights in a CUDA graph, in turns with
// cuBLAS: fitted to those of the configurations of h100-tile.json that take less than twice as long
// as the best, of seven layers of 16.8 to 470 million weights and m = 16 to 4096, as is all below that has no
// other origin. What the fit chooses there takes 1.002 times as long as the best on average, at most 1.09.
// Groups: 8192 x 8192 and 12288 x 4096, of the same run; those of 8 x 16 are estimates. Tried there: 16 x 2,
// 16 x 12 and 8 x 24, without which the best take 1.001 times as long, at most 1.02. Since then barriers are
// set up by many warps and sums are sent without waiting (h100-tests.json, tile_phases): start_us, the factor
// of four ways and the costs of clusters were lowered by hand until the choice was the best, or nearly, of
// what h100-tests.json, tile_sweep, has. What was not measured there, 8 x 20 to 8 x 32, 12 x 24, scales apart
// and clusters of 5 and more, was lowered alike.
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
// launches and few bits gain more: it was set so that they are chosen where they gained.
// Tried there: 24 warps of 4 tiles, two ways, 36.3 | 32.1 in place of 31.7 | 27.1. In the loop, words of the
// next k block loaded before the last products of this one, barriers asked before they are waited for, cells
// given back after the first products: all within 1 %, so it does not wait for these. A descriptor of x that
// is computed ahead: 32.8 | 28.9, for nvcc then keeps it in registers that a warp does not have in common.
//
// Groups again on 2026-11-27 (h100-tests.json, tile_groups), 12 x 16 and 8 x 32 with m = 128 to 1024; those
// of 8 x 20, and of 12 x 16 for groups of 128, are estimates. With 16 x 4 and 8 x 16 relative scales for
// groups of 32 lose to scales apart.
constexpr tile_row tile_rows[] = {
    {16, 4, 0.87, 2.6, 0.35, 0, 0.18, 3.2},     {16, 8, 1.00, 2.5, 0, 0, 0, 3.2},
    {16, 16, 1.51, 3.1, 0, 0, 0, 2.92},         {12, 16, 1.09, 2.8, 0.42, 0.66, 0.30, 3.02},
    {12, 4, 0.75, 2.6, 0, 0, 0, 3.2},           {12, 8, 0.86, 2.5, 0, 0, 0, 3.2},
    {12, 24, 1.66, 2.8, 0, 0, 0, 2.98},         {8, 16, 0.78, 1.9, 0.3, 0, 0.25, 3.2},
    {8, 20, 0.90, 1.8, 0.22, 0.45, 0.20, 3.04}, {8, 22, 1.01, 1.7, 0, 0, 0, 2.94},
    {8, 32, 1.51, 1.7, 0.04, 0.42, 0.10, 2.86},
};

// With kernels::scaling::apart: five layers of 16.8 to 90 million weights, m = 16 to 192, of the same day; 16
// x 2: 12288 x 4096, m = 32, of the day before.
constexpr tile_row apart_rows[] = {{16, 2, 1.05, 3.6, 0, 0, 0},
                                   {16, 4, 1.21, 2.6, 0, 0, 0},
                                   {12, 8, 1.14, 2.9, 0, 0, 0},
                                   {8, 16, 1.19, 1.9, 0, 0, 0}};

// By how much longer a round takes with groups' scales in tile_rows, folded or relative ones for so many
// steps.
constexpr double group_us(const tile_row& row, bool is_folded, int interval) {
  return is_folded ? row.folded_us : interval == 8 ? row.relative_128_us : row.relative_32_us;
}

// Where few tokens leave memory to decide, all rounds together take as long as the weights' bytes at such a
// rate: 1.14 times the time at the 3.19 TB/s that the GPU was measured to read.
constexpr double bytes_per_us = 2.8e6;

// By how much longer a round takes with so many ways, 0 .. 4: there are more and smaller copies, and more of
// x.
constexpr double way_factor[] = {0, 1.0, 1.06, 1.34, 1.35};

// 16 warps, four ways, 16 token tiles: 19.9 microseconds for 4096 x 4096, m = 128, on an H200, where eight
// and two ways take 15.2.
constexpr int most_way_tiles = 32;

// For thread blocks that have to wait for others' end, and for the end of a tile before the next.
constexpr double next_wave_us = 8.3, next_tile_us = 3.5;

// Many tiles need not be shared.
constexpr int most_shared_waves = 16;

// Thread blocks of a cluster; how many of a chip's multiprocessors such clusters fill, in 132nds, for they
// must not cross the chip's parts (cudaOccupancyMaxActiveClusters on an H200); and what sharing a tile costs.
struct cluster_row {
  int split, multiprocessors;
  double us;
};
constexpr cluster_row cluster_rows[] = {{1, 132, 0},   {2, 132, 2.5}, {3, 117, 2.9}, {4, 120, 2.1},
                                        {5, 110, 3.8}, {6, 102, 4.8}, {8, 120, 2.2}};

// kernels::linear_stream for 9 to 16 tokens: a piece of 16 tokens with 2 and with 4 strips, in thread blocks
// of one tile and of several; what each token less saves; and the rest. Fitted to h100-tests.json,
// few_tokens, but for the last piece, 0.286 there: with 0.272 57344 x 8192 and 22016 x 4096 have this family
// at m = 16, where plain launches take as long as with the other and programmatic ones less (stream_ends).
// What sharing the rest of the tiles takes, and sharing all, where the last thread block waits for the
// others: 10240 x 8192 and 1024 x 4096 there.
constexpr double stream_piece_us[][2] = {{0.201, 0.188}, {0.288, 0.272}};
constexpr double stream_token_us[] = {0.006, 0.002}, stream_start_us = 4.2;
constexpr double stream_share_us = 2.2, stream_all_shared_us = 8.8;

// Few tokens are the stream family's.
constexpr int least_tile_tokens = 9, least_tokens_without_stream = 17;

}  // namespace floatx::tuning
