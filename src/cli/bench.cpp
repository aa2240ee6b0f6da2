// floatx bench.
//
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <floatx/codec.hpp>
#include <nlohmann/json.hpp>

#include "cli/commands.hpp"
#include "cli/measure.hpp"
#include "cli/packed_weight.hpp"
#include "cli/random.hpp"
#include "cli/support.hpp"
#include "cli/terminal.hpp"
#include "cli/weights.hpp"
#include "cli/workers.hpp"
#include "io/error.hpp"

namespace floatx::cli {
namespace {

using align = text_table::align;

struct layer {
  std::string name;
  int64_t n;
  int64_t k;
};

// The linear layers of a decoder block; query, key and value are one, as are gate and up.
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

quantization scheme_of(const bench_options& options, const std::string& format) {
  quantization scheme;
  if (const preset* fixed = find_preset(format)) {
    scheme.format = fixed->format;
    scheme.group_size = fixed->group_size;
    scheme.scale_type = fixed->scale_type;
    return scheme;
  }
  if (floatx_format_parse(format.c_str(), &scheme.format) != FLOATX_STATUS_OK) {
    throw usage_error(
        fmt::format("--format {}: unknown format; 'floatx formats' lists them", io::show(format)));
  }
  scheme.group_size = options.group_size;
  scheme.scale_type = parse_scale_type(options.scale_type).value();
  return scheme;
}

// A weight of random values. Some rows are drawn and quantized, and stand for all: their codes are as hard to
// multiply as fresh ones, and a large weight is ready in moments.
packed_weight random_weight(const layer& shape, const quantization& scheme, const workers& threads) {
  constexpr int64_t drawn_rows = 64;
  const floatx_execution execution = threads.outside();
  quantized_entry entry = {shape.name, std::min(drawn_rows, shape.n), shape.k, io::dtype::f32,
                           scheme.scale_type};
  const std::string where = fmt::format("{}x{}", shape.n, shape.k);
  const std::vector<float> values = random_normal(static_cast<size_t>(entry.n * entry.k), 1);
  floatx_weight drawn = canonical(scheme, entry);
  const canonical_row row = row_bytes(drawn);
  const aligned_buffer codes(static_cast<size_t>(shape.n) * row.codes_bytes);
  const aligned_buffer scales(static_cast<size_t>(shape.n) * row.scales_bytes);
  float tensor_scale = 0;
  drawn.codes = codes.get();
  drawn.codes_bytes = codes.size();
  drawn.scales = scales.get();
  drawn.scales_bytes = scales.size();
  drawn.tensor_scale = scheme.scale_type == FLOATX_SCALE_E4M3FN ? &tensor_scale : nullptr;
  check(floatx_pack(&drawn, FLOATX_TYPE_F32, values.data(), entry.k, nullptr, &execution), where);
  for (int64_t first = drawn.n; first < shape.n; first += drawn.n) {
    const floatx_weight target = rows_of(drawn, first, std::min(drawn.n, shape.n - first));
    std::memcpy(target.codes, drawn.codes, target.codes_bytes);
    std::memcpy(target.scales, drawn.scales, target.scales_bytes);
  }
  drawn.n = shape.n;
  return packed_weight(drawn, execution, where);
}

// [rows, columns] random values of the type.
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

class bench_report {
 public:
  bench_report(const bench_options& options, double bandwidth, int threads) : bandwidth_(bandwidth) {
    out_ = {{"floatx", floatx_version_string()},
            {"cpu_isa", floatx_cpu_isa()},
            {"threads", threads},
            {"type", options.type},
            {"read_bandwidth_gb_per_s", bandwidth / 1e9},
            {"results", nlohmann::ordered_json::array()}};
  }

  void add(const layer& shape, const std::string& format, const floatx_weight& weight, int64_t m,
           size_t bytes, const timing& time) {
    const double seconds = time.median_us * 1e-6;
    const double rate = static_cast<double>(bytes) / seconds;
    const double flops =
        2.0 * static_cast<double>(m) * static_cast<double>(shape.n) * static_cast<double>(shape.k);
    table_.add({shape.name, fmt::format("{} x {}", shape.n, shape.k), format,
                fmt::format("{} / {}", name(weight.scale_type),
                            weight.group_size == 0 ? "row" : fmt::format("{}", weight.group_size)),
                fmt::format("{}", m), fmt::format("{:.1f}", time.median_us),
                fmt::format("{:.2f}", rate / 1e9), fmt::format("{:.0f} %", 100 * rate / bandwidth_),
                fmt::format("{:.1f}", flops / seconds / 1e9)});
    out_["results"].push_back({{"layer", shape.name},
                               {"n", shape.n},
                               {"k", shape.k},
                               {"format", format},
                               {"group_size", weight.group_size},
                               {"scale_type", name(weight.scale_type)},
                               {"m", m},
                               {"weight_bytes", bytes},
                               {"median_us", time.median_us},
                               {"minimum_us", time.minimum_us},
                               {"calls", time.calls},
                               {"gb_per_s", rate / 1e9},
                               {"share_of_read_bandwidth", rate / bandwidth_},
                               {"gflop_per_s", flops / seconds / 1e9}});
  }

  void print() const { table_.print(); }
  const nlohmann::ordered_json& json() const { return out_; }

 private:
  double bandwidth_;
  text_table table_{{{"layer", align::left},
                     {"n x k"},
                     {"format", align::left},
                     {"scales", align::left},
                     {"m"},
                     {"µs"},
                     {"GB/s"},
                     {"of read bandwidth"},
                     {"GFLOP/s"}}};
  nlohmann::ordered_json out_;
};

timing time_layer(const std::vector<packed_weight>& copies, int64_t m, floatx_type type, double seconds,
                  const workers& threads) {
  const floatx_weight& weight = copies[0].get();
  const std::string where = fmt::format("{}x{}", weight.n, weight.k);
  const aligned_buffer x = random_values(m, weight.k, type);
  const aligned_buffer y(static_cast<size_t>(m * weight.n) * element_bytes(type));
  const aligned_buffer workspace = linear_workspace(weight, m, type, where);
  floatx_execution execution = threads.outside();
  execution.workspace = workspace.get();
  execution.workspace_bytes = workspace.size();
  return time_calls(
      [&](int call) {
        throw_if_interrupted();
        const floatx_weight& next = copies[static_cast<size_t>(call) % copies.size()].get();
        check(floatx_linear(&next, m, type, x.get(), weight.k, nullptr, type, y.get(), weight.n, &execution),
              where);
      },
      seconds);
}

}  // namespace

void bench(const bench_options& options) {
  if (options.cuda) {
    check(floatx_layout_usable(FLOATX_LAYOUT_CUDA), "--cuda");
    throw std::runtime_error("--cuda: unsupported: this program measures the CPU only");
  }
  std::vector<layer> layers;
  for (const std::string& shape : options.shapes) {
    const std::vector<layer> more = layers_of(shape);
    layers.insert(layers.end(), more.begin(), more.end());
  }
  std::vector<quantization> schemes;
  for (const std::string& format : options.formats) {
    schemes.push_back(scheme_of(options, format));
  }
  const floatx_type type = parse_type(options.type).value();
  const workers threads(options.threads);
  json_report json(options.json, {});
  progress_bar progress(layers.size() * schemes.size() * options.m.size(), true);
  progress.label("read bandwidth");
  progress.advance(0);
  bench_report report(options, read_bandwidth(threads.count()), threads.count());
  for (const layer& shape : layers) {
    for (size_t f = 0; f < schemes.size(); ++f) {
      std::vector<packed_weight> copies;
      const packed_weight first = random_weight(shape, schemes[f], threads);
      const int count = rotation_count(first.bytes());
      copies.reserve(static_cast<size_t>(count));
      for (int i = 0; i < count; ++i) {
        copies.push_back(first);
      }
      for (const int64_t m : options.m) {
        progress.label(fmt::format("{} {} m={}", shape.name, options.formats[f], m));
        const timing time = time_layer(copies, m, type, options.seconds, threads);
        report.add(shape, options.formats[f], first.get(), m, first.bytes(), time);
        progress.advance(1);
      }
    }
  }
  progress.finish();
  json.write(report.json());
  json.commit();
  report.print();
  fmt::print("read bandwidth, measured in this run: {:.2f} GB/s; {} thread{}; {}; x and y {}\n",
             report.json()["read_bandwidth_gb_per_s"].get<double>(), threads.count(),
             threads.count() == 1 ? "" : "s", floatx_cpu_isa(), options.type);
}

}  // namespace floatx::cli
