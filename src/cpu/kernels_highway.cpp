// Kernels in portable vectors: "portable" (whatever the compiler targets by default) and "avx2". They take
// every x as FP32. The AVX-512 kernels borrow the conversions from here.
//
// Highway is used header-only: each target's table is named below and isa.cpp chooses among them, so no
// libhwy is linked.
#if defined(__x86_64__)
#define HWY_COMPILE_ALL_ATTAINABLE  // also the fallback, when the compiler's own target is better than it
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3 | HWY_AVX3_DL)
// Highway avoids its emulated vectors before GCC 12.3 for a miscompiled multiply-high (GCC bug 106322),
// which nothing here uses; one-lane vectors would be several times slower.
#define HWY_BROKEN_EMU128 0
#else
#define HWY_COMPILE_ONLY_STATIC
#endif
// clang-format off: the order of these matters
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/kernels_highway.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.h, as Highway wants it.
#include <hwy/highway.h>
// clang-format on

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "cpu/kernels.hpp"
#include "floatx/codec.hpp"

HWY_BEFORE_NAMESPACE();
namespace floatx::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using d_f32 = hn::CappedTag<float, 16>;
using d_u16 = hn::Repartition<uint16_t, d_f32>;
using d_i16 = hn::RebindToSigned<d_u16>;
using d_u32 = hn::RebindToUnsigned<d_f32>;
using d_half_u16 = hn::Half<d_u16>;
using d_half_f16 = hn::Rebind<hwy::float16_t, d_f32>;
using vec = hn::Vec<d_f32>;
using vec_u16 = hn::Vec<d_u16>;

constexpr int lanes = static_cast<int>(HWY_LANES(float) < 16 ? HWY_LANES(float) : 16);
constexpr int row_vectors = static_cast<int>(strip_rows) / lanes;  // that hold the rows of a strip

// ---- Conversions -----------------------------------------------------------------------------------

// Highway's emulated conversions of FP16 truncate and take Inf for a number, so that target has ours.
#if HWY_TARGET == HWY_EMU128

vec load_f16(const void* from) {
  uint16_t halves[lanes];
  std::memcpy(halves, from, sizeof halves);
  float values[lanes];
  for (int i = 0; i < lanes; ++i) values[i] = f16_to_f32(halves[i]);
  return hn::LoadU(d_f32(), values);
}

void store_f16(vec value, void* to) {
  float values[lanes];
  hn::StoreU(value, d_f32(), values);
  uint16_t halves[lanes];
  for (int i = 0; i < lanes; ++i) halves[i] = f32_to_f16(values[i]);
  std::memcpy(to, halves, sizeof halves);
}

#else

HWY_INLINE vec load_f16(const void* from) {
  const hn::Rebind<uint16_t, d_f32> du;
  return hn::PromoteTo(d_f32(), hn::BitCast(d_half_f16(), hn::LoadU(du, static_cast<const uint16_t*>(from))));
}

HWY_INLINE void store_f16(vec value, void* to) {
  const hn::Rebind<uint16_t, d_f32> du;
  hn::StoreU(hn::BitCast(du, hn::DemoteTo(d_half_f16(), value)), du, static_cast<uint16_t*>(to));
}

#endif

HWY_INLINE vec load_bf16(const void* from) {
  const hn::Rebind<uint16_t, d_f32> du;
  const auto wide = hn::PromoteTo(d_u32(), hn::LoadU(du, static_cast<const uint16_t*>(from)));
  return hn::BitCast(d_f32(), hn::ShiftLeft<16>(wide));
}

HWY_INLINE hn::Vec<d_u32> load_bytes(const uint8_t* from) {
  return hn::PromoteTo(d_u32(), hn::LoadU(hn::Rebind<uint8_t, d_f32>(), from));
}

HWY_INLINE vec load_e8m0(const uint8_t* from) {
  const d_u32 du;
  const auto byte = load_bytes(from);
  const auto power = hn::ShiftLeft<23>(byte);
  const auto low = hn::IfThenElse(hn::Eq(byte, hn::Zero(du)), hn::Set(du, 0x00400000u), power);  // 2^-127
  return hn::BitCast(d_f32(), hn::IfThenElse(hn::Eq(byte, hn::Set(du, 255u)), hn::Set(du, 0x7fc00000u), low));
}

// Normal numbers by moving the code to where FP32 has its exponent (120 is the difference of the biases),
// subnormal ones by counting units of 2^-9.
HWY_INLINE vec load_e4m3fn(const uint8_t* from) {
  const d_u32 du;
  const hn::RebindToSigned<d_f32> di;
  const auto byte = load_bytes(from);
  const auto magnitude = hn::And(byte, hn::Set(du, 0x7fu));
  const auto normal = hn::BitCast(d_f32(), hn::Add(hn::ShiftLeft<20>(magnitude), hn::Set(du, 120u << 23)));
  const auto counted = hn::Mul(hn::ConvertTo(d_f32(), hn::BitCast(di, magnitude)), hn::Set(d_f32(), 0x1p-9f));
  const auto small = hn::Lt(hn::BitCast(di, magnitude), hn::Set(di, 8));
  auto value = hn::IfThenElse(hn::RebindMask(d_f32(), small), counted, normal);
  const auto nan = hn::Eq(magnitude, hn::Set(du, 0x7fu));
  value = hn::IfThenElse(hn::RebindMask(d_f32(), nan), hn::BitCast(d_f32(), hn::Set(du, 0x7fc00000u)), value);
  return hn::Or(value, hn::BitCast(d_f32(), hn::ShiftLeft<24>(hn::And(byte, hn::Set(du, 0x80u)))));
}

HWY_INLINE vec load_as_f32(floatx_type type, const void* from, int64_t index) {
  switch (type) {
    case FLOATX_TYPE_F16:
      return load_f16(static_cast<const uint16_t*>(from) + index);
    case FLOATX_TYPE_BF16:
      return load_bf16(static_cast<const uint16_t*>(from) + index);
    default:
      return hn::LoadU(d_f32(), static_cast<const float*>(from) + index);
  }
}

// The last, incomplete vector of an array is worked on in a copy.
struct tail {
  alignas(64) uint32_t data[16] = {};
  tail(floatx_type type, const void* from, int64_t index, int64_t count) {
    const size_t bytes = type == FLOATX_TYPE_F32 ? 4 : 2;
    std::memcpy(data, static_cast<const char*>(from) + static_cast<size_t>(index) * bytes,
                static_cast<size_t>(count) * bytes);
  }
};

void to_f32(floatx_type type, const void* x, int64_t count, float* out) {
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) hn::StoreU(load_as_f32(type, x, i), d_f32(), out + i);
  if (i < count) {
    const tail rest(type, x, i, count - i);
    alignas(64) float converted[lanes];
    hn::Store(load_as_f32(type, rest.data, 0), d_f32(), converted);
    std::memcpy(out + i, converted, static_cast<size_t>(count - i) * sizeof(float));
  }
}

float largest_finite(floatx_type type, const void* x, int64_t count) {
  const d_f32 d;
  const vec infinity = hn::BitCast(d, hn::Set(d_u32(), 0x7f800000u));
  vec largest = hn::Zero(d);
  const auto take = [&](vec value) HWY_ATTR {
    const vec magnitude = hn::Abs(value);
    largest = hn::Max(largest, hn::IfThenElseZero(hn::Lt(magnitude, infinity), magnitude));
  };
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) take(load_as_f32(type, x, i));
  if (i < count) take(load_as_f32(type, tail(type, x, i, count - i).data, 0));
  return hn::GetLane(hn::MaxOfLanes(d, largest));
}

void scales(const weight_view& w, int64_t strip, int64_t first_group, int count, int stride, float* out) {
  const d_f32 d;
  const vec factor = hn::Set(d, w.tensor_scale);
  for (int g = 0; g < count; ++g) {
    const uint8_t* from = w.group_scales(strip, first_group + g);
    for (int i = 0; i < static_cast<int>(strip_rows); i += lanes) {
      vec scale;
      switch (w.shape.scale_type) {
        case FLOATX_SCALE_F16:
          scale = load_f16(from + 2 * i);
          break;
        case FLOATX_SCALE_BF16:
          scale = load_bf16(from + 2 * i);
          break;
        case FLOATX_SCALE_E8M0:
          scale = load_e8m0(from + i);
          break;
        case FLOATX_SCALE_E4M3FN:
          scale = hn::Mul(load_e4m3fn(from + i), factor);
          break;
        default:
          scale = hn::LoadU(d, reinterpret_cast<const float*>(from) + i);
          break;
      }
      hn::StoreU(scale, d, out + g * stride + i);
    }
  }
}

// Round to nearest even; NaN stays NaN.
HWY_INLINE void store_bf16(vec value, uint16_t* to) {
  const d_u32 du;
  const auto bits = hn::BitCast(du, value);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1u));
  const auto rounded = hn::Add(bits, hn::Add(odd, hn::Set(du, 0x7fffu)));
  const auto quiet = hn::Or(bits, hn::Set(du, 0x00400000u));
  const auto nan = hn::RebindMask(du, hn::IsNaN(value));
  const auto high = hn::ShiftRight<16>(hn::IfThenElse(nan, quiet, rounded));
  hn::StoreU(hn::DemoteTo(hn::Rebind<uint16_t, d_f32>(), hn::BitCast(hn::RebindToSigned<d_u32>(), high)),
             hn::Rebind<uint16_t, d_f32>(), to);
}

void finish(const float* sums, const float* scales, const void* bias, floatx_type type, int count, void* y) {
  const d_f32 d;
  for (int i = 0; i < count; i += lanes) {
    // sums and scales have room for whole vectors; bias and y need not.
    const int here = std::min(count - i, lanes);
    vec value = hn::LoadU(d, sums + i);
    const vec scale = scales ? hn::LoadU(d, scales + i) : hn::Set(d, 1.0f);
    if (bias) {
      value = hn::MulAdd(value, scale, load_as_f32(type, tail(type, bias, i, here).data, 0));
    } else {
      value = hn::Mul(value, scale);
    }
    alignas(64) uint32_t rounded[16];
    switch (type) {
      case FLOATX_TYPE_F16:
        store_f16(value, rounded);
        break;
      case FLOATX_TYPE_BF16:
        store_bf16(value, reinterpret_cast<uint16_t*>(rounded));
        break;
      default:
        hn::Store(value, d, reinterpret_cast<float*>(rounded));
        break;
    }
    const size_t bytes = type == FLOATX_TYPE_F32 ? 4 : 2;
    std::memcpy(static_cast<char*>(y) + static_cast<size_t>(i) * bytes, rounded,
                static_cast<size_t>(here) * bytes);
  }
}

// ---- Decoding --------------------------------------------------------------------------------------

// Where the values of a unit go: values[k][16], multiplied by the scale of their row in either half of the
// unit if there are scales of groups.
template <bool Scaled>
struct destination {
  float* values;
  const float* scales[2];

  // A slot's values of neighbouring rows and both k, (row, k) (row, k + 1) (row + 1, k) ..., times 1 / power.
  HWY_INLINE void take(int slot, int vector, vec low, vec high, float power) const {
    const d_f32 d;
    const vec factor = hn::Set(d, power);
    put(2 * slot, vector, hn::Mul(hn::ConcatEven(d, high, low), factor));
    put(2 * slot + 1, vector, hn::Mul(hn::ConcatOdd(d, high, low), factor));
  }

  HWY_INLINE void put(int k, int vector, vec value) const {
    const d_f32 d;
    if constexpr (Scaled) value = hn::Mul(value, hn::Load(d, scales[k / (unit_k / 2)] + vector * lanes));
    hn::Store(value, d, values + k * strip_rows + vector * lanes);
  }
};

// By table, one code after the other: for targets without a fast conversion from FP16, and for the
// formats whose range FP16 does not hold.
struct table_decoder {
  int bits;
  const uint16_t* table;

  explicit table_decoder(const weight_view& w) : bits(w.bits), table(w.values) {}

  template <bool Scaled>
  void unit(const uint8_t* from, destination<Scaled> to) const {
    uint8_t codes[unit_k][strip_rows];
    unpack_unit(bits, from, codes);
    for (int k = 0; k < unit_k; ++k) {
      uint16_t values[strip_rows];
      for (int row = 0; row < strip_rows; ++row) values[row] = table[codes[k][row]];
      FLOATX_UNROLL
      for (int v = 0; v < row_vectors; ++v) to.put(k, v, load_bf16(values + v * lanes));
    }
  }
};

// The emulated vectors of the portable kernels have no such conversion, and would only take minutes to
// compile.
#undef FLOATX_F16_DECODER
#if HWY_TARGET == HWY_EMU128
#define FLOATX_F16_DECODER 0
#else
#define FLOATX_F16_DECODER 1
#endif

#if FLOATX_F16_DECODER

// Through FP16, without a table: shifted so that the exponent ends where FP16's does, a code is an FP16 of
// 2^(bias-15) times its value, subnormal codes included; the conversion to FP32 is one instruction. The
// arithmetic shift leaves the sign on top, and copies of it that the mask takes away.
template <int Bits>
struct f16_decoder {
  static constexpr int whole = 16 / Bits, rest = 16 - whole * Bits;

  int shift;  // 5 - E
  uint16_t mask;
  float power;  // 2^(15-bias)

  explicit f16_decoder(const weight_view& w) {
    const int exponent_bits = (w.shape.format & 0xff) >> 4, mantissa_bits = w.shape.format & 0xf;
    const int bias = (1 << (exponent_bits - 1)) - 1;
    shift = 5 - exponent_bits;
    mask = static_cast<uint16_t>(0x8000 | ((1 << (Bits - 1)) - 1) << (10 - mantissa_bits));
    power = static_cast<float>(1 << (15 - bias));
  }

  HWY_INLINE static vec_u16 word(const uint8_t* words, int index) {
    return hn::LoadU(d_u16(), reinterpret_cast<const uint16_t*>(words + index * unit_lanes * 2));
  }

  // Pieces Begin .. End of the remaining slots, strung together from bit 0.
  template <int Begin, int End>
  HWY_INLINE static vec_u16 string(const uint8_t* words) {
    vec_u16 joined = hn::ShiftRight<16 - rest>(word(words, Begin));
    FLOATX_UNROLL
    for (int i = Begin + 1; i < End; ++i) {
      const vec_u16 piece = hn::ShiftRight<16 - rest>(word(words, i));
      joined = hn::Or(joined, hn::ShiftLeftSame(piece, (i - Begin) * rest));
    }
    return joined;
  }

  // A slot whose codes are at the top of their lanes; the bits below do not matter. decoder and to are
  // copies: through references every store would make the compiler read them again.
  template <class Sink>
  HWY_INLINE static void slot(f16_decoder decoder, int index, vec_u16 at_top, int vector, Sink to) {
    const d_f32 d;
    const d_half_u16 half;
    const d_half_f16 f16;
    const vec_u16 shifted =
        hn::BitCast(d_u16(), hn::ShiftRightSame(hn::BitCast(d_i16(), at_top), decoder.shift));
    const vec_u16 image = hn::And(shifted, hn::Set(d_u16(), decoder.mask));
    const vec low = hn::PromoteTo(d, hn::BitCast(f16, hn::LowerHalf(half, image)));
    const vec high = hn::PromoteTo(d, hn::BitCast(f16, hn::UpperHalf(half, image)));
    to.take(index, vector, low, high, decoder.power);
  }

  template <class Sink, int... Slots>
  HWY_INLINE static void whole_slots(f16_decoder decoder, const uint8_t* words, int vector, Sink to,
                                     std::integer_sequence<int, Slots...>) {
    (slot(decoder, Slots, hn::ShiftLeft<16 - Bits - Slots % whole * Bits>(word(words, Slots / whole)), vector,
          to),
     ...);
  }

  template <class Sink>
  HWY_INLINE static void lanes_of(f16_decoder decoder, const uint8_t* words, int vector, Sink to) {
    whole_slots(decoder, words, vector, to, std::make_integer_sequence<int, whole * Bits>());
    if constexpr (Bits == 3 || Bits == 5) {
      slot(decoder, 15, hn::ShiftLeft<16 - Bits>(string<0, Bits>(words)), vector, to);
    } else if constexpr (Bits == 6) {
      const vec_u16 first = string<0, 3>(words), second = string<3, 6>(words);
      slot(decoder, 12, hn::ShiftLeft<10>(first), vector, to);
      slot(decoder, 13, hn::ShiftLeft<4>(first), vector, to);
      slot(decoder, 14, hn::ShiftLeft<10>(second), vector, to);
      slot(decoder, 15, hn::ShiftLeft<4>(second), vector, to);
    } else if constexpr (Bits == 7) {
      const vec_u16 joined = string<0, 7>(words);
      slot(decoder, 14, hn::ShiftLeft<9>(joined), vector, to);
      slot(decoder, 15, hn::ShiftLeft<2>(joined), vector, to);
    }
  }

  // Not a loop: unrolled by the compiler's last resort, a body of this size takes it minutes.
  template <class Sink, int... Vectors>
  HWY_INLINE void vectors(const uint8_t* from, Sink to, std::integer_sequence<int, Vectors...>) const {
    (lanes_of(*this, from + Vectors * lanes * 4, Vectors, to), ...);
  }

  template <class Sink>
  HWY_INLINE void unit(const uint8_t* from, Sink to) const {
    vectors(from, to, std::make_integer_sequence<int, row_vectors>());
  }
};

// E5M2 is FP16 without its lower half. The other formats with five bits of exponent, and E6M0, have
// finite numbers where FP16 has Inf.
bool by_table(floatx_format format) { return (format & 0xff) >> 4 >= 5 && format != FLOATX_FORMAT_E5M2; }

#endif

// values[k][16] = the values of `units` units of a strip, with the scales of groups.
template <class Decoder>
void decode_units(const weight_view& w, int64_t strip, int64_t first_unit, int units, float* values) {
  const Decoder decoder(w);
  const int64_t group_size = w.shape.group_size;
  if (group_size == 0) {
    for (int u = 0; u < units; ++u, values += unit_k * strip_rows) {
      decoder.unit(w.unit(strip, first_unit + u), destination<false>{values, {}});
    }
    return;
  }
  alignas(64) float group_scales[2 * strip_rows];
  const int groups = group_size == 16 ? 2 : 1;
  for (int64_t unit = first_unit; unit < first_unit + units; ++unit, values += unit_k * strip_rows) {
    scales(w, strip, unit * unit_k / group_size, groups, static_cast<int>(strip_rows), group_scales);
    decoder.unit(w.unit(strip, unit),
                 destination<true>{values, {group_scales, group_scales + (groups - 1) * strip_rows}});
  }
}

void decode_any(const weight_view& w, int64_t strip, int64_t first_unit, int units, float* values) {
#if FLOATX_F16_DECODER
  if (!by_table(w.shape.format)) {
    with_constant_bits(
        w.bits, [&](auto bits) { decode_units<f16_decoder<bits>>(w, strip, first_unit, units, values); });
    return;
  }
#endif
  return decode_units<table_decoder>(w, strip, first_unit, units, values);
}

void decode(const weight_view& w, int64_t strip, int64_t first_unit, int units, int, void* panel) {
  decode_any(w, strip, first_unit, units, static_cast<float*>(panel));
}

// ---- Products --------------------------------------------------------------------------------------

// sums[token][16] (+)= decoded[k][16] * x[k][token]
template <int Tokens>
void multiply(int k, const float* decoded, const float* x, bool first, float* sums) {
  const d_f32 d;
  vec sum[Tokens][row_vectors];
  FLOATX_UNROLL
  for (int t = 0; t < Tokens; ++t) {
    FLOATX_UNROLL
    for (int v = 0; v < row_vectors; ++v) sum[t][v] = hn::Zero(d);
  }
  for (int i = 0; i < k; ++i) {
    vec w[row_vectors];
    FLOATX_UNROLL
    for (int v = 0; v < row_vectors; ++v) w[v] = hn::Load(d, decoded + i * strip_rows + v * lanes);
    FLOATX_UNROLL
    for (int t = 0; t < Tokens; ++t) {
      const vec broadcast = hn::Set(d, x[i * Tokens + t]);
      FLOATX_UNROLL
      for (int v = 0; v < row_vectors; ++v) sum[t][v] = hn::MulAdd(w[v], broadcast, sum[t][v]);
    }
  }
  FLOATX_UNROLL
  for (int t = 0; t < Tokens; ++t) {
    FLOATX_UNROLL
    for (int v = 0; v < row_vectors; ++v) {
      float* to = sums + t * strip_rows + v * lanes;
      hn::Store(first ? sum[t][v] : hn::Add(sum[t][v], hn::Load(d, to)), d, to);
    }
  }
}

// Six tokens and the 16 rows leave a few of the 16 registers of AVX2.
constexpr int tile_tokens = 6;

void multiply_any(int tokens, int k, const float* decoded, const float* x, bool first, float* sums) {
  static_assert(tile_tokens == 6, "one case for each number of tokens");
  switch (tokens) {
    case 1:
      return multiply<1>(k, decoded, x, first, sums);
    case 2:
      return multiply<2>(k, decoded, x, first, sums);
    case 3:
      return multiply<3>(k, decoded, x, first, sums);
    case 4:
      return multiply<4>(k, decoded, x, first, sums);
    case 5:
      return multiply<5>(k, decoded, x, first, sums);
    default:
      return multiply<6>(k, decoded, x, first, sums);
  }
}

void tile(int tokens, int k, const void* panel, const void* x, bool first, const float*, int, float* sums) {
  multiply_any(tokens, k, static_cast<const float*>(panel), static_cast<const float*>(x), first, sums);
}

void skinny_decoded(const weight_view& w, int64_t strip, int tokens, const float* x, float* sums) {
  alignas(64) float decoded[panel_k * strip_rows];
  for (int64_t unit = 0; unit < w.units; unit += panel_units) {
    const auto units = static_cast<int>(std::min<int64_t>(panel_units, w.units - unit));
    decode_any(w, strip, unit, units, decoded);
    multiply_any(tokens, units * unit_k, decoded, x, unit == 0, sums);
    x += static_cast<int64_t>(units) * unit_k * tokens;
  }
}

#if FLOATX_F16_DECODER

// One token: what the decoder yields is multiplied as it lies, by x[k] x[k+1] x[k] x[k+1] ..., and the two
// k of a row are added at the end of a group. In groups of 16 each half of a unit has its own sums.
template <bool Halves>
struct product {
  vec (*sum)[row_vectors][2];
  const float* x;  // of the unit

  HWY_INLINE void take(int slot, int vector, vec low, vec high, float) const {
    const hn::Repartition<uint64_t, d_f32> pairs;
    uint64_t pair;
    std::memcpy(&pair, x + 2 * slot, sizeof pair);
    const vec broadcast = hn::BitCast(d_f32(), hn::Set(pairs, pair));
    vec(&to)[2] = sum[Halves && slot >= unit_slots / 2 ? 1 : 0][vector];
    to[0] = hn::MulAdd(low, broadcast, to[0]);
    to[1] = hn::MulAdd(high, broadcast, to[1]);
  }
};

// total += the sums of each row, times power and scale; the sums begin again from 0.
HWY_INLINE void end_group(vec (&sum)[row_vectors][2], float power, const float* scale,
                          vec (&total)[row_vectors]) {
  const d_f32 d;
  FLOATX_UNROLL
  for (int v = 0; v < row_vectors; ++v) {
    const vec row = hn::Add(hn::ConcatEven(d, sum[v][1], sum[v][0]), hn::ConcatOdd(d, sum[v][1], sum[v][0]));
    const vec value = hn::Mul(row, hn::Set(d, power));
    total[v] = scale ? hn::MulAdd(value, hn::Load(d, scale + v * lanes), total[v]) : value;
    sum[v][0] = sum[v][1] = hn::Zero(d);
  }
}

template <int Bits, bool Halves>
void skinny_one(const weight_view& w, int64_t strip, const float* x, float* sums) {
  const d_f32 d;
  const f16_decoder<Bits> decoder(w);
  vec sum[2][row_vectors][2], total[row_vectors];
  FLOATX_UNROLL
  for (int v = 0; v < row_vectors; ++v) {
    total[v] = sum[0][v][0] = sum[0][v][1] = sum[1][v][0] = sum[1][v][1] = hn::Zero(d);
  }
  alignas(64) float scale[2 * strip_rows];
  const int64_t group_units = w.shape.group_size ? w.shape.group_size / unit_k : w.units;
  const uint8_t* from = w.unit(strip, 0);
  int64_t group = 0, group_end = group_units;
  for (int64_t unit = 0; unit < w.units; ++unit, from += unit_bytes(Bits), x += unit_k) {
    decoder.unit(from, product<Halves>{sum, x});
    if constexpr (Halves) {
      scales(w, strip, 2 * unit, 2, static_cast<int>(strip_rows), scale);
      end_group(sum[0], decoder.power, scale, total);
      end_group(sum[1], decoder.power, scale + strip_rows, total);
    } else if (unit + 1 == group_end || unit + 1 == w.units) {
      if (w.shape.group_size) scales(w, strip, group++, 1, static_cast<int>(strip_rows), scale);
      end_group(sum[0], decoder.power, w.shape.group_size ? scale : nullptr, total);
      group_end += group_units;
    }
  }
  FLOATX_UNROLL
  for (int v = 0; v < row_vectors; ++v) hn::Store(total[v], d, sums + v * lanes);
}

template <int Bits>
void skinny_one_grouped(const weight_view& w, int64_t strip, const float* x, float* sums) {
  return w.shape.group_size == 16 ? skinny_one<Bits, true>(w, strip, x, sums)
                                  : skinny_one<Bits, false>(w, strip, x, sums);
}

#endif

void skinny(const weight_view& w, int64_t strip, int tokens, const void* x_packed, float* sums) {
  const auto* x = static_cast<const float*>(x_packed);
#if FLOATX_F16_DECODER
  if (tokens == 1 && !by_table(w.shape.format)) {
    with_constant_bits(w.bits, [&](auto bits) { skinny_one_grouped<bits>(w, strip, x, sums); });
    return;
  }
#endif
  skinny_decoded(w, strip, tokens, x, sums);
}

const kernels* table() {
  static constexpr kernels all{HWY_TARGET == HWY_AVX2 ? "avx2" : "portable",
                               {false, tile_tokens, tile_tokens, tile_tokens, 1, skinny, decode, tile},
                               nullptr,
                               scales,
                               to_f32,
                               largest_finite,
                               finish};
  return &all;
}

}  // namespace HWY_NAMESPACE
}  // namespace floatx::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace floatx::cpu {

#if defined(__x86_64__)
const kernels* portable_kernels() { return N_EMU128::table(); }
const kernels* avx2_kernels() { return N_AVX2::table(); }
#else
const kernels* portable_kernels() { return HWY_STATIC_DISPATCH(table)(); }
const kernels* avx2_kernels() { return nullptr; }
#endif

}  // namespace floatx::cpu
#endif
