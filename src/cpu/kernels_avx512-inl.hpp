// Kernels for AVX-512, included by the file of each of its two levels, which defines
//   FLOATX_AVX512_TARGET  what the compiler may use
//   FLOATX_AVX512_BF16    1 where vdpbf16ps is among it, else 0
// isa.cpp has Intel's processors use the lower level, so that what suits Zen stands under 1, and what suits
// Intel under 0.
//
// A register of the packed form holds a code in each of its 32 lanes of 16 bits, or several of them at
// known distances; vpermw and vpermi2w look up to 64 values of 16 bits and ignore the bits above their
// index. A value of any format is exact as BF16, so one lookup decodes 32 codes into pairs (k, k + 1) of
// 16 rows, which vdpbf16ps takes as they are. For FP32 a shift and a mask pull the pairs apart.
//
// Tried, nanoseconds for 64 codes and their BF16 products on Zen 4, where the shift, the lookup and
// vdpbf16ps take 1.01: lookups of bytes (vpermb) for both halves of the BF16 and two unpacks 1.09; vpermw of
// the magnitude and the sign by vpternlogd 1.10; vpmulhuw as the shift, which has other pipes, 1.34.
#include <hwy/base.h>
#include <immintrin.h>

#include <algorithm>
#include <utility>

#include "cpu/kernels.hpp"

// GCC 12 warns of its own intrinsics' undefined registers (GCC bug 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

HWY_PUSH_ATTRIBUTES(FLOATX_AVX512_TARGET)
namespace floatx::cpu {
namespace {

// sum + w * x in every lane. Written out because the compiler prefers to broadcast x to a register first,
// which on Zen 4 takes a shuffle; as part of the product it comes for nothing from the load.
// Tried: vbroadcastss and a product, 1.45 ns for a lookup and three products instead of 0.83.
HWY_INLINE __m512 multiply_add(__m512 sum, __m512 w, const float& x) {
  asm("vfmadd231ps %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(w), "m"(x));
  return sum;
}

// The same for both strips of a panel. Intel's cores multiply twice in a cycle and load twice, so that a load
// for each product would leave none for the panel; a broadcast from memory takes no shuffle there.
HWY_INLINE void multiply_add(__m512 (&sum)[2], __m512 a, __m512 b, const float& x) {
  if constexpr (FLOATX_AVX512_BF16) {
    sum[0] = multiply_add(sum[0], a, x);
    sum[1] = multiply_add(sum[1], b, x);
  } else {
    const __m512 broadcast = _mm512_set1_ps(x);
    sum[0] = _mm512_fmadd_ps(a, broadcast, sum[0]);
    sum[1] = _mm512_fmadd_ps(b, broadcast, sum[1]);
  }
}

// ---- Decoding --------------------------------------------------------------------------------------

// Gathers pieces Begin .. End of the remaining slots of a unit (packed.hpp) into a string.
template <int Bits, int Begin, int End>
HWY_INLINE __m512i string_of(const __m512i (&words)[Bits]) {
  constexpr int rest = 16 % Bits, mask = (1 << rest) - 1;
  __m512i joined = _mm512_srli_epi16(words[Begin], 16 - rest);
  FLOATX_UNROLL
  for (int i = 1; i < End - Begin; ++i) {
    const __m512i moved = _mm512_srli_epi16(words[Begin + i], static_cast<unsigned>(16 - rest - i * rest));
    const __m512i piece = _mm512_set1_epi16(static_cast<short>(mask << (i * rest)));
    joined = _mm512_ternarylogic_epi32(joined, moved, piece, 0xf8);  // joined | (moved & piece)
  }
  return joined;
}

// One unit of codes, and the table of their values.
template <int Bits>
class decoder {
 public:
  HWY_INLINE explicit decoder(const weight_view& w) {
    FLOATX_UNROLL
    for (int i = 0; i < tables; ++i) table_[i] = _mm512_load_si512(w.values + 32 * i);
  }

  HWY_INLINE void load(const uint8_t* unit) {
    FLOATX_UNROLL
    for (int i = 0; i < Bits; ++i) words_[i] = _mm512_load_si512(unit + 64 * i);
    if constexpr (Bits == 6) {
      strings_[0] = string_of<Bits, 0, 3>(words_);
      strings_[1] = string_of<Bits, 3, 6>(words_);
    } else if constexpr (16 % Bits != 0) {
      strings_[0] = string_of<Bits, 0, Bits>(words_);
    }
  }

  // The values of a slot: BF16 pairs.
  template <int Slot>
  HWY_INLINE __m512i pairs() const {
    const __m512i code = at_bottom<Slot>();
    if constexpr (Bits <= 5) {
      return _mm512_permutexvar_epi16(code, table_[0]);
    } else if constexpr (Bits == 6) {
      return _mm512_permutex2var_epi16(table_[0], code, table_[1]);
    } else {
      // The table holds magnitudes; the sign comes from the code.
      __m512i magnitude = _mm512_permutex2var_epi16(table_[0], code, table_[1]);
      if constexpr (Bits == 8) {
        const __m512i upper = _mm512_permutex2var_epi16(table_[2], code, table_[3]);
        const __mmask32 is_upper = _mm512_test_epi16_mask(code, _mm512_set1_epi16(0x40));
        magnitude = _mm512_mask_mov_epi16(magnitude, is_upper, upper);
      }
      const __m512i sign = _mm512_set1_epi16(static_cast<short>(0x8000));
      return _mm512_ternarylogic_epi32(magnitude, _mm512_slli_epi16(code, 16 - Bits), sign, 0xf8);
    }
  }

 private:
  static constexpr int tables = Bits <= 5 ? 1 : Bits <= 7 ? 2 : 4;
  static constexpr int whole = 16 / Bits;

  // A slot's codes at the bottom of their lanes, other bits above them.
  template <int Slot>
  HWY_INLINE __m512i at_bottom() const {
    if constexpr (Slot < whole * Bits) {
      return _mm512_srli_epi16(words_[Slot / whole], Slot % whole * Bits);
    } else {
      constexpr int in_strings = Slot - whole * Bits, string = Bits == 6 ? in_strings / 2 : 0;
      return _mm512_srli_epi16(strings_[string], (in_strings - 2 * string) * Bits);
    }
  }

  __m512i table_[tables];
  __m512i words_[Bits];
  __m512i strings_[2];
};

HWY_INLINE __m512 even_of(__m512i pairs) { return _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16)); }
HWY_INLINE __m512 odd_of(__m512i pairs) {
  return _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(static_cast<int>(0xffff0000))));
}

// The 16 scales of a group, times the tensor scale.
HWY_INLINE __m512 scales_of(const weight_view& w, int64_t strip, int64_t group) {
  const uint8_t* from = w.group_scales(strip, group);
  const __m512 nan = _mm512_castsi512_ps(_mm512_set1_epi32(0x7fc00000));
  switch (w.shape.scale_type) {
    case FLOATX_SCALE_F16:
      return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
    case FLOATX_SCALE_BF16: {
      const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
      return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
    }
    case FLOATX_SCALE_E8M0: {
      const __m512i byte = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
      const __m512i power = _mm512_max_epu32(_mm512_slli_epi32(byte, 23), _mm512_set1_epi32(0x00400000));
      const __mmask16 is_nan = _mm512_cmpeq_epi32_mask(byte, _mm512_set1_epi32(255));
      return _mm512_mask_mov_ps(_mm512_castsi512_ps(power), is_nan, nan);
    }
    case FLOATX_SCALE_E4M3FN: {
      // Shifted to where FP16 has its exponent a code is 2^-8 of its value.
      const __m256i code = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
      const __m256i magnitude = _mm256_and_si256(code, _mm256_set1_epi16(0x7f));
      const __m256i sign = _mm256_slli_epi16(_mm256_and_si256(code, _mm256_set1_epi16(0x80)), 8);
      const __m512 image = _mm512_cvtph_ps(_mm256_or_si256(_mm256_slli_epi16(magnitude, 7), sign));
      const __m512 value = _mm512_mul_ps(image, _mm512_set1_ps(0x1p8f));
      const __mmask16 is_nan = _mm256_cmpeq_epi16_mask(magnitude, _mm256_set1_epi16(0x7f));
      return _mm512_mul_ps(_mm512_mask_mov_ps(value, is_nan, nan), _mm512_set1_ps(w.tensor_scale));
    }
    default:
      return _mm512_loadu_ps(from);
  }
}

// ---- Skinny ----------------------------------------------------------------------------------------

struct fp32_product {
  static constexpr int unit_elements = 32;  // of x, for each token
  static constexpr int chains(int tokens) { return tokens == 1 ? 4 : 2; }

  // sum[token][..] += the slot's 32 codes * x
  template <int Slot, int Tokens, int Chains>
  HWY_INLINE static void add(__m512i pairs, const float* x, __m512 (&sum)[Tokens][Chains]) {
    const __m512 even = even_of(pairs), odd = odd_of(pairs);
    x += 2 * Slot * Tokens;
    FLOATX_UNROLL
    for (int t = 0; t < Tokens; ++t) {
      __m512& a = sum[t][2 * Slot % Chains];
      __m512& b = sum[t][(2 * Slot + 1) % Chains];
      a = multiply_add(a, even, x[t]);
      b = multiply_add(b, odd, x[Tokens + t]);
    }
  }
};

template <class Product, int Tokens>
struct accumulator {
  static constexpr int chains = Product::chains(Tokens);
  __m512 sum[Tokens][chains];

  HWY_INLINE void clear() {
    FLOATX_UNROLL
    for (auto& of_token : sum) {
      FLOATX_UNROLL
      for (__m512& chain : of_token) chain = _mm512_setzero_ps();
    }
  }

  HWY_INLINE __m512 total(int token) const {
    __m512 all = sum[token][0];
    FLOATX_UNROLL
    for (int i = 1; i < chains; ++i) all = _mm512_add_ps(all, sum[token][i]);
    return all;
  }

  // totals[token] += sum * scale, and begins again from 0.
  HWY_INLINE void move_to(__m512 (&totals)[Tokens], __m512 scale) {
    FLOATX_UNROLL
    for (int t = 0; t < Tokens; ++t) totals[t] = _mm512_fmadd_ps(total(t), scale, totals[t]);
    clear();
  }
};

template <int Begin, class Product, int Tokens, int Bits, int... Slots>
HWY_INLINE void add_slots(accumulator<Product, Tokens>& sums, const decoder<Bits>& codes, const float* x,
                          std::integer_sequence<int, Slots...>) {
  (Product::template add<Begin + Slots>(codes.template pairs<Begin + Slots>(), x, sums.sum), ...);
}

// Far enough ahead for the latency of memory, and into the second-level cache: there are more of its misses
// in flight than of the first level's, and the processor's own prefetcher stops at each page of 4 KB.
// Tried, m = 1, E3M2 and BF16 x, microseconds: none 1900, to the first level 1 KB ahead 2000, 8 KB 2300,
// to the second level 1 KB 2200, 4 KB 1900, 8 KB 1790, 16 KB 1780 (Zen 4). Intel's cores gain nothing from
// lines of another page; E3M2 and F32 x on Granite Rapids: none 2150, to the second level 2 KB 1750, 4 KB
// and more 2160, to the first level 2 KB 1740, 4 KB 2180, 3 KB and 1 KB as below 1700.
constexpr int prefetch_bytes = FLOATX_AVX512_BF16 ? 8192 : 3072,
              near_prefetch_bytes = FLOATX_AVX512_BF16 ? 0 : 1024;

template <class Product, int Bits, int Tokens>
void skinny(const weight_view& w, int64_t strip, const float* x, float* out) {
  constexpr auto half = std::make_integer_sequence<int, unit_slots / 2>();
  constexpr int x_step = Product::unit_elements * Tokens;
  decoder<Bits> codes(w);
  accumulator<Product, Tokens> sums;
  __m512 total[Tokens];
  FLOATX_UNROLL
  for (__m512& t : total) t = _mm512_setzero_ps();
  sums.clear();

  const uint8_t* from = w.unit(strip, 0);
  const int64_t group_size = w.shape.group_size;
  const bool halves = group_size == 16;  // a group ends in the middle of each unit
  const int64_t group_units = halves ? 1 : group_size ? group_size / unit_k : w.units;
  int64_t group = 0, group_end = group_units;
  for (int64_t unit = 0; unit < w.units; ++unit, from += unit_bytes(Bits), x += x_step) {
    FLOATX_UNROLL
    for (int i = 0; i < Bits; ++i) {
      const auto* line = reinterpret_cast<const char*>(from) + 64 * i;
      _mm_prefetch(line + prefetch_bytes, _MM_HINT_T1);
      if constexpr (near_prefetch_bytes > 0) _mm_prefetch(line + near_prefetch_bytes, _MM_HINT_T0);
    }
    codes.load(from);
    add_slots<0>(sums, codes, x, half);
    if (halves) sums.move_to(total, scales_of(w, strip, group++));
    add_slots<unit_slots / 2>(sums, codes, x, half);
    if (unit + 1 == group_end || unit + 1 == w.units) {
      sums.move_to(total, group_size ? scales_of(w, strip, group++) : _mm512_set1_ps(1));
      group_end += group_units;
    }
  }
  FLOATX_UNROLL
  for (int t = 0; t < Tokens; ++t) _mm512_store_ps(out + t * strip_rows, total[t]);
}

constexpr int skinny_tokens = 8;

// Decoding costs nothing beside eight tokens' products, which keep the multipliers busy, and a strip that
// is read again for the next eight comes from the second-level cache. Tried: tiles from m = 9 on, GFLOP/s at
// m = 16, 32, 64 for E3M2: FP32 160 185 167 instead of 189 213 206, BF16 276 288 334 instead of 370 386 378.
constexpr int skinny_m = max_skinny_m;

using skinny_function = void (*)(const weight_view& w, int64_t strip, const float* x, float* sums);

template <class Product, int Bits, int... Tokens>
skinny_function skinny_of(int tokens, std::integer_sequence<int, Tokens...>) {
  static constexpr skinny_function functions[] = {skinny<Product, Bits, Tokens + 1>...};
  return functions[tokens - 1];
}

template <class Product>
void skinny_any(const weight_view& w, int64_t strip, int tokens, const void* x, float* sums) {
  constexpr auto counts = std::make_integer_sequence<int, skinny_tokens>();
  const skinny_function function =
      with_constant_bits(w.bits, [&](auto bits) { return skinny_of<Product, bits>(tokens, counts); });
  function(w, strip, static_cast<const float*>(x), sums);
}

// ---- Panels ----------------------------------------------------------------------------------------

constexpr int panel_strips = 2;
constexpr int panel_rows = panel_strips * static_cast<int>(strip_rows);

template <bool Scaled, int Slot>
HWY_INLINE void put_pairs(__m512i pairs, const __m512 (&scale)[2], float* to) {
  __m512 even = even_of(pairs), odd = odd_of(pairs);
  if constexpr (Scaled) {
    even = _mm512_mul_ps(even, scale[Slot / (unit_slots / 2)]);
    odd = _mm512_mul_ps(odd, scale[Slot / (unit_slots / 2)]);
  }
  _mm512_store_ps(to + 2 * Slot * panel_rows, even);
  _mm512_store_ps(to + (2 * Slot + 1) * panel_rows, odd);
}

template <bool Scaled, int Bits, int... Slots>
HWY_INLINE void put_fp32(const decoder<Bits>& codes, const __m512 (&scale)[2], float* to,
                         std::integer_sequence<int, Slots...>) {
  (put_pairs<Scaled, Slots>(codes.template pairs<Slots>(), scale, to), ...);
}

template <int Bits, bool Scaled>
void decode_fp32(const weight_view& w, int64_t strip, int64_t first_unit, int units, int column,
                 float* panel) {
  decoder<Bits> codes(w);
  panel += column * strip_rows;
  for (int64_t unit = first_unit; unit < first_unit + units; ++unit, panel += unit_k * panel_rows) {
    __m512 scale[2] = {};
    if constexpr (Scaled) {
      const int64_t group = unit * unit_k / w.shape.group_size;
      scale[0] = scales_of(w, strip, group);
      scale[1] = w.shape.group_size == 16 ? scales_of(w, strip, group + 1) : scale[0];
    }
    codes.load(w.unit(strip, unit));
    put_fp32<Scaled>(codes, scale, panel, std::make_integer_sequence<int, unit_slots>());
  }
}

template <int Bits>
void decode_fp32_scaled(const weight_view& w, int64_t strip, int64_t first_unit, int units, int column,
                        void* panel) {
  const auto decode = w.shape.group_size ? decode_fp32<Bits, true> : decode_fp32<Bits, false>;
  decode(w, strip, first_unit, units, column, static_cast<float*>(panel));
}

void decode_fp32_any(const weight_view& w, int64_t strip, int64_t first_unit, int units, int column,
                     void* panel) {
  with_constant_bits(
      w.bits, [&](auto bits) { decode_fp32_scaled<bits>(w, strip, first_unit, units, column, panel); });
}

// 12 tokens by 32 rows: 24 sums, two registers of the panel, and x straight from memory.
template <int Tokens>
void tile_fp32(int k, const float* panel, const float* x, bool first, float* sums) {
  __m512 sum[Tokens][panel_strips];
  FLOATX_UNROLL
  for (auto& of_token : sum) of_token[0] = of_token[1] = _mm512_setzero_ps();
  for (int i = 0; i < k; ++i, panel += panel_rows, x += Tokens) {
    const __m512 a = _mm512_load_ps(panel), b = _mm512_load_ps(panel + strip_rows);
    FLOATX_UNROLL
    for (int t = 0; t < Tokens; ++t) multiply_add(sum[t], a, b, x[t]);
  }
  FLOATX_UNROLL
  for (int t = 0; t < Tokens; ++t) {
    FLOATX_UNROLL
    for (int s = 0; s < panel_strips; ++s) {
      float* to = sums + t * panel_rows + s * strip_rows;
      _mm512_store_ps(to, first ? sum[t][s] : _mm512_add_ps(sum[t][s], _mm512_load_ps(to)));
    }
  }
}

using tile_function = void (*)(int k, const float* panel, const float* x, bool first, float* sums);

template <int... Tokens>
constexpr tile_function tile_fp32_of(int tokens, std::integer_sequence<int, Tokens...>) {
  constexpr tile_function functions[] = {tile_fp32<Tokens + 1>...};
  return functions[tokens - 1];
}

void tile_fp32_any(int tokens, int k, const void* panel, const void* x, bool first, const float*, int,
                   float* sums) {
  tile_fp32_of(tokens, std::make_integer_sequence<int, max_tile_tokens>())(
      k, static_cast<const float*>(panel), static_cast<const float*>(x), first, sums);
}

constexpr path fp32_path{false,           skinny_m,     skinny_tokens,
                         max_tile_tokens, panel_strips, skinny_any<fp32_product>,
                         decode_fp32_any, tile_fp32_any};

// ---- BF16 ------------------------------------------------------------------------------------------

#if FLOATX_AVX512_BF16

// vdpbf16ps takes subnormal numbers for zero. The values of all formats are normal BF16, and linear.cpp has
// brought the largest x of a row to 2^-80 or more, beside which 2^-126 cannot be seen in FP32.
HWY_INLINE __m512 dot_add(__m512 sum, __m512i pairs, const float& x) {
  asm("vdpbf16ps %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(pairs), "m"(x));
  return sum;
}

struct bf16_product {
  static constexpr int unit_elements = 16;
  static constexpr int chains(int tokens) { return tokens <= 2 ? 4 : 2; }

  template <int Slot, int Tokens, int Chains>
  HWY_INLINE static void add(__m512i pairs, const float* x, __m512 (&sum)[Tokens][Chains]) {
    FLOATX_UNROLL
    for (int t = 0; t < Tokens; ++t) {
      sum[t][Slot % Chains] = dot_add(sum[t][Slot % Chains], pairs, x[Slot * Tokens + t]);
    }
  }
};

template <int Bits, int... Slots>
HWY_INLINE void put_bf16(const decoder<Bits>& codes, char* to, std::integer_sequence<int, Slots...>) {
  (_mm512_store_si512(to + Slots * panel_rows * 4, codes.template pairs<Slots>()), ...);
}

template <int Bits>
void decode_bf16(const weight_view& w, int64_t strip, int64_t first_unit, int units, int column,
                 void* panel) {
  decoder<Bits> codes(w);
  auto* to = static_cast<char*>(panel) + column * 64;
  for (int64_t unit = first_unit; unit < first_unit + units; ++unit, to += unit_slots * panel_rows * 4) {
    codes.load(w.unit(strip, unit));
    put_bf16(codes, to, std::make_integer_sequence<int, unit_slots>());
  }
}

void decode_bf16_any(const weight_view& w, int64_t strip, int64_t first_unit, int units, int column,
                     void* panel) {
  with_constant_bits(w.bits,
                     [&](auto bits) { decode_bf16<bits>(w, strip, first_unit, units, column, panel); });
}

template <int Tokens>
void tile_bf16(int k, const char* panel, const float* x, bool first, const float* group_scales, int group_k,
               float* sums) {
  for (int begin = 0; begin < k; begin += group_k) {
    __m512 sum[Tokens][panel_strips];
    FLOATX_UNROLL
    for (auto& of_token : sum) of_token[0] = of_token[1] = _mm512_setzero_ps();
    for (int i = std::min(group_k, k - begin) / 2; i > 0; --i, panel += panel_rows * 4, x += Tokens) {
      const __m512i a = _mm512_load_si512(panel), b = _mm512_load_si512(panel + 64);
      FLOATX_UNROLL
      for (int t = 0; t < Tokens; ++t) {
        sum[t][0] = dot_add(sum[t][0], a, x[t]);
        sum[t][1] = dot_add(sum[t][1], b, x[t]);
      }
    }
    const bool overwrite = first && begin == 0;
    FLOATX_UNROLL
    for (int s = 0; s < panel_strips; ++s) {
      const __m512 one = _mm512_set1_ps(1);
      const __m512 scale = group_scales ? _mm512_load_ps(group_scales + s * strip_rows) : one;
      FLOATX_UNROLL
      for (int t = 0; t < Tokens; ++t) {
        float* to = sums + t * panel_rows + s * strip_rows;
        const __m512 before = overwrite ? _mm512_setzero_ps() : _mm512_load_ps(to);
        _mm512_store_ps(to, _mm512_fmadd_ps(sum[t][s], scale, before));
      }
    }
    if (group_scales) group_scales += panel_rows;
  }
}

using tile_bf16_function = void (*)(int k, const char* panel, const float* x, bool first,
                                    const float* group_scales, int group_k, float* sums);

template <int... Tokens>
constexpr tile_bf16_function tile_bf16_of(int tokens, std::integer_sequence<int, Tokens...>) {
  constexpr tile_bf16_function functions[] = {tile_bf16<Tokens + 1>...};
  return functions[tokens - 1];
}

void tile_bf16_any(int tokens, int k, const void* panel, const void* x, bool first, const float* group_scales,
                   int group_k, float* sums) {
  tile_bf16_of(tokens, std::make_integer_sequence<int, max_tile_tokens>())(
      k, static_cast<const char*>(panel), static_cast<const float*>(x), first, group_scales, group_k, sums);
}

constexpr path bf16_path{true,
                         skinny_m,
                         skinny_tokens,
                         max_tile_tokens,
                         panel_strips,
                         skinny_any<bf16_product>,
                         decode_bf16_any,
                         tile_bf16_any};

#endif

}  // namespace
}  // namespace floatx::cpu
HWY_POP_ATTRIBUTES
