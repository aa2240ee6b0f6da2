// The parameters of kernels::linear_stream, for the device and for those who launch it.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "dequant_rule.hpp"
#include "floatx/quantize.hpp"
#include "linear_shape.hpp"

namespace floatx::kernels {

// Items that thread blocks share evenly: [begin(i), begin(i + 1)) are those of thread block i. In 32 bits,
// for memory ends long before 2^31 of any.
struct partition {
  int quotient, remainder;

  static partition of(int64_t items, int blocks) {
    return {static_cast<int>(items / blocks), static_cast<int>(items % blocks)};
  }

  FLOATX_HOST_DEVICE int begin(int block) const {
    return block * quotient + (block < remainder ? block : remainder);
  }
  FLOATX_HOST_DEVICE int owner(int item) const {
    const int longer = remainder * (quotient + 1);
    return item < longer ? item / (quotient + 1) : remainder + (item - longer) / quotient;
  }
};

struct linear_arguments {
  const unsigned char* codes;   // gpu arrangement
  const unsigned char* scales;  // gpu arrangement
  const float* tensor_scale;    // may be null
  const void* x;                // [m, k]
  const void* bias;             // [n], may be null
  void* y;                      // [m, n]
  int64_t x_stride, y_stride;
  float* partials;     // [token tiles][thread blocks][2][sums of a tile]
  unsigned* arrivals;  // [token tiles][thread blocks], zero between launches
  int m, n, k, k_blocks;
  int tiles;         // of rows
  int shared_tiles;  // so many, the first ones, are shared; 0: no workspace
  partition shares;  // of their pieces
  partition whole;   // of the other tiles
  int stages;        // of each warp's ring, 2 .. max_stages
  int pause;         // clocks between a warp's copies while it waits for the kernel before; 0: that has ended
  int ahead;         // pieces that it has brought to the L2 cache meanwhile
  int groups_log2;   // of the groups in a k block; -1: one scale a row
  int cell_scale_bytes;  // of groups, else 0
  scale_storage scale_type;
  bool x_is_aligned;  // to 16 bytes, each row
  dequant_rule rule;
};

}  // namespace floatx::kernels
