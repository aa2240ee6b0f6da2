// A weight with its memory, guarded and poisoned, as the tests of the C API use it.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "floatx.h"
#include "support/catch.hpp"
#include "support/guard.hpp"

namespace floatx::test {

struct weight_description {
  floatx_format format;
  floatx_scale_type scale_type;
  int64_t n, k, group_size;
};

inline floatx_weight describe(const weight_description& d, floatx_layout layout) {
  floatx_weight w{};
  w.struct_size = sizeof w;
  w.format = d.format;
  w.layout = layout;
  w.n = d.n, w.k = d.k;
  w.group_size = d.group_size;
  w.scale_type = d.scale_type;
  return w;
}

inline floatx_sizes sizes_of(const floatx_weight& w) {
  floatx_sizes sizes{};
  sizes.struct_size = sizeof sizes;
  REQUIRE(floatx_weight_sizes(&w, &sizes) == FLOATX_STATUS_OK);
  return sizes;
}

// Exactly as much memory as floatx_weight_sizes asks for.
struct weight_memory {
  weight_memory(const weight_description& d, floatx_layout layout)
      : weight(describe(d, layout)),
        codes(sizes_of(weight).codes_bytes),
        scales(sizes_of(weight).scales_bytes),
        tensor_scale(sizeof(float)) {
    weight.codes = codes.data(), weight.codes_bytes = codes.size();
    weight.scales = scales.data(), weight.scales_bytes = scales.size();
    if (d.scale_type == FLOATX_SCALE_E4M3FN) weight.tensor_scale = tensor_scale.as<float>();
  }
  bool check() const { return codes.check() && scales.check() && tensor_scale.check(); }
  bool untouched() const { return codes.untouched() && scales.untouched() && tensor_scale.untouched(); }

  floatx_weight weight;
  guarded_buffer codes, scales, tensor_scale;
};

inline bool same_bytes(const guarded_buffer& a, const guarded_buffer& b) {
  return a.size() == b.size() && std::equal(a.data(), a.data() + a.size(), b.data());
}

inline bool same_contents(const weight_memory& a, const weight_memory& b) {
  return same_bytes(a.codes, b.codes) && same_bytes(a.scales, b.scales) &&
         same_bytes(a.tensor_scale, b.tensor_scale);
}

}  // namespace floatx::test
