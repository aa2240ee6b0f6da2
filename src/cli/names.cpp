// SPDX-License-Identifier: Apache-2.0
#include "cli/names.hpp"

#include <fmt/core.h>

#include "cli/support.hpp"

namespace floatx::cli {
namespace {

template <class Value>
struct named {
  Value value;
  std::string_view name;
};

constexpr named<floatx_scale_type> scale_types[] = {
    {FLOATX_SCALE_F32, "f32"},   {FLOATX_SCALE_F16, "f16"},       {FLOATX_SCALE_BF16, "bf16"},
    {FLOATX_SCALE_E8M0, "e8m0"}, {FLOATX_SCALE_E4M3FN, "e4m3fn"},
};
constexpr named<floatx_type> types[] = {
    {FLOATX_TYPE_F32, "f32"}, {FLOATX_TYPE_F16, "f16"}, {FLOATX_TYPE_BF16, "bf16"}};
constexpr named<floatx_scale_rule> scale_rules[] = {{FLOATX_SCALE_RULE_STORED, "stored"},
                                                    {FLOATX_SCALE_RULE_UNROUNDED, "unrounded"}};
constexpr named<floatx_exponent_rule> exponent_rules[] = {{FLOATX_EXPONENT_RULE_FLOOR, "floor"},
                                                          {FLOATX_EXPONENT_RULE_CEIL, "ceil"}};

// The OCP microscaling formats and NVIDIA's.
constexpr preset presets[] = {
    {"nvfp4", FLOATX_FORMAT_E2M1, 16, FLOATX_SCALE_E4M3FN},
    {"mxfp4", FLOATX_FORMAT_E2M1, 32, FLOATX_SCALE_E8M0},
    {"mxfp6_e2m3", FLOATX_FORMAT_E2M3, 32, FLOATX_SCALE_E8M0},
    {"mxfp6_e3m2", FLOATX_FORMAT_E3M2, 32, FLOATX_SCALE_E8M0},
    {"mxfp8_e4m3", FLOATX_FORMAT_E4M3FN, 32, FLOATX_SCALE_E8M0},
    {"mxfp8_e5m2", FLOATX_FORMAT_E5M2, 32, FLOATX_SCALE_E8M0},
};

template <class Table, class Value>
std::string_view name_in(const Table& table, Value value) {
  for (const auto& entry : table) {
    if (entry.value == value) {
      return entry.name;
    }
  }
  return "?";
}

template <class Value, size_t Count>
std::optional<Value> value_in(const named<Value> (&table)[Count], std::string_view text) {
  for (const auto& entry : table) {
    if (entry.name == text) {
      return entry.value;
    }
  }
  return std::nullopt;
}

}  // namespace

std::string_view name(floatx_scale_type type) { return name_in(scale_types, type); }
std::string_view name(floatx_type type) { return name_in(types, type); }
std::string_view name(floatx_scale_rule rule) { return name_in(scale_rules, rule); }
std::string_view name(floatx_exponent_rule rule) { return name_in(exponent_rules, rule); }

std::optional<floatx_scale_type> parse_scale_type(std::string_view text) {
  return value_in(scale_types, text);
}
std::optional<floatx_type> parse_type(std::string_view text) { return value_in(types, text); }
std::optional<floatx_scale_rule> parse_scale_rule(std::string_view text) {
  return value_in(scale_rules, text);
}
std::optional<floatx_exponent_rule> parse_exponent_rule(std::string_view text) {
  return value_in(exponent_rules, text);
}

io::dtype file_dtype(floatx_scale_type type) {
  switch (type) {
    case FLOATX_SCALE_F16:
      return io::dtype::f16;
    case FLOATX_SCALE_BF16:
      return io::dtype::bf16;
    case FLOATX_SCALE_E8M0:
      return io::dtype::f8_e8m0;
    case FLOATX_SCALE_E4M3FN:
      return io::dtype::f8_e4m3;
    default:
      return io::dtype::f32;
  }
}

io::dtype file_dtype(floatx_type type) {
  return type == FLOATX_TYPE_F16    ? io::dtype::f16
         : type == FLOATX_TYPE_BF16 ? io::dtype::bf16
                                    : io::dtype::f32;
}

std::optional<floatx_type> library_type(io::dtype type) {
  switch (type) {
    case io::dtype::f16:
      return FLOATX_TYPE_F16;
    case io::dtype::bf16:
      return FLOATX_TYPE_BF16;
    case io::dtype::f32:
    case io::dtype::f64:
      return FLOATX_TYPE_F32;
    default:
      return std::nullopt;
  }
}

size_t element_bytes(floatx_type type) { return type == FLOATX_TYPE_F32 ? 4 : 2; }

floatx_format_info describe(floatx_format format) {
  floatx_format_info info = {};
  info.struct_size = sizeof info;
  check(floatx_format_describe(format, &info), "format");
  return info;
}

const preset* find_preset(std::string_view name) {
  for (const preset& p : presets) {
    if (p.name == name) {
      return &p;
    }
  }
  return nullptr;
}

std::string list_presets(std::string_view before, std::string_view after) {
  std::string text;
  for (const preset& p : presets) {
    text += fmt::format("{}{}: {}, group {}, {} scales{}", before, p.name, describe(p.format).name,
                        p.group_size, name(p.scale_type), after);
  }
  return text;
}

}  // namespace floatx::cli
