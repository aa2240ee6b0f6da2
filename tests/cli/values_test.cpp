// Values that cannot be quantized, or do not fit the type they shall have.
//
// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstring>
#include <limits>

#include "cli/direct.hpp"
#include "cli/program.hpp"
#include "floatx.h"
#include "support/catch.hpp"

using namespace cli_test;

TEST_CASE("quantize: weights that are not finite are named by tensor, row and column") {
  // Risk: NaN becomes a number, or the message points at a row of some inner block. Row 1030 lies in the
  // second one.
  const float bad[] = {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()};
  for (const char* format : {"e3m2", "nvfp4"}) {
    for (const float value : bad) {
      const temporary_folder folder;
      contents in;
      in.tensors["fine.weight"] = random_tensor("F32", 4, 4, 1);
      in.tensors["x.weight"] = random_tensor("F32", 1037, 1021, 7);
      std::memcpy(&in.tensors["x.weight"].data[(1030 * 1021 + 1019) * 4], &value, 4);
      write_safetensors(folder / "in.safetensors", in);
      const outcome result =
          run({"quantize", folder / "in.safetensors", folder / "out.safetensors", "--format", format});
      INFO(describe(result));
      CHECK(failed_with(result, 1, "tensor 'x.weight': the weight at row 1030, column 1019 is"));
      CHECK(folder.entries() == std::vector<std::string>{"in.safetensors"});
    }
  }
}

TEST_CASE("quantize: F16 scales that do not hold") {
  // Risk: a scale becomes infinity or 0 and takes the row with it.
  const temporary_folder folder;
  contents in;
  in.tensors["fine.weight"] = random_tensor("F32", 4, 4, 1);
  const auto make = [&](float value) {
    std::vector<float> w(3 * 20, 0.5f);
    std::fill(w.begin() + 36, w.begin() + 40, value);  // row 1, the last group, which is a short one
    in.tensors["x.weight"] = {"F32", {3, 20}, bytes_of(w)};
    write_safetensors(folder / "in.safetensors", in);
  };
  const std::vector<std::string> arguments = {
      "quantize", folder / "in.safetensors", folder / "out.safetensors", "--group-size", "16", "--scale-type",
      "f16"};
  make(3e7f);  // / 28 is above 65504
  outcome result = run(arguments);
  INFO(describe(result));
  CHECK(failed_with(result, 1,
                    "tensor 'x.weight': row 1, columns 16 to 19: the scale 1071428.6 overflows F16"));
  CHECK(has(result.err, "--allow-wider-scales"));
  CHECK(folder.entries() == std::vector<std::string>{"in.safetensors"});
  make(1e-7f);  // / 28 is below half of 2^-24
  result = run(arguments);
  INFO(describe(result));
  CHECK(failed_with(result, 1, "becomes 0 in F16"));
  CHECK(folder.entries() == std::vector<std::string>{"in.safetensors"});

  std::vector<std::string> wider = arguments;
  wider.push_back("--allow-wider-scales");
  result = run_ok(wider);
  CHECK(has(result.out, "(wider)"));
  CHECK(has(result.out, "1 of them with F32 scales"));
  const contents out = read_safetensors(folder / "out.safetensors");
  CHECK(out.tensors.at("x.weight_scale").dtype == "F32");
  CHECK(out.tensors.at("fine.weight_scale").dtype == "F16");
  CHECK(out.quantization()["scale_type"] == "f16");
  CHECK(out.quantization()["tensors"]["x.weight"]["scale_type"] == "f32");
  CHECK(!out.quantization()["tensors"]["fine.weight"].contains("scale_type"));
  CHECK((out.tensors.at("x.weight_packed").data ==
         quantize_directly(in.tensors["x.weight"], "e3m2", 16, FLOATX_SCALE_F32).codes));
  run_ok({"dequantize", folder / "out.safetensors", folder / "back.safetensors"});
  CHECK((read_safetensors(folder / "back.safetensors").tensors.at("x.weight").data ==
         bytes_of(quantize_directly(in.tensors["x.weight"], "e3m2", 16, FLOATX_SCALE_F32).values)));

  // NaN is not a matter of scales.
  make(std::nanf(""));
  result = run(wider);
  INFO(describe(result));
  CHECK(failed_with(result, 1, "tensor 'x.weight': the weight at row 1, column 16 is nan"));
}

TEST_CASE("dequantize: --dtype, and values that the type does not hold") {
  // Risk: large weights turn into infinity without a word.
  const temporary_folder folder;
  contents in;
  std::vector<float> w(2 * 4, 1.0f);
  w[6] = 1e6f;
  in.tensors["x.weight"] = {"F32", {2, 4}, bytes_of(w)};
  in.tensors["h.weight"] = random_tensor("F16", 3, 5, 3);
  in.tensors["d.weight"] = random_tensor("F64", 3, 5, 4);
  write_safetensors(folder / "in.safetensors", in);
  run_ok({"quantize", folder / "in.safetensors", folder / "q.safetensors", "--format", "e4m3fn"});
  const auto dtypes = [&](const std::vector<std::string>& options) {
    std::vector<std::string> arguments = {"dequantize", folder / "q.safetensors",
                                          folder / "back.safetensors"};
    arguments.insert(arguments.end(), options.begin(), options.end());
    run_ok(arguments);
    const contents back = read_safetensors(folder / "back.safetensors");
    return back.tensors.at("x.weight").dtype + " " + back.tensors.at("h.weight").dtype + " " +
           back.tensors.at("d.weight").dtype;
  };
  CHECK(dtypes({}) == "F32 F16 F32");
  CHECK(dtypes({"--dtype", "f32"}) == "F32 F32 F32");
  CHECK(dtypes({"--dtype", "bf16"}) == "BF16 BF16 BF16");
  std::filesystem::remove(folder / "back.safetensors");
  const outcome result =
      run({"dequantize", folder / "q.safetensors", folder / "back.safetensors", "--dtype", "f16"});
  INFO(describe(result));
  CHECK(failed_with(result, 1, "tensor 'x.weight': the weight at row 1, column 2 is not finite as f16"));
  CHECK(folder.entries() == std::vector<std::string>{"in.safetensors", "q.safetensors"});
}
