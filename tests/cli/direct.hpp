// A weight quantized by one call of the library, with no program in between.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "cli/program.hpp"
#include "floatx.h"

namespace cli_test {

struct direct {
  std::string codes;
  std::string scales;
  float tensor_scale = 0;
  std::vector<float> values;  // of the quantized weight
};

// Throws std::runtime_error with the library's message.
direct quantize_directly(const tensor& source, const std::string& format, int64_t group,
                         floatx_scale_type scale_type, const floatx_pack_options* options = nullptr);

// Runs the program and throws unless it succeeds.
outcome run_ok(const std::vector<std::string>& arguments);

}  // namespace cli_test
