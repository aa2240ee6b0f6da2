// Files that are broken or in the way; several shards; folders.
//
// SPDX-License-Identifier: Apache-2.0
#include <sys/stat.h>

#include "cli/program.hpp"
#include "support/catch.hpp"

using namespace cli_test;
namespace fs = std::filesystem;

namespace {

using names = std::vector<std::string>;

contents small_model(uint32_t seed = 1) {
  contents c;
  c.metadata = {{"format", "pt"}};
  c.tensors["a.weight"] = random_tensor("BF16", 8, 32, seed);
  c.tensors["b.bias"] = random_tensor("F32", 1, 5, seed + 1);
  return c;
}

void write_index(const temporary_folder& folder, const std::string& below, const nlohmann::json& map) {
  write_file(folder / (below + "/model.safetensors.index.json"),
             nlohmann::json{{"metadata", {{"total_size", 1}, {"note", "kept"}}}, {"weight_map", map}}.dump());
}

// Two shards with an index, and what else lies in the folder of a model.
void write_sharded(const temporary_folder& folder, const std::string& below) {
  fs::create_directory(folder / below);
  contents first;
  first.tensors["a.weight"] = random_tensor("BF16", 8, 32, 1);
  first.tensors["a.bias"] = random_tensor("F32", 1, 8, 2);
  contents second;
  second.tensors["b.weight"] = random_tensor("F16", 16, 8, 3);
  write_safetensors(folder / (below + "/model-00001-of-00002.safetensors"), first);
  write_safetensors(folder / (below + "/model-00002-of-00002.safetensors"), second);
  write_index(folder, below,
              {{"a.weight", "model-00001-of-00002.safetensors"},
               {"a.bias", "model-00001-of-00002.safetensors"},
               {"b.weight", "model-00002-of-00002.safetensors"}});
  write_file(folder / (below + "/config.json"), "{}");
  write_file(folder / (below + "/tokenizer.json"), "tokens");
  write_file(folder / (below + "/pytorch_model.bin"), "other weights");
  write_file(folder / (below + "/.hidden"), "");
}

}  // namespace

TEST_CASE("files that are no safetensors files: one line, status 1, nothing written") {
  // Risk: a broken download becomes a model that looks fine. The reader's own rules are tested one by one
  // elsewhere; this is about every command passing them on.
  const temporary_folder folder;
  const std::string good = [&] {
    write_safetensors(folder / "good", small_model());
    return read_file(folder / "good");
  }();
  fs::remove(folder / "good");
  const auto with_header = [](const std::string& header, size_t data) {
    const uint64_t length = header.size();
    return std::string(reinterpret_cast<const char*>(&length), 8) + header + std::string(data, 'd');
  };
  const struct {
    const char* what;
    std::string content;
    const char* message;
  } cases[] = {
      {"empty", "", "0 bytes"},
      {"truncated in the header", good.substr(0, 60), "the file is truncated"},
      {"truncated in the data", good.substr(0, good.size() - 1), "data_offsets"},
      {"header longer than the file", std::string("\xff\xff\0\0\0\0\0\0{}", 10), "header length 65535"},
      {"absurd header length", std::string(8, '\xff') + "{}", "above the limit"},
      {"invalid JSON", with_header("{\"a\":}", 0), "not valid JSON"},
      {"overlapping offsets",
       with_header(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],)"
                   R"("data_offsets":[2,6]}})",
                   6),
       "overlap"},
      {"offsets out of range", with_header(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 2),
       "within the 2 bytes"},
      {"duplicate names",
       with_header(R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[0],)"
                   R"("data_offsets":[0,0]}})",
                   0),
       "appears twice"},
      {"unknown dtype", with_header(R"({"a":{"dtype":"F31","shape":[0],"data_offsets":[0,0]}})", 0),
       "unknown dtype"},
      {"no tensors", with_header("{}", 0), ""},
  };
  for (const auto& c : cases) {
    INFO(c.what);
    write_file(folder / "in.safetensors", c.content);
    for (const char* command : {"quantize", "dequantize"}) {
      const outcome result = run({command, folder / "in.safetensors", folder / "out.safetensors"});
      INFO(describe(result));
      CHECK(failed_with(result, 1, "in.safetensors: "));
      CHECK(has(result.err, c.message));
      CHECK(folder.entries() == names{"in.safetensors"});
    }
    const outcome result = run({"inspect", folder / "in.safetensors"});
    INFO(describe(result));
    CHECK((result.status == 0) == (std::string(c.what) == "no tensors"));
  }
  CHECK(failed_with(run({"inspect", folder / "absent"}), 1, "absent: cannot open: No such file"));
  CHECK(failed_with(run({"inspect", "/dev/null"}), 1, "not a regular file"));
  REQUIRE(mkfifo((folder / "pipe").c_str(), 0600) == 0);
  CHECK(failed_with(run({"inspect", folder / "pipe"}), 1, "not a regular file"));
}

TEST_CASE("quantize: nothing to do, done already, names in the way") {
  // Risk: success is reported and nothing was quantized, or a tensor is silently replaced.
  const temporary_folder folder;
  contents c = small_model();
  const auto attempt = [&](const std::vector<std::string>& more = {}) {
    write_safetensors(folder / "in.safetensors", c);
    std::vector<std::string> arguments = {"quantize", folder / "in.safetensors", folder / "out.safetensors"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run(arguments);
  };
  CHECK(failed_with(attempt({"--include", "nothing"}), 1, "no tensor to quantize among 2"));
  c.tensors["a.weight_scale"] = random_tensor("F32", 1, 1, 1);
  CHECK(failed_with(attempt(), 1, "tensor 'a.weight_scale' is in the way"));
  c.tensors.erase("a.weight_scale");
  c.tensors["ints.weight"] = {"I8", {2, 2}, "abcd"};
  c.tensors["fp8.weight"] = {"F8_E4M3", {2, 2}, "abcd"};
  const outcome noted = attempt();
  INFO(describe(noted));
  CHECK(noted.status == 0);
  CHECK(has(noted.err, "note: tensor 'ints.weight' stays as it is: I8 [2, 2]"));
  CHECK(has(noted.err, "note: tensor 'fp8.weight' stays as it is: F8_E4M3 [2, 2]"));
  CHECK(failed_with(run({"quantize", folder / "out.safetensors", folder / "again.safetensors"}), 1,
                    "is quantized already"));
  CHECK(failed_with(run({"dequantize", folder / "in.safetensors", folder / "back.safetensors"}), 1,
                    "nothing to dequantize"));
  CHECK(folder.entries() == names{"in.safetensors", "out.safetensors"});
}

TEST_CASE("quantized files whose metadata and tensors disagree are refused") {
  // Risk: codes are read with the wrong shape or format, past the end of a tensor.
  const temporary_folder folder;
  write_safetensors(folder / "in.safetensors", small_model());
  REQUIRE(run({"quantize", folder / "in.safetensors", folder / "q.safetensors"}).status == 0);
  const contents good = read_safetensors(folder / "q.safetensors");
  const auto refused = [&](const std::function<void(contents&, nlohmann::json&)>& damage,
                           const std::string& message) {
    contents c = good;
    nlohmann::json about = good.quantization();
    damage(c, about);
    if (about.is_object()) {
      c.metadata["floatx"] = about.dump();
    }
    write_safetensors(folder / "bad.safetensors", c);
    bool all = true;
    for (const std::vector<std::string>& command :
         {std::vector<std::string>{"dequantize", folder / "bad.safetensors", folder / "back.safetensors"},
          std::vector<std::string>{"inspect", folder / "bad.safetensors"},
          std::vector<std::string>{"compare", folder / "in.safetensors", folder / "bad.safetensors"}}) {
      const outcome result = run(command);
      INFO(describe(result));
      CHECK(failed_with(result, 1, message));
      all = all && failed_with(result, 1, message);
    }
    return all;
  };
  using json = nlohmann::json;
  CHECK(
      refused([](contents& c, json&) { c.tensors.erase("a.weight_scale"); }, "'a.weight_scale' is missing"));
  CHECK(refused([](contents& c, json&) { c.tensors.erase("a.weight_packed"); },
                "'a.weight_packed' is missing"));
  CHECK(refused(
      [](contents&, json& about) {
        about["tensors"]["a.weight"]["shape"] = {8, 33};
      },
      "U8 [8, 24], where U8 [8, 25] belongs"));
  CHECK(refused([](contents&, json& about) { about["tensors"]["a.weight"]["shape"] = {9, 32}; }, "belongs"));
  CHECK(refused(
      [](contents&, json& about) {
        about["tensors"]["a.weight"]["shape"] = {0, 32};
      },
      "from 1 to"));
  CHECK(refused(
      [](contents&, json& about) {
        about["tensors"]["a.weight"]["shape"] = {-8, 32};
      },
      "from 1 to"));
  CHECK(refused(
      [](contents&, json& about) {
        about["tensors"]["a.weight"]["shape"] = {8, 1e99};
      },
      "from 1 to"));
  CHECK(refused([](contents&, json& about) { about["tensors"]["a.weight"]["shape"] = "8x32"; },
                "is not [n, k]"));
  CHECK(refused([](contents&, json& about) { about["tensors"] = 1; }, "tensors is not an object"));
  CHECK(refused([](contents&, json& about) { about["format"] = "e2m1"; }, "belongs"));
  CHECK(refused([](contents&, json& about) { about["format"] = "e9m9"; }, "unknown format 'e9m9'"));
  CHECK(refused([](contents&, json& about) { about["format"] = 1; }, "not a string"));
  CHECK(refused([](contents&, json& about) { about["group_size"] = 16; }, "belongs"));
  CHECK(refused([](contents&, json& about) { about["group_size"] = 17; }, "quantized tensor 'a.weight'"));
  CHECK(refused([](contents&, json& about) { about["scale_type"] = "f16"; }, "belongs"));
  CHECK(refused([](contents&, json& about) { about["scale_type"] = "f15"; }, "unknown scale_type"));
  CHECK(refused([](contents&, json& about) { about["version"] = 2; }, "version is '2'"));
  CHECK(refused([](contents&, json& about) { about.erase("version"); }, "version is missing"));
  CHECK(refused(
      [](contents& c, json& about) {
        c.metadata["floatx"] = "{";
        about = 0;
      },
      "is not a JSON object"));
  // A weight that is there twice could not be written back.
  contents both = good;
  both.tensors["a.weight"] = random_tensor("BF16", 8, 32, 1);
  write_safetensors(folder / "bad.safetensors", both);
  CHECK(failed_with(run({"dequantize", folder / "bad.safetensors", folder / "back.safetensors"}), 1,
                    "both quantized and not"));
  CHECK(!fs::exists(folder / "back.safetensors"));
}

TEST_CASE("the input is never overwritten") {
  // Risk: the only copy of the weights is replaced by its own quantization.
  const temporary_folder folder;
  fs::create_directory(folder / "m");
  write_safetensors(folder / "m/model.safetensors", small_model());
  const std::string before = read_file(folder / "m/model.safetensors");
  fs::create_symlink(folder / "m/model.safetensors", folder / "soft.safetensors");
  fs::create_hard_link(folder / "m/model.safetensors", folder / "hard.safetensors");
  fs::create_directory_symlink(folder / "m", folder / "link");
  const std::string file = folder / "m/model.safetensors";
  for (const std::string& out : {file, folder / "m/../m/model.safetensors", folder / "soft.safetensors",
                                 folder / "hard.safetensors", folder / "m", folder / "link"}) {
    INFO(out);
    CHECK(failed_with(run({"quantize", file, out}), 1, "would be lost"));
  }
  CHECK(failed_with(run({"quantize", folder / "m", folder / "m"}), 1, "would be lost"));
  CHECK(failed_with(run({"quantize", folder / "m", folder / "link"}), 1, "would be lost"));
  CHECK(failed_with(run({"quantize", file, folder / "o.safetensors", "--json", file}), 1, "would be lost"));
  CHECK(failed_with(run({"quantize", file, folder / "o.safetensors", "--json", folder / "o.safetensors"}), 1,
                    "also the name of the output"));
  CHECK(read_file(file) == before);
  CHECK(folder.entries("m") == names{"model.safetensors"});
  CHECK(folder.entries() == names{"hard.safetensors", "link", "m", "soft.safetensors"});
}

TEST_CASE("several shards: a folder with an index, and one file") {
  // Risk: a shard is dropped, or the index sends readers to the wrong one.
  const temporary_folder folder;
  write_sharded(folder, "in");
  outcome result = run({"quantize", folder / "in", folder / "out"});
  INFO(describe(result));
  REQUIRE(result.status == 0);
  CHECK(folder.entries("out") == names{"config.json", "model-00001-of-00002.safetensors",
                                       "model-00002-of-00002.safetensors", "model.safetensors.index.json",
                                       "tokenizer.json"});
  CHECK(read_file(folder / "out/tokenizer.json") == "tokens");
  const nlohmann::json index = nlohmann::json::parse(read_file(folder / "out/model.safetensors.index.json"));
  CHECK(index["metadata"]["note"] == "kept");
  size_t total = 0;
  size_t listed = 0;
  for (const char* part : {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}) {
    const contents c = read_safetensors(folder / (std::string("out/") + part));
    for (const auto& [name, t] : c.tensors) {
      CHECK(index["weight_map"].at(name) == part);
      total += t.data.size();
      ++listed;
    }
    CHECK(c.quantization()["tensors"].size() == 1);
  }
  CHECK(index["weight_map"].size() == listed);
  CHECK(index["metadata"]["total_size"] == total);

  result = run({"dequantize", folder / "out", folder / "back"});
  INFO(describe(result));
  REQUIRE(result.status == 0);
  CHECK(folder.entries("back") == folder.entries("out"));
  CHECK(run({"inspect", folder / "back"}).status == 0);
  CHECK(read_safetensors(folder / "back/model-00002-of-00002.safetensors").tensors.at("b.weight").dtype ==
        "F16");

  // The same tensors in one file, from the folder and from the shards by name.
  REQUIRE(run({"quantize", folder / "in", folder / "one.safetensors"}).status == 0);
  REQUIRE(run({"quantize", folder / "in/model-00001-of-00002.safetensors",
               folder / "in/model-00002-of-00002.safetensors", folder / "two.safetensors"})
              .status == 0);
  CHECK((read_file(folder / "one.safetensors") == read_file(folder / "two.safetensors")));
  const contents one = read_safetensors(folder / "one.safetensors");
  CHECK(one.tensors.size() == listed);
  CHECK(one.quantization()["tensors"].size() == 2);
  for (const char* part : {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}) {
    for (const auto& [name, t] : read_safetensors(folder / (std::string("out/") + part)).tensors) {
      CHECK((one.tensors.at(name).data == t.data));
    }
  }
  // Shards given by name get an index when they go to a folder.
  REQUIRE(run({"quantize", folder / "in/model-00001-of-00002.safetensors",
               folder / "in/model-00002-of-00002.safetensors", folder / "named"})
              .status == 0);
  CHECK(folder.entries("named") == names{"model-00001-of-00002.safetensors",
                                         "model-00002-of-00002.safetensors", "model.safetensors.index.json"});
}

TEST_CASE("shards that do not fit together are refused, and so are folders of other models") {
  // Risk: two models are mixed up.
  const temporary_folder folder;
  write_sharded(folder, "in");
  contents other;
  other.metadata = {{"format", "tf"}};
  other.tensors["c.weight"] = random_tensor("F32", 2, 2, 1);
  write_safetensors(folder / "tf.safetensors", other);
  write_safetensors(folder / "pt.safetensors", small_model());
  CHECK(failed_with(
      run({"quantize", folder / "tf.safetensors", folder / "pt.safetensors", folder / "o.safetensors"}), 1,
      "__metadata__ 'format' differs"));
  CHECK(failed_with(run({"quantize", folder / "pt.safetensors", folder / "pt.safetensors", folder / "o"}), 1,
                    "given twice"));
  CHECK(failed_with(run({"quantize", folder / "in/model-00001-of-00002.safetensors",
                         folder / "pt.safetensors", folder / "o"}),
                    1, "tensor 'a.weight' is also in"));
  CHECK(!fs::exists(folder / "o"));
  CHECK(!fs::exists(folder / "o.safetensors"));

  fs::create_directory(folder / "used");
  write_safetensors(folder / "used/model.safetensors", small_model(9));
  const std::string before = read_file(folder / "used/model.safetensors");
  CHECK(failed_with(run({"quantize", folder / "in", folder / "used"}), 1, "belongs to another model"));
  CHECK(folder.entries("used") == names{"model.safetensors"});
  CHECK(read_file(folder / "used/model.safetensors") == before);
  write_file(folder / "plain", "x");
  CHECK(failed_with(run({"quantize", folder / "in", folder / "plain"}), 1, "exists and is not a folder"));
  CHECK(failed_with(run({"quantize", folder / "in", folder / "no/such/place"}), 1, "cannot make the folder"));
  CHECK(failed_with(run({"quantize", folder / "tf.safetensors", folder / "no/such/o.safetensors"}), 1,
                    "cannot write to its folder"));
}
