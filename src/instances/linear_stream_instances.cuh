// template x table: every combination of arguments that plan_linear can ask for.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "instances/linear_stream.hpp"
#include "instances/unpackings.hpp"
#include "linear_stream.cuh"

namespace floatx::instances {

template <int Bits, class Activation, int Interval, int Tiles, kernels::unpacking How>
const void* with_strips(int strips) {
  if constexpr (Tiles <= 2) {
    if (strips == 2) {
      return reinterpret_cast<const void*>(kernels::linear_stream<Bits, Activation, Interval, Tiles, How, 2>);
    }
  }
  if (strips == 4) {
    return reinterpret_cast<const void*>(kernels::linear_stream<Bits, Activation, Interval, Tiles, How, 4>);
  }
  return nullptr;
}

template <int Bits, class Activation, int Interval, kernels::unpacking How>
const void* with_tiles(const dispatch::linear_kernel& kernel) {
  switch (kernel.token_tiles) {
    case 1:
      return with_strips<Bits, Activation, Interval, 1, How>(kernel.strips);
    case 2:
      return with_strips<Bits, Activation, Interval, 2, How>(kernel.strips);
    case 4:
      return with_strips<Bits, Activation, Interval, 4, How>(kernel.strips);
    default:
      return nullptr;
  }
}

template <int Bits, class Activation, kernels::unpacking How>
const void* with_interval(const dispatch::linear_kernel& kernel) {
  switch (kernel.scaling.interval) {
    case 0:
      return with_tiles<Bits, Activation, 0, How>(kernel);
    case 1:
      return with_tiles<Bits, Activation, 1, How>(kernel);
    case 2:
      return with_tiles<Bits, Activation, 2, How>(kernel);
    case kernels::steps:
      return with_tiles<Bits, Activation, kernels::steps, How>(kernel);
    default:
      return nullptr;
  }
}

template <int Bits, class Activation>
const void* with_activation(const dispatch::linear_kernel& kernel) {
  constexpr bool bf16 = std::is_same_v<Activation, __nv_bfloat16>;
  return with_unpacking<Bits, bf16>(kernel.unpacking, [&](auto how) {
    return with_interval<Bits, Activation, decltype(how)::value>(kernel);
  });
}

template <int Bits>
const void* find_linear_stream_of(const dispatch::linear_kernel& kernel) {
  return kernel.bf16 ? with_activation<Bits, __nv_bfloat16>(kernel) : with_activation<Bits, __half>(kernel);
}

}  // namespace floatx::instances
