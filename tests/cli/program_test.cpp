// The program itself: its command line, its exit statuses, and the commands that only look.
//
// SPDX-License-Identifier: Apache-2.0
#include "cli/program.hpp"

#include <cmath>

#include "floatx.h"
#include "support/catch.hpp"

using namespace cli_test;

TEST_CASE("the command line: help, version, and mistakes") {
  // Risk: a script goes on after a command that did nothing.
  const outcome help = run({"--help"});
  CHECK(help.status == 0);
  CHECK(help.err.empty());
  for (const char* command : {"quantize", "dequantize", "inspect", "compare", "formats", "bench"}) {
    INFO(command);
    CHECK(has(help.out, command));
    const outcome more = run({command, "--help"});
    CHECK(more.status == 0);
    CHECK(has(more.out, "Usage: floatx " + std::string(command)));
  }
  CHECK(has(run({"quantize", "--help"}).out, "Examples:"));
  CHECK(has(run({"quantize", "--help"}).out, "IN... OUT"));
  const outcome version = run({"--version"});
  CHECK(version.status == 0);
  CHECK(version.out == "floatx " + std::string(floatx_version_string()) + "\n");

  const struct {
    std::vector<std::string> arguments;
    const char* message;
  } mistakes[] = {
      {{}, "subcommand"},
      {{"quantise"}, "subcommand"},
      {{"quantize"}, "required"},
      {{"quantize", "only-one"}, "2 required"},
      {{"quantize", "in", "out", "--format", "e9m9"}, "unknown format"},
      {{"quantize", "in", "out", "--format", "a\nb"}, "a\\x0ab"},
      {{"quantize", "in", "out", "--group-size", "17"}, "17"},
      {{"quantize", "in", "out", "--group-size", "-16"}, "-16"},
      {{"quantize", "in", "out", "--group-size", "many"}, "many"},
      {{"quantize", "in", "out", "--scale-type", "f8"}, "f8"},
      {{"quantize", "in", "out", "--scale-rule", "none"}, "none"},
      {{"quantize", "in", "out", "--exponent-rule", "up"}, "up"},
      {{"quantize", "in", "out", "--exponent-rule", "ceil"}, "--exponent-rule is for --scale-type e8m0"},
      {{"quantize", "in", "out", "--scale-type", "e8m0", "--scale-rule", "unrounded"},
       "is not for --scale-type e8m0"},
      {{"quantize", "in", "out", "--allow-wider-scales"}, "is for --scale-type f16"},
      {{"quantize", "in", "out", "--format", "nvfp4", "--group-size", "32"}, "fixes --group-size 16"},
      {{"quantize", "in", "out", "--format", "mxfp4", "--scale-type", "f32"}, "fixes --group-size 32"},
      {{"quantize", "in", "out", "--include", "("}, "not a regular expression"},
      {{"quantize", "in", "out", "--exclude", "["}, "not a regular expression"},
      {{"quantize", "in", "out", "--jobs", "0"}, "--jobs"},
      {{"quantize", "in", "out", "--unknown"}, "--unknown"},
      {{"dequantize", "in", "out", "--dtype", "f64"}, "f64"},
      {{"compare", "one"}, "2"},
      {{"bench", "--shape", "12y34"}, "neither NxK"},
      {{"bench", "--shape", "0x34"}, "neither NxK"},
      {{"bench", "--shape", "8x8x8"}, "neither NxK"},
      {{"bench", "--format", "e9m9"}, "unknown format"},
      {{"bench", "--m", "0"}, "--m"},
      {{"bench", "--group-size", "0,17"}, "17"},
      {{"bench", "--type", "f32,f16"}, "one type"},
      {{"bench", "--chain"}, "--cuda"},
  };
  for (const auto& m : mistakes) {
    const outcome result = run(m.arguments);
    INFO(describe(result));
    CHECK(failed_with(result, 2, m.message));
    CHECK(result.out.empty());
  }
}

TEST_CASE("formats: the table is the library's") {
  // Risk: a format is missing from the list, or described with another one's numbers.
  const temporary_folder folder;
  const outcome result = run({"formats", "--json", folder / "formats.json"});
  INFO(describe(result));
  REQUIRE(result.status == 0);
  const nlohmann::json list = nlohmann::json::parse(read_file(folder / "formats.json"));
  REQUIRE(list.size() == floatx_format_count());
  for (size_t i = 0; i < list.size(); ++i) {
    floatx_format_info info = {};
    info.struct_size = sizeof info;
    REQUIRE(floatx_format_describe(floatx_format_list()[i], &info) == FLOATX_STATUS_OK);
    CHECK(list[i]["name"] == info.name);
    CHECK(list[i]["max"] == info.max);
    CHECK(has(result.out, "\n" + std::string(info.name) + " "));
  }
  // Exact, where seven digits are not: 2^32 is 4294967296.
  CHECK(has(result.out, "    2^32"));
  CHECK(has(result.out, "    2^-30"));
  CHECK(has(result.out, "nvfp4: e2m1, group 16, e4m3fn scales"));
}

TEST_CASE("inspect: lists what is there") {
  // Risk: the list leaves something out, or runs escape sequences that a file brought along.
  const temporary_folder folder;
  contents c;
  c.metadata = {{"who", "a\x1b[31mb"}};
  c.tensors["x.weight"] = random_tensor("BF16", 8, 32, 1);
  c.tensors["n\x1b[2J"] = {"U8", {}, "u"};
  write_safetensors(folder / "in.safetensors", c);
  outcome result = run({"inspect", folder / "in.safetensors"});
  INFO(describe(result));
  CHECK(result.status == 0);
  CHECK(has(result.out, "8 x 32"));
  CHECK(has(result.out, "a\\x1b[31mb"));
  CHECK(has(result.out, "n\\x1b[2J"));
  CHECK(!has(result.out, "\x1b"));
  CHECK(has(result.out, "2 tensors in 1 file"));

  REQUIRE(
      run({"quantize", folder / "in.safetensors", folder / "q.safetensors", "--format", "mxfp4"}).status ==
      0);
  result = run({"inspect", folder / "q.safetensors", "--json", folder / "q.json"});
  INFO(describe(result));
  CHECK(result.status == 0);
  CHECK(has(result.out, "1 quantized by floatx"));
  const nlohmann::json about = nlohmann::json::parse(read_file(folder / "q.json"));
  REQUIRE(about["quantized"].size() == 1);
  CHECK(about["quantized"][0]["name"] == "x.weight");
  CHECK(about["quantized"][0]["format"] == "e2m1");
  CHECK(about["quantized"][0]["group_size"] == 32);
  CHECK(about["quantized"][0]["scale_type"] == "e8m0");
  CHECK(about["quantized"][0]["bits_per_weight"] == 4.25);
  CHECK(about["quantized"][0]["dtype"] == "BF16");
  CHECK(about["tensors"].size() == 3);
}

TEST_CASE("bench: measures, and says what it cannot measure") {
  // Risk: figures that do not belong together.
  const temporary_folder folder;
  const outcome result =
      run({"bench", "--shape", "96x160", "--format", "e3m2,nvfp4", "--m", "1,3", "--threads", "1",
           "--seconds", "0.001", "--type", "bf16", "--json", folder / "bench.json"});
  INFO(describe(result));
  REQUIRE(result.status == 0);
  const nlohmann::json bench = nlohmann::json::parse(read_file(folder / "bench.json"));
  CHECK(bench["threads"] == 1);
  CHECK(bench["cpu_isa"] == floatx_cpu_isa());
  const double bandwidth = bench["read_bandwidth_gb_per_s"];
  CHECK(bandwidth > 0);
  REQUIRE(bench["results"].size() == 4);
  for (const nlohmann::json& r : bench["results"]) {
    const double us = r["median_us"];
    CHECK(us > 0);
    CHECK(r["minimum_us"].get<double>() <= us);
    // Every weight has at least 4 bits.
    CHECK(r["weight_bytes"].get<double>() >= 96 * 160 / 2);
    CHECK(std::fabs(r["gb_per_s"].get<double>() / (r["weight_bytes"].get<double>() / us / 1e3) - 1) < 1e-9);
    CHECK(std::fabs(r["share_of_read_bandwidth"].get<double>() / (r["gb_per_s"].get<double>() / bandwidth) -
                    1) < 1e-9);
    CHECK(std::fabs(r["gflop_per_s"].get<double>() / (2.0 * r["m"].get<double>() * 96 * 160 / us / 1e3) - 1) <
          1e-9);
  }
  CHECK(bench["results"][1]["m"] == 3);
  CHECK(bench["results"][2]["format"] == "nvfp4");
}

TEST_CASE("bench --cuda: measures the GPU, or says why it cannot") {
  // Risk: a machine without a GPU, or a program without CUDA, ends as if all were well; or the file is not
  // what tests/bench/figure.py reads.
  const temporary_folder folder;
  const outcome result =
      run({"bench", "--cuda", "--shape", "96x160", "--group-size", "0,32", "--m", "1,3", "--type", "f16,bf16",
           "--seconds", "0.001", "--commit", "abc", "--json", folder / "bench.json"});
  INFO(describe(result));
  if (floatx_layout_usable(FLOATX_LAYOUT_CUDA) != FLOATX_STATUS_OK) {
    CHECK(failed_with(result, 1, "--cuda: " + std::string(floatx_last_error())));
    CHECK(result.out.empty());
    CHECK(folder.entries().empty());
    return;
  }
  REQUIRE(result.status == 0);
  const nlohmann::json bench = nlohmann::json::parse(read_file(folder / "bench.json"));
  CHECK(bench.size() == 2);
  CHECK(bench["machine"]["commit"] == "abc");
  for (const char* key : {"gpu", "driver", "cuda", "date"}) {
    CHECK(!bench["machine"][key].get<std::string>().empty());
  }
  CHECK(bench["machine"]["read_GBps"].get<double>() > 0);
  REQUIRE(bench["rows"].size() == 8);
  for (size_t i = 0; i < 8; ++i) {
    const nlohmann::json& row = bench["rows"][i];
    CHECK(row.size() == 12);
    CHECK(row["n"] == 96);
    CHECK(row["k"] == 160);
    CHECK(row["m"] == (i % 2 ? 3 : 1));
    CHECK(row["format"] == "e3m2");
    CHECK(row["group"] == (i < 4 ? 0 : 32));
    CHECK(row["act"] == (i % 4 < 2 ? "f16" : "bf16"));
    CHECK(row["us"].get<double>() > 0);
    CHECK(row["floor_us"].get<double>() > 0);
    CHECK((row["cublas_us"].is_null() || row["cublas_us"].get<double>() > 0));
    CHECK(row["settle_s"] == 0);
    CHECK(row["family"] == "cuda");
  }
}
