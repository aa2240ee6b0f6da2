// SPDX-License-Identifier: Apache-2.0
#include "reference.hpp"

#include <cmath>

namespace reference {
namespace {

bool is_block_linear(const std::string& name) { return name.find("_proj.weight") != std::string::npos; }

// Every value of e3m2 that is not negative, in the order of the codes: bias 3, exponent field 0 subnormal.
values e3m2_values() {
  values all;
  for (int code = 0; code < 32; ++code) {
    const int exponent = code >> 2, mantissa = code & 3;
    all.push_back(exponent == 0 ? std::ldexp(mantissa, -4) : std::ldexp(4 + mantissa, exponent - 5));
  }
  return all;
}

// Nearest, ties to the even code.
double rounded(const values& codes, double value) {
  const double magnitude = std::fabs(value);
  size_t best = 0;
  for (size_t code = 1; code < codes.size(); ++code) {
    const double now = std::fabs(codes[code] - magnitude);
    const double before = std::fabs(codes[best] - magnitude);
    if (now < before || (now == before && code % 2 == 0)) best = code;
  }
  return std::copysign(codes[best], value);
}

// The nearest FP16 of a normal number.
double to_f16(double value) {
  int exponent = 0;
  const double fraction = std::frexp(value, &exponent);
  return std::ldexp(std::nearbyint(std::ldexp(fraction, 11)), exponent - 11);
}

}  // namespace

model model::load(const std::string& folder) {
  model m;
  m.config = nlohmann::json::parse(cli_test::read_file(folder + "/config.json"));
  for (const auto& [name, tensor] : cli_test::read_safetensors(folder + "/model.safetensors").tensors) {
    m.tensors[name] = cli_test::as_f32(tensor);
  }
  return m;
}

void model::quantize_e3m2() {
  const values codes = e3m2_values();
  for (auto& [name, w] : tensors) {
    if (!is_block_linear(name)) continue;
    const auto k = static_cast<size_t>(name.find("down") != std::string::npos ? number("intermediate_size")
                                       : name.find("o_proj") != std::string::npos
                                           ? number("num_attention_heads") * number("head_dim")
                                           : number("hidden_size"));
    for (size_t row = 0; row < w.size(); row += k) {
      float largest = 1e-12F;
      for (size_t i = 0; i < k; ++i) largest = std::fmax(largest, std::fabs(w[row + i]));
      const auto scale = static_cast<float>(to_f16(double{largest / 28.0F}));
      for (size_t i = 0; i < k; ++i) {
        // The quotient is rounded to FP32 first, as the rule has it.
        w[row + i] = static_cast<float>(rounded(codes, double{w[row + i] / scale})) * scale;
      }
    }
  }
}

values model::rounded_activations(values x) const {
  for (double& v : x) v = half_activations ? to_f16(v) : v;
  return x;
}

values model::linear(const std::string& name, const values& input) const {
  const values x = rounded_activations(input);
  const std::vector<float>& w = tensors.at(name);
  values y(w.size() / x.size(), 0.0);
  for (size_t n = 0; n < y.size(); ++n) {
    for (size_t k = 0; k < x.size(); ++k) y[n] += double{w[n * x.size() + k]} * x[k];
  }
  return rounded_activations(std::move(y));
}

values model::norm(const std::string& name, const values& x) const {
  double squares = 0;
  for (const double v : x) squares += v * v;
  const double rms =
      std::sqrt(squares / static_cast<double>(x.size()) + config.at("rms_norm_eps").get<double>());
  values out;
  for (size_t i = 0; i < x.size(); ++i) out.push_back(x[i] / rms * double{tensors.at(name)[i]});
  return out;
}

void model::turn(values& heads, int64_t count, int64_t position) const {
  const int64_t size = number("head_dim");
  for (int64_t h = 0; h < count; ++h) {
    for (int64_t i = 0; i < size / 2; ++i) {
      const double frequency = std::pow(config.at("rope_theta").get<double>(),
                                        -2.0 * static_cast<double>(i) / static_cast<double>(size));
      const double angle = static_cast<double>(position) * frequency;
      double& a = heads[static_cast<size_t>(h * size + i)];
      double& b = heads[static_cast<size_t>(h * size + i + size / 2)];
      const double was = a;
      a = was * std::cos(angle) - b * std::sin(angle);
      b = b * std::cos(angle) + was * std::sin(angle);
    }
  }
}

std::vector<values> model::logits(const std::vector<int32_t>& tokens) const {
  const int64_t hidden = number("hidden_size"), heads = number("num_attention_heads"),
                size = number("head_dim");
  const int64_t key_heads = number("num_key_value_heads");
  std::vector<values> x;
  for (const int32_t token : tokens) {
    const float* row = tensors.at("model.embed_tokens.weight").data() + token * hidden;
    x.emplace_back(row, row + hidden);
  }
  for (int64_t layer = 0; layer < number("num_hidden_layers"); ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    std::vector<values> keys, all_values;
    for (size_t t = 0; t < x.size(); ++t) {
      const values normed = norm(prefix + "input_layernorm.weight", x[t]);
      values query = linear(prefix + "self_attn.q_proj.weight", normed);
      keys.push_back(linear(prefix + "self_attn.k_proj.weight", normed));
      all_values.push_back(linear(prefix + "self_attn.v_proj.weight", normed));
      turn(query, heads, static_cast<int64_t>(t));
      turn(keys.back(), key_heads, static_cast<int64_t>(t));
      values attended(query.size(), 0.0);
      for (int64_t h = 0; h < heads; ++h) {
        const int64_t from = h / (heads / key_heads) * size;
        values weights;
        double sum = 0;
        for (size_t s = 0; s <= t; ++s) {
          double score = 0;
          for (int64_t i = 0; i < size; ++i) {
            score += query[static_cast<size_t>(h * size + i)] * keys[s][static_cast<size_t>(from + i)];
          }
          weights.push_back(std::exp(score / std::sqrt(static_cast<double>(size))));
          sum += weights.back();
        }
        for (size_t s = 0; s <= t; ++s) {
          for (int64_t i = 0; i < size; ++i) {
            attended[static_cast<size_t>(h * size + i)] +=
                weights[s] / sum * all_values[s][static_cast<size_t>(from + i)];
          }
        }
      }
      const values out = linear(prefix + "self_attn.o_proj.weight", attended);
      for (size_t i = 0; i < out.size(); ++i) x[t][i] += out[i];
      const values second = norm(prefix + "post_attention_layernorm.weight", x[t]);
      values inner = linear(prefix + "mlp.gate_proj.weight", second);
      const values up = linear(prefix + "mlp.up_proj.weight", second);
      for (size_t i = 0; i < inner.size(); ++i) inner[i] = inner[i] / (1 + std::exp(-inner[i])) * up[i];
      const values down = linear(prefix + "mlp.down_proj.weight", inner);
      for (size_t i = 0; i < down.size(); ++i) x[t][i] += down[i];
    }
  }
  std::vector<values> out;
  const bool tied = config.at("tie_word_embeddings").get<bool>();
  for (const values& state : x) {
    out.push_back(
        linear(tied ? "model.embed_tokens.weight" : "lm_head.weight", norm("model.norm.weight", state)));
  }
  return out;
}

cli_test::contents random_tensors(const nlohmann::json& config, const std::string& dtype) {
  cli_test::contents made;
  uint32_t seed = 1;
  const auto add = [&](const std::string& name, uint64_t n, uint64_t k) {
    made.tensors[name] = cli_test::random_tensor(dtype, n, k, seed++);
  };
  const auto number = [&](const char* key) { return config.at(key).get<uint64_t>(); };
  const uint64_t hidden = number("hidden_size"), inner = number("intermediate_size");
  const uint64_t query = number("num_attention_heads") * number("head_dim");
  const uint64_t key = number("num_key_value_heads") * number("head_dim");
  const auto add_norm = [&](const std::string& name) {
    add(name, 1, hidden);
    made.tensors[name].shape = {hidden};
  };
  add("model.embed_tokens.weight", number("vocab_size"), hidden);
  for (uint64_t layer = 0; layer < number("num_hidden_layers"); ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    add_norm(prefix + "input_layernorm.weight");
    add(prefix + "self_attn.q_proj.weight", query, hidden);
    add(prefix + "self_attn.k_proj.weight", key, hidden);
    add(prefix + "self_attn.v_proj.weight", key, hidden);
    add(prefix + "self_attn.o_proj.weight", hidden, query);
    add_norm(prefix + "post_attention_layernorm.weight");
    add(prefix + "mlp.gate_proj.weight", inner, hidden);
    add(prefix + "mlp.up_proj.weight", inner, hidden);
    add(prefix + "mlp.down_proj.weight", hidden, inner);
  }
  add_norm("model.norm.weight");
  if (!config.at("tie_word_embeddings").get<bool>()) add("lm_head.weight", number("vocab_size"), hidden);
  return made;
}

void write_model(const std::string& folder, const nlohmann::json& config, const cli_test::contents& tensors) {
  cli_test::write_file(folder + "/config.json", config.dump());
  cli_test::write_safetensors(folder + "/model.safetensors", tensors);
}

nlohmann::json odd_config() {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"model_type", "llama"},
          {"hidden_size", 52},
          {"intermediate_size", 76},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 6},
          {"num_key_value_heads", 3},
          {"head_dim", 10},
          {"vocab_size", 61},
          {"max_position_embeddings", 40},
          {"rms_norm_eps", 1e-5},
          {"rope_theta", 500.0},
          {"hidden_act", "silu"},
          {"tie_word_embeddings", false},
          {"bos_token_id", 1},
          {"eos_token_id", {2, 3}}};
}

}  // namespace reference
