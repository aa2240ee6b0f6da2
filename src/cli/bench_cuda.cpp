// Method. Weights and x are random. Each weight exists in so many copies that no cache holds them; a CUDA
// graph has one launch for each copy, and us is its median replay over the copies; programmatic_us is that of
// a graph of programmatic launches. cuBLAS multiplies the same weights, dequantized to 16 bits, with the same
// x, and replays of the three graphs take turns in random order, so that they find the same clocks. With
// --settle these turns are long, their begin does not count, and they come in every order of the graphs once;
// us is then the mean of the turns' medians. Where power limits the clock, which follows in some 0.2 seconds,
// each graph then has the clock that it would have by itself. In short turns all have the one that their
// power on average allows, so what draws more gains from what draws less. A multiprocessor's clock is read
// before and after each sample: cycles do not depend on it. The read bandwidth is measured
// before everything else, and the matrix rate is that of cuBLAS for 8192 x 8192 x 8192. Samples of y are
// compared with FP64 before and after the time is taken.
//
// SPDX-License-Identifier: Apache-2.0
#include "cli/bench_cuda.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

#include "cli/bench_chain.hpp"
#include "cli/cublas.hpp"
#include "cli/gpu_bench.hpp"
#include "cli/gpu_kernels.hpp"
#include "cli/gpu_linear.hpp"
#include "cli/names.hpp"
#include "cli/terminal.hpp"

namespace floatx::cli {
namespace {

using align = text_table::align;

double flops(int64_t m, int64_t n, int64_t k) {
  return 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
}

// One product by cuBLAS, whose weights rotate like floatx's.
class cublas_product {
 public:
  // Of random numbers.
  cublas_product(const cublas& blas, int64_t m, int64_t n, int64_t k, floatx_type type,
                 const gpu_stream& stream)
      : cublas_product(m, n, k) {
    const bool is_bf16 = type == FLOATX_TYPE_BF16;
    x_ = gpu_buffer(2 * static_cast<size_t>(m * k));
    fill_random(w(0), w_.size() / 2, is_bf16, 1 / std::sqrt(static_cast<float>(k)), 2, stream.get());
    fill_random(static_cast<uint16_t*>(x_.get()), x_.size() / 2, is_bf16, 1, 3, stream.get());
    check(cudaGetLastError(), "random data");
    capture(blas, {m, type, x_.get(), k, y_.get(), n}, stream);
  }

  // Of a call's x with the values of its weight.
  cublas_product(const cublas& blas, const floatx_weight& weight, const gpu_call& call,
                 const gpu_stream& stream)
      : cublas_product(call.m, weight.n, weight.k) {
    const floatx_execution execution = gpu_execution(stream);
    for (size_t i = 0; i < copies_; ++i) {
      check(floatx_unpack(&weight, call.type, w(i), weight.k, &execution), "--cuda: weights for cuBLAS");
    }
    capture(blas, {call.m, call.type, call.x, weight.k, y_.get(), weight.n}, stream);
  }

  const gpu_graph& graph() const { return *graph_; }
  double copies() const { return static_cast<double>(copies_); }

 private:
  cublas_product(int64_t m, int64_t n, int64_t k)
      : weight_values_(static_cast<size_t>(n * k)),
        copies_(static_cast<size_t>(gpu_rotation_count(2 * weight_values_))),
        w_(2 * weight_values_ * copies_),
        y_(2 * static_cast<size_t>(m * n)) {}

  uint16_t* w(size_t copy) const { return static_cast<uint16_t*>(w_.get()) + copy * weight_values_; }

  void capture(const cublas& blas, const gpu_call& call, const gpu_stream& stream) {
    const auto multiply = [&](size_t copy) {
      blas.multiply(call.type, call.m, call.y_stride, call.x_stride, call.x, w(copy), call.y);
    };
    // Kernels are loaded by their first call, which must not fall into the capture.
    multiply(0);
    stream.wait();
    graph_ = std::make_unique<gpu_graph>(stream, [&] {
      for (size_t i = 0; i < copies_; ++i) {
        multiply(i);
      }
    });
  }

  size_t weight_values_, copies_;
  gpu_buffer w_, y_, x_;
  std::unique_ptr<gpu_graph> graph_;
};

struct row_times {
  replay_time plain, programmatic, cublas;  // of one call; the last is NaN without cuBLAS
};

row_times time_row(const gpu_weights& weights, int64_t m, floatx_type type, const cublas* blas,
                   const std::string& where, const gpu_bench& bench) {
  const floatx_weight& first = weights.copies()[0];
  const aligned_buffer x_host = random_values(m, first.k, type);
  const gpu_buffer x(x_host.get(), x_host.size());
  // NaN, lest what an earlier call left be taken for a result.
  const gpu_buffer y(2 * static_cast<size_t>(m * first.n), 0xff);
  // One for each call: those of programmatic launches overlap in time.
  std::vector<gpu_buffer> workspaces;
  for (size_t i = 0; i < weights.copies().size(); ++i) {
    workspaces.push_back(gpu_workspace(first, m, type));
  }
  const gpu_call call = {m, type, x.get(), first.k, y.get(), first.n};
  enqueue_linear(first, call, workspaces[0], bench.flags, bench.stream);
  bench.stream.wait();
  const auto enqueue_all = [&](uint32_t flags) {
    for (size_t i = 0; i < weights.copies().size(); ++i) {
      enqueue_linear(weights.copies()[i], call, workspaces[i], bench.flags | flags, bench.stream);
    }
  };
  const gpu_graph plain(bench.stream, [&] { enqueue_all(0); });
  const gpu_graph programmatic(bench.stream, [&] { enqueue_all(FLOATX_EXECUTION_PROGRAMMATIC_LAUNCH); });
  std::vector<const gpu_graph*> graphs = {&plain, &programmatic};
  std::unique_ptr<cublas_product> product;
  if (blas != nullptr) {
    product = std::make_unique<cublas_product>(*blas, first, call, bench.stream);
    graphs.push_back(&product->graph());
  }
  check_samples(weights.source(), call, bench.flags, x_host.get(), where);
  const std::vector<replay_time> times =
      time_graphs(graphs, bench.stream, bench.seconds, bench.settle_seconds);
  check_samples(weights.source(), call, bench.flags, x_host.get(), where);
  const auto of_call = [](const replay_time& replay, double calls) {
    return replay_time{replay.us / calls, replay.cycles / calls};
  };
  const auto copies = static_cast<double>(weights.copies().size());
  constexpr double none = std::numeric_limits<double>::quiet_NaN();
  return {of_call(times[0], copies), of_call(times[1], copies),
          product ? of_call(times[2], product->copies()) : replay_time{none, none}};
}

class rows_report {
 public:
  void add(const layer& shape, const named_scheme& scheme, floatx_type type, int64_t m, size_t bytes,
           const row_times& times, const gpu_bench& bench) {
    const auto [us, cycles] = times.plain;
    const double cublas = times.cublas.us;
    const double floor = bench.floor_us(bytes, m, shape.n, shape.k);
    const int64_t group = scheme.scheme.group_size;
    table_.add({shape.name, fmt::format("{} x {}", shape.n, shape.k), scheme.format,
                fmt::format("{} / {}", name(scheme.scheme.scale_type),
                            group == 0 ? "row" : fmt::format("{}", group)),
                std::string(name(type)), fmt::format("{}", m), fmt::format("{:.2f}", us),
                fmt::format("{:.0f}", static_cast<double>(bytes) / us / 1e3),
                fmt::format("{:.3f}", floor / us), fmt::format("{:.2f}", times.programmatic.us),
                fmt::format("{:.1f}", flops(m, shape.n, shape.k) / us / 1e6),
                fmt::format("{:.0f}", cycles / us), std::isnan(cublas) ? "-" : fmt::format("{:.2f}", cublas),
                std::isnan(cublas) ? "-" : fmt::format("{:.0f}", times.cublas.cycles / cublas),
                std::isnan(cublas) ? "-" : fmt::format("{:.2f}", cublas / us)});
    rows_.push_back({{"n", shape.n},
                     {"k", shape.k},
                     {"m", m},
                     {"format", scheme.format},
                     {"group", group},
                     {"act", name(type)},
                     {"us", us},
                     {"programmatic_us", times.programmatic.us},
                     {"floor_us", floor},
                     {"cublas_us", finite_or_null(cublas)},
                     {"kilocycles", cycles / 1e3},
                     {"programmatic_kilocycles", times.programmatic.cycles / 1e3},
                     {"cublas_kilocycles", finite_or_null(times.cublas.cycles / 1e3)},
                     {"exact_weights", (bench.flags & FLOATX_EXECUTION_EXACT_WEIGHTS) != 0},
                     {"settle_s", bench.settle_seconds},
                     {"family", "cuda"}});
  }

  void print() const { table_.print(); }
  const nlohmann::ordered_json& json() const { return rows_; }

 private:
  text_table table_{{{"layer", align::left},
                     {"n x k"},
                     {"format", align::left},
                     {"scales", align::left},
                     {"x, y", align::left},
                     {"m"},
                     {"µs"},
                     {"GB/s"},
                     {"of the floor"},
                     {"programmatic µs"},
                     {"TFLOP/s"},
                     {"MHz"},
                     {"cuBLAS µs"},
                     {"cuBLAS MHz"},
                     {"speed-up"}}};
  nlohmann::ordered_json rows_ = nlohmann::ordered_json::array();
};

nlohmann::ordered_json machine_json(const bench_options& options, const gpu_bench& bench,
                                    const cublas* blas) {
  const gpu_description gpu = describe_gpu();
  return {
      {"gpu", gpu.name},
      {"driver", gpu.driver},
      {"cuda", gpu.runtime},
      {"date", fmt::format("{:%Y-%m-%d}", fmt::gmtime(std::time(nullptr)))},
      {"commit", options.commit},
      {"read_GBps", bench.read_bytes_per_us / 1e3},
      {"matrix_TFLOPs", finite_or_null(bench.flops_per_us / 1e6)},
      {"cublas", blas == nullptr ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(blas->version())},
      {"floatx", floatx_version_string()},
      {"scale_type", options.scale_type}};
}

// Layers that several models share are measured once.
std::vector<layer> different_layers(const bench_options& options) {
  std::vector<layer> different;
  for (const layer& shape : layers_of(options.shapes)) {
    const auto is_same = [&](const layer& other) { return other.n == shape.n && other.k == shape.k; };
    if (std::none_of(different.begin(), different.end(), is_same)) {
      different.push_back(shape);
    }
  }
  return different;
}

std::vector<floatx_type> types_of(const bench_options& options) {
  std::vector<floatx_type> types;
  for (const std::string& type : options.types) {
    types.push_back(parse_type(type).value());
    if (types.back() == FLOATX_TYPE_F32) {
      throw usage_error("--type f32: the GPU takes f16 and bf16");
    }
  }
  return types.empty() ? std::vector<floatx_type>{FLOATX_TYPE_F16} : types;
}

}  // namespace

double gpu_bench::floor_us(size_t bytes, int64_t m, int64_t n, int64_t k) const {
  return std::max(static_cast<double>(bytes) / read_bytes_per_us, flops(m, n, k) / flops_per_us);
}

void bench_cuda(const bench_options& options) {
  const std::vector<layer> layers = different_layers(options);
  const std::vector<named_scheme> schemes = schemes_of(options);
  const std::vector<floatx_type> types = types_of(options);
  const std::vector<std::string> chained =
      options.chain ? chained_shapes(options) : std::vector<std::string>();
  const workers threads(options.threads);
  json_report json(options.json, {});
  const size_t rows = layers.size() * schemes.size() * types.size() * options.m.size();
  const size_t chains = chained.size() * chains_of_a_shape * schemes.size() * types.size() * options.m.size();
  progress_bar progress(rows + chains, true);
  progress.label("read bandwidth");
  progress.advance(0);

  const gpu_stream stream;
  gpu_bench bench = {stream,
                     threads,
                     progress,
                     options.seconds.value_or(0.05),
                     options.settle_seconds,
                     options.exact_weights ? FLOATX_EXECUTION_EXACT_WEIGHTS : 0};
  bench.read_bytes_per_us = gpu_read_bandwidth(stream) / 1e6;
  const std::unique_ptr<cublas> blas = cublas::load(stream);
  if (blas) {
    constexpr int64_t size = 8192;
    progress.label("matrix rate");
    progress.advance(0);
    const cublas_product product(*blas, size, size, size, FLOATX_TYPE_F16, stream);
    bench.flops_per_us =
        flops(size, size, size) * product.copies() / time_graph(product.graph(), stream, bench.seconds).us;
  }
  rows_report report;
  for (const layer& shape : layers) {
    for (const named_scheme& scheme : schemes) {
      const gpu_weights weights(shape, scheme.scheme, threads);
      for (const floatx_type type : types) {
        for (const int64_t m : options.m) {
          const std::string where =
              fmt::format("{} ({} x {}) {} group {} {} m={}", shape.name, shape.n, shape.k, scheme.format,
                          scheme.scheme.group_size, name(type), m);
          progress.label(where);
          const row_times times = time_row(weights, m, type, blas.get(), where, bench);
          report.add(shape, scheme, type, m, weights.bytes(), times, bench);
          progress.advance(1);
        }
      }
    }
  }
  chain_report chain;
  for (const std::string& shape : chained) {
    bench_chains(shape, schemes, types, options.m, bench, chain);
  }
  progress.finish();
  nlohmann::ordered_json out = {{"machine", machine_json(options, bench, blas.get())},
                                {"rows", report.json()}};
  if (options.chain) {
    out["chains"] = chain.json();
  }
  json.write(out);
  json.commit();
  report.print();
  if (options.chain) {
    chain.print();
  }
  fmt::print("measured in this run: reads at {:.0f} GB/s, products at {}; {}\n",
             bench.read_bytes_per_us / 1e3,
             blas ? fmt::format("{:.0f} TFLOP/s", bench.flops_per_us / 1e6) : "an unknown rate (no cuBLAS)",
             out["machine"]["gpu"].get<std::string>());
}

}  // namespace floatx::cli
