// From sums of products to elements of y.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "floatx/quantize.hpp"
#include "ptx/number.cuh"

namespace floatx::kernels {

__device__ __forceinline__ float to_float(__half value) { return __half2float(value); }
__device__ __forceinline__ float to_float(__nv_bfloat16 value) { return __bfloat162float(value); }

template <class Activation>
__device__ __forceinline__ Activation from_float(float value);
template <>
__device__ __forceinline__ __half from_float<__half>(float value) {
  return __float2half_rn(value);
}
template <>
__device__ __forceinline__ __nv_bfloat16 from_float<__nv_bfloat16>(float value) {
  return __float2bfloat16_rn(value);
}

// Two neighbours, the first in the low half.
template <class Activation>
__device__ __forceinline__ uint32_t pair_of(float first, float second);
template <>
__device__ __forceinline__ uint32_t pair_of<__half>(float first, float second) {
  const __half2 pair = __floats2half2_rn(first, second);
  return reinterpret_cast<const uint32_t&>(pair);
}
template <>
__device__ __forceinline__ uint32_t pair_of<__nv_bfloat16>(float first, float second) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
  return reinterpret_cast<const uint32_t&>(pair);
}

// The bits of a stored scale, and the scale that they are, without the tensor scale of E4M3FN. Apart, because
// whatever is computed from a load waits for it.
__device__ __forceinline__ uint32_t load_scale_bits(const unsigned char* scales, int64_t index, int bytes) {
  return bytes == 4   ? reinterpret_cast<const uint32_t*>(scales)[index]
         : bytes == 2 ? reinterpret_cast<const uint16_t*>(scales)[index]
                      : scales[index];
}

__device__ __forceinline__ float scale_of(uint32_t bits, scale_storage type) {
  switch (type) {
    case scale_storage::f16:
      return __half2float(__ushort_as_half(static_cast<unsigned short>(bits)));
    case scale_storage::bf16:
      return __uint_as_float(bits << 16);
    case scale_storage::e8m0:
      return e8m0_to_f32(static_cast<uint8_t>(bits));
    case scale_storage::e4m3fn:
      return decode<float8_e4m3fn>(static_cast<uint8_t>(bits));
    default:
      return __uint_as_float(bits);
  }
}

// Two scales of a byte each, above which `bits` is 0.
template <scale_storage Type>
__device__ __forceinline__ float2 scale_pair_of(uint32_t bits) {
  if constexpr (Type == scale_storage::e8m0) {
    // Exponent 0 is 2^-127, a subnormal number. NaN scales are refused when packed.
    return {__uint_as_float(max((bits & 0xffu) << 23, 0x00400000u)),
            __uint_as_float(max(bits >> 8 << 23, 0x00400000u))};
  } else if constexpr (ptx::has_e4m3fn) {
    const uint32_t word = ptx::halves_of_e4m3fn(static_cast<uint16_t>(bits));
    return __half22float2(reinterpret_cast<const __half2&>(word));
  } else {
    // As FP16 the magnitude is the value / 2^8; finite, because NaN scales are refused when packed.
    const uint32_t spread = ptx::halves_of_bytes(bits);
    const uint32_t halves = (spread & 0x00800080u) << 8 | (spread & 0x007f007fu) << 7;
    const float2 values = __half22float2(reinterpret_cast<const __half2&>(halves));
    return {values.x * 256.0f, values.y * 256.0f};
  }
}

// The scales of rows r and r + 8 of a group: neighbours, so one load.
template <scale_storage Type>
__device__ __forceinline__ float2 load_scale_pair(const unsigned char* pair) {
  if constexpr (Type == scale_storage::f32) {
    return *reinterpret_cast<const float2*>(pair);
  } else if constexpr (Type == scale_storage::f16) {
    return __half22float2(*reinterpret_cast<const __half2*>(pair));
  } else if constexpr (Type == scale_storage::bf16) {
    const uint32_t bits = *reinterpret_cast<const uint32_t*>(pair);
    return {__uint_as_float(bits << 16), __uint_as_float(bits & 0xffff0000u)};
  } else {
    return scale_pair_of<Type>(*reinterpret_cast<const uint16_t*>(pair));
  }
}

}  // namespace floatx::kernels
