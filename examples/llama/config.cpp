// SPDX-License-Identifier: Apache-2.0
#include "config.hpp"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "support.hpp"

namespace llama {
namespace {

using json = nlohmann::json;

// The file is data from elsewhere: every value is looked at before it is used.
class reader {
 public:
  reader(std::string path, json object) : path_(std::move(path)), json_(std::move(object)) {}

  [[noreturn]] void fail(const char* key, const std::string& what) const {
    throw error(fmt::format("{}: {}: {}", path_, key, what));
  }
  const json* find(const char* key) const {
    const auto found = json_.find(key);
    return found == json_.end() || found->is_null() ? nullptr : &*found;
  }
  int64_t integer(const char* key, int64_t smallest, int64_t largest, int64_t otherwise = -1) const {
    const json* value = find(key);
    if (value == nullptr && otherwise >= 0) return otherwise;
    if (value == nullptr) fail(key, "is missing");
    if (!value->is_number_integer() || *value < smallest || *value > largest) {
      fail(key, fmt::format("is {}, not an integer in {} .. {}", show(value->dump()), smallest, largest));
    }
    return value->get<int64_t>();
  }
  double positive(const char* key, double otherwise) const {
    const json* value = find(key);
    if (value == nullptr) return otherwise;
    if (!value->is_number() || !(value->get<double>() > 0)) {
      fail(key, fmt::format("is {}, not a positive number", show(value->dump())));
    }
    return value->get<double>();
  }
  bool boolean(const char* key, bool otherwise) const {
    const json* value = find(key);
    if (value != nullptr && !value->is_boolean()) fail(key, "is not true or false");
    return value == nullptr ? otherwise : value->get<bool>();
  }
  std::string text(const char* key, const std::string& otherwise) const {
    const json* value = find(key);
    if (value != nullptr && !value->is_string()) fail(key, "is not a string");
    return value == nullptr ? otherwise : value->get<std::string>();
  }
  reader object(const char* key) const {
    const json* value = find(key);
    if (value == nullptr) return {path_, json::object()};
    if (!value->is_object()) fail(key, "is not an object");
    return {fmt::format("{}: {}", path_, key), *value};
  }

 private:
  std::string path_;
  json json_;
};

rope_scaling read_scaling(const reader& from) {
  rope_scaling scaling;
  const std::string type = from.text("rope_type", from.text("type", "default"));
  if (type == "linear" || type == "llama3") {
    scaling.type = type == "linear" ? rope_scaling::kind::linear : rope_scaling::kind::llama3;
    if (from.find("factor") == nullptr) from.fail("factor", "is missing");
    scaling.factor = from.positive("factor", 1);
    scaling.low_frequency_factor = from.positive("low_freq_factor", 1);
    scaling.high_frequency_factor = from.positive("high_freq_factor", 4);
    scaling.original_context = from.positive("original_max_position_embeddings", 8192);
  } else if (type != "default") {
    from.fail("rope_type", fmt::format("is {}; known are default, linear and llama3", show(type)));
  }
  return scaling;
}

void check_architecture(const reader& from) {
  const std::string type = from.text("model_type", "");
  if (type != "llama") {
    from.fail("model_type", fmt::format("is {}; this runtime knows \"llama\" alone", show(type)));
  }
  if (const json* names = from.find("architectures")) {
    if (*names != json::array({"LlamaForCausalLM"})) {
      from.fail("architectures",
                fmt::format("is {}; this runtime knows LlamaForCausalLM alone", show(names->dump())));
    }
  }
  if (const std::string act = from.text("hidden_act", "silu"); act != "silu") {
    from.fail("hidden_act", fmt::format("is {}; this runtime knows \"silu\" alone", show(act)));
  }
  for (const char* key : {"attention_bias", "mlp_bias"}) {
    if (from.boolean(key, false)) from.fail(key, "is true; this runtime has no biases");
  }
}

}  // namespace

int64_t model_config::block_weights() const {
  return layers *
         (hidden * (query_size() + 2 * key_value_size()) + query_size() * hidden + 3 * hidden * inner);
}

model_config read_config(const std::string& folder) {
  const std::string path = folder + "/config.json";
  const mapped_file file(path);
  json parsed = json::parse(file.text(), nullptr, false);
  if (!parsed.is_object()) throw error(fmt::format("{}: is not a JSON object", path));
  const reader from(path, std::move(parsed));
  check_architecture(from);

  constexpr int64_t most = int64_t{1} << 30;
  model_config config;
  config.hidden = from.integer("hidden_size", 1, most);
  config.inner = from.integer("intermediate_size", 1, most);
  config.layers = from.integer("num_hidden_layers", 1, 1 << 16);
  config.heads = from.integer("num_attention_heads", 1, config.hidden);
  config.key_value_heads = from.integer("num_key_value_heads", 1, config.heads, config.heads);
  config.vocabulary = from.integer("vocab_size", 1, most);
  config.context = from.integer("max_position_embeddings", 2, most);
  if (config.heads % config.key_value_heads != 0) {
    from.fail("num_key_value_heads", fmt::format("is {}, which does not divide the {} of num_attention_heads",
                                                 config.key_value_heads, config.heads));
  }
  config.head_size = from.integer("head_dim", 2, 1 << 12, config.hidden / config.heads);
  if (from.find("head_dim") == nullptr && config.hidden % config.heads != 0) {
    from.fail("hidden_size", fmt::format("is {}, not a multiple of the {} of num_attention_heads",
                                         config.hidden, config.heads));
  }
  if (config.head_size % 2 != 0) {
    from.fail("head_dim", fmt::format("is {}; RoPE turns pairs", config.head_size));
  }
  config.norm_epsilon = static_cast<float>(from.positive("rms_norm_eps", 1e-6));
  // One object in newer files, two keys in older ones.
  const reader rope = from.object("rope_parameters");
  config.rope_theta = rope.positive("rope_theta", from.positive("rope_theta", 10000));
  config.scaling = read_scaling(from.find("rope_parameters") != nullptr ? rope : from.object("rope_scaling"));
  config.tied_embeddings = from.boolean("tie_word_embeddings", false);
  config.bos = static_cast<int32_t>(from.integer("bos_token_id", 0, config.vocabulary - 1, 1));
  if (const json* eos = from.find("eos_token_id")) {
    for (const json& token : eos->is_array() ? *eos : json::array({*eos})) {
      if (!token.is_number_integer()) from.fail("eos_token_id", "is not an integer or a list of them");
      config.eos.push_back(token.get<int32_t>());
    }
  }
  return config;
}

model_config known_shape(const std::string& name) {
  struct shape {
    const char* name;
    int64_t hidden, inner, layers, heads, key_value_heads, vocabulary;
    bool tied;
  };
  // From the models' published configurations.
  constexpr shape shapes[] = {
      {"llama-2-7b", 4096, 11008, 32, 32, 32, 32000, false},
      {"llama-2-13b", 5120, 13824, 40, 40, 40, 32000, false},
      {"llama-2-70b", 8192, 28672, 80, 64, 8, 32000, false},
      {"llama-3-8b", 4096, 14336, 32, 32, 8, 128256, false},
      {"llama-3.2-1b", 2048, 8192, 16, 32, 8, 128256, true},
  };
  std::string names;
  for (const shape& s : shapes) {
    if (name == s.name) {
      model_config config;
      config.hidden = s.hidden;
      config.inner = s.inner;
      config.layers = s.layers;
      config.heads = s.heads;
      config.key_value_heads = s.key_value_heads;
      config.head_size = s.hidden / s.heads;
      config.vocabulary = s.vocabulary;
      config.context = 4096;
      config.tied_embeddings = s.tied;
      return config;
    }
    names += (names.empty() ? "" : ", ") + std::string(s.name);
  }
  throw usage_error(fmt::format("--shape {}: known are {}", show(name), names));
}

std::vector<double> rope_frequencies(const model_config& config) {
  constexpr double pi = 3.14159265358979323846;
  const int64_t pairs = config.head_size / 2;
  std::vector<double> frequencies;
  for (int64_t i = 0; i < pairs; ++i) {
    double f =
        std::pow(config.rope_theta, -static_cast<double>(2 * i) / static_cast<double>(config.head_size));
    const rope_scaling& s = config.scaling;
    if (s.type == rope_scaling::kind::linear) {
      f /= s.factor;
    } else if (s.type == rope_scaling::kind::llama3) {
      // Turns within the original context: few are stretched, many are kept, and between them it is blended.
      const double turns = s.original_context * f / (2 * pi);
      const double keep =
          (turns - s.low_frequency_factor) / (s.high_frequency_factor - s.low_frequency_factor);
      const double kept = keep < 0 ? 0 : keep > 1 ? 1 : keep;
      f = kept * f + (1 - kept) * f / s.factor;
    }
    frequencies.push_back(f);
  }
  return frequencies;
}

}  // namespace llama
