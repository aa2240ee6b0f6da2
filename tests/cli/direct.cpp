// SPDX-License-Identifier: Apache-2.0
#include "cli/direct.hpp"

#include <stdexcept>

namespace cli_test {
namespace {

void require_ok(floatx_status status) {
  if (status != FLOATX_STATUS_OK) {
    throw std::runtime_error(floatx_last_error());
  }
}

}  // namespace

direct quantize_directly(const tensor& source, const std::string& format, int64_t group,
                         floatx_scale_type scale_type, const floatx_pack_options* options) {
  floatx_weight weight = {};
  weight.struct_size = sizeof weight;
  require_ok(floatx_format_parse(format.c_str(), &weight.format));
  weight.layout = FLOATX_LAYOUT_CANONICAL;
  weight.n = static_cast<int64_t>(source.shape[0]);
  weight.k = static_cast<int64_t>(source.shape[1]);
  weight.group_size = group;
  weight.scale_type = scale_type;
  floatx_sizes sizes = {};
  sizes.struct_size = sizeof sizes;
  require_ok(floatx_weight_sizes(&weight, &sizes));
  direct result;
  result.codes.resize(sizes.codes_bytes);
  std::vector<float> scales((sizes.scales_bytes + 3) / 4);  // floats, for their alignment
  weight.codes = result.codes.data();
  weight.codes_bytes = sizes.codes_bytes;
  weight.scales = scales.data();
  weight.scales_bytes = sizes.scales_bytes;
  weight.tensor_scale = scale_type == FLOATX_SCALE_E4M3FN ? &result.tensor_scale : nullptr;
  const std::vector<float> values = as_f32(source);
  require_ok(floatx_pack(&weight, FLOATX_TYPE_F32, values.data(), weight.k, options, nullptr));
  result.scales.assign(reinterpret_cast<const char*>(scales.data()), sizes.scales_bytes);
  result.values.resize(values.size());
  require_ok(floatx_unpack(&weight, FLOATX_TYPE_F32, result.values.data(), weight.k, nullptr));
  return result;
}

outcome run_ok(const std::vector<std::string>& arguments) {
  const outcome result = run(arguments);
  if (result.status != 0) {
    throw std::runtime_error(describe(result));
  }
  return result;
}

}  // namespace cli_test
