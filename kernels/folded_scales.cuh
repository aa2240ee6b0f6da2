// Scales of groups as factors of weights: pairs of the type of x.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "epilogue.cuh"
#include "linear_shape.hpp"
#include "linear_tile_arguments.hpp"
#include "ptx/number.cuh"

namespace floatx::kernels {

// Scales are raised first, multiplied by a power of two that is the same for a whole row, by which sums are
// divided in the end. It comes from the largest scale of the row, which packed weights hold.
//
// With FP16 x it brings the largest to 2^14 or more, but below 2^15. No product with a code is infinite then,
// for codes are below 2 (folds); and the product of a code that is a normal number of its format is one of
// FP16, with all bits, where the raised scale is 1 or more.
//
// With BF16 it is the power that codes lack as they come (rule.bf16_factor), so that products are weights, or
// less: what leaves the largest below 2^127, but not less than 1.
//
// Every warp that multiplies raises scales for itself. Tried: a warp for all of them, from which they have
// scales and the powers where these change, 0.99 to 1.19 times the cycles (h200-tests.json, tile_scales): it
// does not keep up. And without the largest scale: by the first k block's, lowered where a vote in each k
// block found no room for the next one's, 1.03 to 1.09; or by those of all k blocks, looked up before the
// first product, 1.02 to 1.07, for all of them come before the first weights then (tile_largest).
constexpr uint32_t f16_exponent = 127 + 14, bf16_exponent = 127 + 126;
constexpr float most_raise = 0x1p126f;

// E4M3FN scales are at most 448: so raised no product with their codes is rounded in FP16, and none is
// infinite.
constexpr float e4m3fn_raise = 0x1p6f;
constexpr uint32_t e4m3fn_factor = 0x54005400u;  // the same, twice in FP16

// Such powers for the scales of rows lane / 4 and lane / 4 + 8. Scales in the type of x are multiplied by
// pairs of it, one after the other: in FP16 two, as the powers reach 2^38; more than 2^30 is not needed.
struct scale_raise {
  float low, high;
  uint32_t factors[2];
};

// a / b of two powers of two; at least 2^-126, for 0 would make NaN of Inf.
__device__ __forceinline__ float ratio(float a, float b) {
  const int exponent =
      static_cast<int>(__float_as_uint(a) >> 23) - static_cast<int>(__float_as_uint(b) >> 23) + 127;
  return __uint_as_float(static_cast<uint32_t>(exponent > 0 ? exponent : 1) << 23);
}

// What brings a number to such an exponent, or `most`.
__device__ __forceinline__ float raise_to(uint32_t exponent, float number, float most) {
  const uint32_t raise = exponent + 127 - (__float_as_uint(number) >> 23);
  return raise < 254 ? fminf(__uint_as_float(raise << 23), most) : most;
}

// In the scales of a unit of 16 rows x 128 k: where those that a lane wants are.
__device__ __forceinline__ int folded_offset(const linear_tile_arguments& args, int lane) {
  return (lane / 4 * 2 * scale_bytes(args.common.scale_type)) << args.common.groups_log2;
}

// A lane's scales of a unit in shared memory: pairs of rows lane / 4 and lane / 4 + 8, group after group, of
// which Intervals are wanted, each of as many columns. With as many as there are steps groups are of 16.
template <class Activation, int Intervals>
class folded_scales {
 public:
  uint32_t words[Intervals] = {};  // as pairs of Activation, see load

  // For rows of which these are the largest scales.
  __device__ __forceinline__ static scale_raise raise_of(const linear_tile_arguments& args, float low,
                                                         float high) {
    const float usual = usual_power(args);
    if constexpr (is_half) {
      if (args.scales_are_e4m3fn) return with_factors(usual, usual);
      const float most = args.scales_are_f16 ? 0x1p30f : usual;
      return with_factors(raise_to(f16_exponent, low, most), raise_to(f16_exponent, high, most));
    } else {
      return with_factors(fmaxf(raise_to(bf16_exponent, low, usual), 1.0f),
                          fmaxf(raise_to(bf16_exponent, high, usual), 1.0f));
    }
  }

  // What sums are multiplied by in the end.
  __device__ __forceinline__ static float2 unit(const linear_tile_arguments& args, const scale_raise& raise) {
    const float numerator = is_half ? 1.0f : usual_power(args);
    return {ratio(numerator, raise.low), ratio(numerator, raise.high)};
  }

  // Form: args.form_of_scales. Scales that lie side by side are loaded at once; pairs as they are, to be
  // raised when they are first wanted: with 128 tokens and groups of 32 0.97 times the cycles of products
  // right after the load (h200-tests.json, tile_largest).
  template <scale_form Form>
  __device__ __forceinline__ void load(const linear_tile_arguments& args, const unsigned char* of_lane,
                                       const scale_raise& raise) {
    if constexpr (Form == scale_form::pairs) {
      load_all(words, of_lane);
    } else if constexpr (Form == scale_form::standard) {
      uint32_t some[(Intervals + 1) / 2];
      load_all(some, of_lane);
#pragma unroll
      for (int i = 0; i < Intervals; ++i) {
        words[i] = raised<standard_type(steps / Intervals)>(some[i / 2] >> i % 2 * 16, raise);
      }
    } else {
      for_each(args, of_lane, [&](int i, auto type, const unsigned char* pair) {
        words[i] = raised<type.value>(pair, raise);
      });
    }
  }

  __device__ __forceinline__ void raise_pair(int interval, const scale_raise& raise) {
    words[interval] = raised_pair(words[interval], raise);
  }

 private:
  static constexpr bool is_half = std::is_same_v<Activation, __half>;

  template <scale_storage Type>
  using type_constant = std::integral_constant<scale_storage, Type>;

  // 16 bytes at a time, or 8, or 4.
  template <int Count>
  __device__ __forceinline__ static void load_all(uint32_t (&to)[Count], const unsigned char* from) {
    if constexpr (Count == 1) {
      to[0] = *reinterpret_cast<const uint32_t*>(from);
    } else if constexpr (Count == 2) {
      const uint2 two = *reinterpret_cast<const uint2*>(from);
      to[0] = two.x;
      to[1] = two.y;
    } else {
#pragma unroll
      for (int i = 0; i < Count; i += 4) {
        const uint4 four = *reinterpret_cast<const uint4*>(from + i * 4);
        to[i] = four.x;
        to[i + 1] = four.y;
        to[i + 2] = four.z;
        to[i + 3] = four.w;
      }
    }
  }

  // Unless a row's largest scale wants a smaller one.
  __device__ __forceinline__ static float usual_power(const linear_tile_arguments& args) {
    if constexpr (is_half) return args.scales_are_e4m3fn ? e4m3fn_raise : most_raise;
    return __uint_as_float(args.common.rule.bf16_factor << 16);
  }

  __device__ __forceinline__ static scale_raise with_factors(float low, float high) {
    if constexpr (is_half) {
      const float first_low = fminf(low, 0x1p15f), first_high = fminf(high, 0x1p15f);
      return {low,
              high,
              {pair_of<__half>(first_low, first_high),
               pair_of<__half>(ratio(low, first_low), ratio(high, first_high))}};
    } else {
      return {low, high, {pair_of<__nv_bfloat16>(low, high), 0}};
    }
  }

  // Calls use(interval, type, where its pair is).
  template <class Use>
  __device__ __forceinline__ static void for_each(const linear_tile_arguments& args,
                                                  const unsigned char* of_lane, Use&& use) {
    // Most are, and of a switch over all nvcc makes a jump through a table.
    if (args.scales_are_f16) return for_each_of<scale_storage::f16>(args, of_lane, use);
    switch (args.common.scale_type) {
      case scale_storage::bf16:
        return for_each_of<scale_storage::bf16>(args, of_lane, use);
      case scale_storage::e8m0:
        return for_each_of<scale_storage::e8m0>(args, of_lane, use);
      case scale_storage::e4m3fn:
        return for_each_of<scale_storage::e4m3fn>(args, of_lane, use);
      default:
        return for_each_of<scale_storage::f32>(args, of_lane, use);
    }
  }

  template <scale_storage Type, class Use>
  __device__ __forceinline__ static void for_each_of(const linear_tile_arguments& args,
                                                     const unsigned char* of_lane, Use&& use) {
#pragma unroll
    for (int i = 0; i < Intervals; ++i) {
      const int at = Intervals == steps ? i * 2 * scale_bytes(Type)
                                        : i % 2 * args.scale_steps[0] + i / 2 * args.scale_steps[1];
      use(i, type_constant<Type>{}, of_lane + at);
    }
  }

  __device__ __forceinline__ static uint32_t raised_pair(uint32_t pair, const scale_raise& raise) {
    const uint32_t once = ptx::product<Activation>(pair, raise.factors[0]);
    return is_half ? ptx::product<Activation>(once, raise.factors[1]) : once;
  }
  __device__ __forceinline__ static uint32_t raised_pair(float2 pair, const scale_raise& raise) {
    return pair_of<Activation>(pair.x * raise.low, pair.y * raise.high);
  }

  // 2^(exponent - 127), raised; 0 where FP16 has nothing so small.
  __device__ __forceinline__ static float raised_power(uint32_t exponent, float raise) {
    const int bits =
        static_cast<int>(exponent << 23) + static_cast<int>(__float_as_uint(raise) - 0x3f800000u);
    return __uint_as_float(static_cast<uint32_t>(max(bits, 0)));
  }

  // bits: those of a pair of a byte each.
  template <scale_storage Type>
  __device__ __forceinline__ static uint32_t raised(uint32_t bits, const scale_raise& raise) {
    if constexpr (Type == scale_storage::e8m0) {
      // Powers of two: exponents are added. 2^-127 has exponent 0 and would be 0 if it were not raised: then
      // the row's largest is so large that it is nothing beside it.
      const uint32_t two = ptx::halves_of_bytes(bits);
      if constexpr (is_half) {
        return pair_of<__half>(raised_power(two & 0xffffu, raise.low), raised_power(two >> 16, raise.high));
      } else {
        return (two << 7) + (raise.factors[0] - 0x3f803f80u);
      }
    } else if constexpr (is_half) {
      return ptx::product<__half>(ptx::halves_of_e4m3fn(static_cast<uint16_t>(bits)), e4m3fn_factor);
    } else {
      return raised_pair(scale_pair_of<Type>(bits), raise);
    }
  }

  template <scale_storage Type>
  __device__ __forceinline__ static uint32_t raised(const unsigned char* pair, const scale_raise& raise) {
    if constexpr (scale_bytes(Type) == 1) {
      return raised<Type>(*reinterpret_cast<const uint16_t*>(pair), raise);
    } else if constexpr (Type == (is_half ? scale_storage::f16 : scale_storage::bf16)) {
      return raised_pair(*reinterpret_cast<const uint32_t*>(pair), raise);
    } else {
      return raised_pair(load_scale_pair<Type>(pair), raise);
    }
  }
};

}  // namespace floatx::kernels
