// The formats: what an EyMz code means, in numbers. No code here touches a value; see codec.hpp.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define FLOATX_HOST_DEVICE __host__ __device__
#else
#define FLOATX_HOST_DEVICE
#endif

namespace floatx {

// What the highest codes stand for.
enum class specials {
  none,  // ordinary numbers: every code is finite
  fn,    // the all-ones code is NaN, everything else is finite (OCP e4m3fn)
  ieee,  // the all-ones exponent is Inf and NaN (OCP e5m2)
};

namespace detail {
// Exact, because every exponent in use is one of FP32.
constexpr FLOATX_HOST_DEVICE float power_of_two(int exponent) {
  float result = 1;
  for (; exponent > 0; --exponent) result *= 2;
  for (; exponent < 0; ++exponent) result *= 0.5f;
  return result;
}
}  // namespace detail

// 1 sign bit, E exponent bits with bias 2^(E-1) - 1, M mantissa bits; exponent field 0 is subnormal.
template <int E, int M, specials S = specials::none>
struct format {
  static_assert(E >= 1 && M >= 0, "a format has at least one exponent bit");
  static_assert(1 + E + M >= 3 && 1 + E + M <= 8, "a format has 3 to 8 bits");
  static_assert((1 + E + M == 8) == (S != specials::none),
                "8-bit formats follow OCP, narrower ones are all finite");

  static constexpr int exponent_bits = E;
  static constexpr int mantissa_bits = M;
  static constexpr int bits = 1 + E + M;
  static constexpr int bias = (1 << (E - 1)) - 1;
  static constexpr specials special_codes = S;

  static constexpr uint8_t code_mask = static_cast<uint8_t>((1u << bits) - 1);
  static constexpr uint8_t sign_mask = static_cast<uint8_t>(1u << (E + M));
  // The largest finite magnitude: all ones, less what the specials take from the top.
  static constexpr uint8_t max_code = static_cast<uint8_t>(sign_mask - 1 -
                                                           (S == specials::fn     ? 1
                                                            : S == specials::ieee ? 1 << M
                                                                                  : 0));

  static constexpr float smallest_normal = detail::power_of_two(1 - bias);
  static constexpr float smallest_subnormal = detail::power_of_two(1 - bias - M);
  static constexpr int max_exponent = (max_code >> M) - bias;  // floor(log2(max))
  static constexpr float max =
      detail::power_of_two(max_exponent - M) * ((1 << M) + (max_code & ((1 << M) - 1)));
};

// The same at run time.
struct format_traits {
  int id;  // the value of floatx_format: M and E as hexadecimal digits, 0x1.. for the OCP formats
  const char* name;
  int bits, exponent_bits, mantissa_bits, bias;
  specials special_codes;
  float max, smallest_normal, smallest_subnormal;
};

// THE list of formats: everything that enumerates formats expands it. X(id, E, M, specials, name)
#define FLOATX_FORMATS(X)      \
  X(0x11, 1, 1, none, "e1m1")  \
  X(0x20, 2, 0, none, "e2m0")  \
  X(0x12, 1, 2, none, "e1m2")  \
  X(0x21, 2, 1, none, "e2m1")  \
  X(0x30, 3, 0, none, "e3m0")  \
  X(0x13, 1, 3, none, "e1m3")  \
  X(0x22, 2, 2, none, "e2m2")  \
  X(0x31, 3, 1, none, "e3m1")  \
  X(0x40, 4, 0, none, "e4m0")  \
  X(0x14, 1, 4, none, "e1m4")  \
  X(0x23, 2, 3, none, "e2m3")  \
  X(0x32, 3, 2, none, "e3m2")  \
  X(0x41, 4, 1, none, "e4m1")  \
  X(0x50, 5, 0, none, "e5m0")  \
  X(0x15, 1, 5, none, "e1m5")  \
  X(0x24, 2, 4, none, "e2m4")  \
  X(0x33, 3, 3, none, "e3m3")  \
  X(0x42, 4, 2, none, "e4m2")  \
  X(0x51, 5, 1, none, "e5m1")  \
  X(0x60, 6, 0, none, "e6m0")  \
  X(0x143, 4, 3, fn, "e4m3fn") \
  X(0x152, 5, 2, ieee, "e5m2")

// Aliases in the spelling of ml_dtypes.
using float4_e2m1fn = format<2, 1>;
using float6_e2m3fn = format<2, 3>;
using float6_e3m2fn = format<3, 2>;
using float8_e4m3fn = format<4, 3, specials::fn>;
using float8_e5m2 = format<5, 2, specials::ieee>;

constexpr format_traits formats[] = {
#define FLOATX_TRAITS(id, E, M, S, name)       \
  {id,                                         \
   name,                                       \
   format<E, M, specials::S>::bits,            \
   E,                                          \
   M,                                          \
   format<E, M, specials::S>::bias,            \
   specials::S,                                \
   format<E, M, specials::S>::max,             \
   format<E, M, specials::S>::smallest_normal, \
   format<E, M, specials::S>::smallest_subnormal},
    FLOATX_FORMATS(FLOATX_TRAITS)
#undef FLOATX_TRAITS
};
constexpr int format_count = sizeof(formats) / sizeof(formats[0]);

// nullptr for a value that is no format.
constexpr const format_traits* find_format(int id) {
  for (const format_traits& traits : formats) {
    if (traits.id == id) return &traits;
  }
  return nullptr;
}

// Calls function(format<...>{}) for the format with this id, which must be one.
template <class Function>
constexpr decltype(auto) visit_format(int id, Function&& function) {
  switch (id) {
#define FLOATX_VISIT(id, E, M, S, name) \
  case id:                              \
    return function(format<E, M, specials::S>{});
    FLOATX_FORMATS(FLOATX_VISIT)
#undef FLOATX_VISIT
    default:
      return function(format<3, 2>{});  // not reached: ids are validated by find_format
  }
}

}  // namespace floatx
