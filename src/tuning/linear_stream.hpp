// How kernels::linear_stream is launched. Each row says where it was measured.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace floatx::tuning {

struct stream_row {
  int max_tokens;  // of m, up to which the row holds
  int token_tiles;
  int strips;  // preferred where both numbers keep the chip equally busy
  int warps;   // fewer where shared memory does not hold them
  int stages;
};

// NVIDIA H200, 2026-11-24, E3M2 per row, FP16 x, cold weights in a CUDA graph, microseconds for 4096 x 4096 /
// 12288 x 4096 / 8192 x 8192 / 57344 x 8192; (warps, stages, strips):
//   m = 1   (8, 2, 4) 10.5 / 20.0 / 20.3 / 103.6    (16, 2, 2) 8.9 / 18.1 / 21.0 / 112.8
//           (16, 3, 2) 9.0 / 19.6 / 22.2 / 111.3    (16, 4, 1) 10.0 / 22.3 / 25.4 / 150.4
//   m = 16  (8, 2, 4) 13.3 / 26.1 / 23.4 / 133.0
// Tried: one strip a tile. It balances best and loses to the x that each warp then reads for 16 rows alone.
constexpr stream_row stream_rows[] = {
    {8, 1, 4, 8, 2},
    {16, 2, 4, 8, 2},
    {0x7fffffff, 4, 4, 8, 2},
};

// Tiles of 2 strips need more warps than those of 4 for the same bytes in flight.
constexpr int warps_of_two_strips = 16;

// The share of the chip that whole tiles must keep busy; below it tiles are split among thread blocks, whose
// sums then take a detour through memory: some 3 microseconds on the same machine.
constexpr double least_whole_tile_balance = 0.45;

// By how much two strips a tile must balance better than four to be worth their additional reads of x.
constexpr double two_strips_gain = 1.06;

}  // namespace floatx::tuning
