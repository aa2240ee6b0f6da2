// What the kernels of the linear layer share: the scales of groups, the end of a sum.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "epilogue.cuh"
#include "linear_arguments.hpp"

namespace floatx::kernels {

template <scale_storage Type, int Intervals>
__device__ __forceinline__ void load_unit_scales(float2 (&to)[Intervals], const unsigned char* of_lane,
                                                 int shift) {
#pragma unroll
  for (int i = 0; i < Intervals; ++i) {
    to[i] = load_scale_pair<Type>(of_lane + (i >> shift) * 2 * scale_bytes(Type));
  }
}

// The scales of rows lane / 4 and lane / 4 + 8 for each interval of 128 / Intervals columns of a unit.
template <int Intervals>
__device__ __forceinline__ void load_unit_scales(const linear_arguments& args, float2 (&to)[Intervals],
                                                 const unsigned char* scales_smem, int lane) {
  const int groups = tile_k / args.group_size, shift = 31 - __clz(Intervals / groups);
  const unsigned char* of_lane = scales_smem + lane / 4 * groups * 2 * scale_bytes(args.scale_type);
  switch (args.scale_type) {
    case scale_storage::f16:
      return load_unit_scales<scale_storage::f16>(to, of_lane, shift);
    case scale_storage::bf16:
      return load_unit_scales<scale_storage::bf16>(to, of_lane, shift);
    case scale_storage::e8m0:
      return load_unit_scales<scale_storage::e8m0>(to, of_lane, shift);
    case scale_storage::e4m3fn:
      return load_unit_scales<scale_storage::e4m3fn>(to, of_lane, shift);
    default:
      return load_unit_scales<scale_storage::f32>(to, of_lane, shift);
  }
}

// What a row of y is multiplied by and what is added to it.
struct row_terms {
  float scale, bias;
};

// The same as it is stored: loaded long before it is needed, because whatever is computed from it waits.
template <class Activation>
struct stored_row_terms {
  uint32_t scale_bits;
  float tensor_scale;
  Activation bias;

  __device__ __forceinline__ stored_row_terms(const linear_arguments& args, int64_t row)
      : scale_bits(0), tensor_scale(1.0f), bias{} {
    if (row >= args.n) return;
    // scale_index with one group a row.
    const int64_t index = row / 16 * 16 + row % 8 * 2 + row % 16 / 8;
    if (args.group_size == 0) scale_bits = load_scale_bits(args.scales, index, scale_bytes(args.scale_type));
    if (args.tensor_scale) tensor_scale = *args.tensor_scale;
    if (args.bias) bias = static_cast<const Activation*>(args.bias)[row];
  }

  __device__ __forceinline__ row_terms values(const linear_arguments& args) const {
    row_terms terms = {1.0f, 0.0f};
    if (args.group_size == 0) terms.scale = scale_of(scale_bits, args.scale_type);
    if (args.tensor_scale) terms.scale *= tensor_scale;
    if (args.bias) terms.bias = to_float(bias);
    return terms;
  }
};

template <class Activation>
__device__ __forceinline__ row_terms load_row_terms(const linear_arguments& args, int64_t row) {
  return stored_row_terms<Activation>(args, row).values(args);
}

// An element of y, before it is rounded. The power of two apart: with it a large scale might overflow.
__device__ __forceinline__ float finished(const linear_arguments& args, float sum, row_terms terms) {
  return sum * args.rule.unscale * terms.scale + terms.bias;
}

}  // namespace floatx::kernels
