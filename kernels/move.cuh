// Codes and scales from one arrangement to another, and to values; and what comes before and after the
// kernels that look for offences.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "code_tile.cuh"

namespace floatx::kernels {

// ---- Slices and repacking ----------------------------------------------------------------------------

// The codes of the source's window behind a unit of the target; zeros beyond its edges.
template <int Bits>
__device__ __forceinline__ void load_window(const move_arguments& args, int64_t row, int64_t column, int rows,
                                            int columns, unsigned char* tile, int lane) {
  const int64_t source_row = args.row_begin + row, source_column = args.k_begin + column;
  if (args.source.canonical) {
    canonical_to_tile<Bits>(args.source, source_row, source_column, rows, columns, tile, lane);
    return;
  }
  const bool is_unit = source_row % unit_rows == 0 && source_column % unit_k == 0;
  if (is_unit && rows > 0 && columns > 0) {
    const int64_t index =
        unit_index(source_row / unit_rows, static_cast<int>(source_column / unit_k), args.source.k_blocks);
    unit_to_tile<Bits>(args.source.codes + index * gpu::unit_bytes(Bits), args.codes, tile, lane);
    if (rows == unit_rows && columns == unit_k) return;
    __syncwarp();
    for (int i = lane; i < unit_rows * unit_k; i += 32) {
      if (i / unit_k >= rows || i % unit_k >= columns) tile[i / unit_k * tile_row_bytes + i % unit_k] = 0;
    }
    return;
  }
  for (int i = lane; i < unit_rows * unit_k; i += 32) {
    const int r = i / unit_k, c = i % unit_k;
    tile[r * tile_row_bytes + c] = r < rows && c < columns
                                       ? static_cast<unsigned char>(code_at<Bits>(
                                             args.source, source_row + r, source_column + c, args.codes))
                                       : static_cast<unsigned char>(0);
  }
}

// A unit of the target for each warp, strided.
template <int Bits>
__global__ void __launch_bounds__(move_warps * 32) move(const __grid_constant__ move_arguments args) {
  __shared__ __align__(16) unsigned char tiles[move_warps][tile_bytes];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const weight_view& target = args.target;
  const int64_t strips = target.canonical ? (static_cast<int64_t>(target.n) + unit_rows - 1) / unit_rows
                                          : gpu::round_up(target.n, gpu::block_rows) / unit_rows;
  const int width = scale_bytes(args.scale_type);
  unsigned char* tile = tiles[warp];
  const int64_t items = strips * target.k_blocks;
  for (int64_t item = static_cast<int64_t>(blockIdx.x) * move_warps + warp; item < items;
       item += static_cast<int64_t>(gridDim.x) * move_warps) {
    const int64_t strip = item / target.k_blocks, row = strip * unit_rows;
    const int k_block = static_cast<int>(item % target.k_blocks);
    const int64_t column = static_cast<int64_t>(k_block) * unit_k;
    const int64_t rows_left = target.n - row, columns_left = target.k - column;
    const int rows = static_cast<int>(rows_left < 0 ? 0 : rows_left < unit_rows ? rows_left : unit_rows);
    const int columns = static_cast<int>(columns_left < unit_k ? columns_left : unit_k);

    load_window<Bits>(args, row, column, rows, columns, tile, lane);
    __syncwarp();
    uint64_t found = no_offence;
    if (args.report && args.largest_magnitude < (1 << (Bits - 1)) - 1) {
      for (int i = lane; i < unit_rows * unit_k; i += 32) {
        const int magnitude = tile[i / unit_k * tile_row_bytes + i % unit_k] & ((1 << (Bits - 1)) - 1);
        if (magnitude <= args.largest_magnitude) continue;
        found = offence_key(args.row_begin + row + i / unit_k, args.k_begin + column + i % unit_k,
                            offence::value);
        break;
      }
    }
    if (target.canonical) {
      tile_to_canonical<Bits>(tile, target, row, column, rows, columns, lane);
    } else {
      unit_from_tile<Bits>(tile, args.codes,
                           target.codes + unit_index(strip, k_block, target.k_blocks) * gpu::unit_bytes(Bits),
                           lane);
    }

    const int groups = args.group_size == 0 ? (k_block == 0 ? 1 : 0) : unit_k / args.group_size;
    const int64_t first_group = args.group_size == 0 ? 0 : column / args.group_size;
    const int64_t source_group = args.group_size == 0 ? 0 : args.k_begin / args.group_size;
    for (int i = lane; i < unit_rows * groups; i += 32) {
      const int r = i / groups;
      const int64_t group = first_group + i % groups;
      const bool inside = r < rows && group < group_count(target.k, args.group_size);
      if (!inside && target.canonical) continue;
      uint32_t bits = 0;
      if (inside) {
        bits = load_scale_bits(
            args.source.scales,
            scale_index_in(args.source, args.group_size, args.row_begin + row + r, source_group + group),
            width);
        const uint32_t value = __float_as_uint(scale_value(args.scale_type, bits, 1.0f));
        if ((value & 0x7fffffffu) >= 0x7f800000u) {
          // For a code and a scale at one place there is one key.
          const uint64_t key =
              offence_key(args.row_begin + row + r, args.k_begin + group * args.group_size, offence::value);
          found = key < found ? key : found;
        }
      }
      store_scale_bits(target.scales, scale_index_in(target, args.group_size, row + r, group), width, bits);
    }
    if (args.report) note(args.report, found);
    __syncwarp();
  }
}

// ---- The largest scales ------------------------------------------------------------------------------

// Those of the rows of a weight in the gpu arrangement that has scales of groups: a strip for each thread
// block, whose threads look at pairs of the same two rows each.
inline __global__ void __launch_bounds__(largest_threads)
    largest_scales(const __grid_constant__ largest_arguments args) {
  __shared__ uint32_t largest[unit_rows];  // in the order in which they are stored
  const weight_view& weight = args.weight;
  const int thread = static_cast<int>(threadIdx.x), strip = static_cast<int>(blockIdx.x);
  if (thread < unit_rows) largest[thread] = 0;
  __syncthreads();
  const int width = scale_bytes(args.scale_type), groups = unit_k / args.group_size;
  const int unit_pairs = unit_rows / 2 * groups, pair = thread % unit_pairs;
  uint32_t most[2] = {};
#pragma unroll 4  // or loads wait for each other
  for (int k_block = thread / unit_pairs; k_block < weight.k_blocks;
       k_block += largest_threads / unit_pairs) {
    const int64_t first = (unit_index(strip, k_block, weight.k_blocks) * unit_pairs + pair) * 2;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const uint32_t bits = load_scale_bits(weight.scales, first + i, width);
      most[i] = max(most[i], magnitude_bits(args.scale_type, bits));
    }
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) atomicMax(&largest[pair / groups * 2 + i], most[i]);
  __syncthreads();
  if (thread >= unit_rows) return;
  const int64_t first =
      gpu::largest_scale_index(weight.n, weight.k, args.group_size, int64_t{strip} * unit_rows);
  store_scale_bits(weight.scales, first + thread, width, largest[thread]);
}

// ---- Unpacking ---------------------------------------------------------------------------------------

// A product whose NaN is that of the host: the first operand's, then the second's, then the processor's own.
__device__ __forceinline__ float host_product(float a, float b) {
  const float product = a * b;
  if (product == product) return product;
  const uint32_t bits = a != a ? __float_as_uint(a) : b != b ? __float_as_uint(b) : 0xffc00000u;
  return __uint_as_float(bits | 0x00400000u);
}

// Rounded to FP16 or BF16: by the processor, but for NaN, which it would not leave as it is.
__device__ __forceinline__ uint16_t to_half(float value, bool is_f16) {
  if (value == value)
    return is_f16 ? __half_as_ushort(__float2half_rn(value))
                  : __bfloat16_as_ushort(__float2bfloat16_rn(value));
  return is_f16 ? f32_to_f16(value) : f32_to_bf16(value);
}

// A unit for each warp, strided.
template <int Bits>
__global__ void __launch_bounds__(move_warps * 32) unpack(const __grid_constant__ unpack_arguments args) {
  __shared__ __align__(16) unsigned char tiles[move_warps][tile_bytes];
  __shared__ float value_of[1 << Bits];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  for (int code = threadIdx.x; code < 1 << Bits; code += blockDim.x) {
    const uint32_t sign = code >> (Bits - 1) ? 0x80000000u : 0u;
    value_of[code] = __uint_as_float(__float_as_uint(args.magnitudes[code & ((1 << (Bits - 1)) - 1)]) | sign);
  }
  __syncthreads();
  const weight_view& source = args.source;
  const int64_t strips = (static_cast<int64_t>(source.n) + unit_rows - 1) / unit_rows;
  const int width = scale_bytes(args.scale_type);
  const float tensor = source.tensor_scale ? *source.tensor_scale : 1.0f;
  const int unit_groups = args.group_size == 0 ? 0 : unit_k / args.group_size;
  const int64_t row_groups = group_count(source.k, args.group_size);
  unsigned char* tile = tiles[warp];
  const int64_t items = strips * source.k_blocks;
  for (int64_t item = static_cast<int64_t>(blockIdx.x) * move_warps + warp; item < items;
       item += static_cast<int64_t>(gridDim.x) * move_warps) {
    const int64_t strip = item / source.k_blocks, row = strip * unit_rows;
    const int k_block = static_cast<int>(item % source.k_blocks);
    const int64_t column = static_cast<int64_t>(k_block) * unit_k;
    const int64_t rows_left = source.n - row, columns_left = source.k - column;
    const int rows = static_cast<int>(rows_left < unit_rows ? rows_left : unit_rows);
    const int columns = static_cast<int>(columns_left < unit_k ? columns_left : unit_k);
    if (source.canonical) {
      canonical_to_tile<Bits>(source, row, column, rows, columns, tile, lane);
    } else {
      unit_to_tile<Bits>(source.codes + unit_index(strip, k_block, source.k_blocks) * gpu::unit_bytes(Bits),
                         args.codes, tile, lane);
    }
    __syncwarp();
    const int first = lane * 4, count = columns - first < 4 ? columns - first : 4;
    if (count > 0) {
      const int g = args.group_size == 0 ? 0 : first / args.group_size;
#pragma unroll 4
      for (int r = 0; r < rows; ++r) {
        const uint32_t bits = load_scale_bits(
            source.scales, unit_scale_index(source, unit_groups, row_groups, strip, k_block, r, g), width);
        const float scale = scale_value(args.scale_type, bits, tensor);
        const uint32_t codes = *reinterpret_cast<const uint32_t*>(tile + r * tile_row_bytes + first);
        float values[4];
#pragma unroll
        for (int c = 0; c < 4; ++c) values[c] = host_product(value_of[(codes >> (8 * c)) & 0xffu], scale);
        const int64_t at = (row + r) * args.values_stride + column + first;
        if (args.values_type == 0) {
          float* to = static_cast<float*>(args.values) + at;
          if (args.values_are_aligned && count == 4) {
            *reinterpret_cast<float4*>(to) = make_float4(values[0], values[1], values[2], values[3]);
          } else {
#pragma unroll
            for (int c = 0; c < 4; ++c) {
              if (c < count) to[c] = values[c];
            }
          }
          continue;
        }
        uint16_t* to = static_cast<uint16_t*>(args.values) + at;
        uint16_t halves[4];
#pragma unroll
        for (int c = 0; c < 4; ++c) halves[c] = to_half(values[c], args.values_type == 1);
        if (args.values_are_aligned && count == 4) {
          *reinterpret_cast<uint2*>(to) = make_uint2(halves[0] | static_cast<uint32_t>(halves[1]) << 16,
                                                     halves[2] | static_cast<uint32_t>(halves[3]) << 16);
        } else {
#pragma unroll
          for (int c = 0; c < 4; ++c) {
            if (c < count) to[c] = halves[c];
          }
        }
      }
    }
    __syncwarp();
  }
}

// ---- Before and after --------------------------------------------------------------------------------

__device__ __forceinline__ bool is_finite(float value) {
  return (__float_as_uint(value) & 0x7fffffffu) < 0x7f800000u;
}

// One thread.
inline __global__ void begin_work(const __grid_constant__ begin_arguments args) {
  if (args.absmax) *args.absmax = 0;
  bool is_bad = false;
  if (args.tensor_scale) {
    const float tensor = *args.tensor_scale;
    *args.tensor_scale_to = tensor;
    is_bad = args.tensor_scale_must_be_finite && !is_finite(tensor);
  }
  if (args.report) args.report->row = static_cast<int64_t>(is_bad ? uint64_t{0} : no_offence);
}

// One thread.
inline __global__ void end_work(const __grid_constant__ end_arguments args) {
  if (args.tensor_scale) *args.tensor_scale = tensor_scale(args.range, *args.tensor_scale);
  if (!args.report) return;
  const auto key = static_cast<uint64_t>(args.report->row);
  const bool is_bad = key != no_offence, has_place = is_bad && key != 0;
  args.report->status = is_bad ? args.invalid_data : 0;
  args.report->reserved = 0;
  args.report->row = has_place ? static_cast<int64_t>(key >> 32) - 1 : -1;
  args.report->column = has_place ? static_cast<int64_t>(key & 0x7fffffffu) : -1;
}

}  // namespace floatx::kernels
