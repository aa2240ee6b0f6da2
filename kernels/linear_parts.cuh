// What the kernels of the linear layer share: the scales of groups, the end of a sum.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "epilogue.cuh"
#include "linear_arguments.hpp"
#include "linear_shape.hpp"

namespace floatx::kernels {

// Of a power of two. Groups come by their logarithm, lest lanes divide: nvcc leaves such divisions in the
// loop over k blocks.
constexpr int log2_of(int power) { return power == 1 ? 0 : 1 + log2_of(power / 2); }

// A lane's scales of a unit with as many groups as intervals, or fewer, of which log2_of(Intervals) - shift
// is the logarithm.
template <scale_storage Type, int Intervals>
__device__ __forceinline__ void load_unit_scales(float2 (&to)[Intervals], const unsigned char* of_lane,
                                                 int shift) {
  constexpr int pair_bytes = 2 * scale_bytes(Type), bytes = Intervals * pair_bytes;
  if constexpr (Intervals > 1) {
    if (shift != 0) {
#pragma unroll
      for (int i = 0; i < Intervals; i += 2) {
        to[i] = to[i + 1] = load_scale_pair<Type>(of_lane + (i >> shift) * pair_bytes);
      }
      return;
    }
  }
  // In as few loads as there can be.
  using words = std::conditional_t<
      bytes % 16 == 0, uint4,
      std::conditional_t<bytes == 8, uint2, std::conditional_t<bytes == 4, uint32_t, uint16_t>>>;
  alignas(16) unsigned char all[bytes];
#pragma unroll
  for (int i = 0; i < bytes; i += static_cast<int>(sizeof(words))) {
    const words some = *reinterpret_cast<const words*>(of_lane + i);
    std::memcpy(all + i, &some, sizeof some);
  }
#pragma unroll
  for (int i = 0; i < Intervals; ++i) to[i] = load_scale_pair<Type>(all + i * pair_bytes);
}

template <scale_storage Type, int Units, int Intervals>
__device__ __forceinline__ void load_unit_scales(float2 (*to)[Intervals], const unsigned char* scales_smem,
                                                 int unit_bytes, int lane, int groups_log2) {
  const unsigned char* of_lane = scales_smem + ((lane / 4 * 2 * scale_bytes(Type)) << groups_log2);
#pragma unroll
  for (int u = 0; u < Units; ++u) {
    load_unit_scales<Type>(to[u], of_lane + u * unit_bytes, log2_of(Intervals) - groups_log2);
  }
}

// The scales of rows lane / 4 and lane / 4 + 8 for each interval of 128 / Intervals columns of units that lie
// `unit_bytes` apart. All at once, for it takes a jump to where their type is loaded, which the compiler
// moves no other instruction across.
template <int Units, int Intervals>
__device__ __forceinline__ void load_unit_scales(const linear_arguments& args, float2 (*to)[Intervals],
                                                 const unsigned char* scales_smem, int unit_bytes, int lane) {
  // Most are, and of a switch over all nvcc makes a jump through a table.
  if (args.scale_type == scale_storage::f16) {
    return load_unit_scales<scale_storage::f16, Units>(to, scales_smem, unit_bytes, lane, args.groups_log2);
  }
  switch (args.scale_type) {
    case scale_storage::bf16:
      return load_unit_scales<scale_storage::bf16, Units>(to, scales_smem, unit_bytes, lane,
                                                          args.groups_log2);
    case scale_storage::e8m0:
      return load_unit_scales<scale_storage::e8m0, Units>(to, scales_smem, unit_bytes, lane,
                                                          args.groups_log2);
    case scale_storage::e4m3fn:
      return load_unit_scales<scale_storage::e4m3fn, Units>(to, scales_smem, unit_bytes, lane,
                                                            args.groups_log2);
    default:
      return load_unit_scales<scale_storage::f32, Units>(to, scales_smem, unit_bytes, lane, args.groups_log2);
  }
}

// gpu::scale_index with one group a row. Unsigned, for then a division is a shift.
__device__ __forceinline__ unsigned row_scale_index(int row) {
  const unsigned at = static_cast<unsigned>(row);
  return at / 16 * 16 + at % 8 * 2 + at % 16 / 8;
}

// What a row of y is multiplied by and what is added to it.
struct row_terms {
  float scale, bias;
};

// The same as it is stored: loaded long before it is needed, because whatever is computed from it waits.
template <class Activation>
struct stored_row_terms {
  uint32_t scale_bits = 0;
  float tensor_scale = 1.0f;
  Activation bias{};

  stored_row_terms() = default;
  __device__ __forceinline__ stored_row_terms(const linear_arguments& args, int row) {
    load_scale(args, row);
    load_bias(args, row);
  }

  __device__ __forceinline__ void load_scale(const linear_arguments& args, int row) {
    if (row >= args.n) return;
    if (args.groups_log2 < 0) {
      scale_bits = load_scale_bits(args.scales, row_scale_index(row), scale_bytes(args.scale_type));
    }
    if (args.tensor_scale) tensor_scale = *args.tensor_scale;
  }

  // No part of the weight, so it may be what the kernel before this one has written.
  __device__ __forceinline__ void load_bias(const linear_arguments& args, int row) {
    if (row < args.n && args.bias) bias = static_cast<const Activation*>(args.bias)[row];
  }

  __device__ __forceinline__ row_terms values(const linear_arguments& args) const {
    row_terms terms = {1.0f, 0.0f};
    if (args.groups_log2 < 0) terms.scale = scale_of(scale_bits, args.scale_type);
    if (args.tensor_scale) terms.scale *= tensor_scale;
    if (args.bias) terms.bias = to_float(bias);
    return terms;
  }
};

// An element of y, before it is rounded. The power of two apart: with it a large scale might overflow.
__device__ __forceinline__ float finished(const linear_arguments& args, float sum, row_terms terms) {
  return sum * args.rule.unscale * terms.scale + terms.bias;
}

}  // namespace floatx::kernels
