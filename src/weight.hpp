// A weight as the backends see it, once the C API has checked it.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "floatx.h"

namespace floatx {

struct weight_shape {
  floatx_format format;
  int64_t n, k;
  int64_t group_size;  // 0 = one scale for each row
  floatx_scale_type scale_type;
};

struct stored_weight {
  weight_shape shape;
  floatx_layout layout;
  uint8_t* codes;
  uint8_t* scales;
  float* tensor_scale;  // E4M3FN only
};

}  // namespace floatx
