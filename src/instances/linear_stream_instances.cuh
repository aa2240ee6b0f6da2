// template x table: every combination of arguments that plan_linear can ask for.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "instances/linear_stream.hpp"
#include "instances/odd_formats.hpp"
#include "linear_stream.cuh"

namespace floatx::instances {

template <int Bits, class Activation, int Interval, int Tiles, bool Odd>
const void* with_strips(int strips) {
  if constexpr (Tiles <= 2) {
    if (strips == 2) {
      return reinterpret_cast<const void*>(kernels::linear_stream<Bits, Activation, Interval, Tiles, Odd, 2>);
    }
  }
  if (strips == 4) {
    return reinterpret_cast<const void*>(kernels::linear_stream<Bits, Activation, Interval, Tiles, Odd, 4>);
  }
  return nullptr;
}

template <int Bits, class Activation, int Interval, bool Odd>
const void* with_tiles(const dispatch::linear_kernel& kernel) {
  switch (kernel.token_tiles) {
    case 1:
      return with_strips<Bits, Activation, Interval, 1, Odd>(kernel.strips);
    case 2:
      return with_strips<Bits, Activation, Interval, 2, Odd>(kernel.strips);
    case 4:
      return with_strips<Bits, Activation, Interval, 4, Odd>(kernel.strips);
    default:
      return nullptr;
  }
}

template <int Bits, class Activation, bool Odd>
const void* with_interval(const dispatch::linear_kernel& kernel) {
  switch (kernel.scaling.interval) {
    case 0:
      return with_tiles<Bits, Activation, 0, Odd>(kernel);
    case 1:
      return with_tiles<Bits, Activation, 1, Odd>(kernel);
    case 2:
      return with_tiles<Bits, Activation, 2, Odd>(kernel);
    case kernels::steps:
      return with_tiles<Bits, Activation, kernels::steps, Odd>(kernel);
    default:
      return nullptr;
  }
}

template <int Bits, class Activation>
const void* with_activation(const dispatch::linear_kernel& kernel) {
  if (!kernel.odd) return with_interval<Bits, Activation, false>(kernel);
  if constexpr (has_odd_formats(Bits, std::is_same_v<Activation, __nv_bfloat16>)) {
    return with_interval<Bits, Activation, true>(kernel);
  }
  return nullptr;
}

template <int Bits>
const void* find_linear_stream_of(const dispatch::linear_kernel& kernel) {
  return kernel.bf16 ? with_activation<Bits, __nv_bfloat16>(kernel) : with_activation<Bits, __half>(kernel);
}

}  // namespace floatx::instances
