// The arithmetic by which the GPU packs, on the host.
//
// SPDX-License-Identifier: Apache-2.0
#include "pack_rule.hpp"

#include <cmath>
#include <random>
#include <vector>

#include "floatx/codec.hpp"
#include "floatx/quantize.hpp"
#include "support/catch.hpp"

using namespace floatx;
using namespace floatx::kernels;

namespace {

float pattern(std::mt19937& random) { return detail::bits_float(random()); }

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
        if (std::isnan(value)) return;
        wrong += encode_magnitude(rule, value) != (encode<Format>(value) & (Format::sign_mask - 1u));
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
      same(INFINITY);
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
      const divider by = make_divider(divisor);
      const float quotient = divide(value * by.prescale, by);
      wrong += encode_magnitude(rule, quotient) != encode_magnitude(rule, value / divisor);
      inexact +=
          std::fabs(value / divisor) > traits.smallest_subnormal * 0.25f && quotient != value / divisor;
    }
    CHECK(wrong == 0);
    CHECK(inexact == 0);
  }
  const divider zero = make_divider(0);
  CHECK(divide(1e30f, zero) == 0);
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
    const unit_moves moves = moves_of(format.bits);
    const unit_rule rule = make_unit_rule(format);
    const gpu::planes all = gpu::planes_of(format.bits, format.mantissa_bits);
    const int lane = 13;
    for (int pair = 0; pair < gpu::lane_pairs; ++pair) {
      for (int half = 0; half < 2; ++half) {
        for (int code = 0; code < 1 << format.bits; ++code) {
          const uint32_t magnitude = static_cast<uint32_t>(code) & ((1u << (format.bits - 1)) - 1);
          const uint32_t sign = static_cast<uint32_t>(code) >> (format.bits - 1);
          const uint32_t in_register = (magnitude << (10 - format.mantissa_bits) | sign << 15) << (16 * half);
          std::vector<uint32_t> words(512), unit(512);
          for (int move = 0; move < moves.count; ++move) {
            const auto [width, first, is_tiled] = moves.list[move];
            const int per_word = 16 / width, word = first + pair / per_word, in_word = pair % per_word;
            if (is_tiled) REQUIRE(rule.turn[move][in_word] == static_cast<uint32_t>(width * in_word));
            // The lane's words, 16 bytes of each lane in turn, and of a 1-bit plane 8.
            const int chunk = word / 4, last = width == 1 ? 2 : 4;
            words[static_cast<size_t>(chunk * 128 + lane * last + word % 4)] |=
                turned_right(in_register, rule.turn[move][in_word]) & rule.mask[move][in_word];
          }
          gpu::for_each_bit(all, format.bits, {lane, pair, half}, [&](int word, int bit, int of_code) {
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
