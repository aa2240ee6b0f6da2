// The parameters of kernels::linear_tile, for the device and for those who launch it.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "linear_arguments.hpp"
#include "linear_shape.hpp"
#include "ptx/tensor_map.hpp"

namespace floatx::kernels {

// Divides by a number that the host knows, without a division.
struct divisor {
  int by, shift;
  uint32_t factor;

  static divisor of(int by) {
    int bits = 0;
    while ((int64_t{1} << bits) < by) ++bits;
    // Exact for dividends below 2^31: the factor exceeds 2^(31 + bits) / by by less than 1, the quotient by
    // less than dividend / 2^(31 + bits) < 1 / by.
    const uint64_t divisor = static_cast<uint64_t>(by);
    return {by, 31 + bits, static_cast<uint32_t>(((uint64_t{1} << (31 + bits)) + divisor - 1) / divisor)};
  }

  FLOATX_HOST_DEVICE int quotient(int dividend) const {
    return static_cast<int>(static_cast<uint64_t>(static_cast<uint32_t>(dividend)) * factor >> shift);
  }
};

// So many k blocks take as long as the end of a tile, about. Thread blocks that share tiles have the ends of
// one or two: were these worth nothing, 57344 x 8192 and m = 256 would take 482 kilocycles in place of 479,
// and m = 64 193 in place of 187 (H200; h200-tests.json, tile_exchange).
constexpr int tile_end_pieces = 2;

struct linear_tile_arguments {
  ptx::tensor_map x, last_x;  // [m, k] in boxes of x_half_columns and the tokens of a tile; those of the last
  // tiles: of rows; stages: slots of cells; shares: in pieces; partials: [share][sums of a tile]; arrivals:
  // [shared tile], the shares that have left sums
  linear_arguments common;
  int tiles;            // all of them
  divisor split;        // thread blocks,
  int ways, strips;     // and within one warps, that share a tile along k; its rows in 16
  divisor piece_tiles;  // by the pieces of a tile, its end's and its k blocks
  divisor band_tiles, band_rows, last_band_rows;  // in tiles; see place_of
  int x_slots;
  const unsigned char* largest_scales;     // of rows, with groups
  bool scales_are_f16, scales_are_e4m3fn;  // what common.scale_type says, too
  scale_form form_of_scales;               // where they are folded
  int scale_steps[2];  // bytes from the scales of 32 columns of two rows to those of the next 32, and of 64
                       // to those of the next 64: 0 where a group goes on
  bool y_is_aligned;   // to 16 bytes, each row
};

}  // namespace floatx::kernels
