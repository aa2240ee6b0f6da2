// Which kernel serves a linear on a GPU, and with which launch: a pure function over plain numbers, so that
// every choice can be looked at without a GPU.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "dequant_rule.hpp"
#include "floatx/format.hpp"
#include "floatx/quantize.hpp"
#include "linear_shape.hpp"
#include "tuning/linear_tile.hpp"

namespace floatx::dispatch {

struct linear_problem {
  int bits;
  kernels::unpacking unpacking;
  bool bf16;  // x and y, else FP16
  int64_t m, n, k;
  int64_t group_size;  // 0 = one scale a row
  scale_storage scale_type;
  bool folds;                 // whether weights may be multiplied by groups' scales, see kernels::folds
  bool x_is_aligned;          // to 16 bytes, each row
  bool programmatic = false;  // launched while the kernel before it ends
};

struct device_limits {
  int arch;  // 90 for sm_90
  int multiprocessors;
  int block_shared_bytes;  // the most that a thread block can opt in to
  bool has_wgmma;          // the device, and this build for it: sm_90a

  double memory_bytes_per_us = tuning::memory_bytes_per_us;  // by its clock and width
};

// Both families take the same template arguments, of which `bf16` stands for the activation type.
enum class linear_family { stream, tile };

// How scales come in, and after how many steps of 16 k, see kernels::scaling.
struct linear_scaling {
  kernels::scaling way;
  int interval;  // 0 with one scale a row
};

inline bool operator==(const linear_scaling& a, const linear_scaling& b) {
  return a.way == b.way && a.interval == b.interval;
}

// Whether a row of tuning::tile_rows has kernels in which scales come in so. What is apart within a k block
// is of tuning::apart_rows.
constexpr bool is_apart_in_block(linear_scaling scaling) {
  return scaling.way == kernels::scaling::apart && scaling.interval < kernels::steps;
}
constexpr bool has_kernels(const tuning::tile_row& row, linear_scaling scaling) {
  switch (scaling.way) {
    case kernels::scaling::rows:
      return true;
    case kernels::scaling::apart:
      return !is_apart_in_block(scaling) && row.apart_us > 0;
    case kernels::scaling::folded:
      break;
  }
  if (row.folded_us <= 0) return false;
  if (scaling.interval == kernels::steps) return row.token_tiles >= tuning::least_folded_tiles;
  return scaling.interval > 1 || row.of_small_groups;
}

struct linear_kernel {
  linear_family family;
  int bits;
  bool bf16;
  linear_scaling scaling;
  int token_tiles;
  kernels::unpacking unpacking;
  int strips;  // of 16 rows; in the tile family as many warps multiply, some of them in other ways
};

// That of a family for a problem, of so many strips and token tiles, if there is one.
linear_kernel kernel_of(linear_family family, const linear_problem& problem, int strips, int token_tiles);

struct linear_plan {
  linear_kernel kernel;
  int warps;   // that multiply
  int stages;  // of a ring; in the tile family of cells, so many of each way as of another
  int tiles;   // of rows
  int blocks,
      token_blocks;  // the grid; in the tile family token_blocks is how many tiles there are of tokens
  bool whole_tiles;  // for each thread block; else what does not go evenly among them is shared, in the tile
                     // family with as many tiles as there are thread blocks, if there are
  int shared_tiles;  // that is so many
  // The tile family alone:
  int split, ways;  // thread blocks (a cluster), and within one warps, that share a tile along k
  int x_slots;      // of the ring of x, dealt to the ways, too
  int band_rows;    // in tiles; see kernels::place_of
  int shared_bytes;
  size_t workspace_bytes;  // needed by this plan: 0 with whole_tiles
  int pause, ahead;        // of the stream family; see kernels::linear_arguments
};

// The part of a workspace that must be zero before a launch and is so again after it.
constexpr size_t arrivals_bytes = 16384;

// Completes a plan whose kernel, warps, stages and whole_tiles are set; takes warps away until shared memory
// holds them. Without whole_tiles there may be none to share after all. In the tile family kernel, ways,
// split and whole_tiles are set, the last for plans without ways and split, and the stages follow.
void lay_out(const linear_problem& problem, const device_limits& device, linear_plan& plan);

// Whether shared memory holds a plan of the tile family that has been laid out, and in the place of its rings
// the sums of a tile that a cluster shares; and whether there are counters for the tiles that all share.
bool has_room(const linear_problem& problem, const device_limits& device, const linear_plan& plan);

// The best plan that gets by with `workspace_bytes`; 0 is always enough for one.
linear_plan plan_linear(const linear_problem& problem, const device_limits& device, size_t workspace_bytes);

// With which the best plan is to be had for problem.m tokens and for every number less, whatever x's
// alignment.
size_t most_workspace_bytes(linear_problem problem, const device_limits& device);

}  // namespace floatx::dispatch
