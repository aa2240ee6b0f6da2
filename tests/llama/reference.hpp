// A Llama model as its definition reads: FP64, one token after the other, no cache, no vectors. It shares no
// code with the runtime, its files and its quantizer included.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/program.hpp"

namespace reference {

using values = std::vector<double>;

struct model {
  nlohmann::json config;
  std::map<std::string, std::vector<float>> tensors;

  // config.json and model.safetensors of a folder.
  static model load(const std::string& folder);
  // Every linear layer of the blocks becomes what e3m2 with an FP16 scale for each row keeps of it.
  void quantize_e3m2();
  // Logits [tokens, vocabulary] for one sequence.
  std::vector<values> logits(const std::vector<int32_t>& tokens) const;
  // Whether what goes into and comes out of linear layers is rounded to FP16: what that alone does to the
  // logits.
  bool half_activations = false;

 private:
  int64_t number(const char* key) const { return config.at(key).get<int64_t>(); }
  values rounded_activations(values x) const;
  values linear(const std::string& name, const values& x) const;
  values norm(const std::string& name, const values& x) const;
  void turn(values& heads, int64_t count, int64_t position) const;
};

// A random model of this configuration, for write_model; deviation 1 / sqrt(k) keeps the variance.
//   dtype  of its tensors: F32, F16 or BF16.
cli_test::contents random_tensors(const nlohmann::json& config, const std::string& dtype);

// config.json and model.safetensors into a folder that is there.
void write_model(const std::string& folder, const nlohmann::json& config, const cli_test::contents& tensors);

// A small configuration with everything that distinguishes one Llama from another: grouped queries, a head
// size that is not hidden / heads and no multiple of a vector, odd sizes, untied embeddings.
nlohmann::json odd_config();

}  // namespace reference
