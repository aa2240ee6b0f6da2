// What a thread block of kernels::linear_stream has to do, and in which order: its share of the tiles that
// thread blocks share, then whole tiles.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "linear_arguments.hpp"

namespace floatx::kernels {

// Pieces of the share, a tile of them at most, come first, in the order (tile, k block), then those of
// whole tiles. A piece's place is its number in that order.
struct block_work {
  int k_blocks;
  int first_piece, shared;    // of the share, and how many
  int first_tile, last_tile;  // of those that are whole, if there are any
  int places;

  __device__ __forceinline__ explicit block_work(const linear_arguments& args)
      : k_blocks(args.k_blocks),
        first_piece(args.shares.begin(blockIdx.x)),
        shared(args.shares.begin(blockIdx.x + 1) - first_piece) {
    const int whole = args.whole.begin(blockIdx.x), whole_end = args.whole.begin(blockIdx.x + 1);
    first_tile = args.shared_tiles + whole;
    places = shared + (whole_end - whole) * k_blocks;
    last_tile = args.shared_tiles + whole_end - 1;
  }
};

// A tile, or what of it is in the share, between two places: one after the other.
struct tile_stretch {
  const block_work& work;
  int tile, begin = 0, end;

  __device__ __forceinline__ explicit tile_stretch(const block_work& of) : work(of) {
    tile = work.first_tile;
    end = work.k_blocks;
    if (__builtin_expect(work.shared == 0, 1)) return;
    tile = work.first_piece / work.k_blocks;
    end = min(work.shared, (tile + 1) * work.k_blocks - work.first_piece);
  }

  __device__ __forceinline__ bool is_last() const { return end == work.places; }
  __device__ __forceinline__ bool is_shared() const { return end <= work.shared; }

  __device__ __forceinline__ void next() {
    begin = end;
    tile = begin == work.shared ? work.first_tile : tile + 1;
    end = begin < work.shared ? min(work.shared, begin + work.k_blocks) : begin + work.k_blocks;
  }
};

}  // namespace floatx::kernels
