// floatx compare.
//
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>

#include "cli/commands.hpp"
#include "cli/packed_weight.hpp"
#include "cli/random.hpp"
#include "cli/support.hpp"
#include "cli/terminal.hpp"
#include "cli/weights.hpp"
#include "cli/workers.hpp"
#include "io/error.hpp"

namespace floatx::cli {
namespace {

using io::show;
using align = text_table::align;

struct comparison {
  double sum_squares = 0;         // of y from the original
  double sum_squared_errors = 0;  // of y - y from the original
  double sum_products = 0;
  double sum_squares_quantized = 0;
  double microseconds = 0;

  double relative_rms() const {
    return sum_squared_errors == 0 ? 0 : std::sqrt(sum_squared_errors / sum_squares);
  }
  double cosine() const {
    const double norm = std::sqrt(sum_squares) * std::sqrt(sum_squares_quantized);
    return norm == 0 ? 1 : sum_products / norm;
  }
  void add(const comparison& other) {
    sum_squares += other.sum_squares;
    sum_squared_errors += other.sum_squared_errors;
    sum_products += other.sum_products;
    sum_squares_quantized += other.sum_squares_quantized;
    microseconds += other.microseconds;
  }
};

// y[m, n] = x . W^T from the original, in FP64.
std::vector<double> reference(const dense_tensor& original, const std::vector<float>& x, int64_t m,
                              const workers& threads) {
  const int64_t n = original.n();
  const int64_t k = original.k();
  std::vector<double> y(static_cast<size_t>(m * n));
  const int64_t block_rows = rows_per_block(k);
  std::vector<aligned_buffer> raw(static_cast<size_t>(threads.count()));
  std::vector<aligned_buffer> converted(static_cast<size_t>(threads.count()));
  threads.run((n + block_rows - 1) / block_rows, [&](int64_t index, int worker) {
    const int64_t first = index * block_rows;
    const int64_t rows = std::min(block_rows, n - first);
    const float* w = original.rows_f32(first, rows, raw[static_cast<size_t>(worker)],
                                       converted[static_cast<size_t>(worker)]);
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t token = 0; token < m; ++token) {
        const float* x_row = x.data() + token * k;
        const float* w_row = w + row * k;
        double sum = 0;
        for (int64_t i = 0; i < k; ++i) {
          sum += double{x_row[i]} * double{w_row[i]};
        }
        y[static_cast<size_t>(token * n + first + row)] = sum;
      }
    }
    original.forget(first, rows);
  });
  return y;
}

comparison compare_tensor(const dense_tensor& original, const stored_weight& quantized,
                          const compare_options& options, const workers& threads) {
  const std::string where = fmt::format("tensor {}", show(quantized.entry().name));
  const int64_t m = options.tokens;
  const int64_t n = original.n();
  const int64_t k = original.k();
  const std::vector<float> x = random_normal(static_cast<size_t>(m * k), options.seed);
  const std::vector<double> expected = reference(original, x, m, threads);

  floatx_execution execution = threads.outside();
  const packed_weight weight(quantized.weight(), FLOATX_LAYOUT_CPU, execution, where);
  quantized.forget(0, n);
  const aligned_buffer workspace = linear_workspace(weight.get(), m, FLOATX_TYPE_F32, where);
  execution.workspace = workspace.get();
  execution.workspace_bytes = workspace.size();
  std::vector<float> y(static_cast<size_t>(m * n));
  comparison result;
  constexpr int calls = 5;
  std::vector<double> times;
  for (int call = 0; call < calls; ++call) {
    const auto start = std::chrono::steady_clock::now();
    check(floatx_linear(&weight.get(), m, FLOATX_TYPE_F32, x.data(), k, nullptr, FLOATX_TYPE_F32, y.data(), n,
                        &execution),
          where);
    times.push_back(
        std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count());
  }
  std::nth_element(times.begin(), times.begin() + calls / 2, times.end());
  result.microseconds = times[calls / 2];
  for (size_t i = 0; i < y.size(); ++i) {
    const double error = double{y[i]} - expected[i];
    result.sum_squares += expected[i] * expected[i];
    result.sum_squared_errors += error * error;
    result.sum_products += expected[i] * double{y[i]};
    result.sum_squares_quantized += double{y[i]} * double{y[i]};
  }
  return result;
}

nlohmann::ordered_json numbers(const comparison& c) {
  return {{"relative_rms_error", finite_or_null(c.relative_rms())},
          {"cosine_similarity", finite_or_null(c.cosine())},
          {"microseconds", c.microseconds}};
}

}  // namespace

void compare(const compare_options& options) {
  const workers threads(options.jobs);
  const io::model original_model({options.paths[0]});
  const io::model quantized_model({options.paths[1]});
  const std::vector<stored_weight> weights = find_stored_weights(quantized_model);
  if (weights.empty()) {
    throw std::runtime_error(
        fmt::format("{}: holds no tensor that was quantized by floatx", options.paths[1]));
  }
  json_report json(options.json, {&original_model, &quantized_model});
  text_table table({{"layer", align::left},
                    {"shape"},
                    {"format", align::left},
                    {"rel. RMS error of y"},
                    {"cosine"},
                    {"floatx_linear µs"}});
  nlohmann::ordered_json out = {{"floatx", floatx_version_string()},
                                {"cpu_isa", floatx_cpu_isa()},
                                {"tokens", options.tokens},
                                {"seed", options.seed},
                                {"layers", nlohmann::ordered_json::array()}};
  comparison total;
  for (const stored_weight& weight : weights) {
    const quantized_entry& entry = weight.entry();
    const std::optional<io::tensor_place> place = original_model.find(entry.name);
    if (!place) {
      throw std::runtime_error(fmt::format("{}: tensor {} is missing", options.paths[0], show(entry.name)));
    }
    const io::tensor_info& info = original_model.info(*place);
    const std::vector<uint64_t> shape = {static_cast<uint64_t>(entry.n), static_cast<uint64_t>(entry.k)};
    if (info.shape != shape || !library_type(info.dtype)) {
      throw std::runtime_error(fmt::format("{}: tensor {} is {} [{}], but was quantized as [{}]",
                                           options.paths[0], show(entry.name), io::name(info.dtype),
                                           fmt::join(info.shape, ", "), fmt::join(shape, ", ")));
    }
    const comparison result =
        compare_tensor(dense_tensor(original_model.shard_of(*place), info), weight, options, threads);
    const std::string format = describe(weight.scheme().format).name;
    table.add({io::printable(entry.name), fmt::format("{} x {}", entry.n, entry.k), format,
               fmt::format("{:.5f}", result.relative_rms()), fmt::format("{:.6f}", result.cosine()),
               fmt::format("{:.1f}", result.microseconds)});
    nlohmann::ordered_json layer = {{"name", entry.name}, {"shape", shape}, {"format", format}};
    layer.update(numbers(result));
    out["layers"].push_back(layer);
    total.add(result);
  }
  table.add_rule();
  table.add({fmt::format("{} layers", weights.size()), "", "", fmt::format("{:.5f}", total.relative_rms()),
             fmt::format("{:.6f}", total.cosine()), fmt::format("{:.1f}", total.microseconds)});
  out["total"] = numbers(total);
  json.write(out);
  json.commit();
  table.print();
  fmt::print(
      "y = x W^T for {} tokens of standard normal x; reference: the original weights in FP64; CPU: {}\n",
      options.tokens, floatx_cpu_isa());
}

}  // namespace floatx::cli
