// What the user calls things, and what the library and the files call them.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "floatx.h"
#include "io/dtype.hpp"

namespace floatx::cli {

// "f32"; the same word on the command line and in the metadata of a file.
std::string_view name(floatx_scale_type type);
std::optional<floatx_scale_type> parse_scale_type(std::string_view text);
io::dtype file_dtype(floatx_scale_type type);

std::string_view name(floatx_type type);
std::optional<floatx_type> parse_type(std::string_view text);
io::dtype file_dtype(floatx_type type);
// The type in which the library reads a tensor of the file: F64 is read as F32. No value for the rest.
std::optional<floatx_type> library_type(io::dtype type);
size_t element_bytes(floatx_type type);

std::string_view name(floatx_scale_rule rule);
std::optional<floatx_scale_rule> parse_scale_rule(std::string_view text);
std::string_view name(floatx_exponent_rule rule);
std::optional<floatx_exponent_rule> parse_exponent_rule(std::string_view text);

// Of a known format; throws for others.
floatx_format_info describe(floatx_format format);

// A format that fixes its groups and scales as well, "nvfp4".
struct preset {
  std::string_view name;
  floatx_format format;
  int64_t group_size;
  floatx_scale_type scale_type;
};
const preset* find_preset(std::string_view name);

// A line "nvfp4: e2m1, group 16, e4m3fn scales" for each, between `before` and `after`.
std::string list_presets(std::string_view before, std::string_view after);

}  // namespace floatx::cli
