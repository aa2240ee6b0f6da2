// Model folders: every way they may be laid out, and every way they may be broken.
//
// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <filesystem>

#include "cli/program.hpp"
#include "llama/runtime.hpp"
#include "llama/tokenizer.hpp"
#include "llama/weights.hpp"
#include "reference.hpp"
#include "support/catch.hpp"

namespace {

namespace fs = std::filesystem;
using cli_test::contents;
using cli_test::temporary_folder;
using nlohmann::json;

// What loading and running the folder says; "" when nothing is wrong.
std::string problem_of(const std::string& folder) try {
  llama::thread_pool threads(1);
  llama::model_folder source(folder);
  const auto model = llama::make_cpu_runtime(source, {}, {1, 8, 8}, threads);
  const int32_t token = 1;
  model->feed(&token, 1, 1, 0);
  return "";
} catch (const llama::error& problem) {
  return problem.what();
}

std::vector<float> logits_of(const std::string& folder, const llama::quantization& scheme = {}) {
  llama::thread_pool threads(2);
  llama::model_folder source(folder);
  const auto model = llama::make_cpu_runtime(source, scheme, {1, 8, 8}, threads);
  const std::vector<int32_t> tokens = {1, 20, 30, 40};
  model->feed(tokens.data(), 1, 4, 0);
  const float* logits = model->last_logits();
  return {logits, logits + source.config().vocabulary};
}

void copy_model(const std::string& to) {
  for (const char* name : {"config.json", "model.safetensors", "tokenizer.model"}) {
    fs::copy_file(fs::path(FLOATX_MODEL) / name, fs::path(to) / name);
  }
}

}  // namespace

// Guards against errors that do not say what to mend.
TEST_CASE("a wrong config.json is named by its key") {
  const contents tensors = reference::random_tensors(reference::odd_config(), "F32");
  const auto with = [&](const char* key, const json& value) {
    const temporary_folder folder;
    json config = reference::odd_config();
    config[key] = value;
    reference::write_model(folder.path(), config, tensors);
    const std::string problem = problem_of(folder.path());
    INFO(key << ": " << problem);
    CHECK(cli_test::has(problem, "config.json"));
    CHECK(cli_test::has(problem, key));
  };
  with("model_type", "mistral");
  with("architectures", {"MistralForCausalLM"});
  with("hidden_act", "gelu");
  with("attention_bias", true);
  with("hidden_size", "many");
  with("hidden_size", 0);
  with("num_hidden_layers", -1);
  with("num_key_value_heads", 4);
  with("head_dim", 11);
  with("rms_norm_eps", 0);
  with("vocab_size", nullptr);
  with("rope_scaling", {{"rope_type", "yarn"}, {"factor", 4.0}});
  with("bos_token_id", 61);

  const temporary_folder folder;
  CHECK(cli_test::has(problem_of(folder.path()), "config.json"));
  cli_test::write_file(folder / "config.json", "{\"hidden_size\": ");
  CHECK(cli_test::has(problem_of(folder.path()), "not a JSON object"));
  reference::write_model(folder.path(), reference::odd_config(), tensors);
  CHECK(problem_of(folder.path()).empty());
}

// Guards against running on what is not there: a short file, a missing tensor, one of another shape.
TEST_CASE("broken weights are named") {
  const contents whole = reference::random_tensors(reference::odd_config(), "BF16");
  const temporary_folder folder;
  reference::write_model(folder.path(), reference::odd_config(), whole);
  const std::string file = folder / "model.safetensors";
  const std::string bytes = cli_test::read_file(file);

  const size_t cut = GENERATE(size_t{0}, size_t{7}, size_t{100}, size_t{20000});
  cli_test::write_file(file, bytes.substr(0, cut));
  INFO(cut << " bytes: " << problem_of(folder.path()));
  CHECK(cli_test::has(problem_of(folder.path()), "model.safetensors"));
  cli_test::write_file(file, bytes.substr(0, bytes.size() - 1));
  CHECK(cli_test::has(problem_of(folder.path()), "truncated"));
  std::string broken = bytes;
  broken[9] = '?';
  cli_test::write_file(file, broken);
  CHECK(cli_test::has(problem_of(folder.path()), "JSON"));
  fs::remove(file);
  CHECK(cli_test::has(problem_of(folder.path()), "neither"));

  const std::string name = "model.layers.1.mlp.up_proj.weight";
  contents changed = whole;
  changed.tensors.erase(name);
  cli_test::write_safetensors(file, changed);
  CHECK(cli_test::has(problem_of(folder.path()), "\"" + name + "\" is missing"));
  changed = whole;
  std::swap(changed.tensors[name].shape[0], changed.tensors[name].shape[1]);
  cli_test::write_safetensors(file, changed);
  CHECK(cli_test::has(problem_of(folder.path()), name + "\": shape is [52, 76]"));
  changed = whole;
  changed.tensors["model.norm.weight"].dtype = "I16";
  cli_test::write_safetensors(file, changed);
  CHECK(cli_test::has(problem_of(folder.path()), "model.norm.weight"));
}

// Guards against shards that are read as if each were the whole.
TEST_CASE("shards with an index are one model") {
  const contents whole = reference::random_tensors(reference::odd_config(), "F16");
  const temporary_folder one, many;
  reference::write_model(one.path(), reference::odd_config(), whole);
  const std::vector<float> expected = logits_of(one.path());

  cli_test::write_file(many / "config.json", reference::odd_config().dump());
  contents shards[3];
  json map;
  size_t i = 0;
  for (const auto& [name, tensor] : whole.tensors) {
    shards[i % 3].tensors[name] = tensor;
    map[name] = "part-" + std::to_string(i++ % 3) + ".safetensors";
  }
  const auto write_index = [&](const json& weight_map) {
    cli_test::write_file(many / "model.safetensors.index.json", json{{"weight_map", weight_map}}.dump());
  };
  for (int s = 0; s < 3; ++s) {
    cli_test::write_safetensors(many / ("part-" + std::to_string(s) + ".safetensors"), shards[s]);
  }
  write_index(map);
  CHECK(logits_of(many.path()) == expected);

  map["model.norm.weight"] = "../elsewhere.safetensors";
  write_index(map);
  CHECK(cli_test::has(problem_of(many.path()), "is not a file name"));
  map["model.norm.weight"] = "part-9.safetensors";
  write_index(map);
  CHECK(cli_test::has(problem_of(many.path()), "part-9"));
}

// Guards against reading the codes, the scales or the metadata of `floatx quantize` as anything else than
// what quantizing on the fly gives.
TEST_CASE("what floatx quantize wrote runs as if quantized on the fly") {
  struct scheme {
    std::vector<std::string> options;
    llama::quantization same;
  };
  const scheme schemes[] = {{{"--format", "e3m2"}, {FLOATX_FORMAT_E3M2, 0, FLOATX_SCALE_F32}},
                            {{"--format", "e2m0", "--group-size", "32", "--scale-type", "f16"},
                             {FLOATX_FORMAT_E2M0, 32, FLOATX_SCALE_F16}},
                            {{"--format", "mxfp4"}, {FLOATX_FORMAT_E2M1, 32, FLOATX_SCALE_E8M0}},
                            {{"--format", "nvfp4"}, {FLOATX_FORMAT_E2M1, 16, FLOATX_SCALE_E4M3FN}}};
  for (const scheme& s : schemes) {
    const temporary_folder folder;
    std::vector<std::string> arguments = {"quantize", FLOATX_MODEL, folder / "out", "--quiet"};
    arguments.insert(arguments.end(), s.options.begin(), s.options.end());
    const cli_test::outcome result = cli_test::run(arguments);
    INFO(cli_test::describe(result));
    REQUIRE(result.status == 0);
    llama::model_folder source(folder / "out");
    REQUIRE(source.quantized());
    CHECK(source.quantized()->name() == s.same.name());
    CHECK(logits_of(folder / "out") == logits_of(FLOATX_MODEL, s.same));
  }
}

// Guards against metadata that lead past the end of a tensor.
TEST_CASE("broken quantized tensors are named") {
  const temporary_folder folder;
  REQUIRE(cli_test::run({"quantize", FLOATX_MODEL, folder / "out", "--quiet"}).status == 0);
  const std::string file = folder / "out" + "/model.safetensors";
  const contents good = cli_test::read_safetensors(file);
  const std::string name = "model.layers.0.mlp.up_proj.weight";
  const auto with = [&](const std::function<void(json&)>& change) {
    contents changed = good;
    json meta = good.quantization();
    change(meta);
    changed.metadata["floatx"] = meta.dump();
    cli_test::write_safetensors(file, changed);
    return problem_of(folder / "out");
  };
  CHECK(with([](json&) {}).empty());
  CHECK(cli_test::has(with([](json& m) { m["version"] = 2; }), "version"));
  CHECK(cli_test::has(with([](json& m) { m["format"] = "e9m9"; }), "format"));
  CHECK(cli_test::has(with([](json& m) { m["group_size"] = 17; }), "group_size"));
  CHECK(cli_test::has(with([](json& m) { m["scale_type"] = "f64"; }), "scale_type"));
  CHECK(cli_test::has(with([&](json& m) { m["tensors"][name]["shape"] = {768}; }), name));
  CHECK(cli_test::has(with([&](json& m) { m["tensors"][name]["shape"] = {768, 512}; }), name));
  CHECK(cli_test::has(with([](json& m) { m["format"] = "e2m1"; }), "_packed"));
  contents without = good;
  without.tensors.erase(name + "_scale");
  cli_test::write_safetensors(file, without);
  CHECK(cli_test::has(problem_of(folder / "out"), name + "_scale\" is missing"));
}

// Guards against a tokenizer that is missing, broken or another model's.
TEST_CASE("a wrong tokenizer is named") {
  const temporary_folder folder;
  const auto problem = [&](int64_t vocabulary) -> std::string {
    try {
      const llama::tokenizer text(folder.path(), vocabulary);
      return "";
    } catch (const llama::error& error) {
      return error.what();
    }
  };
  CHECK(cli_test::has(problem(2048), "tokenizer.model"));
  cli_test::write_file(folder / "tokenizer.model", "nothing of the kind");
  CHECK(cli_test::has(problem(2048), "tokenizer.model"));
  fs::remove(folder / "tokenizer.model");
  copy_model(folder.path());
  CHECK(problem(2048).empty());
  CHECK(cli_test::has(problem(2047), "vocab_size"));
  const llama::tokenizer text(folder.path(), 2048);
  CHECK(text.decode(text.encode("It was a dark night.")) == "It was a dark night.");
}
