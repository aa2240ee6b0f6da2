// NaN, Inf and scales out of range in the data: refused, with their place, and nothing is written.
#include <limits>

#include "capi/arguments.hpp"

using namespace floatx::test;

TEST_CASE("NaN and Inf in the values are refused with their place", "[arguments]") {
  // Risk: a NaN that becomes a number, or a message that names another element.
  const float bad[] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                       -std::numeric_limits<float>::infinity()};
  for (const weight_description& d : {plain, nvfp4}) {
    for (const float value : bad) {
      pack_call call(d);
      call.data[17 * k + 5] = value;
      call.data[19 * k] = value;  // the first in row order is named
      call.fails(FLOATX_STATUS_INVALID_DATA, "row 17, column 5");
    }
  }
}

TEST_CASE("F16 scales that overflow or vanish are refused with their place", "[arguments]") {
  // Risk: a group silently scaled by Inf or 0.
  pack_call large;
  large.data[4 * k + 20] = 1e30f;
  large.fails(FLOATX_STATUS_INVALID_DATA, "row 4, column 16: the scale of this group overflows F16");
  pack_call tiny;
  for (int64_t i = 32; i < 48; ++i) tiny.data[static_cast<size_t>(6 * k + i)] = 1e-9f;
  tiny.fails(FLOATX_STATUS_INVALID_DATA, "row 6, column 32: the scale of this nonzero group rounds to 0");
  pack_call zeros;  // but a group of zeros is an ordinary weight
  for (int64_t i = 32; i < 48; ++i) zeros.data[static_cast<size_t>(6 * k + i)] = 0;
  CHECK(zeros.run() == FLOATX_STATUS_OK);
}

TEST_CASE("NaN and Inf codes and NaN scales of a checkpoint are refused with their place", "[arguments]") {
  // Risk: a broken checkpoint that turns whole rows of y into NaN.
  const auto refuse = [](weight_description d, size_t code_at, int code, size_t scale_at, int scale,
                         const char* text) {
    CAPTURE(text);
    weight_memory source(d, FLOATX_LAYOUT_CANONICAL);
    const weight_memory target(d, FLOATX_LAYOUT_CPU);
    std::fill_n(source.codes.data(), source.codes.size(), uint8_t{1});
    std::fill_n(source.scales.data(), source.scales.size(), uint8_t{1});
    if (d.scale_type == FLOATX_SCALE_E4M3FN) *source.weight.tensor_scale = 1;
    const weight_memory good(d, FLOATX_LAYOUT_CPU);
    REQUIRE(floatx_repack(&source.weight, &good.weight, nullptr) == FLOATX_STATUS_OK);
    if (code >= 0) source.codes.data()[code_at] = static_cast<uint8_t>(code);
    if (scale >= 0) source.scales.data()[scale_at] = static_cast<uint8_t>(scale);
    require_failure(floatx_repack(&source.weight, &target.weight, nullptr), FLOATX_STATUS_INVALID_DATA, text);
    CHECK(target.untouched());
  };
  const weight_description e4m3fn = {FLOATX_FORMAT_E4M3FN, FLOATX_SCALE_F32, n, k, 16};
  const weight_description e5m2 = {FLOATX_FORMAT_E5M2, FLOATX_SCALE_F32, n, k, 16};
  refuse(e4m3fn, 18 * k + 3, 0x7f, 0, -1, "row 18, column 3: the code is NaN or Inf");
  refuse(e4m3fn, 3 * k + 47, 0xff, 0, -1, "row 3, column 47: the code is NaN or Inf");
  for (const int code : {0x7c, 0x7d, 0x7f, 0xfc, 0xff}) {
    refuse(e5m2, 2 * k + 9, code, 0, -1, "row 2, column 9: the code is NaN or Inf");
  }
  refuse({FLOATX_FORMAT_E2M1, FLOATX_SCALE_E8M0, n, k, 16}, 0, -1, 5 * 3 + 2, 255,
         "row 5, column 32: the scale");
  refuse(nvfp4, 0, -1, 7 * 3 + 1, 0x7f, "row 7, column 16: the scale");
}
