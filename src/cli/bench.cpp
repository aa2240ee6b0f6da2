// floatx bench.
//
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cli/bench_cuda.hpp"
#include "cli/bench_problem.hpp"
#include "cli/commands.hpp"
#include "cli/measure.hpp"
#include "cli/packed_weight.hpp"
#include "cli/support.hpp"
#include "cli/terminal.hpp"
#include "cli/workers.hpp"

namespace floatx::cli {
namespace {

using align = text_table::align;

class bench_report {
 public:
  bench_report(floatx_type type, double bandwidth, int threads) : bandwidth_(bandwidth) {
    out_ = {{"floatx", floatx_version_string()},
            {"cpu_isa", floatx_cpu_isa()},
            {"threads", threads},
            {"type", name(type)},
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

void bench_cpu(const bench_options& options) {
  if (options.types.size() > 1) {
    throw usage_error("--type: one type at a time on the CPU");
  }
  const floatx_type type = options.types.empty() ? FLOATX_TYPE_F32 : parse_type(options.types[0]).value();
  const std::vector<layer> layers = layers_of(options.shapes);
  const std::vector<named_scheme> schemes = schemes_of(options);
  const workers threads(options.threads);
  json_report json(options.json, {});
  progress_bar progress(layers.size() * schemes.size() * options.m.size(), true);
  progress.label("read bandwidth");
  progress.advance(0);
  bench_report report(type, read_bandwidth(threads.count()), threads.count());
  for (const layer& shape : layers) {
    for (const named_scheme& scheme : schemes) {
      std::vector<packed_weight> copies;
      const packed_weight first(random_weight(shape, scheme.scheme, threads).get(), FLOATX_LAYOUT_CPU,
                                threads.outside(), shape.name);
      const int count = rotation_count(first.bytes());
      copies.reserve(static_cast<size_t>(count));
      for (int i = 0; i < count; ++i) {
        copies.push_back(first);
      }
      for (const int64_t m : options.m) {
        progress.label(fmt::format("{} {} m={}", shape.name, scheme.format, m));
        const timing time = time_layer(copies, m, type, options.seconds.value_or(0.5), threads);
        report.add(shape, scheme.format, first.get(), m, first.bytes(), time);
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
             threads.count() == 1 ? "" : "s", floatx_cpu_isa(), name(type));
}

}  // namespace

void bench(const bench_options& options) {
  if (!options.cuda) {
    bench_cpu(options);
    return;
  }
  check(floatx_layout_usable(FLOATX_LAYOUT_CUDA), "--cuda");
#ifdef FLOATX_CLI_CUDA
  bench_cuda(options);
#else
  throw std::runtime_error("--cuda: unsupported: this program was built without CUDA");
#endif
}

}  // namespace floatx::cli
