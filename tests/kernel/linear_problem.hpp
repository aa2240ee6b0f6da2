// What the tests of the CPU linear layer share: random weights and activations, and the comparison with
// the FP64 reference.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <random>
#include <string>
#include <vector>

#include "cpu/cpu.hpp"
#include "kernel/kinds.hpp"
#include "support/catch.hpp"
#include "support/reference.hpp"

namespace floatx::test {

constexpr floatx_format all_formats[] = {
    FLOATX_FORMAT_E1M1,   FLOATX_FORMAT_E2M0, FLOATX_FORMAT_E1M2, FLOATX_FORMAT_E2M1, FLOATX_FORMAT_E3M0,
    FLOATX_FORMAT_E1M3,   FLOATX_FORMAT_E2M2, FLOATX_FORMAT_E3M1, FLOATX_FORMAT_E4M0, FLOATX_FORMAT_E1M4,
    FLOATX_FORMAT_E2M3,   FLOATX_FORMAT_E3M2, FLOATX_FORMAT_E4M1, FLOATX_FORMAT_E5M0, FLOATX_FORMAT_E1M5,
    FLOATX_FORMAT_E2M4,   FLOATX_FORMAT_E3M3, FLOATX_FORMAT_E4M2, FLOATX_FORMAT_E5M1, FLOATX_FORMAT_E6M0,
    FLOATX_FORMAT_E4M3FN, FLOATX_FORMAT_E5M2};

// Aligned memory between two guards of poison.
class buffer {
 public:
  explicit buffer(size_t bytes) : bytes_(bytes) {
    const size_t all = (guard + bytes + guard + 63) / 64 * 64;
    data_.reset(static_cast<uint8_t*>(std::aligned_alloc(64, all)));
    if (!data_) throw std::bad_alloc();
    std::memset(data_.get(), poison, all);
  }
  uint8_t* data() { return data_.get() + guard; }
  const uint8_t* data() const { return data_.get() + guard; }
  size_t size() const { return bytes_; }
  bool guards_intact() const {
    for (size_t i = 0; i < guard; ++i) {
      if (data_.get()[i] != poison || data_.get()[guard + bytes_ + i] != poison) return false;
    }
    return true;
  }

  static constexpr uint8_t poison = 0xa7;

 private:
  static constexpr size_t guard = 64;
  struct freer {
    void operator()(uint8_t* p) const { std::free(p); }
  };
  std::unique_ptr<uint8_t, freer> data_;
  size_t bytes_;
};

// A weight in both forms.
struct packed_weight {
  reference::weight canonical;
  std::vector<double> dense;
  weight_shape shape;
  buffer codes, scales;

  explicit packed_weight(reference::weight w)
      : canonical(std::move(w)),
        dense(reference::dense(canonical)),
        shape{canonical.format, canonical.n, canonical.k, canonical.group_size, canonical.scale_type},
        codes(cpu::codes_bytes(shape)),
        scales(cpu::scales_bytes(shape)) {
    for (int64_t row = 0; row < shape.n; row += cpu::strip_rows) {
      cpu::store_strip(shape, codes.data(), row, &canonical.codes[static_cast<size_t>(row * shape.k)]);
    }
    cpu::store_scales(shape, scales.data(), canonical.scales.data());
  }
};

// A number in the type's own bits.
inline void store(floatx_type type, void* data, size_t index, float value) {
  if (type == FLOATX_TYPE_F32) {
    std::memcpy(static_cast<char*>(data) + 4 * index, &value, 4);
  } else {
    const uint16_t bits = type == FLOATX_TYPE_F16 ? f32_to_f16(value) : f32_to_bf16(value);
    std::memcpy(static_cast<char*>(data) + 2 * index, &bits, 2);
  }
}

// Random finite codes; scales about as large as quantization makes them.
inline reference::weight random_weight(floatx_format format, int64_t n, int64_t k, int64_t group_size,
                                       floatx_scale_type scale_type, uint32_t seed) {
  std::mt19937 random(seed);
  reference::weight w{format, n, k, group_size, scale_type, {}, {}};
  w.codes.resize(static_cast<size_t>(n * k));
  const int bits = visit_format(format, [](auto f) { return static_cast<int>(decltype(f)::bits); });
  for (uint8_t& code : w.codes) {
    do code = static_cast<uint8_t>(random() & ((1u << bits) - 1));
    while (!std::isfinite(reference::value_of(format, code)));
  }
  const auto count = static_cast<size_t>(n * w.groups());
  w.scales.resize(count * bytes_of(scale_type));
  std::uniform_real_distribution<float> exponent(-7, 1);
  for (size_t i = 0; i < count; ++i) {
    const float scale = std::exp2(exponent(random));
    switch (scale_type) {
      case FLOATX_SCALE_F32:
        store(FLOATX_TYPE_F32, w.scales.data(), i, scale);
        break;
      case FLOATX_SCALE_F16:
        store(FLOATX_TYPE_F16, w.scales.data(), i, scale);
        break;
      case FLOATX_SCALE_BF16:
        store(FLOATX_TYPE_BF16, w.scales.data(), i, scale);
        break;
      case FLOATX_SCALE_E8M0:
        w.scales[i] = static_cast<uint8_t>(120 + random() % 9);
        break;
      default:
        w.scales[i] = static_cast<uint8_t>(random() % 0x7f);
        break;  // all that are not negative
    }
  }
  if (scale_type == FLOATX_SCALE_E4M3FN) w.tensor_scale = 0.0123f;
  return w;
}

// x[m][stride], random, with poison between the rows.
struct activations {
  floatx_type type;
  int64_t m, k, stride;
  buffer data;

  activations(floatx_type type_, int64_t m_, int64_t k_, int64_t stride_, uint32_t seed)
      : type(type_),
        m(m_),
        k(k_),
        stride(stride_),
        data(static_cast<size_t>(m_ * stride_) * bytes_of(type_)) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (int64_t t = 0; t < m; ++t) {
      for (int64_t i = 0; i < k; ++i) set(t, i, normal(random));
    }
  }
  void set(int64_t token, int64_t column, float value) {
    store(type, data.data(), static_cast<size_t>(token * stride + column), value);
  }
  const void* row(int64_t token) const {
    return data.data() + static_cast<size_t>(token * stride) * bytes_of(type);
  }
};

struct outputs {
  floatx_type type;
  int64_t m, n, stride;
  buffer data;

  outputs(floatx_type type_, int64_t m_, int64_t n_, int64_t stride_)
      : type(type_),
        m(m_),
        n(n_),
        stride(stride_),
        data(static_cast<size_t>(m_ * stride_) * bytes_of(type_)) {}

  double at(int64_t token, int64_t row) const {
    return reference::load(type, data.data(), token * stride + row);
  }

  // Nothing outside the m x n elements has been written.
  bool surroundings_intact() const {
    if (!data.guards_intact()) return false;
    const size_t used = static_cast<size_t>(n) * bytes_of(type),
                 all = static_cast<size_t>(stride) * bytes_of(type);
    for (int64_t t = 0; t < m; ++t) {
      for (size_t i = used; i < all; ++i) {
        if (data.data()[static_cast<size_t>(t) * all + i] != buffer::poison) return false;
      }
    }
    return true;
  }
};

inline void run(const cpu::kernels& isa, const packed_weight& w, const activations& x, const void* bias,
                outputs& y, floatx_threads* threads = nullptr, void* workspace = nullptr,
                size_t workspace_bytes = 0) {
  cpu::linear_with(isa, w.shape, w.codes.data(), w.scales.data(), w.canonical.tensor_scale, x.m, x.type,
                   x.data.data(), x.stride, bias, y.type, y.data.data(), y.stride, threads, workspace,
                   workspace_bytes);
}

// How far a sum in FP32 may be from the exact one: on its way a term passes at most k additions, one for
// each group or panel, and eight more roundings (product, scale, halves of an FP16 x, chains of sums, bias);
// each has a relative error of at most u = 2^-24, so together p u / (1 - p u) times the sum of magnitudes.
inline double summing_error(int64_t k, const reference::sum& exact) {
  const double p = static_cast<double>(k + (k + 15) / 16 + 8) * 0x1p-24;
  return p / (1 - p) * exact.magnitude;
}

// Whether y may stand for the result: the error `summing` of the sum, and half a unit in the last place of
// y's type or of its subnormal numbers.
inline bool is_within(floatx_type y_type, double summing, const reference::sum& exact, double y) {
  const double error = std::fabs(y - exact.value);
  const double largest = std::fabs(exact.value) + summing;
  switch (y_type) {
    case FLOATX_TYPE_F16:
      // From 65520 on FP16 rounds to Inf.
      if (std::isinf(y) && std::signbit(y) == std::signbit(exact.value)) return largest >= 65520;
      return error <= summing + std::fmax(largest * 0x1p-11, 0x1p-25);
    case FLOATX_TYPE_BF16:
      return error <= summing + std::fmax(largest * 0x1p-8, 0x1p-134);
    default:
      return error <= summing;
  }
}

inline bool close(floatx_type y_type, int64_t k, const reference::sum& exact, double y) {
  return is_within(y_type, summing_error(k, exact), exact, y);
}

// Compares every element; the first that is wrong is reported with its place.
inline void check(const packed_weight& w, const activations& x, const std::vector<uint8_t>* bias,
                  const outputs& y) {
  CHECK(y.surroundings_intact());
  for (int64_t t = 0; t < x.m; ++t) {
    for (int64_t row = 0; row < w.shape.n; ++row) {
      const double add = bias ? reference::load(y.type, bias->data(), row) : 0;
      const reference::sum exact =
          reference::linear(x.k, &w.dense[static_cast<size_t>(row * x.k)], x.type, x.row(t), add);
      if (!close(y.type, x.k, exact, y.at(t, row))) {
        CAPTURE(t, row, y.at(t, row), exact.value, exact.magnitude, summing_error(x.k, exact));
        FAIL("y is wrong");
      }
    }
  }
}

inline std::vector<uint8_t> random_bias(floatx_type type, int64_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<uint8_t> bias(static_cast<size_t>(n) * bytes_of(type));
  for (int64_t i = 0; i < n; ++i) store(type, bias.data(), static_cast<size_t>(i), normal(random));
  return bias;
}

inline std::string describe(const cpu::kernels& isa, const packed_weight& w, int64_t m, floatx_type x,
                            floatx_type y) {
  char text[160];
  std::snprintf(text, sizeof text, "%s format %x group %d scales %d m %d n %d k %d x %d y %d", cpu::name(isa),
                static_cast<unsigned>(w.shape.format), static_cast<int>(w.shape.group_size),
                static_cast<int>(w.shape.scale_type), static_cast<int>(m), static_cast<int>(w.shape.n),
                static_cast<int>(w.shape.k), static_cast<int>(x), static_cast<int>(y));
  return text;
}

}  // namespace floatx::test
