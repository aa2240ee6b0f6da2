// template x table: every combination of arguments that plan_linear can ask for.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "instances/linear_stream.hpp"
#include "linear_stream.cuh"

namespace floatx::instances {

template <int Bits, class Activation, int Promote, int Tiles, bool Halve>
const void* with_strips(int strips) {
  if constexpr (Tiles <= 2) {
    if (strips == 2) {
      return reinterpret_cast<const void*>(
          kernels::linear_stream<Bits, Activation, Promote, Tiles, Halve, 2>);
    }
  }
  if (strips == 4) {
    return reinterpret_cast<const void*>(kernels::linear_stream<Bits, Activation, Promote, Tiles, Halve, 4>);
  }
  return nullptr;
}

template <int Bits, class Activation, int Promote, bool Halve>
const void* with_tiles(const dispatch::linear_kernel& kernel) {
  switch (kernel.token_tiles) {
    case 1:
      return with_strips<Bits, Activation, Promote, 1, Halve>(kernel.strips);
    case 2:
      return with_strips<Bits, Activation, Promote, 2, Halve>(kernel.strips);
    case 4:
      return with_strips<Bits, Activation, Promote, 4, Halve>(kernel.strips);
    default:
      return nullptr;
  }
}

template <int Bits, class Activation, bool Halve>
const void* with_promote(const dispatch::linear_kernel& kernel) {
  switch (kernel.promote) {
    case 0:
      return with_tiles<Bits, Activation, 0, Halve>(kernel);
    case 1:
      return with_tiles<Bits, Activation, 1, Halve>(kernel);
    case 2:
      return with_tiles<Bits, Activation, 2, Halve>(kernel);
    default:
      return nullptr;
  }
}

template <int Bits>
const void* find_linear_stream_of(const dispatch::linear_kernel& kernel) {
  if (kernel.bf16) return with_promote<Bits, __nv_bfloat16, false>(kernel);
  // E5M0 and E5M1 alone.
  if constexpr (Bits == 6 || Bits == 7) {
    if (kernel.halve) return with_promote<Bits, __half, true>(kernel);
  }
  return with_promote<Bits, __half, false>(kernel);
}

}  // namespace floatx::instances
