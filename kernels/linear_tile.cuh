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
  const int band = args.band_tiles.quotient(tile), in_band = tile - band * args.band_tiles.by;
  const int first_row = band * args.band_rows.by, rows_left = args.common.tiles - first_row;
  const divisor& rows = rows_left < args.band_rows.by ? args.last_band_rows : args.band_rows;
  const int token_tile = rows.quotient(in_band);
  return {first_row + in_band - token_tile * rows.by, token_tile};
}

// The work of this thread block, the k blocks begin .. end of a tile at a time: where tiles are shared a part
// of one, else every gridDim-th of the tiles.
struct work_list {
  const linear_tile_arguments& args;
  int next_item = static_cast<int>(blockIdx.x);
  int row_tile, token_tile, begin, end;

  __device__ __forceinline__ explicit work_list(const linear_tile_arguments& arguments) : args(arguments) {}

  __device__ __forceinline__ bool next() {
    int tile = next_item;
    begin = 0;
    end = args.common.k_blocks;
    if (args.split > 1) {
      const int part = next_item % args.split;
      tile /= args.split;
      begin = args.common.k_blocks * part / args.split;
      end = args.common.k_blocks * (part + 1) / args.split;
    }
    next_item += static_cast<int>(gridDim.x);
    if (tile >= args.tiles) return false;
    const tile_place place = place_of(args, tile);
    row_tile = place.row_tile;
    token_tile = place.token_tile;
    return true;
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

// Shared memory: x slots, cell slots, a place for each warp to turn y about, barriers. These are pairs, the
// first of which says that something is full, the other that it is empty: halves of slots of x, 64 k each,
// and slots of cells. For the last pair nobody waits.
constexpr int barrier_pair_bytes = 16, empty_offset = 8;

template <int Bits, int Tiles, int Warps>
struct tile_memory {
  unsigned char* base;
  uint32_t x, cells, staging, x_barriers, cell_barriers, spare_barrier;
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
    x_barriers = staging + Warps * staging_bytes;
    cell_barriers = x_barriers + 2 * x_slots * barrier_pair_bytes;
    spare_barrier = cell_barriers + cell_slots * barrier_pair_bytes;
  }

  __device__ __forceinline__ uint32_t x_full(int slot, int half) const {
    return x_barriers + (2 * slot + half) * barrier_pair_bytes;
  }
  __device__ __forceinline__ uint32_t cells_full(int slot) const {
    return cell_barriers + slot * barrier_pair_bytes;
  }
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
  for (work_list work(args); work.next();) {
    const int first_cell = work.row_tile * cells;
    const int count = min(cells, row_cells - first_cell);
    for (int k_block = work.begin; k_block < work.end; ++k_block) {
      const uint32_t barrier = memory.cells_full(place.slot);
      ptx::wait_for_phase(barrier + empty_offset, place.parity ^ 1u);
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

// One box of the tokens that there are. Tried on an H100 (h100-tile.json, runs 3 and 4) for 4096 x 4096:
// boxes of 32 tokens, 18.1 in place of 13.9 microseconds with 128; one box of a whole tile, 17.2 in place
// of 13.3 with 96.
template <int Bits, int Tiles, int Warps>
__device__ void fetch_x(const linear_tile_arguments& args, const tile_memory<Bits, Tiles, Warps>& memory) {
  ptx::prefetch(args.common.m < Tiles * 8 ? args.last_x : args.x);
  ptx::wait_for_previous_kernel();
  ring_place place;
  for (work_list work(args); work.next();) {
    const int token = work.token_tile * Tiles * 8, tokens = min(Tiles * 8, args.common.m - token);
    const ptx::tensor_map& map = tokens < Tiles * 8 ? args.last_x : args.x;
    for (int k_block = work.begin; k_block < work.end; ++k_block) {
      for (int half = 0; half < 2; ++half) {
        const uint32_t barrier = memory.x_full(place.slot, half);
        ptx::wait_for_phase(barrier + empty_offset, place.parity ^ 1u);
        ptx::arrive_and_expect(barrier, static_cast<uint32_t>(tokens * x_half_columns * 2));
        ptx::copy_box(memory.x + (2 * place.slot + half) * x_half_bytes(Tiles), map, token,
                      k_block * tile_k + half * x_half_columns, barrier);
      }
      place.advance(memory.x_slots);
    }
  }
}

// ---- Those who multiply -----------------------------------------------------------------------------

// What a warp holds of a tile: 16 rows by Tiles x 8 tokens, a lane four of each 16 by 8.
template <int Tiles>
using tile_sums = float[Tiles * 4];

// A warpgroup's path through the rings.
// Interval: of groups' scales, in steps; see scaling.
template <int Bits, class Activation, scaling Scaling, int Interval, int Tiles, bool Odd, int Warps>
struct multiplier {
  static constexpr int half_steps = x_half_columns / 16;
  // Products that are asked for at a time. Relative sums are touched between them.
  static constexpr int batch = Scaling == scaling::relative ? 1 : 2;

  const linear_tile_arguments& args;
  const tile_memory<Bits, Tiles, Warps>& memory;
  int strip, lane;  // of this warp in the tile
  uint32_t held;    // the barrier of that part of x of which a product may be under way, or the spare one
  ring_place cells = {}, x = {};
  float2 unit = {};  // relative sums': of rows lane / 4 and lane / 4 + 8

  __device__ __forceinline__ void release(uint32_t full_barrier) const {
    __syncwarp();
    if (lane == 0) ptx::arrive(full_barrier + empty_offset);
  }

  // Past so many k blocks.
  __device__ __forceinline__ void advance(int k_blocks) {
    cells.advance(memory.cell_slots, k_blocks);
    x.advance(memory.x_slots, k_blocks);
  }

  // B of the slot of x.
  __device__ __forceinline__ uint64_t b_of_slot() const {
    return ptx::matrix_descriptor(ptx::uniform(memory.x + x.slot * x_slot_bytes(Tiles)));
  }

  // And of a step in it.
  __device__ __forceinline__ static uint64_t b_of(uint64_t slot, int step) {
    return slot + (step / half_steps * (x_half_bytes(Tiles) >> 4) + step % half_steps * ptx::descriptor_step);
  }

  // sums += 128 k of a strip, for as many tokens as there are sums.
  __device__ __forceinline__ void multiply(tile_sums<Tiles>& sums) {
    const uint32_t barrier = memory.cells_full(cells.slot);
    ptx::wait_for_phase(barrier, cells.parity);
    const unsigned char* slot = memory.at(memory.cells + cells.slot * memory.cell_slot);
    uint32_t words[2 * Bits];
    load_unit<Bits>(words, slot + strip * (cell_bytes(Bits) / cell_strips), lane);
    const unsigned char* unit_scales = slot + memory.strips * (cell_bytes(Bits) / cell_strips) +
                                       strip * (args.common.cell_scale_bytes / cell_strips);
    if constexpr (Scaling == scaling::apart) {
      float2 scales[steps / Interval];
      load_unit_scales(args.common, scales, unit_scales, lane);
      release(barrier);
      multiply_apart(words, scales, sums);
    } else {
      uint32_t scales[steps / 2] = {};
      if constexpr (Scaling == scaling::folded) load_byte_scales(args.common, scales, unit_scales, lane);
      if constexpr (Scaling == scaling::relative) load_half_scales(args.common, scales, unit_scales, lane);
      release(barrier);
      multiply_along(words, scales, sums);
    }
  }

  // Every product adds to the sums.
  __device__ __forceinline__ void multiply_along(const uint32_t (&words)[2 * Bits],
                                                 const uint32_t (&scales)[steps / 2],
                                                 tile_sums<Tiles>& sums) {
    const uint64_t b = b_of_slot();
    uint32_t kept[2] = {};
#pragma unroll
    for (int step = 0; step < steps; step += batch) {
      const uint32_t barrier = memory.x_full(x.slot, step / half_steps);
      if (step % half_steps == 0) ptx::wait_for_phase(barrier, x.parity);
      uint32_t a[batch][4];
      ptx::wgmma_wait<1>();  // the registers that held the last a but one are free
      if (step % half_steps == batch) {
        release(held);
        held = barrier;
      }
#pragma unroll
      for (int i = 0; i < batch; ++i)
        dequantize<Bits, Activation, Odd>(words, step + i, args.common.rule, a[i]);
      if constexpr (Scaling == scaling::folded) {
#pragma unroll
        for (int i = 0; i < batch; ++i) {
          uint32_t pairs[2];
          scale_pairs<Activation>(scales[(step + i) / 2], step + i, args.common.scale_type, pairs);
#pragma unroll
          for (int j = 0; j < 4; ++j) a[i][j] = ptx::product<Activation>(a[i][j], pairs[j % 2]);
        }
      }
      if constexpr (Scaling == scaling::relative) {
        if (step % Interval == 0) change_unit(scales[step / 2], kept, sums);
#pragma unroll
        for (int i = 0; i < batch; ++i) {
#pragma unroll
          for (int j = 0; j < 4; ++j) a[i][j] &= kept[j % 2];
        }
      }
      ptx::wgmma_fence();
#pragma unroll
      for (int i = 0; i < batch; ++i) ptx::wgmma<Activation>(sums, a[i], b_of(b, step + i), true);
      ptx::wgmma_commit();
    }
  }

  // To the scales of the next group. A scale of 0 cannot be a unit: the last one stays, and `kept`, a mask,
  // leaves nothing of the row's codes. Scales are FP16, between 2^-24 and 2^16, so sums in such units are up
  // to 2^40 times as large or as small as in others: with FP16 x far from the ends of FP32.
  __device__ __forceinline__ void change_unit(uint32_t scales, uint32_t (&kept)[2], tile_sums<Tiles>& sums) {
    const float2 next = __half22float2(reinterpret_cast<const __half2&>(scales));
    kept[0] = next.x == 0 ? 0u : ~0u;
    kept[1] = next.y == 0 ? 0u : ~0u;
    const float2 factor = {next.x == 0 ? 1.0f : quotient(unit.x, next.x),
                           next.y == 0 ? 1.0f : quotient(unit.y, next.y)};
    unit = {next.x == 0 ? unit.x : next.x, next.y == 0 ? unit.y : next.y};
    ptx::wgmma_wait<0>();
    multiply_sums(sums, factor);
  }

  __device__ __forceinline__ void multiply_sums(tile_sums<Tiles>& sums, float2 factor) const {
    ptx::settle(sums);
#pragma unroll
    for (int i = 0; i < Tiles * 4; ++i) sums[i] *= i % 4 < 2 ? factor.x : factor.y;
  }

  // Every `Interval` steps what they add up to is multiplied by the group's scale, in FP32. Meanwhile the
  // other warpgroup keeps the tensor cores busy.
  //
  // Measured on an H100, E3M2, 8192 x 8192, m = 1024, where one scale a row takes 187 us and cuBLAS 184:
  // relative sums 280 for groups of 32, 202 for 128, this here 367. Tried: relative sums with warpgroups in
  // turns by named barriers: 318 and 225 where 276 and 214 were measured without; x for two thread blocks of
  // a cluster by one multicast copy, for which each waits for both: 974 where 574 was measured for 12288 x
  // 4096 and 4096 tokens without, for a reason not found.
  template <int Intervals>
  __device__ __forceinline__ void multiply_apart(const uint32_t (&words)[2 * Bits],
                                                 const float2 (&scales)[Intervals], tile_sums<Tiles>& sums) {
    tile_sums<Tiles> part = {};
    const uint64_t b = b_of_slot();
#pragma unroll
    for (int interval = 0; interval < Intervals; ++interval) {
      uint32_t a[Interval][4];
      const float2 scale = scales[interval];
      ptx::settle(part);
#pragma unroll
      for (int i = 0; i < Interval; ++i) {
        // Products begin before the last a is there.
        const int step = interval * Interval + i;
        dequantize<Bits, Activation, Odd>(words, step, args.common.rule, a[i]);
        if (step % half_steps == 0) ptx::wait_for_phase(memory.x_full(x.slot, step / half_steps), x.parity);
        ptx::wgmma_fence();
        ptx::wgmma<Activation>(part, a[i], b_of(b, step), i != 0);
      }
      ptx::wgmma_commit();
      ptx::wgmma_wait<0>();
      ptx::settle(part);
#pragma unroll
      for (int i = 0; i < Tiles * 4; ++i) {
        sums[i] = fmaf(part[i], i % 4 < 2 ? scale.x : scale.y, sums[i]);
      }
      if ((interval + 1) * Interval % half_steps == 0) {
        release(memory.x_full(x.slot, ((interval + 1) * Interval - 1) / half_steps));
      }
    }
  }

  __device__ __forceinline__ void finish(tile_sums<Tiles>& sums) {
    ptx::wgmma_wait<0>();
    if constexpr (Scaling == scaling::relative) {
      multiply_sums(sums, unit);
      unit = {};
    } else {
      ptx::settle(sums);
    }
    release(held);
    held = memory.spare_barrier;
  }
};

// ---- The end of a tile ------------------------------------------------------------------------------

constexpr int consumers_barrier = 1;

// y of 16 rows and 16 tokens, whose sums a warp holds, or of two such squares, one after the other's tokens.
// A lane's sums lie along tokens, y along rows: they change places in shared memory, where the halves of
// every other four rows are swapped, so that those of eight are in different banks.
template <class Activation, int Count>
__device__ __forceinline__ void store_squares(const linear_tile_arguments& args, int row, int token,
                                              const row_terms (&terms)[2], unsigned char* staging, int lane,
                                              const float (&sums)[Count]) {
  constexpr int squares = Count / 8;
  const linear_arguments& common = args.common;
  const auto place = [](int token, int half) { return token * 32 + (half ^ token / 4 % 2) * 16; };
  uint32_t pairs[squares][4];
#pragma unroll
  for (int i = 0; i < 4 * squares; ++i) {
    const Activation low = from_float<Activation>(finished(common, sums[2 * i], terms[i % 2]));
    const Activation high = from_float<Activation>(finished(common, sums[2 * i + 1], terms[i % 2]));
    pairs[i / 4][i % 4] = static_cast<uint32_t>(reinterpret_cast<const uint16_t&>(low)) |
                          static_cast<uint32_t>(reinterpret_cast<const uint16_t&>(high)) << 16;
  }
  __syncwarp();  // what was here before has been read
#pragma unroll
  for (int i = 0; i < squares; ++i) {
    ptx::store_transposed(ptx::shared_address(staging) + i * staged_square_bytes +
                              place(lane / 16 * 8 + lane % 8, lane / 8 % 2),
                          pairs[i]);
  }
  __syncwarp();
  const bool is_whole = args.y_is_aligned && row + 16 <= common.n;
  token += lane / 2;
  row += lane % 2 * 8;
  Activation* y = static_cast<Activation*>(common.y) + token * common.y_stride + row;
  const unsigned char* from = staging + place(lane / 2, lane % 2);
#pragma unroll
  for (int i = 0; i < squares; ++i) {
    if (is_whole) {
      const uint4 eight = *reinterpret_cast<const uint4*>(from);
      if (token < common.m) *reinterpret_cast<uint4*>(y) = eight;
    } else {
#pragma unroll 1
      for (int j = 0; token < common.m && j < 8 && row + j < common.n; ++j) {
        y[j] = reinterpret_cast<const Activation*>(from)[j];
      }
    }
    token += 16;
    y += 16 * common.y_stride;
    from += staged_square_bytes;
  }
}

// Where tiles are shared each warp sends its sums to the thread block of its cluster that owns the square:
// [share][square][half][lane] of four, in place of the rings, which are at rest. Writes, unlike reads, from
// another's shared memory are not waited for.
template <int Tiles, int Warps>
__device__ __forceinline__ void send_sums(const linear_tile_arguments& args, uint32_t smem, int way,
                                          int strip, int lane, const tile_sums<Tiles>& sums) {
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
                                                    int first_token, const row_terms (&terms)[2],
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
    store_squares<Activation>(args, row, first_token + square / strips * 16, terms, staging, lane, sums);
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

template <int Tiles, class Multiplier>
__device__ __forceinline__ void multiply_all(const linear_tile_arguments& args, Multiplier& multiply,
                                             int k_block, int end, tile_sums<Tiles>& sums) {
  ptx::settle(sums);
  for (; k_block < end; k_block += args.ways) {
    multiply.multiply(sums);
    multiply.advance(args.ways);
  }
  multiply.finish(sums);
}

// y of a tile that this thread block has to itself.
template <class Activation, int Tiles>
__device__ __forceinline__ void store_all_squares(const linear_tile_arguments& args, int row, int token,
                                                  const row_terms (&terms)[2], unsigned char* staging,
                                                  int lane, const tile_sums<Tiles>& sums) {
#pragma unroll
  for (int tile = 0; tile + 4 <= Tiles; tile += 4) {
    float two[16];
#pragma unroll
    for (int i = 0; i < 16; ++i) two[i] = sums[4 * tile + i];
    store_squares<Activation>(args, row, token + tile * 8, terms, staging, lane, two);
  }
  if constexpr (Tiles % 4 != 0) {
    float last[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) last[i] = sums[4 * (Tiles - 2) + i];
    store_squares<Activation>(args, row, token + (Tiles - 2) * 8, terms, staging, lane, last);
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
    for (uint32_t barrier = memory.x_barriers; barrier < memory.spare_barrier;
         barrier += barrier_pair_bytes) {
      ptx::init_barrier(barrier, 1);
      ptx::init_barrier(barrier + empty_offset, memory.strips);
    }
    ptx::init_barrier(memory.spare_barrier + empty_offset, ptx::most_arrivals);
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
    multiplier<Bits, Activation, Scaling, Interval, Tiles, Odd, Warps> multiply = {args, memory, strip, lane,
                                                                                   memory.spare_barrier};
    multiply.advance(way);
    ptx::wait_for_previous_kernel();
    for (work_list work(args); work.next();) {
      const int row = (work.row_tile * memory.strips + strip) * 16, token = work.token_tile * Tiles * 8;
      // Early: they take long to come.
      const stored_row_terms<Activation> low_terms(args.common, row + lane / 4);
      const stored_row_terms<Activation> high_terms(args.common, row + lane / 4 + 8);
      tile_sums<Tiles> sums = {};
      multiply_all<Tiles>(args, multiply, work.begin + way, work.end, sums);
      const row_terms terms[] = {low_terms.values(args.common), high_terms.values(args.common)};
      if (args.split * args.ways > 1) {
        wait_for_sharers(args, Warps * 32);  // the rings are at rest
        send_sums<Tiles, Warps>(args, memory.x, way, strip, lane, sums);
        wait_for_sharers(args, Warps * 32);
        store_owned_squares<Activation, Tiles, Warps>(args, row, token, terms, smem, staging, warp, lane);
        break;
      }
      store_all_squares<Activation, Tiles>(args, row, token, terms, staging, lane, sums);
    }
  }
#endif
}

}  // namespace floatx::kernels
