// The table that made these formats known, for any model: what a format costs in perplexity and what it
// gains.
//
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "commands.hpp"
#include "perplexity.hpp"
#include "report.hpp"
#include "tokenizer.hpp"

namespace llama {
namespace {

using json = nlohmann::ordered_json;

struct scheme_row {
  const char* format;
  int64_t group_size;
};
constexpr scheme_row schemes[] = {{"none", 0},  {"e2m3", 0},   {"e3m2", 0}, {"e2m2", 0},   {"e3m1", 0},
                                  {"e2m1", 0},  {"e3m0", 0},   {"e2m0", 0}, {"e3m2", 128}, {"e2m1", 128},
                                  {"e2m1", 32}, {"e2m0", 128}, {"e2m0", 32}};

// What torchao's README reports for Llama-2-7b-chat on an RTX 4070 Ti SUPER: wikitext perplexity a word,
// tokens a second at batch 1.
struct published_row {
  const char* format;
  double word_perplexity, tokens_per_s;
};
constexpr published_row published[] = {
    {"e3m2", 12.34, 106.76}, {"e2m3", 12.23, 106.77}, {"e3m1", 12.55, 122.69}, {"e2m2", 12.47, 122.66},
    {"e3m0", 14.58, 145.55}, {"e2m1", 15.01, 146.05}, {"e2m0", 74625, 164.49}};

}  // namespace

void table(const table_options& options) {
  if (options.run.format != "none") throw usage_error("table: it chooses the formats itself");
  model_folder source(options.model);
  if (source.quantized()) throw error(fmt::format("{}: is quantized already", options.model));
  const tokenizer text(options.model, source.config().vocabulary);
  const mapped_file file(options.text);
  const std::vector<int32_t> tokens = text.encode(std::string(file.text()));
  thread_pool threads(options.run.threads);
  const capacity size = perplexity_capacity(source.config(), options.context);
  const int64_t context = size.context;

  markdown_table shown(
      {"format", "bits/weight", "model", "perplexity", "change", "tokens/s", "of the floor"});
  json rows = json::array();
  json machine;
  std::vector<bar> bars;
  double original = 0, bandwidth = 0;
  int64_t windows = 0;
  for (const scheme_row& row : schemes) {
    run_options run = options.run;
    run.format = row.format;
    run.group_size = row.group_size;
    run.quantize_head = run.quantize_head && run.format != "none";
    const quantization scheme = run.scheme();
    const auto model = make_runtime(source, scheme, size, run.device, threads);
    if (machine.is_null()) {
      bandwidth = model->read_bandwidth();
      machine = describe_machine(*model, bandwidth);
    }
    progress_bar bar(scheme.name());
    const perplexity found = measure_perplexity(
        *model, tokens, options.windows,
        [&](int64_t done, int64_t all) { bar.show(static_cast<double>(done) / static_cast<double>(all)); });
    windows = found.windows;
    const double value = found.of_a_token();
    if (original == 0) original = value;
    const double change = 100 * (value / original - 1);
    const decode_rate rate = measure_decode(*model, 1, context / 4, context / 2, 3);
    const double share = rate.tokens_per_s * rate.bytes_per_step / bandwidth;
    // One scale a row, too, is a group: of k.
    const double bits = model->bits_per_weight();
    shown.add({scheme.name(), fmt::format("{:.2f}", bits),
               show_bytes(static_cast<double>(model->model_bytes())), fmt::format("{:.3f}", value),
               fmt::format("{:+.2f} %", change), fmt::format("{:.1f}", rate.tokens_per_s),
               fmt::format("{:.2f}", share)});
    rows.push_back({{"format", row.format},
                    {"group", row.group_size},
                    {"bits_per_weight", bits},
                    {"model_bytes", model->model_bytes()},
                    {"perplexity", value},
                    {"perplexity_change_percent", change},
                    {"tokens_per_s", rate.tokens_per_s},
                    {"floor_share", share}});
    bars.push_back({scheme.name(), rate.tokens_per_s,
                    fmt::format("{:.0f} tokens/s, perplexity {:+.1f} %", rate.tokens_per_s, change),
                    row.group_size != 0});
  }
  markdown_table reported({"format", "wikitext perplexity a word", "tokens/s"});
  json reported_rows = json::array();
  for (const published_row& row : published) {
    reported.add(
        {row.format, fmt::format("{:.2f}", row.word_perplexity), fmt::format("{:.2f}", row.tokens_per_s)});
    reported_rows.push_back({{"format", row.format},
                             {"word_perplexity", row.word_perplexity},
                             {"tokens_per_s", row.tokens_per_s}});
  }
  const std::string device = machine["device"].get<std::string>();
  const std::string markdown = fmt::format(
      "{}, {}, {} windows of {} tokens; scales in {}; batch 1, {} to {} tokens cached; reads at {:.1f} "
      "GB/s\n\n{}\n"
      "Published by torchao for Llama-2-7b-chat on an RTX 4070 Ti SUPER:\n\n{}",
      options.model, device, windows, context - 1, options.run.scale_type, context / 4, context / 2,
      bandwidth / 1e9, shown.text(), reported.text());
  fmt::print("{}", markdown);
  if (!options.out.empty()) {
    const json out = {
        {"machine", machine},
        {"model", options.model},
        {"text", options.text},
        {"scale_type", options.run.scale_type},
        {"rows", rows},
        {"published",
         {{"source", "torchao README, Llama-2-7b-chat, RTX 4070 Ti SUPER"}, {"rows", reported_rows}}}};
    write_text(options.out + ".md", markdown);
    write_text(options.out + ".json", out.dump(2) + "\n");
    write_text(options.out + ".svg", bar_chart(fmt::format("Tokens a second at batch 1: {}", device), bars));
  }
}

}  // namespace llama
