// A weight in the layout of a backend, in host memory of its own.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "cli/support.hpp"
#include "floatx.h"

namespace floatx::cli {

class packed_weight {
 public:
  // Packs a canonical weight. `where` begins messages.
  packed_weight(const floatx_weight& source, floatx_layout layout, const floatx_execution& execution,
                const std::string& where);
  // A copy in other memory, so that a benchmark can rotate.
  packed_weight(const packed_weight& other);
  packed_weight& operator=(const packed_weight&) = delete;

  const floatx_weight& get() const { return weight_; }
  size_t bytes() const { return weight_.codes_bytes + weight_.scales_bytes; }

 private:
  void own(size_t codes_bytes, size_t scales_bytes);

  floatx_weight weight_;
  aligned_buffer codes_;
  aligned_buffer scales_;
  float tensor_scale_ = 0;
};

// The workspace with which floatx_linear runs at full speed.
aligned_buffer linear_workspace(const floatx_weight& weight, int64_t m, floatx_type x_type,
                                const std::string& where);

}  // namespace floatx::cli
