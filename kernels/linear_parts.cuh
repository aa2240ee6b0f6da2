// What the kernels of the linear layer share: the scales of groups, the end of a sum.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "epilogue.cuh"
#include "linear_arguments.hpp"
#include "linear_shape.hpp"
#include "ptx/number.cuh"

namespace floatx::kernels {

template <scale_storage Type, int Intervals>
__device__ __forceinline__ void load_unit_scales(float2 (&to)[Intervals], const unsigned char* of_lane,
                                                 int shift) {
#pragma unroll
  for (int i = 0; i < Intervals; ++i) {
    to[i] = load_scale_pair<Type>(of_lane + (i >> shift) * 2 * scale_bytes(Type));
  }
}

// Of a power of two. Groups come by their logarithm, lest lanes divide: nvcc leaves such divisions in the
// loop over k blocks.
constexpr int log2_of(int power) { return power == 1 ? 0 : 1 + log2_of(power / 2); }

// The scales of rows lane / 4 and lane / 4 + 8 for each interval of 128 / Intervals columns of a unit.
template <int Intervals>
__device__ __forceinline__ void load_unit_scales(const linear_arguments& args, float2 (&to)[Intervals],
                                                 const unsigned char* scales_smem, int lane) {
  const int shift = log2_of(Intervals) - args.groups_log2;
  const unsigned char* of_lane =
      scales_smem + ((lane / 4 * 2 * scale_bytes(args.scale_type)) << args.groups_log2);
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

// The same as stored, for scales of 2 bytes, each word for 32 columns.
__device__ __forceinline__ void load_half_scales(const linear_arguments& args, uint32_t (&to)[steps / 2],
                                                 const unsigned char* scales_smem, int lane) {
  const int shift = log2_of(steps / 2) - args.groups_log2;
  const unsigned char* of_lane = scales_smem + ((lane / 4 * 4) << args.groups_log2);
#pragma unroll
  for (int i = 0; i < steps / 2; ++i) to[i] = *reinterpret_cast<const uint32_t*>(of_lane + (i >> shift) * 4);
}

// And of one byte: a half of a word for 16 columns.
__device__ __forceinline__ void load_byte_scales(const linear_arguments& args, uint32_t (&to)[steps / 2],
                                                 const unsigned char* scales_smem, int lane) {
  const int shift = log2_of(steps) - args.groups_log2;
  const unsigned char* of_lane = scales_smem + ((lane / 4 * 2) << args.groups_log2);
  const auto pair = [&](int step) {
    return static_cast<uint32_t>(*reinterpret_cast<const uint16_t*>(of_lane + (step >> shift) * 2));
  };
#pragma unroll
  for (int i = 0; i < steps / 2; ++i) to[i] = pair(2 * i) | pair(2 * i + 1) << 16;
}

// Of such a word one step's scales, E4M3FN or E8M0, as pairs of FP16 or BF16: that of row lane / 4, and that
// of row lane / 4 + 8. With FP16 they are 2^6 times what they are.
template <class Activation>
__device__ __forceinline__ void scale_pairs(uint32_t word, int step, scale_storage type,
                                            uint32_t (&pairs)[2]) {
  const uint32_t spread = __byte_perm(word, 0, step % 2 ? 0x4342 : 0x4140);
  const uint32_t sign = (spread & 0x00800080u) << 8, magnitude = spread & 0x007f007fu;
  uint32_t both;
  if constexpr (std::is_same_v<Activation, __half>) {
    // The bits are those of 2^-8 of the scale, times 2^14.
    both = ptx::product<__half>(sign | magnitude << 7, 0x74007400u);
  } else if (type == scale_storage::e8m0) {
    both = __vmaxu2(spread << 7, 0x00400040u);  // exponent 0 is 2^-127, which BF16 has as a subnormal number
  } else {
    // Of 2^-120 of the scale, times 2^120.
    both = ptx::product<__nv_bfloat16>(sign | magnitude << 4, 0x7b807b80u);
  }
  pairs[0] = __byte_perm(both, 0, 0x1010);
  pairs[1] = __byte_perm(both, 0, 0x3232);
}

// a / b, to half a unit in the last place but for rare cases.
__device__ __forceinline__ float quotient(float a, float b) {
  const float inverse = ptx::reciprocal(b), first = a * inverse;
  return fmaf(fmaf(-first, b, a), inverse, first);
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
    // scale_index with one group a row. Unsigned, for then a division is a shift.
    const unsigned at = static_cast<unsigned>(row), index = at / 16 * 16 + at % 8 * 2 + at % 16 / 8;
    if (args.groups_log2 < 0) scale_bits = load_scale_bits(args.scales, index, scale_bytes(args.scale_type));
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
