// The arithmetic by which the GPU packs, on the host.
//
// SPDX-License-Identifier: Apache-2.0
#include "pack_rule.hpp"

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "floatx/codec.hpp"
#include "floatx/quantize.hpp"
#include "support/catch.hpp"

using namespace floatx;
using namespace floatx::kernels;

namespace {

uint32_t turned_right(uint32_t value, uint32_t by) {
  return by == 0 ? value : value >> by | value << (32 - by);
}

float pattern(std::mt19937& random) { return detail::bits_float(random()); }

// As the kernels limit it.
uint32_t limited_code(const encode_rule& rule, float value) {
  return std::min(encode_magnitude(rule, value) & 0xffffu, rule.largest & 0xffffu);
}

}  // namespace

TEST_CASE("the short encoder gives the codec's magnitudes") {
  // Risk: a tie that goes to the even count instead of the even code, a subnormal, the clamp at max.
  for (const format_traits& traits : formats) {
    INFO(traits.name);
    const encode_rule rule = make_encode_rule(traits);
    visit_format(traits.id, [&](auto format) {
      using Format = decltype(format);
      int wrong = 0;
      const auto same = [&](float value) {
        if (!(std::fabs(value) <= 8 * Format::max)) return;
        wrong += limited_code(rule, value) != (encode<Format>(value) & (Format::sign_mask - 1u));
      };
      for (uint32_t bits = 0; bits < 0x7f800000u; bits += 2049) same(detail::bits_float(bits));
      for (int code = 0; code <= Format::max_code; ++code) {
        const float low = decode<Format>(static_cast<uint8_t>(code));
        const float high =
            code == Format::max_code ? Format::max * 2 : decode<Format>(static_cast<uint8_t>(code + 1));
        for (const float centre : {low, high, 0.5f * (low + high)}) {
          const auto bits = static_cast<int64_t>(detail::float_bits(centre));
          for (int64_t near = bits - 40; near <= bits + 40; ++near) {
            if (near >= 0) same(-detail::bits_float(static_cast<uint32_t>(near)));
          }
        }
      }
      CHECK(wrong == 0);
    });
  }
}

TEST_CASE("division by corrections is division") {
  // Risk: a quotient that is wrong by one unit where it decides a code; a remainder that underflows. The
  // codes are compared: quotients too small for any code may be wrong.
  std::mt19937 random(1);
  for (const format_traits& traits : formats) {
    INFO(traits.name);
    const encode_rule rule = make_encode_rule(traits);
    int64_t wrong = 0, inexact = 0;
    for (int i = 0; i < 400000; ++i) {
      const float divisor = std::fabs(pattern(random));
      if (!(divisor >= 0x1p-90f && divisor < INFINITY)) continue;
      float value = pattern(random);
      if (i % 4 != 0) {  // a quotient next to where rounding is decided
        const float steps = static_cast<float>(random() % 1024) * 0.5f;
        const float near =
            steps * traits.smallest_subnormal * (1.0f + static_cast<float>(int(random() % 9) - 4) * 0x1p-23f);
        value = near * divisor;
        value = detail::bits_float(detail::float_bits(value) + random() % 3 - 1);
      } else if (i % 8 == 0) {
        value = divisor * traits.max * static_cast<float>(random()) * 0x1p-32f;
      }
      if (!(std::fabs(value / divisor) <= 2 * traits.max)) continue;
      const divider by = divider::of(divisor);
      const float quotient = divide(value * by.prescale, by);
      wrong += limited_code(rule, quotient) != limited_code(rule, value / divisor);
      inexact +=
          std::fabs(value / divisor) > traits.smallest_subnormal * 0.25f && quotient != value / divisor;
    }
    CHECK(wrong == 0);
    CHECK(inexact == 0);
  }
  const divider zero = divider::of(0);
  CHECK(divide(1e30f, zero) == 0);
  CHECK(zero.signs == 0);
}

TEST_CASE("a product decides the codes of short values") {
  // Risk: a quotient that IEEE would round to a boundary between codes, or off it, and the product does not.
  // There is no such value where the divisor is close to a number of 7 bits, which is why those are tried
  // above all.
  std::mt19937 random(2);
  for (const format_traits& traits : formats) {
    INFO(traits.name);
    const encode_rule rule = make_encode_rule(traits);
    int64_t wrong = 0;
    const auto check = [&](float divisor) {
      const short_divider by = short_divider::of(divisor);
      const float prescale = bf16_to_f32(static_cast<uint16_t>(by.prescale));
      for (int half_steps = 1; half_steps < 256; half_steps += 2) {
        // Boundaries of every binade are those of half_steps times a power of two.
        const int exponent = static_cast<int>(random() % (traits.bits + 2)) - 2;
        const float boundary =
            std::ldexp(static_cast<float>(half_steps) * traits.smallest_normal, exponent - 6);
        const float centre = boundary * divisor;
        if (!(boundary <= 2 * traits.max) || !(centre < 0x1p120f) || !(centre > 0x1p-110f)) continue;
        for (const int bits : {11, 8}) {
          const uint32_t unit = 1u << (24 - bits), first = detail::float_bits(centre) / unit;
          for (uint32_t near = first - 1; near <= first + 2; ++near) {
            const float value = detail::bits_float(near * unit);
            wrong += limited_code(rule, divide(value * prescale, by)) != limited_code(rule, value / divisor);
          }
        }
      }
    };
    for (int exponent : {-100, -70, -20, 0, 15, 105}) {
      for (int numerator = 64; numerator <= 128; ++numerator) {
        for (int n = -40; n <= 40; n += exponent == 0 ? 1 : 13) {
          check(std::ldexp(static_cast<float>((numerator << 17) + n), exponent - 23));
        }
      }
    }
    for (int i = 0; i < 2000; ++i)
      check(std::ldexp(static_cast<float>((1u << 23) + random() % (1u << 23)), -25));
    CHECK(wrong == 0);
  }
  const short_divider zero = short_divider::of(0);
  CHECK(divide(65504.0f, zero) == 0);
  CHECK(zero.signs == 0);
}

TEST_CASE("a power of two is known by its bits") {
  // Risk: E8M0 scales rounded up one too far, or not far enough.
  for (int exponent = -149; exponent < 128; ++exponent) {
    const float power = std::ldexp(1.0f, exponent);
    for (const float value : {power, std::nextafter(power, 0.0f), std::nextafter(power, INFINITY)}) {
      int unused;
      if (value > 0) CHECK(is_power_of_two(value) == (std::frexp(value, &unused) == 0.5f));
    }
  }
}

TEST_CASE("registers go to the words that the layout says") {
  // Risk: a table of turns that differs from the arrangement that the linear layer reads.
  for (const format_traits& format : formats) {
    if (format.exponent_bits > 5) continue;
    INFO(format.name);
    const unit_rule rule = make_unit_rule(format);
    const gpu::arrangement in = gpu::arrangement_of(format.bits, format.mantissa_bits);
    const int lane = 13, lift = lift_of(format), sign_place = format.bits == 4 ? lift + 3 : 15;
    REQUIRE(lift == in.first_target);
    for (int pair = 0; pair < gpu::lane_pairs; ++pair) {
      for (int half = 0; half < 2; ++half) {
        for (int code = 0; code < 1 << format.bits; ++code) {
          const uint32_t magnitude = static_cast<uint32_t>(code) & ((1u << (format.bits - 1)) - 1);
          const uint32_t sign = static_cast<uint32_t>(code) >> (format.bits - 1);
          const uint32_t in_register = (magnitude << lift | sign << sign_place) << (16 * half);
          std::vector<uint32_t> words(512), unit(512);
          const auto put = [&](int word, uint32_t bits) {
            words[static_cast<size_t>(gpu::place_of_word(format.bits, lane, word))] |= bits;
          };
          const int per_word = gpu::word_pairs(format.bits), index = pair / per_word;
          const int group = gpu::group_words(format.bits), stored = gpu::stored_words(format.bits);
          const int first = index / group * stored, number = index % group - stored;
          const uint32_t bits = turned_right(in_register & rule.mask, rule.turn[pair % per_word]);
          if (number < 0) {
            put(first + index % group, bits);
          } else {
            const int lenders = gpu::lender_count(format.bits);
            for (int i = 0; i < lenders; ++i) {
              put(first + gpu::lender(format.bits, number, i),
                  turned_right(bits & rule.lent.mask[i], rule.lent.turn[number * lenders + i]));
            }
          }
          gpu::for_each_bit(in, {lane, pair, half}, [&](int word, int bit, int of_code) {
            unit[static_cast<size_t>(word)] |= ((static_cast<uint32_t>(code) >> of_code) & 1u) << bit;
          });
          if (words != unit) {
            CAPTURE(pair, half, code);
            FAIL("a bit lies elsewhere");
          }
        }
      }
    }
  }
}
