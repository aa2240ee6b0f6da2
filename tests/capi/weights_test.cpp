// Quantizing, packing, unpacking and cutting weights, against the equations of floatx.h written out anew.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "capi/weight_memory.hpp"
#include "floatx/codec.hpp"
#include "floatx/layout.hpp"
#include "floatx/quantize.hpp"

using namespace floatx;
using namespace floatx::test;

namespace {

constexpr int64_t group_sizes[] = {0, 16, 32, 64, 128};
constexpr floatx_scale_type scale_types[] = {FLOATX_SCALE_F32, FLOATX_SCALE_F16, FLOATX_SCALE_BF16,
                                             FLOATX_SCALE_E8M0, FLOATX_SCALE_E4M3FN};

int64_t groups_of(const weight_description& d) {
  return d.group_size == 0 ? 1 : (d.k + d.group_size - 1) / d.group_size;
}

// The values of a format's codes 0, 1, ... up to its largest finite one.
std::vector<float> magnitudes(floatx_format format) {
  const int bits = find_format(format)->bits;
  std::vector<float> values;
  for (int code = 0; code < 1 << (bits - 1); ++code) {
    float value;
    REQUIRE(floatx_format_decode(format, static_cast<uint8_t>(code), &value) == FLOATX_STATUS_OK);
    if (std::isfinite(value)) values.push_back(value);
  }
  return values;
}

// The nearest code by search, ties to the even one, saturating.
uint8_t nearest(const std::vector<float>& values, int bits, float value) {
  const double magnitude = std::fabs(value);
  const auto above = std::lower_bound(values.begin(), values.end(), magnitude);
  auto code = static_cast<int>(above - values.begin());
  if (above == values.end()) {
    --code;
  } else if (code > 0) {
    const double up = *above - magnitude, down = magnitude - above[-1];
    if (down < up || (down == up && code % 2 == 1)) --code;
  }
  return static_cast<uint8_t>(code | (std::signbit(value) ? 1 << (bits - 1) : 0));
}

// What packing should give.
struct expectation {
  std::vector<uint8_t> codes;        // [n, k]
  std::vector<uint32_t> scale_bits;  // [n, groups]
  std::vector<float> scales;         // the same as numbers, tensor scale included
  float tensor_scale;
};

float absmax_of(const float* begin, const float* end) {
  float absmax = 0;
  for (; begin != end; ++begin) absmax = std::fmax(absmax, std::fabs(*begin));
  return absmax;
}

int e8m0_exponent(float absmax, float format_max, bool ceil) {
  if (absmax == 0) return -127;
  int exponent, max_exponent;  // frexp: a fraction in [1/2, 1), so floor(log2) is exponent - 1
  const bool power = std::frexp(absmax, &exponent) == 0.5f;
  std::frexp(format_max, &max_exponent);
  exponent = (ceil && !power ? exponent : exponent - 1) - (max_exponent - 1);
  return std::max(-127, std::min(127, exponent));
}

expectation expect(const weight_description& d, const std::vector<float>& w,
                   const floatx_pack_options& options) {
  const std::vector<float> values = magnitudes(d.format), e4m3fn = magnitudes(FLOATX_FORMAT_E4M3FN);
  const float max = values.back();
  const int bits = find_format(d.format)->bits;
  expectation e;
  e.tensor_scale = std::fmax(absmax_of(w.data(), w.data() + w.size()), 1e-12f) / (max * 448);
  for (int64_t row = 0; row < d.n; ++row) {
    for (int64_t group = 0; group < groups_of(d); ++group) {
      const int64_t begin = group * d.group_size,
                    end = d.group_size ? std::min(d.k, begin + d.group_size) : d.k;
      const float* row_values = w.data() + row * d.k;
      const float absmax = absmax_of(row_values + begin, row_values + end);
      const float s = std::fmax(absmax, 1e-12f) / max;
      uint32_t stored = detail::float_bits(s);
      float scale = s;
      if (d.scale_type == FLOATX_SCALE_F16) scale = f16_to_f32(static_cast<uint16_t>(stored = f32_to_f16(s)));
      if (d.scale_type == FLOATX_SCALE_BF16)
        scale = bf16_to_f32(static_cast<uint16_t>(stored = f32_to_bf16(s)));
      if (d.scale_type == FLOATX_SCALE_E8M0) {
        const int exponent = e8m0_exponent(absmax, max, options.exponent_rule == FLOATX_EXPONENT_RULE_CEIL);
        stored = static_cast<uint32_t>(exponent + 127);
        scale = std::ldexp(1.0f, exponent);
      }
      if (d.scale_type == FLOATX_SCALE_E4M3FN) {
        stored = nearest(e4m3fn, 8, s / e.tensor_scale);
        scale = e4m3fn[stored] * e.tensor_scale;
      }
      const float divisor = options.scale_rule == FLOATX_SCALE_RULE_UNROUNDED ? s : scale;
      for (int64_t i = begin; i < end; ++i) {
        e.codes.push_back(scale == 0 ? 0 : nearest(values, bits, row_values[i] / divisor));
      }
      e.scale_bits.push_back(stored);
      e.scales.push_back(scale);
    }
  }
  return e;
}

// Values around the format's range, rows of different magnitude, and here and there a group of zeros. None
// is so small that a group of it alone would have an F16 scale of 0.
std::vector<float> random_values(const weight_description& d, uint32_t seed) {
  const float unit = find_format(d.format)->max / 128;
  std::vector<float> values(static_cast<size_t>(d.n * d.k));
  for (int64_t i = 0; i < d.n * d.k; ++i) {
    seed = seed * 1664525u + 1013904223u;
    const float signed_part = (static_cast<float>(seed >> 8) - 8388608.0f) / 8388608.0f;
    const float random = signed_part + std::copysign(1.0f / 64, signed_part);
    const int64_t row = i / d.k, block = i % d.k / 16;
    values[static_cast<size_t>(i)] =
        (row * 3 + block) % 7 == 6 ? 0 : std::ldexp(random * unit, static_cast<int>(row % 5));
  }
  return values;
}

floatx_pack_options options_of(floatx_scale_rule scale, floatx_exponent_rule exponent) {
  return {sizeof(floatx_pack_options), scale, exponent};
}
const floatx_pack_options default_rules = options_of(FLOATX_SCALE_RULE_STORED, FLOATX_EXPONENT_RULE_FLOOR);

weight_memory pack(const weight_description& d, floatx_layout layout, const std::vector<float>& values,
                   const floatx_pack_options& options = default_rules, floatx_threads* threads = nullptr) {
  weight_memory memory(d, layout);
  floatx_execution execution{};
  execution.struct_size = sizeof execution;
  execution.threads = threads;
  REQUIRE(floatx_pack(&memory.weight, FLOATX_TYPE_F32, values.data(), d.k, &options, &execution) ==
          FLOATX_STATUS_OK);
  REQUIRE(memory.check());
  return memory;
}

// The canonical form read bit by bit: code i of a row is its bits i * width .. (i + 1) * width - 1.
bool holds(const weight_memory& canonical, const weight_description& d, const expectation& e) {
  const auto width = static_cast<size_t>(find_format(d.format)->bits), k = static_cast<size_t>(d.k);
  const size_t row_bytes = (k * width + 7) / 8;
  for (size_t row = 0; row < static_cast<size_t>(d.n); ++row) {
    const uint8_t* bytes = canonical.codes.data() + row * row_bytes;
    for (size_t bit = 0; bit < row_bytes * 8; ++bit) {
      const int expected = bit < k * width ? e.codes[row * k + bit / width] >> bit % width & 1 : 0;
      if ((bytes[bit / 8] >> bit % 8 & 1) != expected) return false;
    }
  }
  const size_t scale_bytes = canonical.scales.size() / e.scale_bits.size();
  for (size_t i = 0; i < e.scale_bits.size(); ++i) {
    if (std::memcmp(canonical.scales.data() + i * scale_bytes, &e.scale_bits[i], scale_bytes) != 0)
      return false;
  }
  return d.scale_type != FLOATX_SCALE_E4M3FN ||
         std::memcmp(canonical.tensor_scale.data(), &e.tensor_scale, sizeof(float)) == 0;
}

// Unpacks with a gap between the rows and compares every byte, those of the gaps too.
bool unpacks_to(const weight_memory& weight, const weight_description& d, const expectation& e,
                floatx_type type) {
  const size_t element = type == FLOATX_TYPE_F32 ? 4 : 2;
  const int64_t stride = d.k + 3;
  guarded_buffer actual(static_cast<size_t>(d.n * stride) * element), expected(actual.size());
  REQUIRE(floatx_unpack(&weight.weight, type, actual.data(), stride, nullptr) == FLOATX_STATUS_OK);
  for (int64_t row = 0; row < d.n; ++row) {
    for (int64_t i = 0; i < d.k; ++i) {
      const int64_t group = d.group_size ? i / d.group_size : 0;
      float value;
      floatx_format_decode(d.format, e.codes[static_cast<size_t>(row * d.k + i)], &value);
      value *= e.scales[static_cast<size_t>(row * groups_of(d) + group)];
      const uint32_t bits = type == FLOATX_TYPE_F32   ? detail::float_bits(value)
                            : type == FLOATX_TYPE_F16 ? f32_to_f16(value)
                                                      : f32_to_bf16(value);
      std::memcpy(expected.data() + static_cast<size_t>(row * stride + i) * element, &bits, element);
    }
  }
  return actual.check() && same_bytes(actual, expected);
}

template <class Body>
void for_each_kind(Body&& body) {
  for (const format_traits& f : formats) {
    for (const floatx_scale_type scale_type : scale_types) {
      for (const int64_t group_size : group_sizes) {
        body(weight_description{static_cast<floatx_format>(f.id), scale_type, 33, 129, group_size});
      }
    }
  }
}

// Of the rows of a weight in the GPU's layout, as they are stored: behind scales of groups.
std::vector<uint32_t> largest_scales(const weight_memory& packed, const weight_description& d) {
  const auto size = static_cast<size_t>(scale_bytes(static_cast<scale_storage>(d.scale_type)));
  std::vector<uint32_t> largest(static_cast<size_t>(gpu::round_up(d.n, gpu::block_rows)));
  for (size_t row = 0; row < largest.size(); ++row) {
    const int64_t at = gpu::largest_scale_index(d.n, d.k, d.group_size, static_cast<int64_t>(row));
    std::memcpy(&largest[row], packed.scales.data() + static_cast<size_t>(at) * size, size);
  }
  return largest;
}

void check_all(const weight_description& d, uint32_t seed) {
  CAPTURE(d.format, d.scale_type, d.n, d.k, d.group_size);
  const std::vector<float> values = random_values(d, seed);
  const expectation e = expect(d, values, default_rules);
  const weight_memory canonical = pack(d, FLOATX_LAYOUT_CANONICAL, values);
  REQUIRE(holds(canonical, d, e));

  for (const floatx_layout layout : {FLOATX_LAYOUT_CPU, FLOATX_LAYOUT_CUDA}) {
    if (layout == FLOATX_LAYOUT_CUDA && find_format(d.format)->exponent_bits > 5) continue;  // refused
    CAPTURE(layout);
    const weight_memory packed = pack(d, layout, values);
    const weight_memory back(d, FLOATX_LAYOUT_CANONICAL), forth(d, layout);
    REQUIRE(floatx_repack(&packed.weight, &back.weight, nullptr) == FLOATX_STATUS_OK);
    REQUIRE(floatx_repack(&canonical.weight, &forth.weight, nullptr) == FLOATX_STATUS_OK);
    REQUIRE((back.check() && same_contents(back, canonical)));
    REQUIRE((forth.check() && same_contents(forth, packed)));
    for (const floatx_type type : {FLOATX_TYPE_F32, FLOATX_TYPE_F16, FLOATX_TYPE_BF16}) {
      REQUIRE(unpacks_to(packed, d, e, type));
    }
    if (layout != FLOATX_LAYOUT_CUDA || d.group_size == 0) continue;
    std::vector<uint32_t> largest(static_cast<size_t>(gpu::round_up(d.n, gpu::block_rows)));
    for (size_t i = 0; i < e.scale_bits.size(); ++i) {  // of numbers that are not negative
      uint32_t& of_row = largest[i / static_cast<size_t>(groups_of(d))];
      of_row = std::max(of_row, e.scale_bits[i]);
    }
    REQUIRE(largest_scales(packed, d) == largest);
  }
  for (const floatx_type type : {FLOATX_TYPE_F32, FLOATX_TYPE_F16, FLOATX_TYPE_BF16}) {
    REQUIRE(unpacks_to(canonical, d, e, type));
  }
}

}  // namespace

TEST_CASE("weights of every kind and of odd shapes quantize, move and unpack exactly", "[weights]") {
  // Risk: the last strip, the last group or the last byte of a row handled unlike the others.
  uint32_t seed = 1;
  for_each_kind([&](weight_description d) {
    for (d.n = 1; d.n <= 33; d.n = d.n == 1 ? 15 : d.n < 17 ? d.n + 1 : d.n + 16) {
      for (const int64_t k : {1, 15, 17, 33, 129}) {
        d.k = k;
        check_all(d, seed++);
      }
    }
  });
}

TEST_CASE("the other rules give what their equations say", "[weights]") {
  // Risk: UNROUNDED dividing by the stored scale, CEIL raising exact powers of two.
  for_each_kind([&](const weight_description& d) {
    CAPTURE(d.format, d.scale_type, d.group_size);
    const std::vector<float> values = random_values(d, 77);
    const auto rules = d.scale_type == FLOATX_SCALE_E8M0
                           ? options_of(FLOATX_SCALE_RULE_STORED, FLOATX_EXPONENT_RULE_CEIL)
                           : options_of(FLOATX_SCALE_RULE_UNROUNDED, FLOATX_EXPONENT_RULE_FLOOR);
    REQUIRE(holds(pack(d, FLOATX_LAYOUT_CANONICAL, values, rules), d, expect(d, values, rules)));
  });
}

TEST_CASE("E8M0 scales worked out by hand", "[weights]") {
  // Risk: an equation misread in the same way by the library and by the expectation above.
  struct example {
    float absmax;
    uint8_t floor, ceil;
  };
  const weight_description d = {FLOATX_FORMAT_E2M1, FLOATX_SCALE_E8M0, 1, 1, 32};  // floor(log2 6) = 2
  for (const example& x : {example{0, 0, 0},
                           {1, 125, 125},
                           {1.5f, 125, 126},
                           {4, 127, 127},
                           {6, 127, 128},
                           {1e-45f, 0, 0},
                           {3.4e38f, 252, 253}}) {
    CAPTURE(x.absmax);
    const auto ceil = options_of(FLOATX_SCALE_RULE_STORED, FLOATX_EXPONENT_RULE_CEIL);
    CHECK(pack(d, FLOATX_LAYOUT_CANONICAL, {x.absmax}).scales.data()[0] == x.floor);
    CHECK(pack(d, FLOATX_LAYOUT_CANONICAL, {x.absmax}, ceil).scales.data()[0] == x.ceil);
  }
}

TEST_CASE("NVFP4 worked out by hand", "[weights]") {
  // Risk: the tensor scale forgotten in the division, or multiplied twice.
  const weight_description d = {FLOATX_FORMAT_E2M1, FLOATX_SCALE_E4M3FN, 1, 48, 16};
  std::vector<float> values(48, 0.0f);
  values[0] = 2688;                    // 6 * 448: the tensor scale is 1, this group's 448
  values[16] = -6.2f, values[17] = 3;  // 6.2 / 6 rounds to 1
  const weight_memory w = pack(d, FLOATX_LAYOUT_CANONICAL, values);
  CHECK(*w.weight.tensor_scale == 1.0f);
  CHECK(w.scales.data()[0] == 0x7e);
  CHECK(w.scales.data()[1] == 0x38);
  CHECK(w.scales.data()[2] == 0);               // 1e-12 / 6 rounds to 0
  CHECK(w.codes.data()[0] == 0x07);             // 2688 / 448 = 6
  CHECK(w.codes.data()[8] == (0x0f | 5 << 4));  // -6.2 saturates, 3 is code 5
}

TEST_CASE("a weight of zeros is zeros", "[weights]") {
  // Risk: 0 / 0, or F16, where the scale of 1e-12 / max becomes 0, taken for an underflow.
  for_each_kind([](const weight_description& d) {
    CAPTURE(d.format, d.scale_type, d.group_size);
    const std::vector<float> zeros(static_cast<size_t>(d.n * d.k), 0.0f);
    const expectation e = expect(d, zeros, default_rules);
    const weight_memory packed = pack(d, FLOATX_LAYOUT_CPU, zeros);
    REQUIRE(e.codes == std::vector<uint8_t>(zeros.size(), 0));
    REQUIRE(unpacks_to(packed, d, e, FLOATX_TYPE_F32));
  });
}

TEST_CASE("the largest scale of a row is that of the largest magnitude", "[weights]") {
  // Risk: scales of another library's making, which may be negative, compared as unsigned numbers or as
  // signed.
  const weight_description d = {FLOATX_FORMAT_E3M2, FLOATX_SCALE_F16, 2, 48, 16};
  weight_memory canonical(d, FLOATX_LAYOUT_CANONICAL);
  const weight_memory packed(d, FLOATX_LAYOUT_CUDA);
  std::memset(canonical.codes.data(), 0, canonical.codes.size());
  const float scales[] = {1.0f, -2.0f, 0.5f, 3.0f, -0.25f, 0.0f};
  for (int i = 0; i < 6; ++i) canonical.scales.as<uint16_t>()[i] = f32_to_f16(scales[i]);
  REQUIRE(floatx_repack(&canonical.weight, &packed.weight, nullptr) == FLOATX_STATUS_OK);
  std::vector<uint32_t> largest(64);
  largest[0] = f32_to_f16(2.0f);
  largest[1] = f32_to_f16(3.0f);
  REQUIRE(largest_scales(packed, d) == largest);
}

TEST_CASE("a slice holds the window of the values", "[weights]") {
  // Risk: a window that begins inside a strip, or scales taken from the group beside.
  for_each_kind([](const weight_description& d) {
    const std::vector<float> values = random_values(d, 5);
    const int64_t step = d.group_size ? d.group_size : 3;
    const auto unpacked = [](const weight_memory& w) {
      std::vector<float> all(static_cast<size_t>(w.weight.n * w.weight.k));
      REQUIRE(floatx_unpack(&w.weight, FLOATX_TYPE_F32, all.data(), w.weight.k, nullptr) == FLOATX_STATUS_OK);
      return all;
    };
    for (const floatx_layout from : {FLOATX_LAYOUT_CANONICAL, FLOATX_LAYOUT_CPU}) {
      const weight_memory source = pack(d, from, values);
      const std::vector<float> whole = unpacked(source);
      for (const floatx_layout to : {FLOATX_LAYOUT_CANONICAL, FLOATX_LAYOUT_CPU}) {
        for (const auto& [row, rows] : {std::pair<int64_t, int64_t>{0, 33}, {5, 20}, {16, 16}, {32, 1}}) {
          for (const auto& [column, columns] :
               {std::pair<int64_t, int64_t>{0, d.k}, {0, step}, {step, d.k - step}}) {
            CAPTURE(d.format, d.scale_type, d.group_size, from, to, row, rows, column, columns);
            const weight_memory cut({d.format, d.scale_type, rows, columns, d.group_size}, to);
            REQUIRE(floatx_slice(&source.weight, row, column, &cut.weight, nullptr) == FLOATX_STATUS_OK);
            REQUIRE(cut.check());
            const std::vector<float> window = unpacked(cut);
            bool equal = true;
            for (int64_t i = 0; i < rows * columns; ++i) {
              const int64_t at = (row + i / columns) * d.k + column + i % columns;
              equal &= window[static_cast<size_t>(i)] == whole[static_cast<size_t>(at)];
            }
            REQUIRE(equal);
          }
        }
      }
    }
  });
}

TEST_CASE("the number of threads changes no bit", "[weights]") {
  // Risk: a tensor scale or a strip that depends on who computed it.
  for (const floatx_scale_type scale_type : scale_types) {
    const weight_description d = {FLOATX_FORMAT_E2M1, scale_type, 203, 333, 16};
    const std::vector<float> values = random_values(d, 9);
    const weight_memory alone = pack(d, FLOATX_LAYOUT_CPU, values);
    for (const int count : {1, 2, 7}) {
      CAPTURE(scale_type, count);
      floatx_threads* threads = nullptr;
      REQUIRE(floatx_threads_create(count, nullptr, nullptr, &threads) == FLOATX_STATUS_OK);
      const weight_memory together = pack(d, FLOATX_LAYOUT_CPU, values, default_rules, threads);
      floatx_threads_destroy(threads);
      REQUIRE(same_contents(alone, together));
    }
  }
}

TEST_CASE("values are read through their stride and type", "[weights]") {
  // Risk: the gap between rows taken for values, or an F16 bit pattern read as BF16.
  const weight_description d = {FLOATX_FORMAT_E3M2, FLOATX_SCALE_F32, 17, 33, 16};
  const int64_t stride = d.k + 5;
  for (const floatx_type type : {FLOATX_TYPE_F16, FLOATX_TYPE_BF16}) {
    std::vector<float> rounded = random_values(d, 3);
    std::vector<uint16_t> halves(static_cast<size_t>(d.n * stride), 0xffff);  // NaN in the gaps
    for (int64_t i = 0; i < d.n * d.k; ++i) {
      float& value = rounded[static_cast<size_t>(i)];
      const uint16_t bits = type == FLOATX_TYPE_F16 ? f32_to_f16(value) : f32_to_bf16(value);
      halves[static_cast<size_t>(i / d.k * stride + i % d.k)] = bits;
      value = type == FLOATX_TYPE_F16 ? f16_to_f32(bits) : bf16_to_f32(bits);
    }
    const weight_memory strided(d, FLOATX_LAYOUT_CPU);
    REQUIRE(floatx_pack(&strided.weight, type, halves.data(), stride, nullptr, nullptr) == FLOATX_STATUS_OK);
    CHECK(same_contents(strided, pack(d, FLOATX_LAYOUT_CPU, rounded)));
  }
}
