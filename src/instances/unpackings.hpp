// Which kernels the formats of a width need, by how they are taken apart.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <type_traits>

#include "dequant_rule.hpp"

namespace floatx::instances {

constexpr bool has_formats(int bits, bool bf16, kernels::unpacking how, bool that_fold = false) {
  for (const format_traits& format : formats) {
    if (format.bits != bits || format.exponent_bits > 5) continue;
    if (kernels::unpacking_of(format, bf16) != how) continue;
    if (!that_fold || kernels::folds(format, bf16)) return true;
  }
  return false;
}

// find(a constant `how`), if there are such formats.
template <int Bits, bool Bf16, class Find>
const void* with_unpacking(kernels::unpacking how, const Find& find) {
  using kernels::unpacking;
  const void* found = nullptr;
  const auto consider = [&](auto one) {
    if constexpr (has_formats(Bits, Bf16, decltype(one)::value)) {
      if (how == decltype(one)::value) found = find(one);
    }
  };
  consider(std::integral_constant<unpacking, unpacking::usual>());
  consider(std::integral_constant<unpacking, unpacking::moved>());
  consider(std::integral_constant<unpacking, unpacking::halved>());
  return found;
}

}  // namespace floatx::instances
