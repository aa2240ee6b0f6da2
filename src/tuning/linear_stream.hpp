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
  int strips;                       // preferred where both numbers keep the chip equally busy
  int warps;                        // fewer where shared memory does not hold them
  int stages, programmatic_stages;  // the latter where the launch is programmatic
};

// NVIDIA H100, 2026-11-26 (h100-stream.json), FP16 x, m = 1, cold weights in a CUDA graph, microseconds of
// (warps, stages) with 4 strips; after a stroke with programmatic launch:
//   57344 x 8192  E3M2 (8, 2) 124.5 | 122.9 (8, 3) 126.8 | 124.0 (12, 2) 126.6 (6, 2) 126.4 | 125.5
//   8192 x 28672  E3M2 (8, 2) 64.9 | 63.4 (8, 3) 66.5 | 63.2 (12, 2) 65.7 (6, 2) 67.0 | 65.3
//   8192 x 8192   E3M2 (8, 2) 21.6 | 19.6 (8, 3) 22.3 | 19.0 (12, 2) 22.2 (6, 2) 22.1 | 20.1
//   8192 x 28672  E2M1 (8, 2) 44.5 | 43.3 (8, 3) 46.6 | 44.1 (12, 2) 45.9 | 44.2
//   8192 x 8192   E2M0 (8, 2) 12.7 | 11.7 (8, 3) 13.3 | 11.3 (12, 2) 13.1 | 11.7
//   8192 x 28672  E3M2, FP16 scales for groups of 32 (8, 2) 72.4 | 71.0 (8, 3) 75.4 | 71.7 (12, 2) 73.6
//   | 70.8
// and with 2 strips 4096 x 4096 E3M2 (8, 2) 7.6 | 6.3 (8, 3) 8.0 | 6.5 (12, 2) 7.9 | 6.2, 12288 x 4096 (8, 2)
// 17.3 | 15.8 (8, 3) 17.8 | 15.4 (12, 2) 17.8 | 16.3. Programmatic launches fill a ring while they wait, so
// they want a deeper one. An H200, whose memory is half as fast again, has (8, 3) 47.9 | 45.4 at 8192 x
// 28672, (8, 2) 47.5 | 46.0.
//
// Tried: one strip a tile. It balances best and loses to the x that each warp then reads for 16 rows alone.
// Shares of single strips, cut into tiles of 2 to 4: they keep the chip busier (22016 x 4096: 0.95 of it, not
// 0.87), but pieces then lie in two cells, and 29.3 microseconds in place of 28.0 are lost there, 65.7 in
// place of 64.9 at 8192 x 28672. Two thread blocks a multiprocessor, so that the next kernel's could begin
// beside the last: they are dealt unevenly, 24.0 in place of 19.8 at 8192 x 8192, and 24.4 if the next is let
// in only when the last loads are under way. Fetching the beginning of the next weight into the L2 cache in
// the end: 61.4 in place of 62.4 for the four layers of a Llama-2-7B block with 4 MB, 67.3 with 20 MB.
constexpr stream_row stream_rows[] = {
    {8, 3, false, 1, 4, 8, 2, 3},
    {8, 3, true, 1, 4, 8, 2, 2},
    {16, 3, true, 2, 4, 8, 2, 2},
    {0x7fffffff, 3, true, 4, 4, 8, 2, 2},
};

// With 2 strips and up to 8 tokens.
constexpr stream_row two_strips = {8, 3, true, 1, 2, 8, 2, 3};

// The share of the chip that whole tiles must keep busy; below it tiles are split among thread blocks, whose
// sums then take a detour through memory: some 3 microseconds on the same machine.
constexpr double least_whole_tile_balance = 0.45;

// By how much two strips a tile must balance better than four to be worth their additional reads of x.
constexpr double two_strips_gain = 1.06;

}  // namespace floatx::tuning
