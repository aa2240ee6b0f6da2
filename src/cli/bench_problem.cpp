// SPDX-License-Identifier: Apache-2.0
#include "cli/bench_problem.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <floatx/codec.hpp>

#include "cli/names.hpp"
#include "cli/random.hpp"
#include "io/error.hpp"

namespace floatx::cli {

std::vector<layer> layers_of(const std::string& shape) {
  if (shape == "llama-2-7b") {
    return {{"qkv", 12288, 4096}, {"o", 4096, 4096}, {"gate_up", 22016, 4096}, {"down", 4096, 11008}};
  }
  if (shape == "llama-2-70b") {
    return {{"qkv", 10240, 8192}, {"o", 8192, 8192}, {"gate_up", 57344, 8192}, {"down", 8192, 28672}};
  }
  if (shape == "llama-3-8b") {
    return {{"qkv", 6144, 4096}, {"o", 4096, 4096}, {"gate_up", 28672, 4096}, {"down", 4096, 14336}};
  }
  layer one = {shape, 0, 0};
  const char* end = shape.data() + shape.size();
  const auto n = std::from_chars(shape.data(), end, one.n);
  const bool has_separator = n.ec == std::errc() && n.ptr != end && *n.ptr == 'x';
  const auto k = std::from_chars(has_separator ? n.ptr + 1 : end, end, one.k);
  if (!has_separator || k.ec != std::errc() || k.ptr != end || one.n < 1 || one.k < 1) {
    throw usage_error(
        fmt::format("--shape {}: neither NxK nor llama-2-7b, llama-2-70b or llama-3-8b", io::show(shape)));
  }
  return {one};
}

std::vector<layer> layers_of(const std::vector<std::string>& shapes) {
  std::vector<layer> layers;
  for (const std::string& shape : shapes) {
    const std::vector<layer> more = layers_of(shape);
    layers.insert(layers.end(), more.begin(), more.end());
  }
  return layers;
}

std::vector<named_scheme> schemes_of(const bench_options& options) {
  std::vector<named_scheme> schemes;
  for (const std::string& format : options.formats) {
    quantization scheme;
    if (const preset* fixed = find_preset(format)) {
      scheme.format = fixed->format;
      scheme.group_size = fixed->group_size;
      scheme.scale_type = fixed->scale_type;
      schemes.push_back({format, scheme});
      continue;
    }
    if (floatx_format_parse(format.c_str(), &scheme.format) != FLOATX_STATUS_OK) {
      throw usage_error(
          fmt::format("--format {}: unknown format; 'floatx formats' lists them", io::show(format)));
    }
    scheme.scale_type = parse_scale_type(options.scale_type).value();
    for (const int64_t group_size : options.group_sizes) {
      scheme.group_size = group_size;
      schemes.push_back({format, scheme});
    }
  }
  return schemes;
}

random_weight::random_weight(const layer& shape, const quantization& scheme, const workers& threads) {
  constexpr int64_t drawn_rows = 64;
  const floatx_execution execution = threads.outside();
  const quantized_entry entry = {shape.name, std::min(drawn_rows, shape.n), shape.k, io::dtype::f32,
                                 scheme.scale_type};
  std::vector<float> values = random_normal(static_cast<size_t>(entry.n * entry.k), 1);
  const float deviation = 1 / std::sqrt(static_cast<float>(shape.k));
  std::transform(values.begin(), values.end(), values.begin(), [=](float v) { return v * deviation; });
  weight_ = canonical(scheme, entry);
  const canonical_row row = row_bytes(weight_);
  weight_.codes_bytes = static_cast<size_t>(shape.n) * row.codes_bytes;
  weight_.codes = codes_.ensure(weight_.codes_bytes);
  weight_.scales_bytes = static_cast<size_t>(shape.n) * row.scales_bytes;
  weight_.scales = scales_.ensure(weight_.scales_bytes);
  weight_.tensor_scale = scheme.scale_type == FLOATX_SCALE_E4M3FN ? &tensor_scale_ : nullptr;
  check(floatx_pack(&weight_, FLOATX_TYPE_F32, values.data(), entry.k, nullptr, &execution),
        fmt::format("{}x{}", shape.n, shape.k));
  for (int64_t first = entry.n; first < shape.n; first += entry.n) {
    const floatx_weight target = rows_of(weight_, first, std::min(entry.n, shape.n - first));
    std::memcpy(target.codes, codes_.get(), target.codes_bytes);
    std::memcpy(target.scales, scales_.get(), target.scales_bytes);
  }
  weight_.n = shape.n;
}

std::vector<float> random_weight::row(int64_t n) const {
  const floatx_weight one = rows_of(weight_, n, 1);
  std::vector<float> values(static_cast<size_t>(one.k));
  check(floatx_unpack(&one, FLOATX_TYPE_F32, values.data(), one.k, nullptr), "row");
  return values;
}

aligned_buffer random_values(int64_t rows, int64_t columns, floatx_type type) {
  const std::vector<float> values = random_normal(static_cast<size_t>(rows * columns), 2);
  aligned_buffer buffer(values.size() * element_bytes(type));
  if (type == FLOATX_TYPE_F32) {
    std::memcpy(buffer.get(), values.data(), buffer.size());
  } else {
    std::transform(values.begin(), values.end(), static_cast<uint16_t*>(buffer.get()), [type](float value) {
      return type == FLOATX_TYPE_F16 ? f32_to_f16(value) : f32_to_bf16(value);
    });
  }
  return buffer;
}

}  // namespace floatx::cli
