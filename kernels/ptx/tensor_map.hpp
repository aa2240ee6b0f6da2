// A tensor map, without the driver's header.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace floatx::ptx {

// What cuTensorMapEncodeTiled fills in.
struct alignas(64) tensor_map {
  uint64_t words[16];
};

}  // namespace floatx::ptx
