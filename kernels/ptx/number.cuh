// Single instructions on numbers.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

namespace floatx::ptx {

// The product of two pairs of FP16 or BF16.
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

// The product of a pair and one of two others, the low or the high one.
template <class Activation, bool High>
__device__ __forceinline__ uint32_t product_with(uint32_t a, uint32_t two) {
  if constexpr (std::is_same_v<Activation, __half>) {
    const __half2 b = reinterpret_cast<const __half2&>(two);
    const __half2 twice = High ? __high2half2(b) : __low2half2(b);
    return product<__half>(a, reinterpret_cast<const uint32_t&>(twice));
  } else {
    const __nv_bfloat162 b = reinterpret_cast<const __nv_bfloat162&>(two);
    const __nv_bfloat162 twice = High ? __high2bfloat162(b) : __low2bfloat162(b);
    return product<__nv_bfloat16>(a, reinterpret_cast<const uint32_t&>(twice));
  }
}

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
constexpr bool has_e4m3fn = true;
#else
constexpr bool has_e4m3fn = false;
#endif

// Two E4M3FN as FP16, where has_e4m3fn.
__device__ __forceinline__ uint32_t halves_of_e4m3fn(uint16_t two) {
  uint32_t result;
  asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(result) : "h"(two));
  return result;
}

// The two low bytes, each in a half of its own.
__device__ __forceinline__ uint32_t halves_of_bytes(uint32_t two) { return __byte_perm(two, 0, 0x4140); }

}  // namespace floatx::ptx
