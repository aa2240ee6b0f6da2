// The parameters of kernels::linear_tile, for the device and for those who launch it.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "linear_arguments.hpp"
#include "ptx/tensor_map.hpp"

namespace floatx::kernels {

struct linear_tile_arguments {
  // [m, k] in boxes of x_half_columns and the tokens of a whole tile; of the last, if it has fewer; of what
  // is cut from one.
  ptx::tensor_map x, last_x, narrow_x;
  linear_arguments common;  // tiles: of rows; stages: slots of cells; no workspace
  int tiles, token_tiles;   // all of them, and those beside each other along m
  int wide_tiles, cuts;     // the first tiles, and into how many the others are cut
  int split, ways;          // thread blocks, and within one warps, that share a tile along k
  int band_rows;            // in tiles
  int x_slots;
  bool y_is_aligned;  // to 16 bytes, each row
};

}  // namespace floatx::kernels
