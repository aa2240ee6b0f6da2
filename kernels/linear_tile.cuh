// y = x W^T for many tokens on Hopper: weights go from their packed form through registers into wgmma, x
// comes by tensor copies.
//
// A tile of y is some cells of 64 rows of W by Tiles x 8 tokens. A warpgroup has one of the cells in each k
// block; warps of their own fill two rings in shared memory, one of cells, one of x, and the warpgroups empty
// them. Each warpgroup dequantizes the next 16 k while the tensor cores are at the last, and the warpgroups
// take turns at these, so that neither waits for long. Tried: to have one begin 64 to 2048 cycles after the
// other, so as to end a k block or a tile while that multiplies: nothing (H200; h200-tests.json,
// tile_exchange).
//
// Where tiles are few, a tile is shared along k: by the thread blocks of a cluster, each of which has a part
// of k, and within a thread block by several warpgroups on the same rows, the *ways*, to which k blocks are
// dealt in turn. Their sums are added through shared memory in a fixed order, those of the ways, then those
// of the thread blocks: the same bits every time.
//
// Where tiles are many, but no multiple of the multiprocessors, thread blocks take as many whole ones each,
// but for the last, and k blocks of these and of the rest in equal shares, whose sums come together by way of
// global memory. A share is then more than a tile, so a tile is of two at most: one ends with its first
// pieces, and need not wait, for with the others another has begun.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dequant.cuh"
#include "floatx/layout.hpp"
#include "folded_scales.cuh"
#include "linear_parts.cuh"
#include "linear_tile_arguments.hpp"
#include "ptx/arrivals.cuh"
#include "ptx/async_copy.cuh"
#include "ptx/bulk_copy.cuh"
#include "ptx/cluster.cuh"
#include "ptx/keep.cuh"
#include "ptx/launch.cuh"
#include "ptx/mma.cuh"
#include "ptx/tensor_copy.cuh"
#include "ptx/warpgroup.cuh"
#include "ptx/wgmma.cuh"

namespace floatx::kernels {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

// ---- Who does what ----------------------------------------------------------------------------------

// Named barriers: of all threads, once the barriers in shared memory are set up; of the warps that multiply;
// of each of their warpgroups; and of the warps that multiply and the one that says that they have left a
// share.
constexpr int setup_barrier = 0, consumers_barrier = 1, first_warpgroup_barrier = 2, share_barrier = 6;

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

// The work of this thread block, the k blocks begin .. end of a tile at a time: its share of the pieces of
// the tiles that all thread blocks share, and then every gridDim-th of the others. A cluster has one tile, of
// which each of its thread blocks has a part. The pieces of a tile are first those that stand for its end,
// which is the work of whoever has its first k blocks, and then k blocks.
struct work_list {
  const linear_tile_arguments& args;
  int next_piece, pieces_left, next_tile;
  int tile = 0, row_tile = 0, token_tile = 0, begin = 0, end = 0;

  __device__ __forceinline__ explicit work_list(const linear_tile_arguments& arguments) : args(arguments) {
    const int share = share_of_block();
    next_piece = args.common.shares.begin(share);
    pieces_left = args.common.shares.begin(share + 1) - next_piece;
    next_tile = args.common.shared_tiles + static_cast<int>(blockIdx.x);
  }

  // The thread block that has the first pieces of a tile waits for those that have the others: these are
  // launched before it, so that it never keeps them from their multiprocessor.
  __device__ __forceinline__ static int share_of_block() {
    return static_cast<int>(gridDim.x) - 1 - static_cast<int>(blockIdx.x);
  }

  __device__ __forceinline__ bool next() {
    begin = end = 0;
    if (pieces_left > 0) {
      tile = args.piece_tiles.quotient(next_piece);
      const int at = next_piece - tile * args.piece_tiles.by;
      const int count = min(args.piece_tiles.by - at, pieces_left);
      begin = max(at - tile_end_pieces, 0);
      end = at + count - tile_end_pieces;
      next_piece += count;
      pieces_left -= count;
    }
    // Whole tiles, or nothing: a share may end before the first k block of a tile.
    if (end <= begin) {
      begin = 0;
      end = args.common.k_blocks;
      tile = next_tile;
      next_tile += static_cast<int>(gridDim.x);
      if (args.split.by > 1) {
        const int block = static_cast<int>(blockIdx.x), cluster = args.split.quotient(block);
        if (tile != block) return false;
        tile = cluster;
        const int part = block - cluster * args.split.by;
        begin = args.split.quotient(end * part);
        end = args.split.quotient(end * (part + 1));
      }
    }
    if (tile >= args.tiles) return false;
    const tile_place place = place_of(args, tile);
    row_tile = place.row_tile;
    token_tile = place.token_tile;
    return true;
  }

  // Whether other warps of the thread block or its cluster have parts of the tile, which then is the last.
  __device__ __forceinline__ bool is_clusters() const { return args.ways > 1 || args.split.by > 1; }
  // Whether another share has the first k blocks; and if not, how many others have later ones.
  __device__ __forceinline__ bool has_begin_elsewhere() const { return args.split.by == 1 && begin > 0; }
  __device__ __forceinline__ int shares_elsewhere() const {
    if (args.split.by > 1 || begin > 0 || end == args.common.k_blocks) return 0;
    return args.common.shares.owner((tile + 1) * args.piece_tiles.by - 1) - share_of_block();
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

// Shared memory: x slots, cell slots, a place for each warpgroup to turn y about, barriers. These are pairs,
// the first of which says that something is full, the other that it is empty: halves of slots of x, 64 k
// each, and slots of cells. Then come single ones: those of the sums of other thread blocks, one for each
// group, of which only pairs have several, and the last, for which nobody waits.
constexpr int barrier_pair_bytes = 16, empty_offset = 8;
constexpr int single_barriers = most_pair_groups + 1, barrier_bytes = 8;

template <int Bits, int Tiles, int Warps>
struct tile_memory {
  unsigned char* base;
  uint32_t x, cells, staging, x_barriers, cell_barriers, sums_barriers;
  int strips, cell_slot, x_slots, cell_slots;

  __device__ __forceinline__ tile_memory(const linear_tile_arguments& args, unsigned char* memory)
      : base(memory),
        x(ptx::shared_address(memory)),
        cells(x + args.x_slots * x_slot_bytes(Tiles)),
        strips(args.strips),
        cell_slot(cell_slot_bytes(Bits, args.common.cell_scale_bytes, strips)),
        x_slots(args.x_slots),
        cell_slots(args.common.stages) {
    staging = cells + cell_slots * cell_slot;
    x_barriers = staging + Warps / 4 * staging_bytes;
    cell_barriers = x_barriers + 2 * x_slots * barrier_pair_bytes;
    sums_barriers = cell_barriers + cell_slots * barrier_pair_bytes;
  }

  __device__ __forceinline__ uint32_t x_full(int slot, int half) const {
    return x_barriers + (2 * slot + half) * barrier_pair_bytes;
  }
  __device__ __forceinline__ uint32_t x_half(int slot, int half) const {
    return x + (2 * slot + half) * x_half_bytes(Tiles);
  }
  __device__ __forceinline__ uint32_t cells_full(int slot) const {
    return cell_barriers + slot * barrier_pair_bytes;
  }
  __device__ __forceinline__ uint32_t sums_full(int group = 0) const {
    return sums_barriers + group * barrier_bytes;
  }
  // As if there were one that says that something is full before it.
  __device__ __forceinline__ uint32_t spare_barrier() const { return sums_full(most_pair_groups - 1); }
  // Of a slot, a cell after the other.
  __device__ __forceinline__ uint32_t codes_of(int slot) const { return cells + slot * cell_slot; }
  __device__ __forceinline__ uint32_t scales_of(int slot) const {
    return codes_of(slot) + strips * (cell_bytes(Bits) / cell_strips);
  }
  __device__ __forceinline__ unsigned char* at(uint32_t address) const { return base + (address - x); }
};

// set_up(i) for i < count, by `warps` warps of which this is number `warp`. A barrier takes some 60 cycles,
// and the lanes of a warp would take turns. Tried (h100-tests.json, tile_tried) for 4096 x 4096 and m = 32: a
// lane for each barrier, 12.7 microseconds in place of the 12.1 with one thread for all; the barriers of
// cells when a slot is first filled, 11.2 in place of 8.9.
template <class SetUp>
__device__ __forceinline__ void set_up_barriers(int count, int warp, int warps, const SetUp& set_up) {
  if (threadIdx.x % 32 == 0) {
    for (int i = warp; i < count; i += warps) set_up(i);
    ptx::fence_barrier_init();
  }
  __syncwarp();
}

template <class Memory>
__device__ __forceinline__ void set_up_pairs(const Memory& memory, uint32_t first, int count, int warp,
                                             int warps) {
  set_up_barriers(count, warp, warps, [&](int i) {
    const uint32_t barrier = first + i * barrier_pair_bytes;
    ptx::init_barrier(barrier, 1);
    ptx::init_barrier(barrier + empty_offset, static_cast<uint32_t>(memory.strips));
  });
}

template <class Memory>
__device__ __forceinline__ void set_up_singles(const Memory& memory, int warp, int warps) {
  set_up_barriers(single_barriers, warp, warps, [&](int i) {
    ptx::init_barrier(memory.sums_full(i), i == most_pair_groups ? ptx::most_arrivals : 1);
  });
}

// ---- Those who fetch --------------------------------------------------------------------------------

// Codes or scales of cells, `bytes` of each, which lie at `from`, [row cell][k block], to place_in(slot).
// Unless `expected` is 0 a slot's barrier is told to wait for as many bytes of each cell: those that this
// thread copies and those that another does. One thread copies all of a kind, so what it does for each k
// block limits how fast weights come: loops that are unrolled lose to short ones, and scales have a thread of
// their own (8192 x 8192, m = 16, groups of 32, were their scales not looked at, 34.8 kilocycles in place
// of 37.7 on an H200; h200-tests.json, tile_scales). What it needs to know of the first tile is there before
// the barriers are. Tried: a thread for every other cell, which loses 0.8 where there is one scale a row.
template <int Warps, class Memory, class PlaceIn>
__device__ __forceinline__ void fetch_cells(const linear_tile_arguments& args, const Memory& memory,
                                            const unsigned char* from, uint32_t bytes, uint32_t expected,
                                            const PlaceIn& place_in) {
  const int cells = memory.strips / cell_strips;
  const int row_cells = static_cast<int>((static_cast<unsigned>(args.common.n) + cell_rows - 1) / cell_rows);
  const int64_t k_blocks = args.common.k_blocks;
  const unsigned char* next;
  int count;
  work_list work(args);
  const auto aim = [&] {
    const int first_cell = work.row_tile * cells;
    count = min(cells, row_cells - first_cell);
    next = from + (first_cell * k_blocks + work.begin) * bytes;
  };
  bool has_work = work.next();
  aim();
  ptx::keep(next);
  ptx::barrier(setup_barrier, tile_threads(Warps));
  if (threadIdx.x % 32 != 0) return;
  ring_place place;
  while (has_work) {
#pragma unroll 1
    for (int left = work.end - work.begin; left > 0; --left) {
      const uint32_t barrier = memory.cells_full(place.slot);
      ptx::wait_for_phase(barrier + empty_offset, place.parity ^ 1u);
      if (expected != 0) ptx::arrive_and_expect(barrier, static_cast<uint32_t>(count) * expected);
      const uint32_t to = place_in(place.slot);
      const unsigned char* cell = next;
#pragma unroll 1
      for (int i = 0; i < count; ++i) {
        ptx::copy_bulk(to + i * bytes, cell, bytes, barrier);
        cell += k_blocks * bytes;
      }
      next += bytes;
      place.advance(memory.cell_slots);
    }
    has_work = work.next();
    aim();
  }
}

// Sums of a tile whose pieces several shares have: each but the first leaves its own in global memory,
// [warp][four][lane], and the one that has the first pieces adds them, in the order of the shares. They come
// by the ring of x, after the last x of the tile: those of two warps take as much room as half a slot. When
// warps loaded them themselves it took 5 to 7 kilocycles to add a share's in 8 x 32, and takes 1.6 so: 22016
// x 4096 and m = 256 107 in place of 114 (H200; h200-tests.json, tile_exchange).
template <int Tiles, int Warps>
__device__ __forceinline__ unsigned char* sums_of_share(const linear_arguments& args, int share) {
  return reinterpret_cast<unsigned char*>(args.partials) +
         static_cast<int64_t>(share) * (Warps / 2 * x_half_bytes(Tiles));
}

// Those of the shares that have the rest of a tile, if this one has its first pieces.
template <int Bits, int Tiles, int Warps>
__device__ __forceinline__ void fetch_shares(const linear_tile_arguments& args,
                                             const tile_memory<Bits, Tiles, Warps>& memory,
                                             const work_list& work, ring_place& place) {
  const int shares = work.shares_elsewhere();
  if (shares == 0) return;
  unsigned* arrivals = args.common.arrivals + work.tile;
  ptx::wait_for_arrivals(arrivals, static_cast<unsigned>(shares));
  *arrivals = 0;
  ptx::fence_async_proxy_of_global();
  const unsigned char* from = sums_of_share<Tiles, Warps>(args.common, work_list::share_of_block() + 1);
#pragma unroll 1
  for (int slots = shares * (Warps / 4); slots > 0; --slots) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const uint32_t barrier = memory.x_full(place.slot, half);
      ptx::wait_for_phase(barrier + empty_offset, place.parity ^ 1u);
      ptx::arrive_and_expect(barrier, x_half_bytes(Tiles));
      ptx::copy_bulk(memory.x_half(place.slot, half), from, x_half_bytes(Tiles), barrier);
      from += x_half_bytes(Tiles);
    }
    place.advance(memory.x_slots);
  }
}

// One box of the tokens that there are. Tried on an H100 (h100-tile.json, runs 3 and 4) for 4096 x 4096:
// boxes of 32 tokens, 18.1 in place of 13.9 microseconds with 128; one box of a whole tile, 17.2 in place
// of 13.3 with 96. And x for two thread blocks of a cluster by one multicast copy, for which each waits for
// both: within 1 % of the same without (h100-tests.json, tile_multicast). There an arrival at the other's
// barrier must not say .release.cluster: the fence that the compiler puts before it made 957 microseconds of
// 572.
template <int Bits, int Tiles, int Warps>
__device__ __forceinline__ void fetch_x(const linear_tile_arguments& args,
                                        const tile_memory<Bits, Tiles, Warps>& memory) {
  work_list work(args);
  bool has_work = work.next();
  ptx::barrier(setup_barrier, tile_threads(Warps));
  if (threadIdx.x % 32 != 0) return;
  ptx::prefetch(args.common.m < Tiles * 8 ? args.last_x : args.x);
  ptx::wait_for_previous_kernel();
  ring_place place;
  for (; has_work; has_work = work.next()) {
    const int token = work.token_tile * Tiles * 8, tokens = min(Tiles * 8, args.common.m - token);
    const ptx::tensor_map& map = tokens < Tiles * 8 ? args.last_x : args.x;
#pragma unroll 1
    for (int k_block = work.begin; k_block < work.end; ++k_block) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const uint32_t barrier = memory.x_full(place.slot, half);
        ptx::wait_for_phase(barrier + empty_offset, place.parity ^ 1u);
        ptx::arrive_and_expect(barrier, static_cast<uint32_t>(tokens * x_half_columns * 2));
        ptx::copy_box(memory.x_half(place.slot, half), map, token, k_block * tile_k + half * x_half_columns,
                      barrier);
      }
      place.advance(memory.x_slots);
    }
    if constexpr (has_shares(Warps)) fetch_shares(args, memory, work, place);
  }
}

// ---- Those who multiply -----------------------------------------------------------------------------

// What a warp holds of a tile: 16 rows by Tiles x 8 tokens, a lane four of each 16 by 8.
template <int Tiles>
using tile_sums = float[Tiles * 4];

// A warpgroup's path through the rings.
// Interval: of groups' scales, in steps; see scaling.
template <int Bits, class Activation, scaling Scaling, int Interval, int Tiles, unpacking How, int Warps>
struct multiplier {
  static constexpr int half_steps = x_half_columns / 16, interval = Interval > 0 ? Interval : steps;
  // Products that are asked for at a time, of no more than a group.
  static constexpr int batch = Scaling == scaling::apart && interval == 1 ? 1 : 2;
  static constexpr int last_group = steps / interval - 1;  // of a k block
  using group_scales = folded_scales<Activation, steps / interval>;

  const linear_tile_arguments& args;
  const tile_memory<Bits, Tiles, Warps>& memory;
  int strip, lane;      // of this warp in the tile
  int scales_offset;    // in the scales of a slot: this warp's, if folded this lane's
  uint32_t held;        // the barrier of that part of x of which a product may be under way, or the spare one
  uint32_t loaded = 0;  // that of the cells that were loaded last
  ring_place cells = {}, x = {};
  // Of the k block that was loaded last: words, where its scales lie, and these.
  uint32_t words[2 * Bits] = {};
  const unsigned char* scales_smem = nullptr;
  group_scales folded = {};
  float2 apart[steps / interval] = {};
  uint32_t largest[2] = {};  // scales of this lane's rows, as they are stored
  scale_raise raise = {};

  __device__ __forceinline__ void release(uint32_t full_barrier) const {
    __syncwarp();
    if (lane == 0) ptx::arrive(full_barrier + empty_offset);
  }

  // Past so many k blocks, before the first.
  __device__ __forceinline__ void skip(int k_blocks) {
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

  // Words of a strip of the next k block, and scales that its weights are multiplied by.
  template <scale_form Form>
  __device__ __forceinline__ void load() {
    const uint32_t barrier = memory.cells_full(cells.slot);
    ptx::wait_for_phase(barrier, cells.parity);
    const unsigned char* slot = memory.at(memory.codes_of(cells.slot));
    load_unit<Bits>(words, slot + strip * (cell_bytes(Bits) / cell_strips), lane);
    scales_smem = memory.at(memory.scales_of(cells.slot)) + scales_offset;
    if constexpr (Scaling == scaling::folded) folded.template load<Form>(args, scales_smem, raise);
    loaded = barrier;
    cells.advance(memory.cell_slots, args.ways);
  }

  // The slot that they came from may be filled again. Without the fence the arrival overtakes the loads, and
  // a quick copy the arrival (h100-tests.json, overtaken_loads). Tried: without it after the third products,
  // before which the words have come, 0.98 to 1.02 times the cycles (h200-tests.json, tile_bytes).
  __device__ __forceinline__ void release_cells() const {
    ptx::fence_async_proxy();
    release(loaded);
  }

  // Asks for what multiply() needs to know of the rows from `row` on, which takes long to come.
  __device__ __forceinline__ void look_up(int row) {
    if (Scaling == scaling::folded && row < args.common.n) {
      const int width = scale_bytes(args.common.scale_type);
      const unsigned first = row_scale_index(row + lane / 4);
      largest[0] = load_scale_bits(args.largest_scales, first, width);
      largest[1] = load_scale_bits(args.largest_scales, first + 1, width);
    }
  }

  // sums += k blocks begin, begin + ways .. end of a strip, for as many tokens as there are sums. Unless
  // scales come in before, the last products may be under way until finish().
  __device__ __forceinline__ void multiply(int begin, int end, tile_sums<Tiles>& sums) {
    if constexpr (Scaling == scaling::folded) {
      raise = group_scales::raise_of(args, scale_of(largest[0], args.common.scale_type),
                                     scale_of(largest[1], args.common.scale_type));
      // A loop for each, for nvcc moves nothing across branches. In this order it puts that of pairs first: 8
      // x 16 takes 0.98 times the cycles that it takes the other way round (h200-tests.json, tile_standard).
      constexpr bool has_standard = has_standard_loop(interval, Warps, Tiles);
      if (args.form_of_scales == scale_form::others) {
        multiply_blocks<scale_form::others>(begin, end, sums);
      } else if (has_standard && args.form_of_scales == scale_form::standard) {
        if constexpr (has_standard) multiply_blocks<scale_form::standard>(begin, end, sums);
      } else {
        multiply_blocks<scale_form::pairs>(begin, end, sums);
      }
    } else {
      multiply_blocks<scale_form::others>(begin, end, sums);
    }
  }

  // Form: args.form_of_scales where they are folded, or others for a loop that has them all.
  template <scale_form Form>
  __device__ __forceinline__ void multiply_blocks(int begin, int end, tile_sums<Tiles>& sums) {
    ptx::settle(sums);
    int k_block = begin;
    uint64_t b = 0;
    const auto next = [&] {
      b = b_of_slot();  // takes its time, so it is asked for before the cells are waited for
      load<Form>();
    };
    const auto pass = [&] {
      x.advance(memory.x_slots, args.ways);
      k_block += args.ways;
    };
    if constexpr (Scaling == scaling::apart) {
      tile_sums<Tiles> group = {};
      apart[last_group] = {};  // of no group
      while (k_block < end) {
        next();
        multiply_apart(b, group, sums);
        pass();
      }
      ptx::wgmma_wait<0>();
      add_group(group, apart[last_group], sums);
    } else {
      while (k_block < end) {
        next();
        multiply_along<Form>(b, sums, [](int) {});
        pass();
      }
      // Where the loops meet: nvcc 13.0 has every product wait if some may still be under way there.
      if constexpr (Scaling == scaling::folded) {
        ptx::wgmma_wait<0>();
        ptx::settle(sums);
      }
    }
  }

  // a of `Count` steps.
  template <scale_form Form, int Count>
  __device__ __forceinline__ void dequantize_steps(int step, uint32_t (&a)[Count][4]) {
#pragma unroll
    for (int i = 0; i < Count; ++i) {
      dequantize<Bits, Activation, How, Scaling == scaling::folded>(words, step + i, args.common.rule, a[i]);
      if constexpr (Scaling == scaling::folded) {
        if (Form == scale_form::pairs && (step + i) % interval == 0) {
          folded.raise_pair((step + i) / interval, raise);
        }
        const uint32_t scales = folded.words[(step + i) / interval];
#pragma unroll
        for (int j = 0; j < 4; j += 2) {
          a[i][j] = ptx::product_with<Activation, false>(a[i][j], scales);
          a[i][j + 1] = ptx::product_with<Activation, true>(a[i][j + 1], scales);
        }
      }
    }
  }

  // Every product adds to the sums. Where those of groups are apart, begin(group) takes away what has added
  // up before each. The first a of a half is made before x is waited for, since to ask takes its time even
  // where x is there: 0.96 times the cycles for 8192 x 8192 and m = 128. Tried: the next k block's words in
  // registers of their own, 1.02 (h200-tests.json, tile_forms), in a loop of two k blocks 0.96 for 8 x 16 and
  // one thread block, else 0.99 to 1.08 (tile_pairs); up to three groups of products under way in place of
  // one, the same (tile_loop); the next cells asked for, with try_wait, before the last products, 1.09
  // to 1.21 (tile_scales). tile_products has what the loop could reach.
  template <scale_form Form, class Begin>
  __device__ __forceinline__ void multiply_along(uint64_t b, tile_sums<Tiles>& sums, const Begin& begin) {
#pragma unroll
    for (int step = 0; step < steps; step += batch) {
      const uint32_t barrier = memory.x_full(x.slot, step / half_steps);
      uint32_t a[batch][4];
      ptx::wgmma_wait<1>();  // the registers that held the last a but one are free
      if (step % half_steps == batch) {
        release(held);
        held = barrier;
      }
      dequantize_steps<Form>(step, a);
      if (step % half_steps == 0) ptx::wait_for_phase(barrier, x.parity);
      const bool begins = Scaling == scaling::apart && step % interval == 0;
      if (begins) begin(step / interval);
      ptx::wgmma_fence();
#pragma unroll
      for (int i = 0; i < batch; ++i) {
        ptx::wgmma<Activation>(sums, a[i], b_of(b, step + i), !begins || i > 0);
      }
      ptx::wgmma_commit();
      if (step > 0) continue;
      // Not sooner: to wait for these loads keeps what is asked for before from the products. Scales that
      // sums are multiplied by are wanted at the end of their group alone.
      if constexpr (Scaling == scaling::apart) {
        load_unit_scales<1>(args.common, &apart, scales_smem, 0, lane);
      }
      release_cells();
    }
  }

  // Every `interval` steps what they add up to is multiplied by the group's scale, in FP32, and added to the
  // sums: once the next a is made, for until then the tensor cores may be at it. Scales are loaded when the
  // first products of their k block are under way, not with its words: 0.97 times the cycles for 8192 x 8192
  // and m = 128 (H200; h200-tests.json, tile_exchange). Tried: two groups' sums in turn, so that one is added
  // while the tensor cores are at the other, 1.00 to 1.02 times the cycles (tile_apart); x asked for before
  // the first a is made and waited for after, 0.99 to 1.04 (tile_exchange). Where sums are read after a wait
  // for all but the last products, nvcc 13.0 has every product wait.
  __device__ __forceinline__ void multiply_apart(uint64_t b, tile_sums<Tiles>& group,
                                                 tile_sums<Tiles>& sums) {
    multiply_along<scale_form::others>(b, group, [&](int next) {
      ptx::wgmma_wait<0>();
      add_group(group, apart[next == 0 ? last_group : next - 1], sums);
    });
  }

  __device__ __forceinline__ static void add_group(tile_sums<Tiles>& group, float2 scale,
                                                   tile_sums<Tiles>& sums) {
    ptx::settle(group);
#pragma unroll
    for (int i = 0; i < Tiles * 4; ++i) {
      sums[i] = fmaf(group[i], i % 4 < 2 ? scale.x : scale.y, sums[i]);
    }
  }

  __device__ __forceinline__ void finish(tile_sums<Tiles>& sums) {
    ptx::wgmma_wait<0>();
    ptx::settle(sums);
    if constexpr (Scaling == scaling::folded) {
      const float2 unit = group_scales::unit(args, raise);
#pragma unroll
      for (int i = 0; i < Tiles * 4; ++i) sums[i] *= i % 4 < 2 ? unit.x : unit.y;
    }
    release(held);
    held = memory.spare_barrier();
  }

  // What fetch_shares brings, once the sums are finished.
  __device__ __forceinline__ void add_shares(const work_list& work, tile_sums<Tiles>& sums) {
    constexpr int halves = Warps / 2;
#pragma unroll 1
    for (int left = work.shares_elsewhere() * halves; left > 0; --left) {
      const int half = (halves - left % halves) % halves;
      const uint32_t barrier = memory.x_full(x.slot, half % 2);
      ptx::wait_for_phase(barrier, x.parity);
      if (strip / 2 == half) {
        const auto* from = reinterpret_cast<const float4*>(memory.at(memory.x_half(x.slot, half % 2))) +
                           strip % 2 * (Tiles * 32) + lane;
#pragma unroll
        for (int i = 0; i < Tiles; ++i) {
          const float4 four = from[i * 32];
          sums[4 * i] += four.x;
          sums[4 * i + 1] += four.y;
          sums[4 * i + 2] += four.z;
          sums[4 * i + 3] += four.w;
        }
        ptx::fence_async_proxy();
      }
      release(barrier);
      if (half % 2 == 1) x.advance(memory.x_slots);
    }
  }
};

// ---- The end of a tile ------------------------------------------------------------------------------

// Where a warpgroup's y of a cell goes, 64 rows, from `token` on. Each of its warps holds the sums of 16
// rows, a lane's along tokens; y lies along rows. So they change places in shared memory, [token][64 rows]
// with the eighths of a token's rows swapped, lest those of eight tokens be in the same banks, and from there
// each token's go to y at once. What is the same for all tokens is computed once, here. Tried: each warp its
// own 16 rows, and branches about each store, 4400 cycles for 256 tokens in place of 3050 (h100-tests.json,
// tile_ends).
template <class Activation>
class cell_output {
 public:
  // low, high: what the rows of this lane have.
  __device__ __forceinline__ cell_output(const linear_tile_arguments& args, unsigned char* staging, int row,
                                         int token, row_terms low, row_terms high, int warp, int lane)
      : args_(args.common),
        terms_{low, high},
        barrier_(first_warpgroup_barrier + warp / 4),
        to_(ptx::shared_address(staging) + place(lane / 16 * 8 + lane % 8, warp % 4 * 2 + lane / 8 % 2)) {
    const int in_square = warp % 4 * 4 + lane / eighths, eighth = lane % eighths;
    token += in_square;
    row += (eighth - warp % 4 * 2) * 8;
    from_ = staging + place(in_square, eighth);
    y_ = static_cast<Activation*>(args_.y) + token * args_.y_stride + row;
    step_ = 16 * args_.y_stride;
    tokens_ = args_.m - token;
    rows_ = min(8, args_.n - row);
    whole_tokens_ = args.y_is_aligned && rows_ == 8 ? tokens_ : 0;
    ptx::keep(y_);
    ptx::keep(step_);
    ptx::keep(tokens_);
    ptx::keep(whole_tokens_);
  }

  // The first `count` of the squares: the tokens of the first begin at `offset`, those of each other `stride`
  // further on, multiples of 16. Squares lie in two places in turn: while some warps read the last, others
  // write the next. Tried: two at a time, for which all wait before they are written and before they are
  // read, 3.1 to 3.4 kilocycles for 256 tokens in place of 2.4 to 2.8 (H200; h200-tests.json, tile_exchange).
  template <int Count>
  __device__ __forceinline__ void store(int offset, const float (&sums)[Count], int stride = 16,
                                        int count = Count / 8) {
    constexpr int squares = Count / 8;
    Activation* y = y_ + offset / 16 * step_;
    uint32_t pairs[4];
    make_pairs(sums, pairs);
#pragma unroll
    for (int i = 0; i < squares; ++i) {
      const int place = turn_ * staged_square_bytes;
      turn_ ^= 1;
      __syncwarp();
      ptx::store_transposed(to_ + place, pairs);
      ptx::barrier(barrier_, 128);
      const uint4 eight = *reinterpret_cast<const uint4*>(from_ + place);
      if (i + 1 < squares) make_pairs(sums + 8 * (i + 1), pairs);  // while it is on its way
      const int token = offset + i * stride;
      if (i < count && token < whole_tokens_) *reinterpret_cast<uint4*>(y) = eight;
      if (whole_tokens_ != tokens_ && i < count && token < tokens_) {
        const Activation* from = reinterpret_cast<const Activation*>(from_ + place);
#pragma unroll 1
        for (int j = 0; j < rows_; ++j) y[j] = from[j];
      }
      y += stride / 16 * step_;
    }
  }

  __device__ __forceinline__ void wait_for_readers() const { ptx::barrier(barrier_, 128); }

  // Of the `Of` squares of a tile every `stride`-th from `first` on, two at a time.
  template <int Of, int Count>
  __device__ __forceinline__ void store_every(int first, int stride, const float (&all)[Count][8]) {
    constexpr int at_once = Count > 1 ? 2 : 1;
#pragma unroll
    for (int i = 0; i < Count; i += at_once) {
      const int square = first + i * stride, left = Of - square;
      if (left <= 0) return;
      float some[8 * at_once];
#pragma unroll
      for (int j = 0; j < 8 * at_once; ++j) some[j] = i + j / 8 < Count ? all[i + j / 8][j % 8] : 0.0f;
      store(square * 16, some, stride * 16, i + 1 < Count && stride < left ? at_once : 1);
    }
  }

 private:
  static constexpr int eighths = cell_rows / 8;
  const linear_arguments& args_;
  row_terms terms_[2];
  int barrier_;
  uint32_t to_;
  const unsigned char* from_;
  Activation* y_;
  int64_t step_;
  int tokens_, rows_, whole_tokens_;  // from the first of this lane on
  int turn_ = 0;

  __device__ __forceinline__ static int place(int token, int eighth) {
    return (token * eighths + (eighth ^ token % 8)) * 16;
  }

  // y of a square.
  __device__ __forceinline__ void make_pairs(const float* sums, uint32_t (&pairs)[4]) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      pairs[i] = pair_of<Activation>(finished(args_, sums[2 * i], terms_[i % 2]),
                                     finished(args_, sums[2 * i + 1], terms_[i % 2]));
    }
  }
};

// Where a tile is shared, sums take the place of the rings once these are at rest: the squares of every way,
// [way][square], if there are several, and what this thread block owns, [thread block][square], if a cluster
// shares. A square is [half][lane] of four sums.
template <int Tiles, int Warps>
class shared_sums {
 public:
  const linear_tile_arguments& args;
  const int squares, rank;

  __device__ __forceinline__ shared_sums(const linear_tile_arguments& arguments, unsigned char* memory,
                                         uint32_t full_barrier, int lane)
      : args(arguments),
        squares(Tiles / 2 * arguments.strips),
        rank(static_cast<int>(blockIdx.x) -
             arguments.split.quotient(static_cast<int>(blockIdx.x)) * arguments.split.by),
        memory_(memory),
        full_barrier_(full_barrier),
        lane_(lane),
        of_blocks_(arguments.ways > 1 ? arguments.ways * squares * square_bytes : 0),
        // owned_squares without a division
        owned_(arguments.split.quotient((squares + Warps - 1) / Warps + arguments.split.by - 1) *
               min(squares, Warps)) {}

  // The sums of this warp, for all.
  __device__ __forceinline__ void leave(int way, int strip, const tile_sums<Tiles>& sums) const {
#pragma unroll
    for (int tile = 0; tile < Tiles; tile += 2) {
      store((way * squares + tile / 2 * args.strips + strip) * square_bytes, &sums[4 * tile]);
    }
  }

  __device__ __forceinline__ void add_way(int way, int square, float (&sums)[8]) const {
    add((way * squares + square) * square_bytes, sums);
  }

  // Square `round` x Warps + warp to the thread block that owns it.
  __device__ __forceinline__ void send(int round, int warp, const float* square) const {
    const int turn = args.split.quotient(round), owner = round - turn * args.split.by;
    const int to = of_blocks_ + (rank * owned_ + turn * Warps + warp) * square_bytes;
    if (owner == rank) return store(to, square);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      ptx::send_four_to(ptx::shared_address(memory_) + place(to, half), full_barrier_, owner,
                        four_of(square + 4 * half));
    }
  }

  // What the others send.
  __device__ __forceinline__ void expect() const {
    const int rounds = squares / Warps, turns = args.split.quotient(rounds + args.split.by - 1 - rank);
    const bool has_rest = rounds - args.split.quotient(rounds) * args.split.by == rank;
    const int count = turns * Warps + (has_rest ? squares - rounds * Warps : 0);
    ptx::arrive_and_expect(full_barrier_, static_cast<uint32_t>(count * (args.split.by - 1) * square_bytes));
  }

  __device__ __forceinline__ void wait() const { ptx::wait_for_phase(full_barrier_, 0); }

  // Of the owned squares, one that a thread block had.
  __device__ __forceinline__ void add_block(int block, int at, float (&sums)[8]) const {
    add(of_blocks_ + (block * owned_ + at) * square_bytes, sums);
  }

 private:
  unsigned char* memory_;
  uint32_t full_barrier_;
  int lane_, of_blocks_, owned_;

  __device__ __forceinline__ int place(int square, int half) const {
    return square + half * (square_bytes / 2) + lane_ * 16;
  }
  __device__ __forceinline__ static float4 four_of(const float* sums) {
    return make_float4(sums[0], sums[1], sums[2], sums[3]);
  }

  __device__ __forceinline__ void store(int to, const float* square) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      *reinterpret_cast<float4*>(memory_ + place(to, half)) = four_of(square + 4 * half);
    }
  }

  __device__ __forceinline__ void add(int from, float (&sums)[8]) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float4 four = *reinterpret_cast<const float4*>(memory_ + place(from, half));
      sums[4 * half] += four.x;
      sums[4 * half + 1] += four.y;
      sums[4 * half + 2] += four.z;
      sums[4 * half + 3] += four.w;
    }
  }
};

// y of a tile that is shared, once this warp has its sums: first the ways of a thread block come together,
// then the thread blocks. No thread waits for what it has sent: barriers count what has come. output: makes
// the cell_output, which takes about as long as the sums of others are on their way.
template <int Tiles, int Warps, class Output>
__device__ __forceinline__ void store_shared_squares(const shared_sums<Tiles, Warps>& shared,
                                                     const Output& output, int warp, int way, int strip,
                                                     int lane, const tile_sums<Tiles>& sums) {
  const linear_tile_arguments& args = shared.args;
  const int split = args.split.by;
  ptx::barrier(consumers_barrier, Warps * 32);  // the rings of this thread block are at rest
  if (split > 1) {
    __syncwarp();
    ptx::cluster_arrive_relaxed();
    if (warp == 0 && lane == 0) shared.expect();
  }
  if (args.ways > 1) {
    shared.leave(way, strip, sums);
    ptx::barrier(consumers_barrier, Warps * 32);
  }
  if (split > 1) ptx::cluster_wait();  // so are those of the others
  // So many squares a warp has at most, of two ways or two thread blocks: those of its rows and of every so
  // many tokens. All are read before one is stored.
  constexpr int batch = (Tiles + 3) / 4;
  if (args.ways > 1) {
    float all[batch][8] = {};
    for (int w = 0; w < args.ways; ++w) {
#pragma unroll
      for (int round = 0; round < batch; ++round) {
        const int square = round * Warps + warp;
        if (square < shared.squares) shared.add_way(w, square, all[round]);
      }
    }
    if (split == 1) {
      output().template store_every<Tiles / 2>(way, args.ways, all);
      return;
    }
#pragma unroll
    for (int round = 0; round < batch; ++round) {
      if (round * Warps + warp < shared.squares) shared.send(round, warp, all[round]);
    }
  } else {
#pragma unroll
    for (int round = 0; round < Tiles / 2; ++round) shared.send(round, warp, &sums[8 * round]);
  }
  auto y = output();
  float all[batch][8] = {};
  shared.wait();
  for (int block = 0; block < split; ++block) {
#pragma unroll
    for (int turn = 0; turn < batch; ++turn) {
      if ((turn * split + shared.rank) * Warps + warp < shared.squares) {
        shared.add_block(block, turn * Warps + warp, all[turn]);
      }
    }
  }
  y.template store_every<Tiles / 2>(shared.rank * args.ways + way, split * args.ways, all);
}

// The same for a pair, two thread blocks of one way each: each owns every other square of a warp. Those stay
// in registers; what the other owns a warp leaves in shared memory, from where it is copied there while the
// warps store y of what has come, two squares at a time. Sums come at 18 bytes a cycle, by whatever
// instruction. Tried: sent from registers, 16 bytes a lane, and y stored when all have come, 1.006 to 1.04
// times the cycles (h200-tests.json, tile_pairs).
template <int Bits, int Tiles, int Warps, class Output>
__device__ __forceinline__ void store_squares_of_pair(const tile_memory<Bits, Tiles, Warps>& memory,
                                                      const Output& output, int warp, int lane,
                                                      const tile_sums<Tiles>& sums) {
  constexpr int squares = Tiles / 2, owned = (squares + 1) / 2, groups = (owned + 1) / 2;
  static_assert(groups <= most_pair_groups, "a barrier each");
  constexpr auto in_group = [](int group) { return owned - 2 * group < 2 ? 1 : 2; };
  constexpr uint32_t there = owned * Warps * square_bytes;  // what comes, from what goes
  const int rank = static_cast<int>(blockIdx.x) % 2;
  // Of this warp's, square `number` of those that `owner` owns; zeros where the second has one less.
  const auto square_of = [&](int owner, int number, float* square) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const float first = sums[16 * number + i],
                  second = 2 * number + 1 < squares ? sums[(16 * number + 8 + i) % (Tiles * 4)] : 0.0f;
      square[i] = owner == 0 ? first : second;
    }
  };
  const auto place_of = [&](int group, int i) {
    return static_cast<uint32_t>((2 * group * Warps + warp * in_group(group) + i) * square_bytes);
  };
  const auto lane_of = [&](uint32_t place, int half) {
    return reinterpret_cast<float4*>(memory.base + place + half * (square_bytes / 2)) + lane;
  };
  ptx::barrier(consumers_barrier, Warps * 32);  // the rings of this thread block are at rest
  __syncwarp();
  ptx::cluster_arrive_relaxed();
  if (warp == 0 && lane == 0) {
#pragma unroll
    for (int group = 0; group < groups; ++group) {
      ptx::arrive_and_expect(memory.sums_full(group), in_group(group) * Warps * square_bytes);
    }
  }
#pragma unroll
  for (int number = 0; number < owned; ++number) {
    float square[8];
    square_of(1 - rank, number, square);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      *lane_of(place_of(number / 2, number % 2), half) =
          make_float4(square[4 * half], square[4 * half + 1], square[4 * half + 2], square[4 * half + 3]);
    }
  }
  ptx::fence_async_proxy();
  __syncwarp();
  ptx::cluster_wait();  // so are those of the other
  if (lane == 0) {
#pragma unroll
    for (int group = 0; group < groups; ++group) {
      const uint32_t from = memory.x + place_of(group, 0);
      ptx::send_bulk_to(from + there, from, in_group(group) * square_bytes, memory.sums_full(group),
                        1 - rank);
    }
  }
  __syncwarp();
  auto y = output();
#pragma unroll
  for (int group = 0; group < groups; ++group) {
    float some[8 * 2] = {};
    int count = 0;
#pragma unroll
    for (int i = 0; i < in_group(group); ++i) {
      square_of(rank, 2 * group + i, some + 8 * i);
      count += 2 * (2 * group + i) + rank < squares;
    }
    ptx::wait_for_phase(memory.sums_full(group), 0);
    if (group + 1 == groups) {
      __syncwarp();
      ptx::cluster_arrive_relaxed();
    }
#pragma unroll
    for (int i = 0; i < 2 * in_group(group); ++i) {
      const float4 four = *lane_of(there + place_of(group, i / 2), i % 2);
      some[4 * i] += four.x;
      some[4 * i + 1] += four.y;
      some[4 * i + 2] += four.z;
      some[4 * i + 3] += four.w;
    }
    y.store((4 * group + rank) * 16, some, 32, count);
  }
  ptx::cluster_wait();  // what this thread block has sent is there, so its shared memory may go
}

template <int Tiles, int Warps>
__device__ __forceinline__ void leave_share(const linear_arguments& args, int warp, int lane,
                                            const tile_sums<Tiles>& sums) {
  float4* to = reinterpret_cast<float4*>(sums_of_share<Tiles, Warps>(args, work_list::share_of_block())) +
               warp * (Tiles * 32) + lane;
#pragma unroll
  for (int i = 0; i < Tiles; ++i) {
    __stcg(to + i * 32, make_float4(sums[4 * i], sums[4 * i + 1], sums[4 * i + 2], sums[4 * i + 3]));
  }
  ptx::barrier_arrive(share_barrier, Warps * 32 + 32);
}

// By a warp that has nothing else to do, lest those that multiply wait until all of it is stored. Only the
// first pieces of a share can be of a tile that begins elsewhere.
template <int Warps>
__device__ __forceinline__ void announce_share(const linear_tile_arguments& args) {
  work_list work(args);
  if (!work.next() || !work.has_begin_elsewhere()) return;
  ptx::barrier(share_barrier, Warps * 32 + 32);
  if (threadIdx.x % 32 == 0) ptx::add_arrival(args.common.arrivals + work.tile);
}

// y of a tile that this thread block has to itself.
template <class Activation, int Tiles>
__device__ __forceinline__ void store_all_squares(cell_output<Activation> y, const tile_sums<Tiles>& sums) {
  // An odd number of squares begins where the last tile's have ended.
  if constexpr (Tiles / 2 % 2 == 1) y.wait_for_readers();
#pragma unroll
  for (int tile = 0; tile + 4 <= Tiles; tile += 4) {
    float two[16];
#pragma unroll
    for (int i = 0; i < 16; ++i) two[i] = sums[4 * tile + i];
    y.store(tile * 8, two);
  }
  if constexpr (Tiles % 4 != 0) {
    float last[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) last[i] = sums[4 * (Tiles - 2) + i];
    y.store((Tiles - 2) * 8, last);
  }
}

#endif

// ---- The kernel -------------------------------------------------------------------------------------

// One warpgroup that fetches, Warps / 4 that multiply. Any number of thread blocks, but as many clusters as
// tiles.
template <int Bits, class Activation, scaling Scaling, int Interval, int Tiles, unpacking How, int Warps>
__global__ void __launch_bounds__(tile_threads(Warps), 1)
    linear_tile(const __grid_constant__ linear_tile_arguments args) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  unsigned char* smem = ptx::dynamic_shared_memory();
  const tile_memory<Bits, Tiles, Warps> memory(args, smem);
  ptx::allow_next_kernel();
  // Of those that multiply; the four that fetch come before. Through the shuffle the compiler sees that all
  // lanes have the same: slots stay in uniform registers.
  const int warp = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 32 - 4, 0);

  if (warp < 0) {
    ptx::give_registers<Warps == 8 ? 40 : 32>();
    const uint32_t scale_bytes = static_cast<uint32_t>(args.common.cell_scale_bytes);
    if (warp == -4) {
      fetch_cells<Warps>(args, memory, args.common.codes, cell_bytes(Bits), cell_bytes(Bits) + scale_bytes,
                         [&](int slot) { return memory.codes_of(slot); });
    } else if (warp == -3) {
      fetch_x(args, memory);
    } else {
      set_up_pairs(memory, memory.cell_barriers, memory.cell_slots, warp + 2, 2);
      if (Scaling != scaling::rows && warp == -1) {
        fetch_cells<Warps>(args, memory, args.common.scales, scale_bytes, 0,
                           [&](int slot) { return memory.scales_of(slot); });
      } else {
        ptx::barrier(setup_barrier, tile_threads(Warps));
        if (has_shares(Warps) && warp == -2) announce_share<Warps>(args);
      }
    }
    if (args.split.by > 1) {
      __syncwarp();
      ptx::cluster_arrive_relaxed();
    }
  } else {
    const auto set_up = [&] {
      set_up_pairs(memory, memory.x_barriers, 2 * memory.x_slots, warp, Warps);
      set_up_singles(memory, warp, Warps);
      ptx::barrier(setup_barrier, tile_threads(Warps));
      ptx::take_registers<tile_registers(Warps)>();
    };
    // What is looked up takes as long to come as few warps take to set barriers up: 4096 x 4096 and groups, m
    // = 64, 0.96 times the cycles. With 16 warps, and where nothing is looked up, those who fetch would wait
    // for the list of work, 0.3 to 1.4 kilocycles (h200-tests.json, tile_largest and tile_standard).
    constexpr bool looks_up_first = Scaling == scaling::folded && Warps == 8;
    if (!looks_up_first) set_up();
    const int lane = static_cast<int>(threadIdx.x) % 32;
    int way = 0, strip = warp;
    for (; strip >= memory.strips; ++way) strip -= memory.strips;
    unsigned char* staging = memory.at(memory.staging) + warp / 4 * staging_bytes;
    int scales_offset = strip * (args.common.cell_scale_bytes / cell_strips);
    if constexpr (Scaling == scaling::folded) scales_offset += folded_offset(args, lane);
    multiplier<Bits, Activation, Scaling, Interval, Tiles, How, Warps> multiply = {
        args, memory, strip, lane, scales_offset, memory.spare_barrier()};
    multiply.skip(way);
    // In this form, in which nvcc 13.0 sees that all lanes of a warp go the same way: a k block then takes
    // some 15 instructions fewer than with work.next() in the loop's condition alone.
    work_list next_work(args);
    bool has_work = next_work.next();
    const auto row_of = [&](const work_list& work) { return (work.row_tile * memory.strips + strip) * 16; };
    if (has_work) multiply.look_up(row_of(next_work));
    if (looks_up_first) set_up();
    ptx::wait_for_previous_kernel();
    while (has_work) {
      const work_list work = next_work;
      const int row = row_of(work), token = work.token_tile * Tiles * 8;
      // Early: they take long to come.
      const stored_row_terms<Activation> low_terms(args.common, row + lane / 4);
      const stored_row_terms<Activation> high_terms(args.common, row + lane / 4 + 8);
      tile_sums<Tiles> sums = {};
      multiply.multiply(work.begin + way, work.end, sums);
      const auto output = [&] {
        return cell_output<Activation>(args, staging, row, token, low_terms.values(args.common),
                                       high_terms.values(args.common), warp, lane);
      };
      if (work.is_clusters()) {
        multiply.finish(sums);
        if (args.split.by == 2 && args.ways == 1) {
          store_squares_of_pair(memory, output, warp, lane, sums);
        } else {
          const shared_sums<Tiles, Warps> shared(args, smem, memory.sums_full(), lane);
          store_shared_squares(shared, output, warp, way, strip, lane, sums);
        }
        break;
      }
      // While the tensor cores are at the last products, which takes them a thousand cycles in 8 x 32.
      has_work = next_work.next();
      if (has_work) multiply.look_up(row_of(next_work));
      const cell_output<Activation> y = output();
      multiply.finish(sums);
      if constexpr (has_shares(Warps)) {
        if (work.has_begin_elsewhere()) {
          leave_share<Tiles, Warps>(args.common, warp, lane, sums);
          continue;
        }
        multiply.add_shares(work, sums);
      }
      store_all_squares<Activation, Tiles>(y, sums);
    }
  }
#endif
}

}  // namespace floatx::kernels
