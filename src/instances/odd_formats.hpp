// Which widths have formats that need kernels of their own.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dequant_rule.hpp"

namespace floatx::instances {

constexpr bool has_odd_formats(int bits, bool bf16) {
  for (const format_traits& format : formats) {
    if (format.bits == bits && format.exponent_bits <= 5 && kernels::is_odd(format, bf16)) return true;
  }
  return false;
}

}  // namespace floatx::instances
