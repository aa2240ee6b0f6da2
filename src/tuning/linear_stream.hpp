// How kernels::linear_stream is launched. Each row says where it was measured.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace floatx::tuning {

struct stream_row {
  int max_tokens;  // of m, up to which the row holds
  int min_bits;    // of the codes, from which on it does
  int token_tiles;
  int strips;  // preferred where both numbers keep the chip equally busy
  int warps;   // fewer where shared memory does not hold them
  int stages;
};

// NVIDIA H200, 2026-11-25, per row, FP16 x, cold weights in a CUDA graph, microseconds of (warps, stages)
// with 4 strips, measured while the copy engine moved x, too (see piece_ring.cuh):
//   57344 x 8192, m = 1   E3M2 (8, 2) 96.5 (8, 3) 92.8 (12, 2) 97.4 (8, 4) 96.4
//                         E2M1 (8, 3) 76.7 (12, 2) 74.7 (12, 3) 74.2 (16, 2) 73.1
//   8192 x 28672, m = 1   E3M2 (8, 2) 49.1 (8, 3) 49.5 (12, 2) 50.1
//                         E2M1 (8, 2) 38.5 (12, 2) 36.1 (16, 2) 35.9
//   8192 x 28672, m = 16  E3M2 (8, 2) 69.0 (6, 2) 83.7
// and with 2 strips 4096 x 11008, m = 1, E3M2 (8, 2) 14.6 (12, 2) 14.3 (16, 2) 14.3; 4096 x 4096 (8, 2) 7.8
// (12, 2) 7.9 (16, 2) 8.2 or more.
// Tried: one strip a tile. It balances best and loses to the x that each warp then reads for 16 rows alone.
constexpr stream_row stream_rows[] = {
    {8, 6, 1, 4, 8, 3},
    {8, 3, 1, 4, 12, 2},
    {16, 3, 2, 4, 8, 2},
    {0x7fffffff, 3, 4, 4, 8, 2},
};

// With 2 strips and up to 8 tokens.
constexpr int warps_of_two_strips = 12, stages_of_two_strips = 2;

// The share of the chip that whole tiles must keep busy; below it tiles are split among thread blocks, whose
// sums then take a detour through memory: some 3 microseconds on the same machine.
constexpr double least_whole_tile_balance = 0.45;

// By how much two strips a tile must balance better than four to be worth their additional reads of x.
constexpr double two_strips_gain = 1.06;

}  // namespace floatx::tuning
