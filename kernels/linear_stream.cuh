// y = x W^T for few tokens: the weights stream through the chip once, at the speed of memory.
//
// Work is cut into *pieces* of Strips x 16 rows x 128 k, in the order (tile of rows, k block). Each thread
// block takes a contiguous share of them: whole tiles where there are enough to keep the chip busy, else any
// number of pieces. Within the share warp w takes pieces w, w + warps, ... Each warp has a ring of pieces in
// shared memory that it alone fills and empties, so the main loop has no barrier. At the end of a tile the
// warps' sums are added in a fixed order. Tiles that several thread blocks share go through the workspace,
// where the last to arrive adds the shares, again in a fixed order. Hence the same bits every time.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dequant.cuh"
#include "epilogue.cuh"
#include "floatx/layout.hpp"
#include "linear_parts.cuh"
#include "piece_ring.cuh"
#include "ptx/keep.cuh"
#include "ptx/launch.cuh"
#include "ptx/mma.cuh"

namespace floatx::kernels {

// The share of thread block i: [begin(i), begin(i + 1)). In 32 bits, for memory ends long before 2^31 pieces.
struct partition {
  int quotient, remainder;

  __device__ int begin(int i) const { return i * quotient + (i < remainder ? i : remainder); }
  __device__ int owner(int item) const {
    const int longer = remainder * (quotient + 1);
    return item < longer ? item / (quotient + 1) : remainder + (item - longer) / quotient;
  }
};

// ---- One piece --------------------------------------------------------------------------------------

// Interval: 0 = one scale a row, applied in the epilogue; else every `Interval` steps of 16 k the sum so far
// is multiplied by its group's scales, in FP32, and added up. Two units at a time, whose chains of MMAs hide
// each other's latency.
template <int Bits, class Activation, int Interval, int Tiles, bool Odd, int Units>
__device__ __forceinline__ void multiply_units(const linear_arguments& args, const unsigned char* units_smem,
                                               const unsigned char* scales_smem, int unit_scale_bytes,
                                               const uint32_t (&b)[Tiles][steps][2], float (*sums)[Tiles][4],
                                               int lane) {
  uint32_t words[Units][2 * Bits];
#pragma unroll
  for (int u = 0; u < Units; ++u)
    load_unit<Bits>(words[u], units_smem + u * (cell_bytes(Bits) / cell_strips), lane);
  if constexpr (Interval == 0) {
#pragma unroll
    for (int step = 0; step < steps; ++step) {
#pragma unroll
      for (int u = 0; u < Units; ++u) {
        uint32_t a[4];
        dequantize<Bits, Activation, Odd>(words[u], step, args.rule, a);
#pragma unroll
        for (int t = 0; t < Tiles; ++t) ptx::mma<Activation>(sums[u][t], a, b[t][step][0], b[t][step][1]);
      }
    }
  } else {
    float2 scales[Units][steps / Interval];
#pragma unroll
    for (int u = 0; u < Units; ++u)
      load_unit_scales(args, scales[u], scales_smem + u * unit_scale_bytes, lane);
#pragma unroll
    for (int interval = 0; interval < steps / Interval; ++interval) {
      float part[Units][Tiles][4] = {};
#pragma unroll
      for (int step = interval * Interval; step < (interval + 1) * Interval; ++step) {
#pragma unroll
        for (int u = 0; u < Units; ++u) {
          uint32_t a[4];
          dequantize<Bits, Activation, Odd>(words[u], step, args.rule, a);
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

template <int Bits, class Activation, int Interval, int Tiles, bool Odd, int Strips>
__device__ __forceinline__ void multiply_piece(const linear_arguments& args, const unsigned char* stage_smem,
                                               int tokens, float (&sums)[Strips][Tiles][4], int lane) {
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
  constexpr int units = Strips < 2 ? 1 : 2;
#pragma unroll
  for (int strip = 0; strip < Strips; strip += units) {
    multiply_units<Bits, Activation, Interval, Tiles, Odd, units>(args, stage_smem + strip * unit_bytes,
                                                                  scales_smem + strip * unit_scale_bytes,
                                                                  unit_scale_bytes, b, &sums[strip], lane);
  }
}

// ---- The end of a tile ------------------------------------------------------------------------------

// Where warps leave their sums: in the order of registers, so that a warp's stores are contiguous. The index
// is the sum of a row's and a token's.
__device__ __forceinline__ unsigned sum_index_of_row(unsigned row) {
  return (row / 16 * 4 + row % 16 / 8 * 2) * 32 + row % 8 * 4;
}
template <int Strips>
__device__ __forceinline__ unsigned sum_index_of_token(unsigned token) {
  return (token / 8 * Strips * 4 + token % 2) * 32 + token % 8 / 2;
}

template <class Activation>
__device__ __forceinline__ void store_y(const linear_arguments& args, unsigned token, int row, float sum,
                                        row_terms terms) {
  if (row >= args.n) return;
  static_cast<Activation*>(args.y)[token * args.y_stride + row] =
      from_float<Activation>(finished(args, sum, terms));
}

// Where a thread block leaves its share of a tile, [TileTokens][Rows]. The tile may be the last of several
// that it works on, or the first; it keeps these apart in slots 1 and 0.
template <int TileTokens, int Rows>
__device__ __forceinline__ float* partial_sums(const linear_arguments& args, const partition& shares,
                                               int tile, int block) {
  const int slot = shares.begin(block) < tile * args.k_blocks ? 1 : 0;
  const int64_t index = (static_cast<int64_t>(blockIdx.y) * gridDim.x + block) * 2 + slot;
  return args.partials + index * TileTokens * Rows;
}

// Adds the shares of a tile in the order of the thread blocks, in the one that arrives last.
template <class Activation, int TileTokens, int Rows>
__device__ void combine(const linear_arguments& args, const partition& shares, int tile, int tokens,
                        int first_token) {
  const int first = shares.owner(tile * args.k_blocks);
  const int last = shares.owner((tile + 1) * args.k_blocks - 1);
  __shared__ bool is_last;
  __syncthreads();
  if (threadIdx.x == 0) {
    unsigned* arrivals = args.arrivals + blockIdx.y * gridDim.x + first;
    // The barrier has ordered everybody's writes before this fence, which makes them visible to the chip.
    __threadfence();
    is_last = atomicAdd(arrivals, 1u) == static_cast<unsigned>(last - first);
    if (is_last) *arrivals = 0;
    __threadfence();
  }
  __syncthreads();
  if (!is_last) return;
  for (unsigned i = threadIdx.x; i < static_cast<unsigned>(tokens * Rows); i += blockDim.x) {
    float sum = 0;
    for (int block = first; block <= last; ++block) {
      sum += __ldcg(partial_sums<TileTokens, Rows>(args, shares, tile, block) + i);
    }
    const int row = tile * Rows + static_cast<int>(i % Rows);
    store_y<Activation>(args, first_token + i / Rows, row, sum, load_row_terms<Activation>(args, row));
  }
}

// Adds the sums of the warps in their order, clears them, and writes y or leaves the share for `combine`. A
// thread has one row of the tile, that of `terms`. Everybody waits for this at the end of a kernel, so it is
// as short as can be.
template <class Activation, int Tiles, int Strips>
__device__ __forceinline__ void finish_tile(const linear_arguments& args, const partition& shares, int tile,
                                            bool is_whole, int tokens, int first_token,
                                            float (&sums)[Strips][Tiles][4], row_terms terms,
                                            float* reduction_smem) {
  constexpr int rows = Strips * 16, count = rows * Tiles * 8;
  const unsigned warp = threadIdx.x / 32u, lane = threadIdx.x % 32u, warps = blockDim.x / 32u;
  __syncthreads();  // the tile before this one may still be read
#pragma unroll
  for (int t = 0; t < Tiles; ++t) {
#pragma unroll
    for (int strip = 0; strip < Strips; ++strip) {
#pragma unroll
      for (int reg = 0; reg < 4; ++reg) {
        reduction_smem[warp * count + ((t * Strips + strip) * 4 + reg) * 32 + lane] = sums[strip][t][reg];
        sums[strip][t][reg] = 0;
      }
    }
  }
  __syncthreads();
  float* partial = is_whole ? nullptr : partial_sums<Tiles * 8, rows>(args, shares, tile, blockIdx.x);
  // Threads beyond the last whole set of rows have nothing to do.
  const unsigned thread = threadIdx.x, row = thread % rows, side_by_side = warps * 32u / rows;
  const unsigned end = thread / rows < side_by_side ? static_cast<unsigned>(tokens) : 0;
  const float* of_row = reduction_smem + sum_index_of_row(row);
  for (unsigned token = thread / rows; token < end; token += side_by_side) {
    const unsigned at = sum_index_of_token<Strips>(token);
    float sum = 0;
    unsigned w = 0;
#pragma unroll 1
    for (; w + 4 <= warps; w += 4) {
      float four[4];
#pragma unroll
      for (unsigned i = 0; i < 4; ++i) four[i] = of_row[(w + i) * count + at];
#pragma unroll
      for (unsigned i = 0; i < 4; ++i) sum += four[i];
    }
#pragma unroll 1
    for (; w < warps; ++w) sum += of_row[w * count + at];
    if (is_whole) {
      store_y<Activation>(args, first_token + token, tile * rows + static_cast<int>(row), sum, terms);
    } else {
      partial[token * rows + row] = sum;
    }
  }
  if (!is_whole) combine<Activation, Tiles * 8, rows>(args, shares, tile, tokens, first_token);
}

// ---- The kernel -------------------------------------------------------------------------------------

// Grid: (thread blocks that share the pieces, tiles of 8 * Tiles tokens). Any number of warps from
// least_stream_warps up to max_stream_warps. One thread block a multiprocessor: else the compiler saves
// registers for more of them, and spills.
template <int Bits, class Activation, int Interval, int Tiles, bool Odd, int Strips>
__global__ void __launch_bounds__(32 * max_stream_warps(Tiles), 1)
    linear_stream(const __grid_constant__ linear_arguments args) {
  extern __shared__ __align__(128) unsigned char smem[];
  constexpr int tile_tokens = Tiles * 8;
  // The warp's number by a shuffle, for then the compiler knows that all lanes have the same, and keeps what
  // follows from it once a warp.
  const int warp = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 32, 0);
  const int warps = blockDim.x / 32;
  int lane = threadIdx.x % 32;
  ptx::keep(lane);
  const int first_token = blockIdx.y * tile_tokens;
  const int tokens = args.m - first_token < tile_tokens ? args.m - first_token : tile_tokens;
  const int ring_bytes =
      ring_header_bytes + args.stages * stage_bytes(Bits, args.cell_scale_bytes, Strips, tokens);
  piece_ring<Bits, Activation, Interval, Tiles, Strips> ring(args, smem + warp * ring_bytes, tokens, lane);
  auto* reduction_smem = reinterpret_cast<float*>(smem + warps * ring_bytes);

  const partition shares = {args.shares_quotient, args.shares_remainder};
  const int first = shares.begin(blockIdx.x), behind = shares.begin(blockIdx.x + 1);
  const int first_tile = args.whole_tiles ? first : first / args.k_blocks;
  const int begin = args.whole_tiles ? first * args.k_blocks : first;
  const int end = args.whole_tiles ? behind * args.k_blocks : behind;

  // What is stored of a row's terms is loaded a tile ahead, because whatever is computed from it waits.
  constexpr int rows = Strips * 16;
  const int row_of_thread = static_cast<int>(threadIdx.x % static_cast<unsigned>(rows));
  stored_row_terms<Activation> stored;
  stored.load_scale(args, first_tile * rows + row_of_thread);

  // Fill: weights first, for they depend on no kernel before this one.
  int next = begin + warp;  // the piece to be loaded next
  ring.start(first_tile, next - first_tile * args.k_blocks);
  const int x_k_block = ring.k_block();
  int filled = 0;
  const auto fill_slot = [&](auto load_more) {
    ring.open(filled);
    __syncwarp();
    ring.load_weights(filled);
    load_more();
    ring.advance(warps);
    next += warps;
    ++filled;
  };
  const auto has_slot = [&] { return filled < args.stages && next < end; };
  const auto nothing = [] {};
  // With x there at once, the first products need no more than the first slots.
  if (has_slot()) fill_slot(nothing);
  ptx::allow_next_kernel();
  if (args.pause != 0) {
    __shared__ uint64_t ended;
    const uint32_t ended_smem = ptx::shared_address(&ended);
    if (threadIdx.x == 0) ptx::init_barrier(ended_smem, 1);
    __syncthreads();
    if (warp == warps - 1) {
      // This warp waits, and tells the others.
      while (has_slot()) fill_slot(nothing);
      ptx::wait_for_previous_kernel();
      if (lane == 0) ptx::arrive(ended_smem);
    } else {
      // From the second slot on at the pace of memory. What the kernels before still load, and then x, would
      // have to wait behind whatever is asked for at once.
      const uint32_t start = ptx::clock_now();
      uint32_t due = 0;
      bool has_ended = false;
      const auto may_go_on = [&] {
        due += args.pause;
        has_ended = has_ended || ptx::wait_for_first_phase(ended_smem, start, due);
        return !has_ended;
      };
      while (has_slot() && may_go_on()) fill_slot(nothing);
      auto far = ring;
      for (int i = 0, piece = next; i < args.ahead && piece < end && may_go_on(); ++i, piece += warps) {
        far.prefetch_weights();
        far.advance(warps);
      }
      if (!has_ended) ptx::wait_for_phase(ended_smem, 0);
    }
  }
  ring.aim_at(first_token);
  ptx::wait_for_previous_kernel();
  for (int s = 0, k_block = x_k_block; s < filled; ++s) {
    ring.load_x(s, k_block);
    for (k_block += warps; k_block >= args.k_blocks;) k_block -= args.k_blocks;
  }
  while (has_slot()) fill_slot([&] { ring.load_x(filled); });
  stored.load_bias(args, first_tile * rows + row_of_thread);

  float sums[Strips][Tiles][4] = {};
  int piece = begin + warp;
  for (int tile = first_tile; tile * args.k_blocks < end; ++tile) {
    const int tile_end = (tile + 1) * args.k_blocks;
    int stop = tile_end < end ? tile_end : end;
    ptx::keep(stop);
    const row_terms terms = stored.values(args);
    stored.load_scale(args, (tile + 1) * rows + row_of_thread);
    stored.load_bias(args, (tile + 1) * rows + row_of_thread);
    for (; piece < stop; piece += warps) {
      multiply_piece<Bits, Activation, Interval, Tiles, Odd, Strips>(args, ring.wait(), tokens, sums, lane);
      const int slot = ring.release();
      if (next < end) {
        ring.load_weights(slot);
        ring.load_x(slot);
        ring.advance(warps);
        next += warps;
      }
    }
    const bool is_whole = begin <= tile * args.k_blocks && tile_end <= end;
    finish_tile<Activation, Tiles, Strips>(args, shares, tile, is_whole, tokens, first_token, sums, terms,
                                           reduction_smem);
  }
}

}  // namespace floatx::kernels
