// What a model is: the numbers of config.json, or of a well-known shape.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace llama {

struct rope_scaling {
  enum class kind { none, linear, llama3 } type = kind::none;
  double factor = 1;
  double low_frequency_factor = 1;
  double high_frequency_factor = 4;
  double original_context = 8192;
};

struct model_config {
  int64_t hidden = 0;
  int64_t inner = 0;  // of the feed-forward layers
  int64_t layers = 0;
  int64_t heads = 0;
  int64_t key_value_heads = 0;
  int64_t head_size = 0;
  int64_t vocabulary = 0;
  int64_t context = 0;
  float norm_epsilon = 1e-6F;
  double rope_theta = 10000;
  rope_scaling scaling;
  bool tied_embeddings = false;
  int32_t bos = 1;
  std::vector<int32_t> eos;

  int64_t query_size() const { return heads * head_size; }
  int64_t key_value_size() const { return key_value_heads * head_size; }
  // In the linear layers of the blocks.
  int64_t block_weights() const;
};

// config.json of the folder. Throws error that names the key for what this runtime does not do.
model_config read_config(const std::string& folder);

// "llama-2-7b" and so on; throws usage_error with the names.
model_config known_shape(const std::string& name);

// Angle per position of pair i < head_size / 2, scaling included.
std::vector<double> rope_frequencies(const model_config& config);

}  // namespace llama
