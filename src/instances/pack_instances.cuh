// template x table: the widths of codes.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "instances/pack.hpp"
#include "quantize.cuh"

namespace floatx::instances {

template <value_type Type>
struct values_of;
template <>
struct values_of<value_type::f32> {
  using type = kernels::f32_values;
};
template <>
struct values_of<value_type::f16> {
  using type = kernels::f16_values;
};
template <>
struct values_of<value_type::bf16> {
  using type = kernels::bf16_values;
};

template <value_type Type>
const void* find_pack_of(int bits) {
  using values = typename values_of<Type>::type;
  switch (bits) {
    case 3:
      return reinterpret_cast<const void*>(kernels::pack<3, values>);
    case 4:
      return reinterpret_cast<const void*>(kernels::pack<4, values>);
    case 5:
      return reinterpret_cast<const void*>(kernels::pack<5, values>);
    case 6:
      return reinterpret_cast<const void*>(kernels::pack<6, values>);
    case 7:
      return reinterpret_cast<const void*>(kernels::pack<7, values>);
    case 8:
      return reinterpret_cast<const void*>(kernels::pack<8, values>);
    default:
      return nullptr;
  }
}

template <value_type Type>
const void* find_tensor_absmax_of() {
  return reinterpret_cast<const void*>(kernels::tensor_absmax<typename values_of<Type>::type>);
}

}  // namespace floatx::instances
