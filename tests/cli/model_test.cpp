// The main job on a real model: quantize it, and run its linear layers against the original.
//
// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "cli/program.hpp"
#include "floatx.h"
#include "support/catch.hpp"

using namespace cli_test;

TEST_CASE("the bundled model: each of its layers, quantized, does what the original does") {
  // Risk: packing, repacking and multiplying agree with each other but not with the model.
  //
  // x is standard normal, so the error of y relative to y is that of the weights, E |dW x|^2 / E |W x|^2 =
  // |dW|^2 / |W|^2, up to chance: y has at least 128 x 16 values that are nearly independent in groups of 16,
  // and 10 % is more than six standard deviations of a mean over them.
  //
  // Upper bound for |dW| / |W|: a normal value is rounded by at most half a step, 2^-(M+1) of itself. Values
  // below the smallest normal are off by at most half a subnormal step, 2^-(M+1) * smallest normal * scale,
  // where scale = absmax / max (twice that for the power of two that E8M0 takes, and 1/16 more for an E4M3
  // scale); with absmax <= 6 RMS of the weights, that adds 2^-(M+1) * 6 * smallest_normal / max * 2 in the
  // square. Lower bound: rounding errors are spread evenly over a step, whose size relative to the value is
  // between 2^-M and 2^-(M+1): at least 2^-(M+1) / sqrt(12) of it. A product with the original weights would
  // have no error.
  const struct {
    const char* format;
    const char* element;
    double scale_slack;
  } cases[] = {{"e3m2", "e3m2", 1},       {"e2m3", "e2m3", 1},     {"e3m3", "e3m3", 1},
               {"mxfp6_e3m2", "e3m2", 2}, {"e4m3fn", "e4m3fn", 1}, {"nvfp4", "e2m1", 17.0 / 16}};
  const temporary_folder folder;
  const std::string original = std::string(FLOATX_MODEL) + "/model.safetensors";
  for (const auto& c : cases) {
    INFO(c.format);
    outcome result = run({"quantize", FLOATX_MODEL, folder / c.format, "--format", c.format});
    INFO(describe(result));
    REQUIRE(result.status == 0);
    CHECK(folder.entries(c.format) ==
          std::vector<std::string>{"config.json", "model.safetensors", "tokenizer.model"});
    result = run({"compare", original, folder / c.format, "--json", folder / "compare.json"});
    INFO(describe(result));
    REQUIRE(result.status == 0);
    const nlohmann::json report = nlohmann::json::parse(read_file(folder / "compare.json"));
    REQUIRE(report["layers"].size() == 28);

    floatx_format format;
    REQUIRE(floatx_format_parse(c.element, &format) == FLOATX_STATUS_OK);
    floatx_format_info info = {};
    info.struct_size = sizeof info;
    REQUIRE(floatx_format_describe(format, &info) == FLOATX_STATUS_OK);
    const double half_step = std::ldexp(0.5, -info.mantissa_bits);
    const double subnormal = half_step * 6 * double{info.smallest_normal} / double{info.max} * c.scale_slack;
    // A scale that was rounded down by 1/16 saturates the largest value of its group by as much.
    const double upper = 1.1 * std::hypot(half_step, subnormal);
    const double lower = 0.9 * half_step / std::sqrt(12.0);
    for (const nlohmann::json& layer : report["layers"]) {
      INFO(layer.dump());
      const double error = layer["relative_rms_error"];
      CHECK(error < upper);
      CHECK(error > lower);
      // cos = 1 - error^2 / 2 for errors at right angles to y; they need not be, but never do worse than
      // this.
      CHECK(layer["cosine_similarity"].get<double>() > 1 - upper * upper);
      CHECK(layer["microseconds"].get<double>() > 0);
    }
  }
}

TEST_CASE("compare: the seed decides x, and the wrong original is noticed") {
  // Risk: a comparison with another model, or one that cannot be repeated.
  const temporary_folder folder;
  contents c;
  c.tensors["a.weight"] = random_tensor("F32", 32, 48, 1);
  write_safetensors(folder / "a.safetensors", c);
  REQUIRE(run({"quantize", folder / "a.safetensors", folder / "q.safetensors"}).status == 0);
  const auto error_with = [&](const std::string& seed) {
    const outcome result = run({"compare", folder / "a.safetensors", folder / "q.safetensors", "--tokens",
                                "3", "--seed", seed, "--json", folder / "c.json"});
    INFO(describe(result));
    REQUIRE(result.status == 0);
    return nlohmann::json::parse(read_file(folder / "c.json"))["layers"][0]["relative_rms_error"]
        .get<double>();
  };
  CHECK(error_with("1") == error_with("1"));
  CHECK(error_with("1") != error_with("2"));
  CHECK(failed_with(run({"compare", folder / "a.safetensors", folder / "a.safetensors"}), 1,
                    "holds no tensor"));
  c.tensors["a.weight"] = random_tensor("F32", 32, 49, 1);
  write_safetensors(folder / "b.safetensors", c);
  CHECK(failed_with(run({"compare", folder / "b.safetensors", folder / "q.safetensors"}), 1,
                    "was quantized as [32, 48]"));
  c.tensors.clear();
  write_safetensors(folder / "b.safetensors", c);
  CHECK(failed_with(run({"compare", folder / "b.safetensors", folder / "q.safetensors"}), 1,
                    "'a.weight' is missing"));
}
