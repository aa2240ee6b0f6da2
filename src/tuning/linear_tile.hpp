// What kernels::linear_tile costs. Each row says where it was measured.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace floatx::tuning {

// A thread block's warps take `round_us` for warps x 16 rows x 128 k (rows of several ways counted apart) by
// token_tiles x 8 tokens, and the launch, the first weights' way and the end of the sums `start_us`.
struct tile_row {
  int warps, token_tiles;
  int promote;  // 0 = one scale a row; else for intervals of up to so many steps, see dispatch::promote_of
  double round_us, start_us;
};

// NVIDIA H200, 2026-11-25, E3M2, FP16 x, cold weights in a CUDA graph. One scale a row: the slope and the
// intercept of the times of 128 thread blocks with a tile each, k = 2048 and 8192; that of 16 x 16 and 12 x
// 16 from 22016 x 4096 and 57344 x 8192, m = 128, with 33 instructions fewer a round. FP16 scales of groups
// of 32 and 128: 8192 x 8192, with start_us as for one a row, not measured. Tried: 12 warps with 24 token
// tiles, 1.56 to 1.76 microseconds a round: no better than 8 with 32 for as many products; 8 warps with fewer
// than 32 token tiles: 0.49 to 0.57 a round for half the rows of 16. 8 warps with 32 for groups are
// estimates: 8192 x 8192, m = 1024, in proportion to others of the same run, intervals of 4 from groups
// of 64.
constexpr tile_row tile_rows[] = {
    {16, 2, 0, 0.80, 5.5},  {16, 4, 0, 0.85, 5.2},  {16, 8, 0, 1.07, 5.0}, {16, 12, 0, 1.34, 4.7},
    {16, 16, 0, 1.40, 4.5}, {12, 16, 0, 1.17, 4.5}, {8, 32, 0, 1.37, 5.0}, {16, 2, 2, 1.01, 5.5},
    {16, 8, 2, 1.66, 5.0},  {8, 16, 2, 1.49, 4.5},  {8, 32, 2, 2.72, 5.0}, {16, 2, 4, 1.01, 5.5},
    {16, 8, 4, 1.45, 5.0},  {8, 16, 4, 1.28, 4.5},  {8, 32, 4, 1.77, 5.0}, {8, 32, 8, 1.76, 5.0},
};

constexpr bool serves(const tile_row& row, int promote) {
  if (promote == 1) return row.promote == 2 && row.token_tiles < 32;  // the widest was not measured
  return row.promote == promote;
}

// The intervals of a row's kernel for a problem that allows intervals of `longest` steps: those of eight are
// also two of four.
constexpr int promote_by(const tile_row& row, int longest) {
  return longest == 8 && row.promote == 4 ? 4 : longest;
}

// By how much longer a round takes with so many ways, 0 .. 4: there are more and smaller copies, and more of
// x. 8192 x 28672, m = 16, 32 and 64, on the same machine: 1.16, 1.18 and 1.13 for two, 1.43, 1.45 and 1.50
// for four; three is put between.
constexpr double way_factor[] = {0, 1.0, 1.15, 1.3, 1.45};

// 16 warps, four ways, 16 token tiles: 19.9 microseconds for 4096 x 4096, m = 128, where eight and two ways
// take 15.2.
constexpr int most_way_tiles = 32;

// More for a tile that several ways share, and for thread blocks that have to wait for others' end.
constexpr double ways_us = 0.6, next_wave_us = 5.5;

// How much of a round's time tiles take that are cut in so many, 0 .. 4: 8 warps with 16 and 8 token tiles,
// as above.
constexpr double cut_factor[] = {0, 1.0, 0.60, 0, 0.43};

// Many tiles need not be shared.
constexpr int most_shared_waves = 16;

// Thread blocks of a cluster; how many of a chip's multiprocessors such clusters fill, in 132nds, for they
// must not cross the chip's parts (cudaOccupancyMaxActiveClusters on the same machine); and what sharing a
// tile costs: for 2, 5 and 6 from 4096 x 4096 and 8192 x 8192, m = 64 and 128, less the rounds; the others
// are put between and beyond.
struct cluster_row {
  int split, multiprocessors;
  double us;
};
constexpr cluster_row cluster_rows[] = {{1, 132, 0},   {2, 132, 1.5}, {3, 117, 2.0}, {4, 120, 2.5},
                                        {5, 110, 3.5}, {6, 102, 3.5}, {8, 120, 4.0}};

// kernels::linear_stream for 9 to 16 tokens: a piece with 2 and with 4 strips, in thread blocks of one tile
// and of several, which wait at the end of each; and the rest. Fitted to m = 16 of the seven shapes of
// README.md's table with 2 and with 4 strips on the same machine, commit 8436f1a.
constexpr double stream_piece_us[][2] = {{0.155, 0.175}, {0.222, 0.27}}, stream_start_us = 5.5;

// Few tokens are the stream family's.
constexpr int least_tile_tokens = 9, least_tokens_without_stream = 17;

}  // namespace floatx::tuning
