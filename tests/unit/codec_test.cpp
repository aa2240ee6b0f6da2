// Every code of every format, and every midpoint, against values derived here in double.
#include "floatx/codec.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include "floatx.h"
#include "floatx/quantize.hpp"
#include "support/catch.hpp"

using namespace floatx;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

// The magnitude of a code from the definition of a format: no table and no bit of codec.hpp.
double value_of(const format_traits& f, int magnitude) {
  const int mantissa = magnitude & ((1 << f.mantissa_bits) - 1);
  const int exponent = magnitude >> f.mantissa_bits;
  const int bias = (1 << (f.exponent_bits - 1)) - 1;
  if (exponent == 0) return std::ldexp(mantissa, 1 - bias - f.mantissa_bits);
  return std::ldexp((1 << f.mantissa_bits) + mantissa, exponent - bias - f.mantissa_bits);
}

int max_code(const format_traits& f) {
  if (f.id == FLOATX_FORMAT_E4M3FN) return 0x7e;
  if (f.id == FLOATX_FORMAT_E5M2) return 0x7b;
  return (1 << (f.bits - 1)) - 1;
}

float decode_as(int format, int code) {
  return visit_format(format, [&](auto f) { return decode<decltype(f)>(static_cast<uint8_t>(code)); });
}

int encode_as(int format, float value) {
  return visit_format(format, [&](auto f) { return static_cast<int>(encode<decltype(f)>(value)); });
}

// value and its mirror image encode to code and its negative.
void require_codes(const format_traits& f, float value, int code) {
  CAPTURE(f.name, value);
  REQUIRE(encode_as(f.id, value) == code);
  REQUIRE(encode_as(f.id, -value) == (code | 1 << (f.bits - 1)));
}

// To the compiler too, not only at run time.
static_assert(decode<float6_e3m2fn>(0x1f) == 28 && encode<float6_e3m2fn>(-28.0f) == 0x3f);
static_assert(decode<float4_e2m1fn>(encode<float4_e2m1fn>(2.5f)) == 2);
static_assert(decode<float8_e4m3fn>(encode<float8_e4m3fn>(1e9f)) == 448);
static_assert(f16_to_f32(f32_to_f16(0x1p-24f)) == 0x1p-24f && bf16_to_f32(f32_to_bf16(-3.0f)) == -3);

bool same_bits(float a, float b) { return detail::float_bits(a) == detail::float_bits(b); }

// Checks a conversion to a 16-bit type at every finite magnitude, at every midpoint of neighbours and
// beside it. `top` is the largest finite magnitude; the next one in the same spacing is where Inf begins.
template <class Widen, class Narrow>
void check_16_bits(Widen widen, Narrow narrow, int top) {
  const double step = static_cast<double>(widen(top)) - widen(top - 1);
  for (int bits = 0; bits <= top; ++bits) {
    const double low = widen(bits), high = bits == top ? low + step : static_cast<double>(widen(bits + 1));
    const auto middle = static_cast<float>(low + (high - low) / 2);  // exact: one bit more than 16-bit types
    const int even = bits % 2 == 0 ? bits : bits + 1;
    for (const int sign : {0, 0x8000}) {
      const float s = sign ? -1.0f : 1.0f;
      CAPTURE(bits, sign);
      REQUIRE(narrow(s * static_cast<float>(low)) == (bits | sign));
      REQUIRE(narrow(s * middle) == (even | sign));
      REQUIRE(narrow(s * std::nextafter(middle, 0.0f)) == (bits | sign));
      REQUIRE(narrow(s * std::nextafter(middle, infinity)) == ((bits + 1) | sign));
    }
  }
}

}  // namespace

TEST_CASE("all 22 formats are there, each under its own parameters", "[codec]") {
  // Risk: a format missing from the list would be tested by no loop below.
  int count = 0;
  for (int bits = 3; bits <= 7; ++bits) {
    for (int exponent = 1; exponent < bits; ++exponent, ++count) {
      const int mantissa = bits - 1 - exponent;
      const format_traits* f = find_format(exponent * 16 + mantissa);
      REQUIRE(f != nullptr);
      CHECK(f->bits == bits);
      CHECK(f->exponent_bits == exponent);
      CHECK(f->mantissa_bits == mantissa);
    }
  }
  CHECK(count + 2 == format_count);
  CHECK(find_format(FLOATX_FORMAT_E4M3FN)->max == 448);
  CHECK(find_format(FLOATX_FORMAT_E5M2)->max == 57344);
  CHECK(find_format(0) == nullptr);
}

TEST_CASE("every code decodes to its exact value", "[codec]") {
  // Risk: an exponent off by one, subnormals read as normals, or specials where there are none.
  for (const format_traits& f : formats) {
    const int sign = 1 << (f.bits - 1);
    for (int magnitude = 0; magnitude < sign; ++magnitude) {
      CAPTURE(f.name, magnitude);
      if (magnitude > max_code(f)) {
        const bool infinite = f.id == FLOATX_FORMAT_E5M2 && magnitude == 0x7c;
        REQUIRE(std::isinf(decode_as(f.id, magnitude)) == infinite);
        REQUIRE(std::isnan(decode_as(f.id, magnitude)) == !infinite);
        if (infinite) REQUIRE(decode_as(f.id, magnitude | sign) == -infinity);
        continue;
      }
      const auto expected = static_cast<float>(value_of(f, magnitude));
      REQUIRE(same_bits(decode_as(f.id, magnitude), expected));
      REQUIRE(same_bits(decode_as(f.id, magnitude | sign), -expected));
    }
    CHECK(f.max == static_cast<float>(value_of(f, max_code(f))));
    CHECK(f.smallest_normal == static_cast<float>(std::ldexp(1.0, 2 - (1 << (f.exponent_bits - 1)))));
  }
}

TEST_CASE("encode(decode(c)) = c", "[codec]") {
  // Risk: a checkpoint that changes when it is dequantized and quantized again.
  for (const format_traits& f : formats) {
    for (int code = 0; code <= max_code(f); ++code) require_codes(f, decode_as(f.id, code), code);
  }
}

TEST_CASE("midpoints go to the even code, their neighbours to the nearer one", "[codec]") {
  // Risk: rounding half up, or a carry into the exponent lost; also at the step from subnormal to normal.
  for (const format_traits& f : formats) {
    for (int code = 0; code < max_code(f); ++code) {
      const double exact = (value_of(f, code) + value_of(f, code + 1)) / 2;
      const auto middle = static_cast<float>(exact);
      REQUIRE(static_cast<double>(middle) == exact);
      require_codes(f, middle, code % 2 == 0 ? code : code + 1);
      require_codes(f, std::nextafter(middle, 0.0f), code);
      require_codes(f, std::nextafter(middle, infinity), code + 1);
    }
  }
}

TEST_CASE("values beyond the largest saturate, tiny ones keep their sign", "[codec]") {
  // Risk: a wrap-around to a small code or to NaN above max; -0 or an FP32 subnormal becoming something else.
  for (const format_traits& f : formats) {
    for (const float value : {std::nextafter(f.max, infinity), 1.5f * f.max, 2 * f.max, 1e30f,
                              std::numeric_limits<float>::max(), infinity}) {
      require_codes(f, value, max_code(f));
    }
    for (const float value : {0.0f, std::numeric_limits<float>::denorm_min(), 1e-38f}) {
      require_codes(f, value, 0);
    }
  }
}

TEST_CASE("binary16 is read and written exactly", "[codec]") {
  // Risk: FP16 subnormals, the tie below Inf, and NaN turning into Inf.
  const auto narrow = [](float value) { return static_cast<int>(f32_to_f16(value)); };
  const auto widen = [](int bits) { return f16_to_f32(static_cast<uint16_t>(bits)); };
  for (int bits = 0; bits < 0x10000; ++bits) {
    CAPTURE(bits);
    const int exponent = bits >> 10 & 31, mantissa = bits & 0x3ff;
    const float sign = bits & 0x8000 ? -1.0f : 1.0f;
    if (exponent == 31) {
      REQUIRE(std::isnan(widen(bits)) == (mantissa != 0));
      if (mantissa == 0) REQUIRE(widen(bits) == sign * infinity);
      REQUIRE(std::isnan(widen(narrow(widen(bits)))) == (mantissa != 0));
      continue;
    }
    const double expected =
        exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
    REQUIRE(same_bits(widen(bits), sign * static_cast<float>(expected)));
  }
  check_16_bits(widen, narrow, 0x7bff);
  CHECK(narrow(infinity) == 0x7c00);
  CHECK(narrow(std::numeric_limits<float>::max()) == 0x7c00);
}

TEST_CASE("bfloat16 is read and written exactly", "[codec]") {
  // Risk: truncation instead of rounding, and NaN rounding up to Inf or to -0.
  const auto narrow = [](float value) { return static_cast<int>(f32_to_bf16(value)); };
  const auto widen = [](int bits) { return bf16_to_f32(static_cast<uint16_t>(bits)); };
  for (int bits = 0; bits < 0x10000; ++bits) {
    CAPTURE(bits);
    const int exponent = bits >> 7 & 255, mantissa = bits & 0x7f;
    const float sign = bits & 0x8000 ? -1.0f : 1.0f;
    if (exponent == 255) {
      REQUIRE(std::isnan(widen(bits)) == (mantissa != 0));
      if (mantissa == 0) REQUIRE(widen(bits) == sign * infinity);
      REQUIRE(std::isnan(widen(narrow(widen(bits)))) == (mantissa != 0));
      continue;
    }
    const double expected =
        exponent == 0 ? std::ldexp(mantissa, -133) : std::ldexp(128 + mantissa, exponent - 134);
    REQUIRE(same_bits(widen(bits), sign * static_cast<float>(expected)));
  }
  check_16_bits(widen, narrow, 0x7f7f);
  CHECK(std::isnan(widen(narrow(detail::bits_float(0x7f800001u)))));
  CHECK(std::isnan(widen(narrow(detail::bits_float(0xffffffffu)))));
}

TEST_CASE("E8M0 is a power of two", "[codec]") {
  // Risk: byte 0, which is an FP32 subnormal, and byte 255, which is NaN.
  for (int byte = 0; byte < 255; ++byte) {
    REQUIRE(static_cast<double>(e8m0_to_f32(static_cast<uint8_t>(byte))) == std::ldexp(1.0, byte - 127));
  }
  CHECK(std::isnan(e8m0_to_f32(255)));
}

TEST_CASE("floor_log2 at and beside every power of two", "[quantize]") {
  // Risk: an E8M0 scale off by a factor of 2 just below a power of two, or for subnormals.
  for (int exponent = -149; exponent <= 127; ++exponent) {
    CAPTURE(exponent);
    const float power = std::ldexp(1.0f, exponent);
    REQUIRE(floor_log2(power) == exponent);
    if (exponent > -149) REQUIRE(floor_log2(std::nextafter(power, 0.0f)) == exponent - 1);
  }
}
