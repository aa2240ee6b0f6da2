// The commands, as main.cpp hands them their options.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "runtime.hpp"
#include "sampling.hpp"
#include "weights.hpp"

namespace llama {

// How a model is to run.
struct run_options {
  std::string format = "none";
  int64_t group_size = 0;
  std::string scale_type = "f16";
  bool quantize_head = false;
  std::string device = "cpu";
  int threads = 0;

  quantization scheme() const;  // throws usage_error
};

// Throws usage_error where a folder that is quantized already is to be quantized again.
quantization scheme_for(const model_folder& model, const run_options& options);

std::unique_ptr<runtime> make_runtime(weight_source& source, const quantization& scheme, const capacity& size,
                                      const std::string& device, thread_pool& threads);

struct quantize_options {
  std::string model, out;
  run_options run;
};
void quantize(const quantize_options& options);

struct generate_options {
  std::string model, prompt = "It was";
  run_options run;
  sampling how;
  int64_t most = 200;
};
void generate_text(const generate_options& options);

struct perplexity_options {
  std::string model, text, json;
  run_options run;
  int64_t windows = 0, context = 0;
};
void show_perplexity(const perplexity_options& options);

struct bench_options {
  std::string shape, json, figure;
  std::vector<std::string> formats{"none", "e3m2"};
  std::vector<int64_t> group_sizes{0};
  std::vector<int64_t> batches{1};
  int64_t from = 128, to = 512, prefill = 0;
  double seconds = 10;
  bool profile = false;
  run_options run;
};
void bench(const bench_options& options);

struct table_options {
  std::string model, text, out;
  run_options run;
  int64_t windows = 0, context = 0;
};
void table(const table_options& options);

// Tokens a second, all sequences together, over steps that begin with `from` tokens cached and end before
// `to`, or after about so many seconds.
struct decode_rate {
  double tokens_per_s = 0;
  double bytes_per_step = 0;  // weights, and keys and values on average
};
decode_rate measure_decode(runtime& model, int64_t sequences, int64_t from, int64_t to, double seconds);

// Random tokens.
std::vector<int32_t> random_tokens(const model_config& config, int64_t count);

// The machine, for records.
nlohmann::ordered_json describe_machine(const runtime& model, double bandwidth);

// Writes a file, complete or not at all.
void write_text(const std::string& path, const std::string& text);

}  // namespace llama
