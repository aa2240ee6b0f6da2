// A hint to the compiler.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace floatx::ptx {

// Has the value stay in a register: where these are scarce, the compiler would rather compute it again each
// time it is needed.
template <class T>
__device__ __forceinline__ void keep(T& value) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "a register or two");
  if constexpr (sizeof(T) == 4) {
    asm("" : "+r"(value));
  } else {
    asm("" : "+l"(value));
  }
}

}  // namespace floatx::ptx
