// Single instructions on numbers.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

namespace floatx::ptx {

// 1 / value, to a unit in the last place.
__device__ __forceinline__ float reciprocal(float value) {
  float result;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(value));
  return result;
}

// Of two pairs of FP16 or BF16.
template <class Activation>
__device__ __forceinline__ uint32_t product(uint32_t a, uint32_t b) {
  if constexpr (std::is_same_v<Activation, __half>) {
    const __half2 result = __hmul2(reinterpret_cast<const __half2&>(a), reinterpret_cast<const __half2&>(b));
    return reinterpret_cast<const uint32_t&>(result);
  } else {
    const __nv_bfloat162 result =
        __hmul2(reinterpret_cast<const __nv_bfloat162&>(a), reinterpret_cast<const __nv_bfloat162&>(b));
    return reinterpret_cast<const uint32_t&>(result);
  }
}

}  // namespace floatx::ptx
