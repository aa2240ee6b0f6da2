// What kernels::linear_tile costs. Each row says where it was measured.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace floatx::tuning {

// A thread block's warps take `round_us` for warps x 16 rows x 128 k (rows of several ways counted apart) by
// token_tiles x 8 tokens, and the launch, the first weights' way and the end of the sums `start_us`.
struct tile_row {
  int warps, token_tiles;
  bool groups;  // with scales of groups
  double round_us, start_us;
};

// NVIDIA H200, 2026-11-25, E3M2, FP16 x: 128 thread blocks with a tile each, k = 2048 and 8192; the slope and
// the intercept of their times, cold weights in a CUDA graph. Tried: 12 warps with 24 token tiles, 1.56
// to 1.76 microseconds a round: no better than 8 with 32 for as many products; 8 warps with fewer than 32
// token tiles: 0.49 to 0.57 a round for half the rows of 16.
constexpr tile_row tile_rows[] = {
    {16, 2, false, 0.80, 5.5},  {16, 4, false, 0.85, 5.2},  {16, 8, false, 1.07, 5.0},
    {16, 12, false, 1.34, 4.7}, {16, 16, false, 1.50, 4.5}, {12, 16, false, 1.14, 4.5},
    {8, 32, false, 1.35, 5.0},  {16, 2, true, 1.00, 5.5},   {16, 4, true, 1.10, 5.2},
    {16, 8, true, 1.60, 5.0},   {8, 16, true, 0.90, 4.5},   {8, 32, true, 1.80, 5.0},
};

// By how much longer a round takes with so many ways, 0 .. 4: there are more and smaller copies, and more of
// x. 8192 x 28672, m = 16, 32 and 64, on the same machine: 1.16, 1.18 and 1.13 for two, 1.43, 1.45 and 1.50
// for four.
constexpr double way_factor[] = {0, 1.0, 1.15, 1.3, 1.45};

// More for a tile that a cluster or several ways share; and for thread blocks that have to wait for others'
// end.
constexpr double cluster_us = 1.5, ways_us = 0.6, next_wave_us = 5.5;

// How much of a round's time tiles take that are cut in so many, 0 .. 4: 8 warps with 16 and 8 token tiles,
// as above.
constexpr double cut_factor[] = {0, 1.0, 0.60, 0, 0.43};

// Many tiles need not be shared.
constexpr int most_shared_waves = 16;

// Thread blocks of a cluster, and how many of a chip's multiprocessors such clusters fill, in 132nds: they
// must not cross the chip's parts (cudaOccupancyMaxActiveClusters on the same machine).
struct cluster_row {
  int split, multiprocessors;
};
constexpr cluster_row cluster_rows[] = {{1, 132}, {2, 132}, {3, 117}, {4, 120}, {5, 110}, {6, 102}, {8, 120}};

// kernels::linear_stream for 9 to 16 tokens: a piece with 2 and with 4 strips, and the rest.
constexpr double stream_piece_us[] = {0.17, 0.28}, stream_start_us = 5.0;

// Few tokens are the stream family's.
constexpr int least_tile_tokens = 9, least_tokens_without_stream = 17;

}  // namespace floatx::tuning
