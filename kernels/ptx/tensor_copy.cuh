// Tensor copies and what goes with them (sm_90): the copy engine moves a box of a matrix into shared memory.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "tensor_map.hpp"

namespace floatx::ptx {

__device__ __forceinline__ void prefetch(const tensor_map& map) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
#endif
}

// The box at (row, column); the map, a kernel's parameter, says how large it is and how it lies in shared
// memory. What is beyond the matrix's edges becomes zero and counts as copied.
__device__ __forceinline__ void copy_box(uint32_t to_smem, const tensor_map& map, int row, int column,
                                         uint32_t barrier_smem) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], "
      "[%4];" ::"r"(to_smem),
      "l"(&map), "r"(column), "r"(row), "r"(barrier_smem)
      : "memory");
#endif
}

}  // namespace floatx::ptx
