// kernels::dequantize on the emulated machine, of which it needs a few instructions.
//
// SPDX-License-Identifier: Apache-2.0
#include "kernel/emulated/ptx.hpp"

// After what it is made of here.
#include <cmath>
#include <cstring>
#include <random>
#include <type_traits>

#include "dequant.cuh"
#include "floatx/codec.hpp"
#include "support/catch.hpp"

using namespace floatx;

namespace {

// The value of one of a pair; rule.unscale is what kernels multiply sums by in the end.
template <class Activation>
float value_of(uint32_t pair, int half, const kernels::dequant_rule& rule) {
  const auto bits = static_cast<uint16_t>(pair >> 16 * half);
  if constexpr (std::is_same_v<Activation, __half>) return f16_to_f32(bits) * rule.unscale;
  return bf16_to_f32(bits);
}

// How many values of codes are wrong, zeros of the wrong sign too. Every place of a unit has every code once
// in each of two rounds, beside other neighbours in each.
template <int Bits, class Activation, kernels::unpacking How>
int64_t wrong_values(const format_traits& format) {
  constexpr int codes = 1 << Bits;
  constexpr auto columns = static_cast<int>(gpu::block_k),
                 places = static_cast<int>(gpu::strip_rows) * columns;
  const kernels::dequant_rule rule =
      kernels::make_dequant_rule(format, std::is_same_v<Activation, __nv_bfloat16>);
  float values[codes];
  visit_format(format.id, [&](auto f) {
    for (int code = 0; code < codes; ++code) values[code] = decode<decltype(f)>(static_cast<uint8_t>(code));
  });
  int64_t wrong = 0;
  std::mt19937 random(1);
  for (int round = 0; round < 2; ++round) {
    uint8_t begin[places], of_unit[places];
    for (uint8_t& code : begin) code = static_cast<uint8_t>(random());
    for (int added = 0; added < codes; ++added) {
      for (int i = 0; i < places; ++i) of_unit[i] = static_cast<uint8_t>((begin[i] + added) % codes);
      alignas(16) uint8_t unit[places];
      gpu::store_strip(Bits, format.mantissa_bits, columns, 0, gpu::strip_rows, of_unit, unit);
      for (int lane = 0; lane < 32; ++lane) {
        uint32_t words[2 * Bits];
        kernels::load_unit<Bits>(words, unit, lane);
        for (int step = 0; step < columns / 16; ++step) {
          uint32_t a[4];
          kernels::dequantize<Bits, Activation, How>(words, step, rule, a);
          // As mma's A fragments are: rows 8 apart in turn, then columns 8 apart.
          for (int i = 0; i < 8; ++i) {
            const int row = lane / 4 + i / 2 % 2 * 8, column = 16 * step + lane % 4 * 2 + i / 4 * 8 + i % 2;
            const float expected = values[of_unit[row * columns + column]];
            const float value = value_of<Activation>(a[i / 2], i % 2, rule);
            // Inf and NaN are refused where weights are packed.
            if (std::isfinite(expected) && std::memcmp(&value, &expected, sizeof value) != 0) ++wrong;
          }
        }
      }
    }
  }
  return wrong;
}

template <class Activation>
int64_t wrong_values(const format_traits& format) {
  using kernels::unpacking;
  const unpacking how = kernels::unpacking_of(format, std::is_same_v<Activation, __nv_bfloat16>);
  return visit_format(format.id, [&](auto f) {
    constexpr int bits = decltype(f)::bits;
    return how == unpacking::usual   ? wrong_values<bits, Activation, unpacking::usual>(format)
           : how == unpacking::moved ? wrong_values<bits, Activation, unpacking::moved>(format)
                                     : wrong_values<bits, Activation, unpacking::halved>(format);
  });
}

}  // namespace

TEST_CASE("every code of every format, in every place of a unit, becomes its value") {
  // Risk: a turn, a shift or a mask that is right for most formats, places or neighbours.
  for (const format_traits& format : formats) {
    if (format.exponent_bits > 5) continue;
    CAPTURE(format.name);
    CHECK(wrong_values<__half>(format) == 0);
    CHECK(wrong_values<__nv_bfloat16>(format) == 0);
  }
}
