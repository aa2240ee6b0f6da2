// How kernels::linear_stream is launched. Each row says where it was measured.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace floatx::tuning {

struct stream_row {
  int max_tokens;  // of m, up to which the row holds
  int min_bits;    // of the codes, from which on it does
  bool of_groups;  // whether it holds for scales of groups, too
  int token_tiles;
  int strips;  // preferred where both numbers keep the chip equally busy
  int warps;   // fewer where shared memory does not hold them
  int stages;
};

// NVIDIA H200, 2026-11-25, commit 8436f1a (h200-stream.json), FP16 x, m = 1, cold weights in a CUDA graph,
// microseconds of (warps, stages) with 4 strips; after a stroke with programmatic launch:
//   57344 x 8192  E3M2 (8, 2) 90.6 | 95.5 (8, 3) 91.2 | 89.3 (12, 2) 92.3 | 93.8
//   8192 x 28672  E3M2 (8, 2) 47.5 | 46.0 (8, 3) 47.9 | 45.4 (12, 2) 47.6 | 45.9
//   22016 x 4096  E3M2 (8, 2) 22.6 | 21.0 (8, 3) 23.5 | 20.1 (12, 2) 23.3 | 20.8
//   8192 x 28672  E2M1 (8, 2) 35.6 | 34.8 (8, 3) 35.2 | 34.7 (12, 2) 34.0 | 33.0
//   8192 x 28672  E3M2, FP16 scales for groups of 128 (8, 2) | 51.6 (8, 3) | 51.2 (12, 2) | 48.3
// and with 2 strips 4096 x 11008 E3M2 (8, 2) 13.1 | 11.8 (8, 3) 13.1 | 11.3 (12, 2) 13.0 | 11.3.
// m = 16, 8192 x 28672, E3M2, an earlier state: (8, 2) 69.0 (6, 2) 83.7.
// Tried: one strip a tile. It balances best and loses to the x that each warp then reads for 16 rows alone.
constexpr stream_row stream_rows[] = {
    {8, 6, false, 1, 4, 8, 3},
    {8, 3, true, 1, 4, 12, 2},
    {16, 3, true, 2, 4, 8, 2},
    {0x7fffffff, 3, true, 4, 4, 8, 2},
};

// With 2 strips and up to 8 tokens.
constexpr int warps_of_two_strips = 12, stages_of_two_strips = 2;

// The share of the chip that whole tiles must keep busy; below it tiles are split among thread blocks, whose
// sums then take a detour through memory: some 3 microseconds on the same machine.
constexpr double least_whole_tile_balance = 0.45;

// By how much two strips a tile must balance better than four to be worth their additional reads of x.
constexpr double two_strips_gain = 1.06;

}  // namespace floatx::tuning
