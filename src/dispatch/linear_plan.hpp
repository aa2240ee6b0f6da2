// Which kernel serves a linear on a GPU, and with which launch: a pure function over plain numbers, so that
// every choice can be looked at without a GPU.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "floatx/format.hpp"

namespace floatx::dispatch {

struct linear_problem {
  int bits;
  bool odd;   // see kernels::is_odd
  bool bf16;  // x and y, else FP16
  int64_t m, n, k;
  int64_t group_size;  // 0 = one scale a row
  int scale_bytes;     // of one scale
};

struct device_limits {
  int arch;  // 90 for sm_90
  int multiprocessors;
  int block_shared_bytes;  // the most that a thread block can opt in to
};

// The template arguments of kernels::linear_stream, less the activation type.
struct linear_kernel {
  int bits;
  bool bf16;
  int promote;  // 0 = one scale a row, 1 = groups of 16, 2 = of 32 and more
  int token_tiles;
  bool odd;
  int strips;
};

struct linear_plan {
  linear_kernel kernel;
  int warps, stages;
  int tiles;                 // of rows
  int blocks, token_blocks;  // the grid
  bool whole_tiles;
  int shared_bytes;
  size_t workspace_bytes;  // needed by this plan: 0 with whole_tiles
};

// The part of a workspace that must be zero before a launch and is so again after it.
constexpr size_t arrivals_bytes = 16384;

// Completes a plan whose kernel, warps, stages and whole_tiles are set; takes warps away until shared memory
// holds them.
void lay_out(const linear_problem& problem, const device_limits& device, linear_plan& plan);

// The best plan that gets by with `workspace_bytes`; 0 is always enough for one.
linear_plan plan_linear(const linear_problem& problem, const device_limits& device, size_t workspace_bytes);

}  // namespace floatx::dispatch
