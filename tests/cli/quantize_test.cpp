// What floatx quantize and dequantize compute and write.
//
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <limits>

#include "cli/direct.hpp"
#include "cli/program.hpp"
#include "floatx.h"
#include "support/catch.hpp"

using namespace cli_test;

TEST_CASE("quantize: the codes, scales, names and metadata that the file format promises") {
  // Risk: another program reads the file and gets other weights. Every byte here was worked out by hand.
  const temporary_folder folder;
  contents in;
  in.metadata = {{"format", "pt"}, {"note", "kept \"as\" it is"}};
  // absmax 28 is the maximum of e3m2 (exponent bias 3), so the scale is 1 and codes are those of the values.
  in.tensors["a.weight"] = {"F32",
                            {2, 5},
                            bytes_of(std::vector<float>{28, -1, 0.0625f, -0.0f, 20,  //
                                                        56, 0, -56, 3, 2})};
  in.tensors["a.bias"] = {"F32", {2}, bytes_of(std::vector<float>{std::nanf(""), -0.0f})};
  in.tensors["model.norm.weight"] = random_tensor("BF16", 4, 4, 1);
  in.tensors["model.embed_tokens.weight"] = random_tensor("F16", 4, 4, 2);
  in.tensors["lm_head.weight"] = random_tensor("F32", 4, 4, 3);
  in.tensors["step"] = {"I64", {}, std::string("\1\2\3\4\5\6\7\10", 8)};
  in.tensors["empty.weight"] = {"F32", {0, 3}, ""};
  in.tensors["scale"] = {"F8_E8M0", {3}, "\x01\xff\x7f"};
  in.tensors["four"] = {"F4", {2}, "\x5a"};
  in.tensors["mask"] = {"BOOL", {2}, std::string("\0\1", 2)};
  write_safetensors(folder / "in.safetensors", in);
  const outcome result =
      run_ok({"quantize", folder / "in.safetensors", folder / "out.safetensors", "--format", "e3m2"});
  const contents out = read_safetensors(folder / "out.safetensors");

  CHECK(out.tensors.size() == in.tensors.size() + 1);
  for (const auto& [name, t] : in.tensors) {
    if (name != "a.weight") {
      INFO(name);
      REQUIRE(out.tensors.count(name) == 1);
      CHECK(out.tensors.at(name).dtype == t.dtype);
      CHECK(out.tensors.at(name).shape == t.shape);
      CHECK((out.tensors.at(name).data == t.data));
    }
  }
  const tensor& codes = out.tensors.at("a.weight_packed");
  CHECK(codes.dtype == "U8");
  CHECK(codes.shape == std::vector<uint64_t>{2, 4});  // ceil(5 * 6 / 8)
  // Codes, sign - exponent - mantissa, bias 3: 28 = 2^4 * 1.75 is 0-111-11 = 0x1f; -1 is 1-011-00 = 0x2c;
  // 1/16 is the first subnormal 0x01; -0 is 0x20; 20 = 2^4 * 1.25 is 0-111-01 = 0x1d. Least significant bit
  // first: 0x1f | 0x2c << 6 | 0x01 << 12 | 0x20 << 18 | 0x1d << 24 = 0x1d801b1f. The second row has scale 2:
  // 28, 0, -28, 1.5, 1 are 0x1f, 0x00, 0x3f, 0x0e, 0x0c: 0x0c3bf01f.
  CHECK((codes.data == std::string("\x1f\x1b\x80\x1d\x1f\xf0\x3b\x0c", 8)));
  const tensor& scales = out.tensors.at("a.weight_scale");
  CHECK(scales.dtype == "F32");
  CHECK(scales.shape == std::vector<uint64_t>{2});
  CHECK(values_of<float>(scales) == std::vector<float>{1, 2});

  CHECK(out.metadata.size() == 3);
  CHECK(out.metadata.at("format") == "pt");
  CHECK(out.metadata.at("note") == in.metadata.at("note"));
  const nlohmann::json about = out.quantization();
  CHECK(about["version"] == 1);
  CHECK(about["format"] == "e3m2");
  CHECK(about["group_size"] == 0);
  CHECK(about["scale_type"] == "f32");
  CHECK(about["scale_rule"] == "stored");
  CHECK(about["tensors"] == nlohmann::json{{"a.weight", {{"shape", {2, 5}}, {"dtype", "F32"}}}});

  // 0.0625 and 3 / 2 are codes; so is everything else: no error at all.
  CHECK(has(result.out, "0.00000"));
  CHECK(has(result.out, "inf"));
  run_ok({"dequantize", folder / "out.safetensors", folder / "back.safetensors"});
  const contents back = read_safetensors(folder / "back.safetensors");
  CHECK(back.metadata == in.metadata);
  REQUIRE(back.tensors.size() == in.tensors.size());
  for (const auto& [name, t] : in.tensors) {
    INFO(name);
    CHECK(back.tensors.at(name).dtype == t.dtype);
    CHECK(back.tensors.at(name).shape == t.shape);
    CHECK((back.tensors.at(name).data == t.data));
  }
}

TEST_CASE("quantize: NVFP4 by hand") {
  // Risk: a nibble in the wrong half, or a tensor scale that is the reciprocal of what readers expect.
  const temporary_folder folder;
  contents in;
  std::vector<float> row(17, 0.0f);
  row[0] = 6 * 448;
  row[1] = -448;
  row[16] = 6;
  in.tensors["w.weight"] = {"F32", {1, 17}, bytes_of(row)};
  write_safetensors(folder / "in.safetensors", in);
  run_ok({"quantize", folder / "in.safetensors", folder / "out.safetensors", "--format", "nvfp4"});
  const contents out = read_safetensors(folder / "out.safetensors");
  // absmax / (6 * 448) = 1; groups of 16 and 1 with scales 448 and 1: e4m3fn 0x7e and 0x38.
  CHECK(values_of<float>(out.tensors.at("w.weight_scale_2")) == std::vector<float>{1});
  CHECK(out.tensors.at("w.weight_scale_2").shape == std::vector<uint64_t>{1});
  CHECK(out.tensors.at("w.weight_scale").dtype == "F8_E4M3");
  CHECK(out.tensors.at("w.weight_scale").shape == std::vector<uint64_t>{1, 2});
  CHECK((out.tensors.at("w.weight_scale").data == "\x7e\x38"));
  // 6, -1, fourteen zeros, 6: e2m1 codes 7, 0xa, 0..., 7.
  CHECK((out.tensors.at("w.weight_packed").data == std::string("\xa7\0\0\0\0\0\0\0\x07", 9)));
  CHECK(out.quantization()["format"] == "e2m1");
  CHECK(out.quantization()["group_size"] == 16);
  CHECK(out.quantization()["scale_type"] == "e4m3fn");
}

TEST_CASE("quantize, then dequantize: the same bits as the library in one call") {
  // Risk: rows that are quantized in blocks, on several threads, from a mapped file, differ at a seam. The
  // tensor is larger than a block, and its rows do not divide it.
  const struct {
    const char* format;
    int64_t group;
    const char* scale;
    floatx_scale_type scale_type;
    const char* dtype;
    size_t padding;
  } cases[] = {{"e3m2", 0, "f32", FLOATX_SCALE_F32, "BF16", 0},
               {"e2m1", 16, "e4m3fn", FLOATX_SCALE_E4M3FN, "F32", 0},
               {"e2m3", 32, "e8m0", FLOATX_SCALE_E8M0, "F16", 0},
               {"e2m1", 32, "f16", FLOATX_SCALE_F16, "BF16", 1},
               {"e1m1", 64, "bf16", FLOATX_SCALE_BF16, "F32", 3},
               {"e4m3fn", 128, "f32", FLOATX_SCALE_F32, "F64", 0},
               {"e5m2", 0, "f16", FLOATX_SCALE_F16, "F16", 1},
               {"e3m3", 16, "f32", FLOATX_SCALE_F32, "F64", 5},
               {"e2m1", 0, "e4m3fn", FLOATX_SCALE_E4M3FN, "BF16", 7}};
  for (const auto& c : cases) {
    INFO(c.format << " group " << c.group << " " << c.scale << " from " << c.dtype);
    const temporary_folder folder;
    contents in;
    in.tensors["x.weight"] = random_tensor(c.dtype, 1037, 1021, 7);
    write_safetensors(folder / "in.safetensors", in, c.padding);
    const direct expected = quantize_directly(in.tensors["x.weight"], c.format, c.group, c.scale_type);
    for (const char* jobs : {"1", "3"}) {
      const std::string quantized = folder / (std::string("q") + jobs + ".safetensors");
      run_ok({"quantize", folder / "in.safetensors", quantized, "--format", c.format, "--group-size",
              std::to_string(c.group), "--scale-type", c.scale, "--jobs", jobs});
      const contents out = read_safetensors(quantized);
      CHECK((out.tensors.at("x.weight_packed").data == expected.codes));
      CHECK((out.tensors.at("x.weight_scale").data == expected.scales));
      CHECK(out.tensors.count("x.weight_scale_2") == (c.scale_type == FLOATX_SCALE_E4M3FN ? 1 : 0));
      if (c.scale_type == FLOATX_SCALE_E4M3FN) {
        CHECK(values_of<float>(out.tensors.at("x.weight_scale_2")) ==
              std::vector<float>{expected.tensor_scale});
      }
      const std::string back = folder / "back.safetensors";
      run_ok({"dequantize", quantized, back, "--dtype", "f32", "--jobs", jobs});
      CHECK((read_safetensors(back).tensors.at("x.weight").data == bytes_of(expected.values)));
    }
    CHECK((read_file(folder / "q1.safetensors") == read_file(folder / "q3.safetensors")));
  }
}

TEST_CASE("quantize: the rules reach the library") {
  // Risk: an option is accepted and forgotten.
  const temporary_folder folder;
  contents in;
  in.tensors["x.weight"] = random_tensor("F32", 64, 256, 11);
  write_safetensors(folder / "in.safetensors", in);
  floatx_pack_options unrounded = {};
  unrounded.struct_size = sizeof unrounded;
  unrounded.scale_rule = FLOATX_SCALE_RULE_UNROUNDED;
  floatx_pack_options ceil = {};
  ceil.struct_size = sizeof ceil;
  ceil.exponent_rule = FLOATX_EXPONENT_RULE_CEIL;
  const auto codes_of = [&](const std::vector<std::string>& options) {
    std::vector<std::string> arguments = {"quantize", folder / "in.safetensors", folder / "out.safetensors"};
    arguments.insert(arguments.end(), options.begin(), options.end());
    run_ok(arguments);
    return read_safetensors(folder / "out.safetensors").tensors.at("x.weight_packed").data;
  };
  const tensor& w = in.tensors["x.weight"];
  const std::string stored_codes = quantize_directly(w, "e2m3", 32, FLOATX_SCALE_BF16).codes;
  const std::string unrounded_codes = quantize_directly(w, "e2m3", 32, FLOATX_SCALE_BF16, &unrounded).codes;
  REQUIRE((stored_codes != unrounded_codes));
  const std::vector<std::string> common = {"--format", "e2m3", "--group-size", "32", "--scale-type", "bf16"};
  const auto with = [](std::vector<std::string> options, const std::string& name, const std::string& value) {
    options.push_back(name);
    options.push_back(value);
    return options;
  };
  CHECK((codes_of(common) == stored_codes));
  CHECK((codes_of(with(common, "--scale-rule", "stored")) == stored_codes));
  CHECK((codes_of(with(common, "--scale-rule", "unrounded")) == unrounded_codes));
  CHECK(read_safetensors(folder / "out.safetensors").quantization()["scale_rule"] == "unrounded");

  const std::string floor_codes = quantize_directly(w, "e2m1", 32, FLOATX_SCALE_E8M0).codes;
  const std::string ceil_codes = quantize_directly(w, "e2m1", 32, FLOATX_SCALE_E8M0, &ceil).codes;
  REQUIRE((floor_codes != ceil_codes));
  CHECK((codes_of({"--format", "mxfp4"}) == floor_codes));
  CHECK((codes_of({"--format", "mxfp4", "--exponent-rule", "ceil"}) == ceil_codes));
  CHECK(read_safetensors(folder / "out.safetensors").quantization()["exponent_rule"] == "ceil");
}

TEST_CASE("quantize: the table and the report tell the errors that there are") {
  // Risk: a wrong figure makes a bad quantization look good.
  const temporary_folder folder;
  contents in;
  in.tensors["x.weight"] = random_tensor("F32", 40, 96, 5);
  in.tensors["zero.weight"] = {"F32", {2, 8}, std::string(64, '\0')};
  write_safetensors(folder / "in.safetensors", in);
  const outcome result = run_ok({"quantize", folder / "in.safetensors", folder / "out.safetensors",
                                 "--format", "e2m1", "--group-size", "32", "--json", folder / "report.json"});
  CHECK(result.err.empty());  // no bar where there is no terminal

  const direct expected = quantize_directly(in.tensors["x.weight"], "e2m1", 32, FLOATX_SCALE_F32);
  const std::vector<float> w = values_of<float>(in.tensors["x.weight"]);
  double squares = 0;
  double errors = 0;
  double worst = 0;
  for (size_t row = 0; row < 40; ++row) {
    double absmax = 0;
    double largest = 0;
    for (size_t i = row * 96; i < (row + 1) * 96; ++i) {
      const double e = double{expected.values[i]} - double{w[i]};
      squares += double{w[i]} * double{w[i]};
      errors += e * e;
      absmax = std::max(absmax, std::fabs(double{w[i]}));
      largest = std::max(largest, std::fabs(e));
    }
    worst = std::max(worst, largest / absmax);
  }
  const nlohmann::json report = nlohmann::json::parse(read_file(folder / "report.json"));
  REQUIRE(report["tensors"].size() == 2);
  const nlohmann::json& x = report["tensors"][0];
  CHECK(x["name"] == "x.weight");
  CHECK(x["shape"] == nlohmann::json{40, 96});
  // The same sums in another order: 3840 additions lose less than 3840 units in the last place.
  const double tolerance = 3840 * std::numeric_limits<double>::epsilon();
  CHECK(std::fabs(x["relative_rms_error"].get<double>() / std::sqrt(errors / squares) - 1) < tolerance);
  CHECK(std::fabs(x["snr_db"].get<double>() - 10 * std::log10(squares / errors)) < 10 * tolerance);
  CHECK(x["worst_error"].get<double>() == worst);
  CHECK(x["bits_per_weight"].get<double>() == 5);  // 4 + 32 / 32
  const nlohmann::json& zero = report["tensors"][1];
  CHECK(zero["relative_rms_error"] == 0);
  CHECK(zero["snr_db"].is_null());
  CHECK(zero["worst_error"] == 0);
  CHECK(report["total"]["weights"] == 40 * 96 + 16);
  CHECK(report["total"]["bytes_before"] == std::filesystem::file_size(folder / "in.safetensors"));
  CHECK(report["total"]["bytes_after"] == std::filesystem::file_size(folder / "out.safetensors"));
  CHECK(has(result.out, "x.weight"));
  CHECK(has(result.out, "40 x 96"));
  CHECK(has(result.out, "2 tensors"));

  const outcome quiet = run_ok(
      {"quantize", folder / "in.safetensors", folder / "out.safetensors", "--format", "e2m1", "--quiet"});
  CHECK(quiet.out.empty());
  CHECK(quiet.err.empty());
}

TEST_CASE("quantize: --include and --exclude") {
  // Risk: a layer that must keep its precision is quantized.
  const temporary_folder folder;
  contents in;
  for (const char* name : {"l.0.up.weight", "l.1.up.weight", "l.1.down.weight", "l.norm.weight",
                           "lm_head.weight", "embed.weight", "l.0.up.weights", "weight"}) {
    in.tensors[name] = random_tensor("F32", 2, 3, 1);
  }
  write_safetensors(folder / "in.safetensors", in);
  const auto quantized = [&](const std::vector<std::string>& options) {
    std::vector<std::string> arguments = {"quantize", folder / "in.safetensors", folder / "out.safetensors"};
    arguments.insert(arguments.end(), options.begin(), options.end());
    run_ok(arguments);
    std::vector<std::string> names;
    const nlohmann::json about = read_safetensors(folder / "out.safetensors").quantization();
    for (const auto& [name, ignored] : about["tensors"].items()) {
      names.push_back(name);
    }
    return names;
  };
  using names = std::vector<std::string>;
  CHECK(quantized({}) == names{"l.0.up.weight", "l.1.down.weight", "l.1.up.weight"});
  CHECK(quantized({"--include", "up"}) == names{"l.0.up.weight", "l.1.up.weight"});
  CHECK(quantized({"--include", "^lm_head"}) == names{"lm_head.weight"});
  CHECK(quantized({"--exclude", "l\\.1\\."}) ==
        names{"embed.weight", "l.0.up.weight", "l.norm.weight", "lm_head.weight"});
  CHECK(quantized({"--include", "^l\\.", "--exclude", "norm|\\.0\\."}) ==
        names{"l.1.down.weight", "l.1.up.weight"});
}
