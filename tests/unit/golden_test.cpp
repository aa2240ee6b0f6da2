// The golden vectors: decoding tables, midpoints, and two quantized weights by both scale rules.
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "floatx.h"
#include "floatx/codec.hpp"
#include "floatx/layout.hpp"
#include "support/catch.hpp"
#include "support/sha256.hpp"
#include "support/skip.hpp"

using namespace floatx;
using nlohmann::json;

namespace {

constexpr int64_t rows = 256, columns = 128;

// The vectors, or null where this checkout has none beside it.
const json& golden() {
  static const json vectors = [] {
    std::ifstream file(FLOATX_TEST_SHARED "/golden/codec.json");
    return file ? json::parse(file) : json();
  }();
  return vectors;
}

bool missing() {
  if (!golden().is_null()) return false;
  test::skip("no " FLOATX_TEST_SHARED "/golden/codec.json");
  return true;
}

// The file also tells of e1m0, which has 2 bits and so is none of ours.
const format_traits* find_by_name(const std::string& name) {
  for (const format_traits& f : formats) {
    if (name == f.name) return &f;
  }
  REQUIRE(name == "e1m0");
  return nullptr;
}

// Every value is an integer of 16 bits times a power of two, exact in FP32.
std::vector<float> golden_weights() {
  std::vector<float> weights;
  uint32_t state = 1;
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t column = 0; column < columns; ++column) {
      state = state * 1664525u + 1013904223u;
      const int value = static_cast<int>(state >> 8 & 0xffff) - 32768;
      weights.push_back(std::ldexp(static_cast<float>(value), static_cast<int>(row % 7) - 3 - 18));
    }
  }
  return weights;
}

struct quantized {
  std::vector<uint8_t> codes;  // one a byte
  std::vector<uint8_t> scales;
};

quantized quantize(floatx_format format, floatx_scale_type scale_type, floatx_type type, const void* values,
                   floatx_scale_rule rule) {
  floatx_weight w{};
  w.struct_size = sizeof w;
  w.format = format;
  w.n = rows, w.k = columns;
  w.scale_type = scale_type;
  floatx_sizes sizes{};
  sizes.struct_size = sizeof sizes;
  REQUIRE(floatx_weight_sizes(&w, &sizes) == FLOATX_STATUS_OK);
  std::vector<uint8_t> stream(sizes.codes_bytes);
  quantized result{std::vector<uint8_t>(rows * columns), std::vector<uint8_t>(sizes.scales_bytes)};
  w.codes = stream.data(), w.codes_bytes = stream.size();
  w.scales = result.scales.data(), w.scales_bytes = result.scales.size();
  const floatx_pack_options options = {sizeof options, rule, FLOATX_EXPONENT_RULE_FLOOR};
  REQUIRE(floatx_pack(&w, type, values, columns, &options, nullptr) == FLOATX_STATUS_OK);
  const int bits = find_format(format)->bits;
  for (int64_t row = 0; row < rows; ++row) {
    canonical::load_row(bits, columns,
                        &stream[static_cast<size_t>(row * canonical::row_bytes(bits, columns))],
                        &result.codes[static_cast<size_t>(row * columns)]);
  }
  return result;
}

void check_weight(const std::string& name, floatx_format format, floatx_scale_type scale_type,
                  floatx_type type, const void* values) {
  const json& expected = golden()["quant"][name];
  const quantized a = quantize(format, scale_type, type, values, FLOATX_SCALE_RULE_UNROUNDED);
  const quantized b = quantize(format, scale_type, type, values, FLOATX_SCALE_RULE_STORED);
  for (size_t i = 0; i < 16; ++i) {
    CHECK(a.codes[i] == expected["A_codes_row0_first16"][i]);
    CHECK(b.codes[i] == expected["B_codes_row0_first16"][i]);
  }
  CHECK(test::sha256(a.codes.data(), a.codes.size()) == expected["A_codes_sha256"]);
  CHECK(test::sha256(b.codes.data(), b.codes.size()) == expected["B_codes_sha256"]);
  CHECK(test::sha256(a.scales.data(), a.scales.size()) == expected["scale_bits_sha256_le"]);
  CHECK(a.scales == b.scales);
  int differing = 0;
  for (size_t i = 0; i < a.codes.size(); ++i) differing += a.codes[i] != b.codes[i];
  CHECK(differing == expected["A_vs_B_codes_differing"]);
}

}  // namespace

TEST_CASE("SHA-256 agrees with its standard", "[golden]") {
  // Risk: a wrong hash function would make the comparisons below mean nothing.
  CHECK(test::sha256("abc", 3) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(test::sha256("", 0) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

TEST_CASE("codes decode as the golden tables say", "[golden]") {
  // Risk: this library and the checkpoints' writers mean different values by the same code.
  if (missing()) return;
  for (const auto& [name, values] : golden()["decode"].items()) {
    const format_traits* f = find_by_name(name);
    if (!f) continue;
    CAPTURE(name);
    REQUIRE(values.size() == size_t{1} << (f->bits - 1));
    for (size_t code = 0; code < values.size(); ++code) {
      float value = -1;
      REQUIRE(floatx_format_decode(static_cast<floatx_format>(f->id), static_cast<uint8_t>(code), &value) ==
              FLOATX_STATUS_OK);
      REQUIRE(value == values[code].get<float>());
    }
  }
}

TEST_CASE("midpoints encode as the golden tables say", "[golden]") {
  // Risk: ties rounded another way than the checkpoints' writers do.
  if (missing()) return;
  for (const auto& [name, table] : golden()["encode"].items()) {
    const format_traits* f = find_by_name(name);
    if (!f) continue;
    CAPTURE(name);
    REQUIRE(table["midpoints"].size() == table["codes"].size());
    for (size_t i = 0; i < table["codes"].size(); ++i) {
      uint8_t code = 0xff;
      REQUIRE(floatx_format_encode(static_cast<floatx_format>(f->id), table["midpoints"][i].get<float>(),
                                   &code) == FLOATX_STATUS_OK);
      REQUIRE(code == table["codes"][i].get<int>());
    }
  }
}

TEST_CASE("an FP32 weight quantizes to e2m1 as the golden hashes say", "[golden]") {
  // Risk: one code or scale of a whole weight that differs from the reference quantizer's.
  if (missing()) return;
  const std::vector<float> weights = golden_weights();
  REQUIRE(test::sha256(weights.data(), weights.size() * sizeof(float)) == golden()["weights_sha256_f32"]);
  check_weight("f32_e2m1", FLOATX_FORMAT_E2M1, FLOATX_SCALE_F32, FLOATX_TYPE_F32, weights.data());
}

TEST_CASE("an FP16 weight with FP16 scales quantizes to e3m2 as the golden hashes say", "[golden]") {
  // Risk: the two scale rules, which differ here in 43 codes, mixed up.
  if (missing()) return;
  std::vector<uint16_t> weights;
  for (const float value : golden_weights()) weights.push_back(f32_to_f16(value));
  check_weight("f16_e3m2", FLOATX_FORMAT_E3M2, FLOATX_SCALE_F16, FLOATX_TYPE_F16, weights.data());
}
