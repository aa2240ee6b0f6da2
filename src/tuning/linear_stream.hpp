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
  int warps;                        // fewer where shared memory or registers do not hold them
  int stages, programmatic_stages;  // the latter where the launch is programmatic
};

// NVIDIA H100, 2026-11-26 (h100-stream.json), FP16 x, m = 1, cold weights in a CUDA graph, microseconds of
// (warps, stages) with 4 strips; after a stroke with programmatic launch:
//   57344 x 8192  E3M2 (8, 2) 124.5 | 123.1 (8, 3) 126.3 | 123.7 (12, 2) 126.2 | 124.3 (6, 2) 126.7 | 125.8
//   8192 x 28672  E3M2 (8, 2) 64.8 | 63.4 (8, 3) 66.4 | 63.3 (12, 2) 65.6 | 63.4 (6, 2) 66.6 | 65.0
//   8192 x 8192   E3M2 (8, 2) 21.7 | 19.6 (8, 3) 22.3 | 19.0 (12, 2) 22.2 | 19.4 (6, 2) 22.3 | 20.2
//   8192 x 28672  E2M1 (8, 2) 45.0 | 43.7 (8, 3) 47.4 | 44.6 (12, 2) 46.2 | 44.6
//   8192 x 8192   E2M0 (8, 2) 12.9 | 12.0 (8, 3) 13.3 | 11.5 (12, 2) 13.5 | 11.9
//   8192 x 28672  E3M2, FP16 scales for groups of 32 (8, 2) 72.4 | 70.6 (8, 3) 75.0 | 71.1 (12, 2) 73.2
//   | 70.2
// Programmatic launches fill a ring while they wait, so they want a deeper one. An H200, whose memory is half
// as fast again, has (8, 3) 47.9 | 45.4 at 8192 x 28672, (8, 2) 47.5 | 46.0. Since slots begin at whole lines
// (h100-tests.json, stream_lines):
//   22016 x 4096  E3M2 (8, 2) 26.0 | 24.4 (8, 3) 27.0 | 24.0 (8, 4) 27.2 | 23.5 (12, 2) 27.5 | 24.5
//   8192 x 8192   E3M2 (8, 2) 20.0 | 18.1 (8, 3) 20.1 | 17.6 (8, 4) 20.1 | 17.4 (12, 2) 20.3 | 18.1
// Four slots take longer in a chain: 57.7 for the four layers of a Llama-2-7B block, three 57.5.
//
// Tried: one strip a tile. It balances best and loses to the x that each warp then reads for 16 rows
// alone. Shares of single strips, cut into tiles of 2 to 4: they keep the chip busier (22016 x 4096: 0.95
// of it, not 0.87), but pieces then lie in two cells, and 29.3 microseconds in place of 28.0 are lost
// there, 65.7 in place of 64.9 at 8192 x 28672. Two thread blocks a multiprocessor, so that the next
// kernel's could begin beside the last: they are dealt unevenly where there are fewer than
// multiprocessors, 24.0 in place of 19.8 at 8192 x 8192, and where each gets one nothing is gained, 15.8
// in place of 15.2 at 12288 x 4096. Fetching the beginning of the next weight into the L2 cache in the
// end: 61.4 in place of 62.4 for the four layers of a Llama-2-7B block with 4 MB, 67.3 with 20 MB.
// Fetching x there while the kernel before ends: nothing. Tiles that two thread blocks of a cluster share
// along k, sums sent without waiting: 28.7 in place of 26.1 at 22016 x 4096, and where it gains, 17.6 in
// place of 20.9 at 4096 x 11008 and m = 16, the tile family takes 15.4 (h100-tests.json, tile_tried). x of
// 4096 columns that stays in shared memory, so that each thread block reads it once and not for each tile:
// programmatic, 17.0 in place of 20.0 at 12288 x 4096 and m = 16, where the tile family takes 17.0, and
// nothing at 22016 x 4096 and m = 8, 25.2; and at m = 1 a chain took 1 % longer. 12 warps in a Llama-2-7B:
// 437 tokens a second in place of 443 (h100-tests.json, stream_tried_again).
//
// With groups on an H200 on 2026-11-28, kilocycles, plain | programmatic (h200-tests.json, stream_groups):
//   8192 x 28672  E2M1, groups of 32 (8, 2) 67.0 | 65.1 (12, 2) 59.8 | 57.6
//   22016 x 4096  E2M1, groups of 32 (8, 2) 33.4 | 30.5 (12, 2) 31.0 | 27.1
//   8192 x 28672  E3M2, groups of 32 (8, 2) 83.1 | 81.0 (8, 3) 81.9 | 79.3 (12, 2) 85.0 | 80.3
// and on 2026-11-29 (stream_blocks) with groups of 128, whose sums are multiplied once a k block:
//   8192 x 8192   E3M2 (8, 2) 28.5 (8, 3) | 25.5 (12, 2) 29.3 | 25.1
//   57344 x 8192  E3M2 (8, 2) 141.5 (8, 3) | 133.9 to 137.0 (12, 2) 144.5 | 138.2
// Three and five bits are estimates, and so is all of it for an H100.
// clang-format off
constexpr stream_row stream_rows[] = {
    {8, 3, false, 1, 4, 8, 2, 3},
    {8, 5, true, 1, 4, 8, 2, 3},
    {8, 3, true, 1, 4, 12, 2, 2},
    {16, 3, true, 2, 4, 8, 2, 2},
    {0x7fffffff, 3, true, 4, 4, 8, 2, 2},
};
// clang-format on

// With 2 strips and up to 8 tokens, since slots begin at whole lines (h100-tests.json, stream_lines):
//   12288 x 4096 E3M2 (8, 2) 15.8 | 14.2 (8, 3) 15.6 | 14.2 (8, 4) 15.4 | 13.6 (12, 2) 16.5 | 14.8
//   4096 x 11008 E3M2 (8, 2) 14.0 | 12.8 (8, 3) 14.0 | 12.6 (8, 4) 13.9 | 12.4 (12, 2) 14.3 | 13.0
// Before that, 4096 x 4096 with FP16 scales for groups of 128, programmatic: two stages 6.8, three 7.8.
// Since they fetch at a pace and the first products need a slot alone, 2026-11-27 (h100-tests.json,
// stream_paced):
//   12288 x 4096 E3M2 (8, 2) 15.6 | 13.9 (8, 3) 15.8 | 13.9 (8, 4) 15.9 | 14.0 (12, 3) 16.1 | 14.0
//   4096 x 11008 E3M2 (8, 2) 13.7 | 12.4 (8, 3) 13.7 | 12.5 (8, 4) 13.9 | 12.5 (12, 3) 14.0 | 12.5
//   12288 x 4096 E2M1 (8, 2) 12.2 | 10.7 (8, 3) 11.8 | 10.3 (8, 4) 11.7 | 10.5 (12, 3) 12.0 | 10.0
//   4096 x 11008 E2M0 (8, 2) 9.0 | 8.2 (8, 3) 8.5 | 8.1 (8, 4) 8.5 | 8.3 (12, 3) 8.3 | 7.6
//   Llama-2-7B, tokens a second: E3M2 473 477 482 479, E2M1 589 594 596 603, E2M0 644 657 657 667
// On an H200 on 2026-11-29, groups of 128, kilocycles (h200-tests.json, stream_blocks); with smaller groups
// and 5 bits or more registers hold 8 warps:
//   12288 x 4096 E3M2 (8, 2) 23.8 | 21.3 (12, 2) 22.7 | 19.7 (12, 3) 23.5 | 20.1
//   4096 x 11008 E3M2 (8, 2) 21.3 | 19.2 (12, 2) 20.9 | 18.1 (12, 3) 21.2 | 18.1
constexpr stream_row two_strips_rows[] = {
    {8, 5, false, 1, 2, 8, 2, 4},
    {8, 3, false, 1, 2, 12, 3, 3},
    {8, 3, true, 1, 2, 12, 2, 2},
};

// And where a thread block has so few pieces that what counts is how soon the first are there:
//   4096 x 4096   E3M2 (8, 2) 7.0 | 5.6 (8, 3) 7.5 | 5.8 (8, 4) 8.3 (12, 2) 7.3 | 5.6
// and since they fetch at a pace
//   4096 x 4096   E3M2 (8, 2) 6.7 | 5.5 (12, 2) 6.7 | 5.5, E2M1 5.4 | 4.5 and 5.4 | 4.3, E2M0 4.9 | 4.3 and
//   4.9 | 4.1
constexpr stream_row short_share_rows[] = {
    {8, 5, false, 1, 2, 8, 2, 2},
    {8, 3, false, 1, 2, 12, 2, 2},
};
constexpr int short_share = 36;

// How fast a thread block fetches while it waits for the kernel before, and how much of what its rings do not
// hold it has brought to the L2 cache. E3M2, m = 1: the four layers of a Llama-2-7B block in microseconds and
// tokens a second of the model, whose norms and attention run meanwhile (h100-tests.json, stream_paced; some
// lines are of other machines of the kind):
//   all at once, nothing to the L2 cache 56.2, 452
//   at 8 bytes 56.7, 469; 10 56.1, 478; 13 55.2, 482; 14 55.0, 482; 16 54.3, 479
//   at 16, two slots at once 53.8, 466; and nothing to the L2 cache 56.6, 456
// Tried besides: all at once and then 1, 2 or 4 pieces of each warp to the L2 cache, 54.6, 456; 56.1, 454;
// 57.8, 449. Four warps that fetch for the others: 15.8 in place of 13.7 at 12288 x 4096. x of one token by
// the copy engine: 10.3 in place of 9.5 there with E2M0. 16 warps of two strips: 14.1 in place of 13.6 there,
// with E2M0 9.1 in place of 9.9, where 12 with the pace have 9.2. Warps that sleep between their copies: they
// sleep for too long, 440 tokens a second in place of 479. A helper that fetches for all of them: 466 in
// place of 480 (h100-tests.json, stream_ends).
constexpr int waiting_bytes_per_clock = 14, ahead_bytes = 192 * 1024;

// The share of the chip that whole tiles must keep busy; below it tiles are split among thread blocks, whose
// sums then take a detour through memory: some 3 microseconds on the same machine.
constexpr double least_whole_tile_balance = 0.45;

// And where there is a tile for each thread block, tiles that do not go evenly among them are shared if that
// takes so many pieces of 64 rows from the one that has the most. Whole and shared, plain | programmatic
// (h100-tests.json, stream_ends):
//   10240 x 8192 (18 pieces)  E3M2 26.0 | 22.2 and 24.0 | 22.2, E2M0 15.3 | 13.4 and 13.7 | 12.5
//   with 4 strips, which whole tiles do not have there, at m = 8 30.9 | 24.9 and 24.9 | 23.1
//   with groups of 128 33.5 | 29.1 and 25.1 | 23.1
//   22016 x 4096 (13 pieces)  E3M2 26.2 | 23.3 and 25.9 | 24.1, at m = 8 27.2 | 24.5 and 28.6 | 25.5
// What is written, counted and read of a share waits behind the rings' copies. When all warps waited for
// that, 22016 x 4096 took 27.9 in place of 25.9.
constexpr double least_saved_pieces = 16;

// By how much two strips a tile must balance better than four to be worth their additional reads of x.
constexpr double two_strips_gain = 1.06;

}  // namespace floatx::tuning
