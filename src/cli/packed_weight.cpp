// SPDX-License-Identifier: Apache-2.0
#include "cli/packed_weight.hpp"

#include <cstring>

namespace floatx::cli {

packed_weight::packed_weight(const floatx_weight& source, floatx_layout layout,
                             const floatx_execution& execution, const std::string& where)
    : weight_(source) {
  weight_.layout = layout;
  floatx_sizes sizes = {};
  sizes.struct_size = sizeof sizes;
  check(floatx_weight_sizes(&weight_, &sizes), where);
  own(sizes.codes_bytes, sizes.scales_bytes);
  check(floatx_repack(&source, &weight_, &execution), where);
}

packed_weight::packed_weight(const packed_weight& other)
    : weight_(other.weight_), tensor_scale_(other.tensor_scale_) {
  own(other.weight_.codes_bytes, other.weight_.scales_bytes);
  std::memcpy(weight_.codes, other.weight_.codes, weight_.codes_bytes);
  std::memcpy(weight_.scales, other.weight_.scales, weight_.scales_bytes);
}

void packed_weight::own(size_t codes_bytes, size_t scales_bytes) {
  weight_.codes = codes_.ensure(codes_bytes);
  weight_.codes_bytes = codes_bytes;
  weight_.scales = scales_.ensure(scales_bytes);
  weight_.scales_bytes = scales_bytes;
  weight_.tensor_scale = weight_.scale_type == FLOATX_SCALE_E4M3FN ? &tensor_scale_ : nullptr;
}

aligned_buffer linear_workspace(const floatx_weight& weight, int64_t m, floatx_type x_type,
                                const std::string& where) {
  size_t bytes = 0;
  check(floatx_workspace_bytes(&weight, FLOATX_OPERATION_LINEAR, FLOATX_MEMORY_HOST, m, x_type, &bytes),
        where);
  return aligned_buffer(bytes);
}

}  // namespace floatx::cli
