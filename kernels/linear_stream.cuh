// y = x W^T for few tokens: the weights stream through the chip once, at the speed of memory.
//
// Work is cut into *pieces* of Strips x 16 rows x 128 k, in the order (tile of rows, k block). A thread block
// takes whole tiles, and before these, where tiles do not go evenly among thread blocks, its share of the
// pieces of the rest. Warp w takes the pieces at *places* w, w + warps, ... of that list. Each warp has a
// ring of pieces in shared memory that it alone fills and empties, so the main loop has no barrier.
//
// At the end of a tile each warp leaves its sums in shared memory and goes on; one of two helpers, warps
// besides, adds them in a fixed order and writes y. The last tile's all warps add. Tiles that several thread
// blocks share go through the workspace, where the last to arrive adds the shares, again in a fixed order.
// Hence the same bits every time. For all but the smallest layers that is long before the end, since thread
// blocks begin with what they share.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dequant.cuh"
#include "floatx/layout.hpp"
#include "linear_parts.cuh"
#include "piece_ring.cuh"
#include "ptx/keep.cuh"
#include "ptx/launch.cuh"
#include "ptx/mma.cuh"
#include "stream_end.cuh"
#include "stream_work.cuh"

namespace floatx::kernels {

// ---- One piece --------------------------------------------------------------------------------------

// How many scales a row of a unit has; see multiply_units.
constexpr int intervals_of(int interval) { return interval == 0 ? 1 : steps / interval; }

// Interval: 0 = one scale a row, applied in the epilogue; else every `Interval` steps of 16 k the sum so far
// is multiplied by its group's scales, in FP32, and added up. Two units at a time, whose chains of MMAs hide
// each other's latency.
template <int Bits, class Activation, int Interval, int Tiles, unpacking How, int Units>
__device__ __forceinline__ void multiply_units(const linear_arguments& args,
                                               const uint32_t (*words)[2 * Bits],
                                               const float2 (*scales)[intervals_of(Interval)],
                                               const uint32_t (&b)[Tiles][steps][2],
                                               float (*sums)[Tiles][4]) {
  if constexpr (Interval == 0) {
#pragma unroll
    for (int step = 0; step < steps; ++step) {
#pragma unroll
      for (int u = 0; u < Units; ++u) {
        uint32_t a[4];
        dequantize<Bits, Activation, How>(words[u], step, args.rule, a);
#pragma unroll
        for (int t = 0; t < Tiles; ++t) ptx::mma<Activation>(sums[u][t], a, b[t][step][0], b[t][step][1]);
      }
    }
  } else {
#pragma unroll
    for (int interval = 0; interval < intervals_of(Interval); ++interval) {
      float part[Units][Tiles][4] = {};
#pragma unroll
      for (int step = interval * Interval; step < (interval + 1) * Interval; ++step) {
#pragma unroll
        for (int u = 0; u < Units; ++u) {
          uint32_t a[4];
          dequantize<Bits, Activation, How>(words[u], step, args.rule, a);
#pragma unroll
          for (int t = 0; t < Tiles; ++t) ptx::mma<Activation>(part[u][t], a, b[t][step][0], b[t][step][1]);
        }
      }
#pragma unroll
      for (int u = 0; u < Units; ++u) {
        const float2 scale = scales[u][interval];
#pragma unroll
        for (int t = 0; t < Tiles; ++t) {
          sums[u][t][0] = fmaf(part[u][t][0], scale.x, sums[u][t][0]);
          sums[u][t][1] = fmaf(part[u][t][1], scale.x, sums[u][t][1]);
          sums[u][t][2] = fmaf(part[u][t][2], scale.y, sums[u][t][2]);
          sums[u][t][3] = fmaf(part[u][t][3], scale.y, sums[u][t][3]);
        }
      }
    }
  }
}

// Calls `has_read` once nothing is left to be read of the piece. With few bits and one tile of tokens that is
// before the first product: registers hold all of it, and the copies of the next piece are begun while it is
// on its way to them. Programmatic, 22016 x 4096 takes 12.7 microseconds in place of 12.9 with E2M0; a
// Llama-2-7B's tokens a second are 723 in place of 709, with E2M1 639 for 634, E2M2 554 for 548, but with
// E3M2 492 for 498 (H100; h100-tests.json, llama_small).
template <int Bits, class Activation, int Interval, int Tiles, unpacking How, int Strips, class HasRead>
__device__ __forceinline__ void multiply_piece(const linear_arguments& args, const unsigned char* stage_smem,
                                               int tokens, float (&sums)[Strips][Tiles][4], int lane,
                                               HasRead&& has_read) {
  constexpr bool holds_piece = Bits <= 5 && Interval == 0 && Tiles == 1;
  constexpr int unit_bytes = cell_bytes(Bits) / cell_strips;
  const int unit_scale_bytes = args.cell_scale_bytes / cell_strips;
  const unsigned char* scales_smem = stage_smem + Strips * unit_bytes;
  const unsigned char* x_smem = scales_smem + Strips * unit_scale_bytes;
  uint32_t b[Tiles][steps][2];
#pragma unroll
  for (int t = 0; t < Tiles; ++t) {
    // Four matrices: (k, k + 8) of two steps; lane l names token l % 8 of matrix l / 8. In place of tokens
    // that are not there the first is multiplied, to no effect: a token touches its own column alone.
    const int token = 8 * t + lane % 8 < tokens ? 8 * t + lane % 8 : 0;
    const uint32_t row = ptx::shared_address(x_smem + token * x_row_bytes + lane / 8 * 16);
#pragma unroll
    for (int step = 0; step < steps; step += 2) {
      uint32_t four[4];
      ptx::load_matrices(four, row + step * 32);
      b[t][step][0] = four[0];
      b[t][step][1] = four[1];
      b[t][step + 1][0] = four[2];
      b[t][step + 1][1] = four[3];
    }
  }
  uint32_t words[Strips][2 * Bits];
  const auto load_strips = [&](int begin, int end) {
#pragma unroll
    for (int strip = begin; strip < end; ++strip)
      load_unit<Bits>(words[strip], stage_smem + strip * unit_bytes, lane);
  };
  // Scales of as many units as registers hold at once, before anything else is loaded. With groups of 32 and
  // m = 1 E2M1 takes 67.0 kilocycles so at 8192 x 28672, 67.8 with those of two units at once, 79.3 with
  // those of each by itself, E3M2 83.1, 83.8 and 87.7 (H200; h200-tests.json, stream_groups, which also has
  // sums of a whole unit with groups of 128).
  constexpr int units = Strips < 2 ? 1 : 2, scaled_at_once = Tiles <= 2 ? Strips : units;
  float2 scales[scaled_at_once][intervals_of(Interval)];
  const auto load_scales = [&](int strip) {
    load_unit_scales<scaled_at_once>(args, scales, scales_smem + strip * unit_scale_bytes, unit_scale_bytes,
                                     lane);
  };
  if constexpr (Interval != 0 && scaled_at_once == Strips) load_scales(0);
  if constexpr (holds_piece) {
    load_strips(0, Strips);
    has_read();
  }
#pragma unroll
  for (int strip = 0; strip < Strips; strip += units) {
    if constexpr (!holds_piece) load_strips(strip, strip + units);
    if constexpr (Interval != 0 && scaled_at_once < Strips) load_scales(strip);
    multiply_units<Bits, Activation, Interval, Tiles, How, units>(
        args, &words[strip], &scales[strip % scaled_at_once], b, &sums[strip]);
  }
  if constexpr (!holds_piece) has_read();
}

// ---- The kernel -------------------------------------------------------------------------------------

// Grid: (thread blocks, each of which has some work; tiles of 8 * Tiles tokens). Any number of warps that
// multiply, from least_stream_warps up to max_stream_warps, and helpers. One thread block a multiprocessor:
// else the compiler saves registers for more of them, and spills.
template <int Bits, class Activation, int Interval, int Tiles, unpacking How, int Strips>
__global__ void __launch_bounds__(stream_threads(max_stream_warps(Bits, Tiles, Interval)), 1)
    linear_stream(const __grid_constant__ linear_arguments args) {
  extern __shared__ __align__(128) unsigned char smem[];
  constexpr int tile_tokens = Tiles * 8;
  // The warp's number by a shuffle, for then the compiler knows that all lanes have the same, and keeps what
  // follows from it once a warp.
  const int warp = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 32, 0);
  const int warps = static_cast<int>(blockDim.x) / 32 - stream_helpers;  // that multiply
  int lane = threadIdx.x % 32;
  ptx::keep(lane);
  const int first_token = blockIdx.y * tile_tokens;
  const int tokens = args.m - first_token < tile_tokens ? args.m - first_token : tile_tokens;
  const int ring_bytes =
      ring_header_bytes + args.stages * stage_bytes(Bits, args.cell_scale_bytes, Strips, tokens);
  const block_work work(args);
  __shared__ uint64_t board_barriers[stream_helpers], ended_barrier;
  const uint32_t ended = ptx::shared_address(&ended_barrier);  // that the kernel before has
  sums_board<Tiles, Strips> board(smem + warps * ring_bytes, board_barriers, warps);

  // Not __syncthreads, which all threads have to reach at the same place.
  const auto meet_all = [] { ptx::barrier(start_barrier, static_cast<int>(blockDim.x)); };

  if (const int helper = warp - warps; helper >= 0) {
    if (lane == 0) {
      board.set_up(helper);
      if (helper == 0) ptx::init_barrier(ended, 1);
    }
    meet_all();
    ptx::allow_next_kernel();
    ptx::wait_for_previous_kernel();
    if (helper == 0 && lane == 0) ptx::arrive(ended);
    tile_end<Activation, Tiles, Strips, true> end(args, lane, 32, tokens, first_token);
    for (tile_stretch stretch(work); !stretch.is_last(); stretch.next()) {
      if (board.helper() == helper) {
        end.load_scales(stretch.tile);
        end.load_bias(stretch.tile);
        end.use_terms();
        board.wait();
        if (stretch.is_shared()) {
          end.store_partial(board.sums(), stretch.tile);
          board.have_read();
          end.combine(stretch.tile, nullptr);
        } else {
          end.store(board.sums(), stretch.tile);
          board.have_read();
        }
      }
      board.next();
    }
    return;
  }

  __shared__ unsigned word;
  tile_end<Activation, Tiles, Strips, false> end(args, threadIdx.x, warps * 32, tokens, first_token);
  end.load_scales(work.last_tile);

  // Fill: weights first, for they depend on no kernel before this one.
  piece_ring<Bits, Activation, Interval, Tiles, Strips> ring(args, work, smem + warp * ring_bytes, tokens,
                                                             lane);
  ring.start(warp);
  auto first_pieces = ring;
  int filled = 0;
  const auto fill_slot = [&](auto load_more) {
    ring.open(filled);
    __syncwarp();
    ring.load_weights(filled);
    load_more();
    ring.advance(warps);
    ++filled;
  };
  const auto has_slot = [&] { return filled < args.stages && ring.has_piece(); };
  const auto nothing = [] {};
  // With x there at once, the first products need no more than the first slots.
  if (has_slot()) fill_slot(nothing);
  ptx::allow_next_kernel();
  if (args.pause != 0) {
    meet_all();
    // From the second slot on at the pace of memory. What the kernels before still load, and then x, would
    // have to wait behind whatever is asked for at once.
    const uint32_t start = ptx::clock_now();
    uint32_t due = 0;
    bool has_ended = false;
    const auto may_go_on = [&] {
      due += args.pause;
      has_ended = has_ended || ptx::wait_for_first_phase(ended, start, due);
      return !has_ended;
    };
    while (has_slot() && may_go_on()) fill_slot(nothing);
    auto far = ring;
    for (int i = 0; i < args.ahead && far.has_piece() && may_go_on(); ++i) {
      far.prefetch_weights();
      far.advance(warps);
    }
    if (!has_ended) ptx::wait_for_phase(ended, 0);
  }
  ring.aim_at(first_token);
  ptx::wait_for_previous_kernel();
  for (int s = 0; s < filled; ++s) {
    ring.load_x(s, first_pieces.k_block());
    first_pieces.advance(warps);
  }
  while (has_slot()) fill_slot([&] { ring.load_x(filled); });

  if (args.pause == 0) meet_all();  // not before, for nobody waits for what is set up there yet
  end.load_bias(work.last_tile);
  end.use_terms();
  // Tried: to multiply once before x is there, whatever lies in shared memory, lest the instructions come
  // late. It gains nothing where nothing is waited for, and delays the copies where it is (h100-tests.json,
  // llama_small).
  float sums[Strips][Tiles][4] = {};
  int place = warp;
  tile_stretch stretch(work);
  const auto refill = [&] {
    const int slot = ring.release();
    if (!ring.has_piece()) return;
    ring.load_weights(slot);
    ring.load_x(slot);
    ring.advance(warps);
  };
  for (;; stretch.next()) {
    ptx::keep(stretch.end);
    for (; place < stretch.end; place += warps) {
      multiply_piece<Bits, Activation, Interval, Tiles, How, Strips>(args, ring.wait(), tokens, sums, lane,
                                                                     refill);
    }
    board.leave(warp, lane, sums);
    if (stretch.is_last()) break;
    board.hand_over();
    board.next();
  }
  // All that is left, and everybody waits for it. Written so that the end of a whole tile follows in the
  // instructions, too: with that of a share between nvcc 13.0 made a kernel take 0.1 microseconds longer.
  end.meet();
  if (stretch.is_shared()) {
    end.load_scales(stretch.tile);
    end.load_bias(stretch.tile);
    end.store_partial(board.sums(), stretch.tile);
    end.combine(stretch.tile, &word);
    return;
  }
  end.store(board.sums(), stretch.tile);
}

}  // namespace floatx::kernels
