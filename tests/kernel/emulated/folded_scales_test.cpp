// kernels::folded_scales on the emulated machine, of which it needs a few instructions.
//
// SPDX-License-Identifier: Apache-2.0
#include "kernel/emulated/ptx.hpp"

// After what it is made of here.
#include <random>
#include <type_traits>

#include "floatx.h"
#include "floatx/quantize.hpp"
#include "folded_scales.cuh"
#include "support/catch.hpp"

using namespace floatx;
using kernels::scale_form;

namespace {

template <class Activation>
constexpr bool is_half = std::is_same_v<Activation, __half>;

template <class Activation>
uint32_t rounded(float value) {
  return is_half<Activation> ? f32_to_f16(value) : f32_to_bf16(value);
}

float value_of(scale_storage type, uint8_t bits) { return scale_value(type, bits, 1.0f); }

// How many of 20000 units have a raised scale that is not the product with the raise, rounded once: as loops
// for scales of a standard's type load it, or as those for others. No scale is larger than its row's largest.
template <class Activation, int Interval>
int wrong_scales(floatx_format format) {
  constexpr int groups = kernels::steps / Interval;
  constexpr scale_storage type = kernels::standard_type(Interval);
  constexpr int codes = type == scale_storage::e8m0 ? 255 : 127;  // NaN comes after them
  kernels::linear_tile_arguments args = {};
  args.common.scale_type = type;
  args.common.rule = kernels::make_dequant_rule(*find_format(format), !is_half<Activation>);
  args.scales_are_e4m3fn = type == scale_storage::e4m3fn;
  if (Interval == 2) args.scale_steps[0] = 2, args.scale_steps[1] = 4;
  std::mt19937 random(7);
  int wrong = 0;
  for (int unit = 0; unit < 20000; ++unit) {
    uint8_t largest[2];
    for (uint8_t& bits : largest) bits = static_cast<uint8_t>(random() % codes);
    alignas(16) uint8_t bytes[2 * groups];
    for (int i = 0; i < 2 * groups; ++i) {
      bytes[i] = static_cast<uint8_t>(random() % 4 == 0 ? largest[i % 2] : random() % (largest[i % 2] + 1));
      // E4M3FN scales may be negative.
      if (type == scale_storage::e4m3fn && random() % 4 == 0) bytes[i] |= 0x80u;
    }
    using scales = kernels::folded_scales<Activation, groups>;
    const kernels::scale_raise raise =
        scales::raise_of(args, value_of(type, largest[0]), value_of(type, largest[1]));
    scales in_loop, in_others;
    in_loop.template load<scale_form::standard>(args, bytes, raise);
    in_others.template load<scale_form::others>(args, bytes, raise);
    bool is_right = true;
    for (int i = 0; i < groups; ++i) {
      uint32_t expected = 0;
      for (int half = 0; half < 2; ++half) {
        const uint8_t bits = bytes[2 * i + half];
        const float power = half == 0 ? raise.low : raise.high;
        // Exact in FP32. 2^-127 may be nothing where it is not raised.
        const bool is_nothing = type == scale_storage::e8m0 && bits == 0 && power <= 1;
        expected |= (is_nothing ? 0 : rounded<Activation>(value_of(type, bits) * power)) << 16 * half;
      }
      is_right &= in_loop.words[i] == expected && in_others.words[i] == expected;
    }
    wrong += !is_right;
  }
  return wrong;
}

}  // namespace

TEST_CASE("scales of the types that standards have, raised") {
  // Risk: an exponent runs over into its neighbour or below zero, a pair is taken for another, a sign is
  // lost.
  for (const floatx_format format : {FLOATX_FORMAT_E2M1, FLOATX_FORMAT_E3M2, FLOATX_FORMAT_E4M2}) {
    CAPTURE(format);
    CHECK(wrong_scales<__half, 1>(format) == 0);
    CHECK(wrong_scales<__half, 2>(format) == 0);
    CHECK(wrong_scales<__nv_bfloat16, 1>(format) == 0);
    CHECK(wrong_scales<__nv_bfloat16, 2>(format) == 0);
  }
}
