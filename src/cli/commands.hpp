// The commands of the program, apart from the command line that asks for them. Each prints its result and
// throws where it fails.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace floatx::cli {

// Of tensor names: embeddings, the head and norms keep their precision.
constexpr const char* default_exclude = "embed|lm_head|norm";

struct quantize_options {
  std::vector<std::string> paths;  // IN..., OUT
  std::string format = "e3m2";
  std::optional<int64_t> group_size;
  std::optional<std::string> scale_type;
  std::string scale_rule = "stored";
  std::string exponent_rule = "floor";
  std::optional<std::string> include;
  std::optional<std::string> exclude;
  bool allow_wider_scales = false;
  int jobs = 0;
  std::string json;
  bool quiet = false;
};

struct dequantize_options {
  std::vector<std::string> paths;
  std::optional<std::string> type;
  int jobs = 0;
  bool quiet = false;
};

struct inspect_options {
  std::vector<std::string> paths;
  std::string json;
};

struct compare_options {
  std::vector<std::string> paths;  // ORIGINAL, QUANTIZED
  int tokens = 16;
  uint64_t seed = 1;
  int jobs = 0;
  std::string json;
};

struct formats_options {
  std::string json;
};

struct bench_options {
  std::vector<std::string> shapes = {"llama-3-8b"};
  std::vector<std::string> formats = {"e3m2"};
  std::vector<int64_t> group_sizes = {0};
  std::string scale_type = "f32";
  std::vector<int64_t> m = {1};
  std::vector<std::string> types;  // none: f32 on the CPU, f16 on the GPU
  std::optional<double> seconds;
  double settle_seconds = 0;
  int threads = 0;
  bool cuda = false;
  bool chain = false;
  bool exact_weights = false;
  std::string commit;
  std::string json;
};

void quantize(const quantize_options& options);
void dequantize(const dequantize_options& options);
void inspect(const inspect_options& options);
void compare(const compare_options& options);
void formats(const formats_options& options);
void bench(const bench_options& options);

}  // namespace floatx::cli
