// What kernels::linear_tile costs. Each row says where it was measured.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace floatx::tuning {

// A thread block's warps take `round_us` for warps x 16 rows x 128 k (rows of several ways counted apart) by
// token_tiles x 8 tokens, and the launch, the first weights' way and the end of the sums `start_us`.
struct tile_row {
  int warps, token_tiles;
  double round_us, start_us;
  bool of_groups;  // whether there are kernels of these for relative and folded scales, too
};

// NVIDIA H100, 2026-11-26, E3M2 with one scale a row, FP16 x, cold weights in a CUDA graph: fitted to the
// configurations of h100-tile.json that take less than twice as long as the best, of layers up to 22016 x
// 4096, m = 16 to 512, as is all below that has no other origin; but 8 x 16 is put from its run 2, later.
// What the fit chose there and for the two larger layers took 1.002 times as long as the best on average, at
// most 1.07. Where few tokens leave memory to decide, rounds take up to 1.05. Of 8 warps with 16 token tiles
// the best are two ways: 13.9 microseconds for 4096 x 4096, m = 128, where all others take 15.6 or more; with
// one a round takes 0.68 to 0.82. Tried: 12 warps with 24 token tiles, no better than 8 with 32 for as many
// products; 8 warps with 8 and 12 token tiles.
constexpr tile_row tile_rows[] = {{16, 2, 0.88, 4.4, true},  {16, 4, 0.91, 5.1, false},
                                  {16, 8, 1.02, 5.3, true},  {16, 12, 1.16, 5.2, false},
                                  {16, 16, 1.46, 4.9, true}, {12, 16, 1.11, 4.7, false},
                                  {8, 16, 0.80, 5.0, false}, {8, 32, 1.39, 5.3, true}};

// With kernels::scaling::apart, of FP16 scales, 8192 x 8192 on an H200; start_us as for one a row, not
// measured.
constexpr tile_row apart_rows[] = {{16, 2, 1.01, 5.5, true}, {8, 16, 1.49, 4.5, true}};

// By how much longer a round takes with folded scales, and with relative ones for groups of 32 and of 128:
// 8192 x 8192, m = 1024, on an NVIDIA H100, 8 warps with 32 token tiles; for the others they are estimates.
constexpr double folded_factor = 1.13, relative_32_factor = 1.58, relative_128_factor = 1.17;

// By how much longer a round takes with so many ways, 0 .. 4: there are more and smaller copies, and more of
// x. Three is put between.
constexpr double way_factor[] = {0, 1.0, 1.06, 1.34, 1.62};

// 16 warps, four ways, 16 token tiles: 19.9 microseconds for 4096 x 4096, m = 128, on an H200, where eight
// and two ways take 15.2.
constexpr int most_way_tiles = 32;

// For thread blocks that have to wait for others' end.
constexpr double next_wave_us = 6.8;

// How much of a round's time tiles take that are cut in so many, 0 .. 4.
constexpr double cut_factor[] = {0, 1.0, 0.66, 0, 0.43};

// Many tiles need not be shared.
constexpr int most_shared_waves = 16;

// Thread blocks of a cluster; how many of a chip's multiprocessors such clusters fill, in 132nds, for they
// must not cross the chip's parts (cudaOccupancyMaxActiveClusters on an H200); and what sharing a tile costs.
struct cluster_row {
  int split, multiprocessors;
  double us;
};
constexpr cluster_row cluster_rows[] = {{1, 132, 0},   {2, 132, 2.3}, {3, 117, 2.7}, {4, 120, 2.3},
                                        {5, 110, 3.0}, {6, 102, 4.7}, {8, 120, 3.4}};

// kernels::linear_stream for 9 to 16 tokens: a piece with 2 and with 4 strips, in thread blocks of one tile
// and of several, which wait at the end of each; and the rest. Fitted to m = 16 of the seven shapes of
// README.md's table with 2 and with 4 strips on an H200, commit 8436f1a.
constexpr double stream_piece_us[][2] = {{0.155, 0.175}, {0.222, 0.27}}, stream_start_us = 5.5;

// Few tokens are the stream family's.
constexpr int least_tile_tokens = 9, least_tokens_without_stream = 17;

}  // namespace floatx::tuning
