// Sizes of kernels::linear_stream that its launch needs, without device code.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "floatx/format.hpp"

namespace floatx::kernels {

constexpr int cell_rows = 64, tile_k = 128, cell_strips = 4, steps = 8;  // a cell: 64 rows x 128 k
constexpr int max_stages = 6;
constexpr int ring_header_bytes = 64;  // a barrier for each stage
// 16 bytes of padding put the rows that one ldmatrix reads into different banks.
constexpr int x_row_bytes = tile_k * 2 + 16;

constexpr FLOATX_HOST_DEVICE int cell_bytes(int bits) { return cell_rows * tile_k / 8 * bits; }

// One piece and its x. Tokens that are not there take no room.
constexpr FLOATX_HOST_DEVICE int stage_bytes(int bits, int cell_scale_bytes, int strips, int tokens) {
  return (cell_bytes(bits) + cell_scale_bytes) / cell_strips * strips + tokens * x_row_bytes;
}

// What the kernel takes besides, which counts towards the same limit.
constexpr int static_shared_bytes = 128;

constexpr FLOATX_HOST_DEVICE int reduction_bytes(int warps, int strips, int tile_tokens) {
  return warps * strips * 16 * tile_tokens * 4;
}

}  // namespace floatx::kernels
