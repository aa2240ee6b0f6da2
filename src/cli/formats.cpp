// floatx formats.
//
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>

#include "cli/commands.hpp"
#include "cli/names.hpp"
#include "cli/support.hpp"
#include "cli/terminal.hpp"

namespace floatx::cli {
namespace {

using align = text_table::align;

// To the last digit: 2^-14 where decimals would be rounded or long.
std::string exact(float value) {
  int exponent = 0;
  const bool is_power = std::frexp(value, &exponent) == 0.5f;
  return is_power && (value < 1 || value > 0x1p20f) ? fmt::format("2^{}", exponent - 1)
                                                    : fmt::format("{}", value);
}

}  // namespace

void formats(const formats_options& options) {
  json_report json(options.json, {});
  nlohmann::ordered_json out = nlohmann::ordered_json::array();
  text_table table({{"format", align::left},
                    {"bits"},
                    {"bias"},
                    {"max"},
                    {"smallest normal"},
                    {"smallest subnormal"},
                    {"steps an octave"},
                    {"largest rounding error"},
                    {"special values", align::left}});
  const floatx_format* list = floatx_format_list();
  for (size_t i = 0; i < floatx_format_count(); ++i) {
    const floatx_format_info info = describe(list[i]);
    const int steps = 1 << info.mantissa_bits;
    const char* specials = info.has_infinity != 0 ? "Inf, NaN" : info.has_nan != 0 ? "NaN" : "";
    // Half a step at the lower end of an octave.
    const double rounding = 0.5 / steps;
    table.add({info.name, fmt::format("{}", info.bits), fmt::format("{}", info.bias), exact(info.max),
               exact(info.smallest_normal), info.mantissa_bits == 0 ? "-" : exact(info.smallest_subnormal),
               fmt::format("{}", steps), fmt::format("{:.4g} %", 100 * rounding), specials});
    out.push_back({{"name", info.name},
                   {"bits", info.bits},
                   {"exponent_bits", info.exponent_bits},
                   {"mantissa_bits", info.mantissa_bits},
                   {"bias", info.bias},
                   {"max", info.max},
                   {"smallest_normal", info.smallest_normal},
                   {"smallest_subnormal", info.smallest_subnormal},
                   {"steps_per_octave", steps},
                   {"has_infinity", info.has_infinity != 0},
                   {"has_nan", info.has_nan != 0}});
  }
  json.write(out);
  json.commit();
  table.print();
  fmt::print("\nPresets of 'floatx quantize':\n{}", list_presets("  ", "\n"));
}

}  // namespace floatx::cli
