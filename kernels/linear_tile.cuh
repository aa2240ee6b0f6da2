// y = x W^T for many tokens on Hopper: weights go from their packed form through registers into wgmma, x
// comes by tensor copies.
//
// A tile of y is some cells of 64 rows of W by Tiles x 8 tokens. A warpgroup has one of the cells in each k
// block; warps of their own fill two rings in shared memory, one of cells, one of x, and the warpgroups empty
// them. Each warpgroup dequantizes the next 16 k while the tensor cores are at the last, and the warpgroups
// take turns at these, so that neither waits for long.
//
// Where tiles are few, a tile is shared along k: by the thread blocks of a cluster, each of which has a part
// of k, and within a thread block by several warpgroups on the same rows, the *ways*, to which k blocks are
// dealt in turn. Their sums are added through shared memory in a fixed order: the same bits every time.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dequant.cuh"
#include "floatx/layout.hpp"
#include "linear_parts.cuh"
#include "linear_tile_arguments.hpp"
#include "ptx/async_copy.cuh"
#include "ptx/bulk_copy.cuh"
#include "ptx/cluster.cuh"
#include "ptx/launch.cuh"
#include "ptx/mma.cuh"
#include "ptx/tensor_copy.cuh"
#include "ptx/warpgroup.cuh"
#include "ptx/wgmma.cuh"

namespace floatx::kernels {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

// ---- Who does what ----------------------------------------------------------------------------------

// Tiles that are worked on at the same time share rows of W and tokens as far as that goes, for the sake of
// the L2 cache: bands of row tiles, in these token after token.
struct tile_place {
  int row_tile, token_tile;
};

__device__ __forceinline__ tile_place place_of(const linear_tile_arguments& args, int tile) {
  const int band_tiles = args.band_rows * args.token_tiles, band = tile / band_tiles;
  const int in_band = tile - band * band_tiles, first_row = band * args.band_rows;
  const int rows = min(args.band_rows, args.common.tiles - first_row);
  return {first_row + in_band % rows, in_band / rows};
}

// The work of this thread block, the k blocks begin .. end of a tile at a time: where tiles are shared a part
// of one, else every gridDim-th of the tiles. Those left for a last round that would keep few thread blocks
// busy are narrow: cut along the tokens, as items beyond `wide_tiles` count them. What is cut off beyond m is
// left out.
struct work_list {
  const linear_tile_arguments& args;
  int next_item = static_cast<int>(blockIdx.x);
  int row_tile, token, begin, end;
  bool is_narrow;

  __device__ __forceinline__ explicit work_list(const linear_tile_arguments& arguments) : args(arguments) {}

  __device__ __forceinline__ bool next(int token_tiles) {
    const int k_blocks = args.common.k_blocks;
    for (;;) {
      const int part = next_item % args.split, item = next_item / args.split;
      begin = k_blocks * part / args.split;
      end = k_blocks * (part + 1) / args.split;
      next_item += static_cast<int>(gridDim.x);
      is_narrow = item >= args.wide_tiles;
      const int narrow = item - args.wide_tiles, cut = narrow / args.cuts;
      const int tile = is_narrow ? args.wide_tiles + cut : item;
      if (tile >= args.tiles) return false;
      const tile_place place = place_of(args, tile);
      row_tile = place.row_tile;
      token = place.token_tile * token_tiles * 8;
      if (!is_narrow) return true;
      token += (narrow - cut * args.cuts) * (token_tiles * 8 / args.cuts);
      if (token < args.common.m) return true;
    }
  }
};

// Slots that are filled and emptied in turn.
struct ring_place {
  int slot = 0;
  uint32_t parity = 0;

  // by <= slots.
  __device__ __forceinline__ void advance(int slots, int by = 1) {
    slot += by;
    if (slot >= slots) {
      slot -= slots;
      parity ^= 1u;
    }
  }
};

// Shared memory: x slots, cell slots, a place for each warp to turn y about, barriers.
template <int Bits, int Tiles, int Warps>
struct tile_memory {
  unsigned char* base;
  uint32_t x, cells, staging, barriers;
  int strips, cell_slot, x_slots, cell_slots;

  __device__ __forceinline__ tile_memory(const linear_tile_arguments& args, unsigned char* memory)
      : base(memory),
        x(ptx::shared_address(memory)),
        cells(x + args.x_slots * x_slot_bytes(Tiles)),
        strips(Warps / args.ways),
        cell_slot(cell_slot_bytes(Bits, args.common.cell_scale_bytes, strips)),
        x_slots(args.x_slots),
        cell_slots(args.common.stages) {
    staging = cells + cell_slots * cell_slot;
    barriers = staging + Warps * staging_bytes;
  }

  // x slots have two halves of 64 k, each with barriers of its own.
  __device__ __forceinline__ uint32_t x_full(int half) const { return barriers + half * 8; }
  __device__ __forceinline__ uint32_t x_empty(int half) const { return x_full(2 * x_slots + half); }
  __device__ __forceinline__ uint32_t cells_full(int slot) const { return x_full(4 * x_slots + slot); }
  __device__ __forceinline__ uint32_t cells_empty(int slot) const { return cells_full(cell_slots + slot); }
  __device__ __forceinline__ unsigned char* at(uint32_t address) const { return base + (address - x); }
};

// ---- Those who fetch --------------------------------------------------------------------------------

template <int Bits, int Tiles, int Warps>
__device__ void fetch_cells(const linear_tile_arguments& args,
                            const tile_memory<Bits, Tiles, Warps>& memory) {
  const int cells = memory.strips / cell_strips;
  const int row_cells = static_cast<int>(gpu::round_up(args.common.n, cell_rows) / cell_rows);
  const int scale_bytes = args.common.cell_scale_bytes;
  ring_place place;
  for (work_list work(args); work.next(Tiles);) {
    const int first_cell = work.row_tile * cells;
    const int count = min(cells, row_cells - first_cell);
    for (int k_block = work.begin; k_block < work.end; ++k_block) {
      ptx::wait_for_phase(memory.cells_empty(place.slot), place.parity ^ 1u);
      const uint32_t barrier = memory.cells_full(place.slot);
      ptx::arrive_and_expect(barrier, static_cast<uint32_t>(count * (cell_bytes(Bits) + scale_bytes)));
      const uint32_t to = memory.cells + place.slot * memory.cell_slot;
      for (int cell = 0; cell < count; ++cell) {
        const int64_t from = static_cast<int64_t>(first_cell + cell) * args.common.k_blocks + k_block;
        ptx::copy_bulk(to + cell * cell_bytes(Bits), args.common.codes + from * cell_bytes(Bits),
                       cell_bytes(Bits), barrier);
        if (scale_bytes != 0) {
          ptx::copy_bulk(to + cells * cell_bytes(Bits) + cell * scale_bytes,
                         args.common.scales + from * scale_bytes, static_cast<uint32_t>(scale_bytes),
                         barrier);
        }
      }
      place.advance(memory.cell_slots);
    }
  }
}

// One box of the tokens that there are. Tried on an H100 (h100-tile.json, runs 3 and 4) for 4096 x 4096: boxes of
// 32 tokens, 18.1 in place of 13.9 microseconds with 128; one box of a whole tile, 17.2 in place of 13.3 with 96.
template <int Bits, int Tiles, int Warps>
__device__ void fetch_x(const linear_tile_arguments& args, const tile_memory<Bits, Tiles, Warps>& memory) {
  ptx::prefetch(args.x);
  ptx::wait_for_previous_kernel();
  ring_place place;
  for (work_list work(args); work.next(Tiles);) {
    const bool is_last = work.token + Tiles * 8 > args.common.m;
    const ptx::tensor_map& map = work.is_narrow ? args.narrow_x : is_last ? args.last_x : args.x;
    const int tokens = work.is_narrow ? Tiles * 8 / args.cuts
                       : is_last      ? args.common.m - work.token
                                      : Tiles * 8;
    for (int k_block = work.begin; k_block < work.end; ++k_block) {
      for (int half = 2 * place.slot; half < 2 * place.slot + 2; ++half) {
        ptx::wait_for_phase(memory.x_empty(half), place.parity ^ 1u);
        const uint32_t barrier = memory.x_full(half);
        ptx::arrive_and_expect(barrier, static_cast<uint32_t>(tokens * x_half_columns * 2));
        ptx::copy_box(memory.x + half * x_half_bytes(Tiles), map, work.token,
                      k_block * tile_k + half % 2 * x_half_columns, barrier);
      }
      place.advance(memory.x_slots);
    }
  }
}

// ---- Those who multiply -----------------------------------------------------------------------------

// A warpgroup's path through the rings.
// Interval: of groups' scales, in steps; see scaling.
template <int Bits, class Activation, scaling Scaling, int Interval, int Tiles, bool Odd, int Warps>
struct multiplier {
  static constexpr int half_steps = x_half_columns / 16;

  const linear_tile_arguments& args;
  const tile_memory<Bits, Tiles, Warps>& memory;
  int strip, lane;  // of this warp in the tile
  ring_place cells, x;
  float2 unit = {};  // relative sums': of rows lane / 4 and lane / 4 + 8
  int held = -1;     // half of a slot of x of which a product may be under way

  __device__ __forceinline__ void release(uint32_t barrier) const {
    __syncwarp();
    if (lane == 0) ptx::arrive(barrier);
  }

  __device__ __forceinline__ void release_held() {
    if (held >= 0) release(memory.x_empty(held));
  }

  // Past so many k blocks.
  __device__ __forceinline__ void advance(int k_blocks) {
    cells.advance(memory.cell_slots, k_blocks);
    x.advance(memory.x_slots, k_blocks);
  }

  // B at the beginning of a half of the slot of x, once it is there.
  __device__ __forceinline__ uint64_t wait_for_x(int half) const {
    ptx::wait_for_phase(memory.x_full(2 * x.slot + half), x.parity);
    return ptx::matrix_descriptor(memory.x + (2 * x.slot + half) * x_half_bytes(Tiles));
  }

  // sums += 128 k of a strip, for as many tokens as there are sums.
  template <int Count>
  __device__ __forceinline__ void multiply(float (&sums)[Count]) {
    ptx::wait_for_phase(memory.cells_full(cells.slot), cells.parity);
    const unsigned char* slot = memory.at(memory.cells + cells.slot * memory.cell_slot);
    uint32_t words[2 * Bits];
    load_unit<Bits>(words, slot + strip * (cell_bytes(Bits) / cell_strips), lane);
    const unsigned char* unit_scales = slot + memory.strips * (cell_bytes(Bits) / cell_strips) +
                                       strip * (args.common.cell_scale_bytes / cell_strips);
    if constexpr (Scaling == scaling::apart) {
      float2 scales[steps / Interval];
      load_unit_scales(args.common, scales, unit_scales, lane);
      release(memory.cells_empty(cells.slot));
      multiply_apart(words, scales, sums);
    } else {
      uint32_t scales[steps / 2] = {};
      if constexpr (Scaling == scaling::folded) load_byte_scales(args.common, scales, unit_scales, lane);
      if constexpr (Scaling == scaling::relative) load_half_scales(args.common, scales, unit_scales, lane);
      release(memory.cells_empty(cells.slot));
      multiply_along(words, scales, sums);
    }
  }

  // Every product adds to the sums.
  template <int Count>
  __device__ __forceinline__ void multiply_along(const uint32_t (&words)[2 * Bits],
                                                 const uint32_t (&scales)[steps / 2], float (&sums)[Count]) {
    uint64_t b = 0;
    uint32_t kept[2] = {};
#pragma unroll
    for (int step = 0; step < steps; ++step) {
      if (step % half_steps == 0) b = wait_for_x(step / half_steps);
      uint32_t a[4];
      ptx::wgmma_wait<1>();  // the registers that held the last a but one are free
      if (step % half_steps == 1) {
        release_held();
        held = 2 * x.slot + step / half_steps;
      }
      dequantize<Bits, Activation, Odd>(words, step, args.common.rule, a);
      if constexpr (Scaling == scaling::folded) {
        uint32_t pairs[2];
        scale_pairs<Activation>(scales[step / 2], step, args.common.scale_type, pairs);
#pragma unroll
        for (int i = 0; i < 4; ++i) a[i] = ptx::product<Activation>(a[i], pairs[i % 2]);
      }
      if constexpr (Scaling == scaling::relative) {
        if (step % Interval == 0) change_unit(scales[step / 2], kept, sums);
#pragma unroll
        for (int i = 0; i < 4; ++i) a[i] &= kept[i % 2];
      }
      ptx::wgmma_fence();
      ptx::wgmma<Activation>(sums, a, b + step % half_steps * ptx::descriptor_step, true);
      ptx::wgmma_commit();
    }
  }

  // To the scales of the next group. A scale of 0 cannot be a unit: the last one stays, and `kept`, a mask,
  // leaves nothing of the row's codes. Scales are FP16, between 2^-24 and 2^16, so sums in such units are up
  // to 2^40 times as large or as small as in others: with FP16 x far from the ends of FP32.
  template <int Count>
  __device__ __forceinline__ void change_unit(uint32_t scales, uint32_t (&kept)[2], float (&sums)[Count]) {
    const float2 next = __half22float2(reinterpret_cast<const __half2&>(scales));
    kept[0] = next.x == 0 ? 0u : ~0u;
    kept[1] = next.y == 0 ? 0u : ~0u;
    const float2 factor = {next.x == 0 ? 1.0f : quotient(unit.x, next.x),
                           next.y == 0 ? 1.0f : quotient(unit.y, next.y)};
    unit = {next.x == 0 ? unit.x : next.x, next.y == 0 ? unit.y : next.y};
    ptx::wgmma_wait<0>();
    multiply_sums(sums, factor);
  }

  template <int Count>
  __device__ __forceinline__ void multiply_sums(float (&sums)[Count], float2 factor) const {
    ptx::settle(sums);
#pragma unroll
    for (int i = 0; i < Count; ++i) sums[i] *= i % 4 < 2 ? factor.x : factor.y;
  }

  // Every `Interval` steps what they add up to is multiplied by the group's scale, in FP32, for as many
  // tokens at a time as registers hold sums of besides the others. Meanwhile the other warpgroup keeps the
  // tensor cores busy.
  //
  // Measured on an H100, E3M2, 8192 x 8192, m = 1024, in turns with cuBLAS's 181 to 196 us and one scale a
  // row's 193 to 201: relative sums 316 for groups of 32, 228 for 128; folded scales 222 (E4M3FN) and 224
  // (E8M0 with BF16 x). This here 253 for groups of 128 and, on an H200, 357 to 366 for 32. Tried: relative
  // sums with warpgroups in turns by named barriers: 318 and 225 where 276 and 214 were measured without; x
  // for two thread blocks of a cluster by one multicast copy, for which each waits for both: 974 where 574
  // was measured for 12288 x 4096 and 4096 tokens without, for a reason not found.
  template <int Intervals, int Count>
  __device__ __forceinline__ void multiply_apart(const uint32_t (&words)[2 * Bits],
                                                 const float2 (&scales)[Intervals], float (&sums)[Count]) {
    constexpr int count = Count > 64 ? 32 : Count, chunks = Count / count;
    constexpr uint64_t chunk_step = x_half_bytes(count / 4) >> 4;
    float part[count] = {};
    uint64_t b[2];
#pragma unroll
    for (int interval = 0; interval < Intervals; ++interval) {
      uint32_t a[Interval][4];
      const float2 scale = scales[interval];
#pragma unroll
      for (int chunk = 0; chunk < chunks; ++chunk) {
        ptx::settle(part);
#pragma unroll
        for (int i = 0; i < Interval; ++i) {
          const int step = interval * Interval + i, half = step / half_steps;
          if (chunk == 0) {
            // The first chunk's products begin before the last a is there.
            dequantize<Bits, Activation, Odd>(words, step, args.common.rule, a[i]);
            if (step % half_steps == 0) b[half] = wait_for_x(half);
          }
          if (chunk == 0 || i == 0) ptx::wgmma_fence();
          ptx::wgmma<Activation>(
              part, a[i], b[half] + step % half_steps * ptx::descriptor_step + chunk * chunk_step, i != 0);
        }
        ptx::wgmma_commit();
        ptx::wgmma_wait<0>();
        ptx::settle(part);
#pragma unroll
        for (int i = 0; i < count; ++i) {
          sums[chunk * count + i] = fmaf(part[i], i % 4 < 2 ? scale.x : scale.y, sums[chunk * count + i]);
        }
      }
      if ((interval + 1) * Interval % half_steps == 0) {
        release(memory.x_empty(2 * x.slot + ((interval + 1) * Interval - 1) / half_steps));
      }
    }
  }

  template <int Count>
  __device__ __forceinline__ void finish(float (&sums)[Count]) {
    ptx::wgmma_wait<0>();
    if constexpr (Scaling == scaling::relative) {
      multiply_sums(sums, unit);
      unit = {};
    } else {
      ptx::settle(sums);
    }
    release_held();
    held = -1;
  }
};

// ---- The end of a tile ------------------------------------------------------------------------------

constexpr int consumers_barrier = 1;

// Two terms a lane: of the rows that its sums belong to.
struct strip_terms {
  row_terms of[2];
};

template <class Activation>
__device__ __forceinline__ strip_terms load_strip_terms(const linear_arguments& common, int row, int lane) {
  return {{load_row_terms<Activation>(common, row + lane / 4),
           load_row_terms<Activation>(common, row + lane / 4 + 8)}};
}

// y of 16 rows and 16 tokens, whose sums a warp holds. A lane's sums lie along tokens, y along rows: they
// change places in shared memory, in rows of 48 bytes, which are in different banks for the eight that one
// store has.
template <class Activation>
__device__ __forceinline__ void store_square(const linear_tile_arguments& args, int row, int token,
                                             const strip_terms& terms, unsigned char* staging, int lane,
                                             const float (&sums)[8]) {
  const linear_arguments& common = args.common;
  uint32_t pairs[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const Activation low = from_float<Activation>(finished(common, sums[2 * i], terms.of[i % 2]));
    const Activation high = from_float<Activation>(finished(common, sums[2 * i + 1], terms.of[i % 2]));
    pairs[i] = static_cast<uint32_t>(reinterpret_cast<const uint16_t&>(low)) |
               static_cast<uint32_t>(reinterpret_cast<const uint16_t&>(high)) << 16;
  }
  __syncwarp();  // what was here before has been read
  ptx::store_transposed(
      ptx::shared_address(staging) + (lane / 16 * 8 + lane % 8) * staging_row_bytes + lane / 8 % 2 * 16,
      pairs);
  __syncwarp();
  token += lane / 2;
  row += lane % 2 * 8;
  const unsigned char* from = staging + lane / 2 * staging_row_bytes + lane % 2 * 16;
  if (token >= common.m) return;
  Activation* y = static_cast<Activation*>(common.y) + token * common.y_stride + row;
  if (args.y_is_aligned && row + 8 <= common.n) {
    *reinterpret_cast<uint4*>(y) = *reinterpret_cast<const uint4*>(from);
  } else {
#pragma unroll 1
    for (int i = 0; i < 8 && row + i < common.n; ++i) y[i] = reinterpret_cast<const Activation*>(from)[i];
  }
}

// Where tiles are shared each warp sends its sums to the thread block of its cluster that owns the square:
// [share][square][half][lane] of four, in place of the rings, which are at rest. Writes, unlike reads, from
// another's shared memory are not waited for.
template <int Tiles, int Warps>
__device__ __forceinline__ void send_sums(const linear_tile_arguments& args, uint32_t smem, int way,
                                          int strip, int lane, const float (&sums)[Tiles * 4]) {
  const int strips = Warps / args.ways, squares = Tiles / 2 * strips;
  const int owned = owned_squares(squares, Warps, args.split);
  const int share = static_cast<int>(blockIdx.x) % args.split * args.ways + way;
#pragma unroll
  for (int tile = 0; tile < Tiles; tile += 2) {
    const int square = tile / 2 * strips + strip, round = square / Warps;
    const int at = round / args.split * Warps + square % Warps, owner = round % args.split;
    const uint32_t to = smem + (share * owned + at) * square_bytes + lane * 16;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float* four = &sums[4 * (tile + half)];
      ptx::store_four_shared_of(to + half * (square_bytes / 2), owner,
                                make_float4(four[0], four[1], four[2], four[3]));
    }
  }
}

// A warp takes one of the owned squares at a time, all of its own rows, and adds what has been sent, in the
// order of thread blocks and ways.
template <class Activation, int Tiles, int Warps>
__device__ __forceinline__ void store_owned_squares(const linear_tile_arguments& args, int row,
                                                    int first_token, const strip_terms& terms,
                                                    const unsigned char* smem, unsigned char* staging,
                                                    int warp, int lane) {
  const int strips = Warps / args.ways, squares = Tiles / 2 * strips, shares = args.split * args.ways;
  const int owned = owned_squares(squares, Warps, args.split);
  int square = static_cast<int>(blockIdx.x) % args.split * Warps + warp;
  for (int at = warp; square < squares; at += Warps, square += args.split * Warps) {
    float sums[8] = {};
    for (int share = 0; share < shares; ++share) {
      const auto* from = reinterpret_cast<const float4*>(smem + (share * owned + at) * square_bytes) + lane;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float4 four = from[half * 32];
        sums[4 * half] += four.x;
        sums[4 * half + 1] += four.y;
        sums[4 * half + 2] += four.z;
        sums[4 * half + 3] += four.w;
      }
    }
    store_square<Activation>(args, row, first_token + square / strips * 16, terms, staging, lane, sums);
  }
}

// Until all warps of the cluster that multiply are here.
__device__ __forceinline__ void wait_for_sharers(const linear_tile_arguments& args, int threads) {
  if (args.split > 1) {
    ptx::cluster_arrive();
    ptx::cluster_wait();
  } else {
    ptx::barrier(consumers_barrier, threads);
  }
}

template <class Multiplier, int Count>
__device__ __forceinline__ void multiply_all(const linear_tile_arguments& args, Multiplier& multiply,
                                             int k_block, int end, float (&sums)[Count]) {
  ptx::settle(sums);
  for (; k_block < end; k_block += args.ways) {
    multiply.multiply(sums);
    multiply.advance(args.ways);
  }
  multiply.finish(sums);
}

// A tile, or what is cut from one, that this thread block has to itself.
template <class Activation, int Tiles, class Multiplier>
__device__ __forceinline__ void finish_tile(const linear_tile_arguments& args, Multiplier& multiply,
                                            const work_list& work, int row, int token,
                                            const strip_terms& terms, unsigned char* staging, int lane) {
  float sums[Tiles * 4] = {};
  multiply_all(args, multiply, work.begin, work.end, sums);
#pragma unroll
  for (int tile = 0; tile < Tiles; tile += 2) {
    float square[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) square[i] = sums[4 * tile + i];
    store_square<Activation>(args, row, token + tile * 8, terms, staging, lane, square);
  }
}

#endif

// ---- The kernel -------------------------------------------------------------------------------------

// One warpgroup that fetches, Warps / 4 that multiply. Any number of thread blocks, or one for each part of a
// tile where tiles are shared.
template <int Bits, class Activation, scaling Scaling, int Interval, int Tiles, bool Odd, int Warps>
__global__ void __launch_bounds__(128 + Warps * 32, 1)
    linear_tile(const __grid_constant__ linear_tile_arguments args) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  unsigned char* smem = ptx::dynamic_shared_memory();
  const tile_memory<Bits, Tiles, Warps> memory(args, smem);
  if (threadIdx.x == 0) {
    for (int half = 0; half < 2 * memory.x_slots; ++half) {
      ptx::init_barrier(memory.x_full(half), 1);
      ptx::init_barrier(memory.x_empty(half), memory.strips);
    }
    for (int slot = 0; slot < memory.cell_slots; ++slot) {
      ptx::init_barrier(memory.cells_full(slot), 1);
      ptx::init_barrier(memory.cells_empty(slot), memory.strips);
    }
    ptx::fence_async_proxy();
  }
  __syncthreads();
  ptx::allow_next_kernel();

  // A thread block shares what it was launched with: for 384, 512 and 640 threads 168, 128 and 96 registers
  // each.
  constexpr bool is_wide = Warps == 8, takes_most = is_wide && Scaling == scaling::apart;
  if (threadIdx.x < 128) {
    ptx::give_registers<takes_most ? 24 : is_wide ? 40 : 32>();
    if (threadIdx.x == 0) fetch_cells(args, memory);
    if (threadIdx.x == 32) fetch_x(args, memory);
    if (args.split > 1) {
      __syncwarp();
      for (int i = 0; i < 2; ++i) {
        ptx::cluster_arrive();
        ptx::cluster_wait();
      }
    }
  } else {
    ptx::take_registers<takes_most ? 240 : is_wide ? 232 : Warps == 12 ? 160 : 112>();
    // Through the shuffle the compiler sees that all lanes have the same: slots stay in uniform registers.
    const int warp = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 32 - 4, 0);
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int way = warp / memory.strips, strip = warp - way * memory.strips;
    unsigned char* staging = memory.at(memory.staging) + warp * staging_bytes;
    multiplier<Bits, Activation, Scaling, Interval, Tiles, Odd, Warps> multiply = {args, memory, strip,
                                                                                   lane, {},     {}};
    multiply.advance(way);
    ptx::wait_for_previous_kernel();
    for (work_list work(args); work.next(Tiles);) {
      const int row = (work.row_tile * memory.strips + strip) * 16, token = work.token;
      // Early: they take long to come.
      const strip_terms terms = load_strip_terms<Activation>(args.common, row, lane);
      if (args.split * args.ways > 1) {
        float sums[Tiles * 4] = {};
        multiply_all(args, multiply, work.begin + way, work.end, sums);
        wait_for_sharers(args, Warps * 32);  // the rings are at rest
        send_sums<Tiles, Warps>(args, memory.x, way, strip, lane, sums);
        wait_for_sharers(args, Warps * 32);
        store_owned_squares<Activation, Tiles, Warps>(args, row, token, terms, smem, staging, warp, lane);
        break;
      }
      if constexpr (Scaling != scaling::apart && may_cut(Tiles)) {
        if (work.is_narrow) {
          if (args.cuts == 4) {
            finish_tile<Activation, Tiles / 4>(args, multiply, work, row, token, terms, staging, lane);
          } else {
            finish_tile<Activation, Tiles / 2>(args, multiply, work, row, token, terms, staging, lane);
          }
          continue;
        }
      }
      finish_tile<Activation, Tiles>(args, multiply, work, row, token, terms, staging, lane);
    }
  }
#endif
}

}  // namespace floatx::kernels
