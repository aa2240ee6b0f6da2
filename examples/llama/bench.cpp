// Method. Decoding: the caches hold `from` random tokens; then every sequence gets the token that is
// likeliest behind its last, step after step up to `to` or until the seconds are over. The rate is tokens
// over the time of all steps but the first two. The floor is the time to read every byte of weights, and of
// the keys and values that a step reads on average, at the read bandwidth of the same run. Prefill: the
// median of three feeds of so many random tokens at position 0, from the first of them to the end of the last
// layer.
//
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <random>

#include "commands.hpp"
#include "report.hpp"

namespace llama {
namespace {

using json = nlohmann::ordered_json;
using clock = std::chrono::steady_clock;

double seconds_since(clock::time_point begin) {
  return std::chrono::duration<double>(clock::now() - begin).count();
}

void fill(runtime& model, int64_t sequences, int64_t count) {
  const int64_t at_once = std::max<int64_t>(1, model.capacity().tokens_per_feed / sequences);
  for (int64_t at = 0; at < count; at += at_once) {
    const int64_t tokens = std::min(at_once, count - at);
    model.feed(random_tokens(model.config(), sequences * tokens).data(), sequences, tokens, at);
  }
}

double measure_prefill(runtime& model, int64_t tokens) {
  std::vector<double> times;
  for (int i = 0; i < 4; ++i) {
    const std::vector<int32_t> prompt = random_tokens(model.config(), tokens);
    model.wait();
    const clock::time_point begin = clock::now();
    model.feed(prompt.data(), 1, tokens, 0);
    model.wait();
    if (i > 0) times.push_back(seconds_since(begin));
  }
  std::sort(times.begin(), times.end());
  return static_cast<double>(tokens) / times[1];
}

std::string optional(double value, const char* format) {
  return value > 0 ? fmt::format(fmt::runtime(format), value) : "";
}

}  // namespace

std::vector<int32_t> random_tokens(const model_config& config, int64_t count) {
  std::mt19937 generator(7);
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < count; ++i) {
    tokens.push_back(static_cast<int32_t>(generator() % static_cast<uint64_t>(config.vocabulary)));
  }
  return tokens;
}

decode_rate measure_decode(runtime& model, int64_t sequences, int64_t from, int64_t to, double seconds) {
  fill(model, sequences, from);
  int64_t position = from;
  for (; position < std::min(from + 2, to - 1); ++position) model.step_greedily(sequences, position);
  model.wait();
  const int64_t first = position;
  const clock::time_point begin = clock::now();
  // Whether the time is up is asked now and then, lest the question cost time.
  constexpr int64_t together = 16;
  while (position < to && seconds_since(begin) < seconds) {
    for (const int64_t end = std::min(to, position + together); position < end; ++position) {
      model.step_greedily(sequences, position);
    }
    model.wait();
  }
  const double taken = seconds_since(begin);
  decode_rate rate;
  rate.tokens_per_s = static_cast<double>(sequences * (position - first)) / taken;
  rate.bytes_per_step =
      static_cast<double>(model.weight_bytes()) +
      static_cast<double>(sequences) * static_cast<double>(model.cache_bytes((first + position) / 2));
  return rate;
}

void bench(const bench_options& options) {
  model_config config = known_shape(options.shape);
  if (options.from < 1 || options.from + 4 > options.to) {
    throw usage_error(
        fmt::format("--from {} --to {}: at least four steps lie between them", options.from, options.to));
  }
  thread_pool threads(options.run.threads);
  const int64_t most_sequences = *std::max_element(options.batches.begin(), options.batches.end());
  const capacity size = {most_sequences, std::max(options.to, options.prefill),
                         std::max<int64_t>({options.prefill, most_sequences, 512})};
  config.context = size.context;

  markdown_table shown({"format", "batch", "GB of weights", "tokens/s", "of the floor", "times none",
                        "prefill tokens/s", "times none"});
  json rows = json::array();
  json machine;
  std::vector<bar> bars;
  std::vector<std::pair<int64_t, double>> baseline;  // batch, tokens/s
  double prefill_baseline = 0;
  for (const std::string& format : options.formats) {
    for (const int64_t group : format == "none" ? std::vector<int64_t>{0} : options.group_sizes) {
      run_options run = options.run;
      run.format = format;
      run.group_size = group;
      run.quantize_head = run.quantize_head && format != "none";
      const quantization scheme = run.scheme();
      fmt::print(stderr, "{}: {}\n", options.shape, scheme.name());
      random_source source(config);
      const auto model = make_runtime(source, scheme, size, run.device, threads);
      const double bandwidth = model->read_bandwidth();
      if (machine.is_null()) machine = describe_machine(*model, bandwidth);
      const double prefill = options.prefill > 0 ? measure_prefill(*model, options.prefill) : 0;
      if (format == "none") prefill_baseline = prefill;
      for (const int64_t batch : options.batches) {
        const decode_rate found = measure_decode(*model, batch, options.from, options.to, options.seconds);
        if (format == "none") baseline.emplace_back(batch, found.tokens_per_s);
        double speedup = 0;
        for (const auto& [b, tokens_per_s] : baseline) {
          if (b == batch) speedup = found.tokens_per_s / tokens_per_s;
        }
        const double share =
            found.tokens_per_s / static_cast<double>(batch) * found.bytes_per_step / bandwidth;
        const double weights = static_cast<double>(model->weight_bytes());
        const bool first = batch == options.batches.front();
        json parts = json::object();
        if (options.profile) {
          for (const profile_entry& entry : model->profile(batch, (options.from + options.to) / 2)) {
            parts[entry.part] = entry.us;
            fmt::print(stderr, "  batch {}, {}: {:.1f} us\n", batch, entry.part, entry.us);
          }
        }
        shown.add({scheme.name(), std::to_string(batch), fmt::format("{:.2f}", weights / 1e9),
                   fmt::format("{:.1f}", found.tokens_per_s), fmt::format("{:.2f}", share),
                   optional(speedup, "{:.2f}"), first ? optional(prefill, "{:.0f}") : "",
                   first && prefill_baseline > 0 ? optional(prefill / prefill_baseline, "{:.2f}") : ""});
        if (batch == options.batches.front()) {
          bars.push_back({scheme.name(), found.tokens_per_s,
                          fmt::format("{:.1f} tokens/s, {:.2f} of the floor", found.tokens_per_s, share),
                          group != 0});
        }
        json row = {{"format", format},
                    {"group", group},
                    {"batch", batch},
                    {"tokens_per_s", found.tokens_per_s},
                    {"floor_share", share},
                    {"speedup_over_fp16", speedup > 0 ? json(speedup) : json()},
                    {"weight_bytes", model->weight_bytes()},
                    {"read_GBps", bandwidth / 1e9},
                    {"head_quantized", run.quantize_head}};
        if (first && prefill > 0) {
          row["prefill_tokens"] = options.prefill;
          row["prefill_tokens_per_s"] = prefill;
          if (prefill_baseline > 0) row["prefill_speedup_over_fp16"] = prefill / prefill_baseline;
        }
        if (!parts.empty()) row["parts_us"] = parts;
        rows.push_back(row);
      }
    }
  }
  fmt::print("{}, {} to {} tokens cached, {}; reads at {:.1f} GB/s\n\n{}", options.shape, options.from,
             options.to, machine["device"].get<std::string>(), machine["read_GBps"].get<double>(),
             shown.text());
  if (!options.figure.empty()) {
    write_text(options.figure,
               bar_chart(fmt::format("{}, batch {}: {}", options.shape, options.batches.front(),
                                     machine["device"].get<std::string>()),
                         bars));
  }
  if (!options.json.empty()) {
    const json out = {{"machine", machine},
                      {"shape", options.shape},
                      {"cached_from", options.from},
                      {"cached_to", options.to},
                      {"scale_type", options.run.scale_type},
                      {"method", "floatx-llama bench; see the top of examples/llama/bench.cpp"},
                      {"rows", rows}};
    write_text(options.json, out.dump(2) + "\n");
  }
}

}  // namespace llama
