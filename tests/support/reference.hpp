// The linear layer as its definition reads, in FP64, one element after the other.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "floatx.h"
#include "floatx/codec.hpp"
#include "floatx/format.hpp"

namespace floatx::reference {

// A canonical weight, but with one code a byte.
struct weight {
  floatx_format format;
  int64_t n, k;
  int64_t group_size;  // 0 = one scale for each row
  floatx_scale_type scale_type;
  std::vector<uint8_t> codes;   // [n][k]
  std::vector<uint8_t> scales;  // [n][groups], elements of scale_type
  float tensor_scale = 1;       // E4M3FN only

  int64_t groups() const { return group_size == 0 ? 1 : (k + group_size - 1) / group_size; }
};

inline double value_of(floatx_format format, uint8_t code) {
  return visit_format(format, [&](auto f) { return static_cast<double>(decode<decltype(f)>(code)); });
}

template <class T>
T element(const void* data, int64_t index) {
  T value;
  std::memcpy(&value, static_cast<const char*>(data) + static_cast<size_t>(index) * sizeof(T), sizeof(T));
  return value;
}

// A scale as the layer uses it: FP32, with the product of an E4M3FN scale and the tensor scale rounded.
inline float scale_of(const weight& w, int64_t row, int64_t column) {
  const int64_t index = row * w.groups() + (w.group_size == 0 ? 0 : column / w.group_size);
  const void* s = w.scales.data();
  switch (w.scale_type) {
    case FLOATX_SCALE_F16:
      return f16_to_f32(element<uint16_t>(s, index));
    case FLOATX_SCALE_BF16:
      return bf16_to_f32(element<uint16_t>(s, index));
    case FLOATX_SCALE_E8M0:
      return e8m0_to_f32(element<uint8_t>(s, index));
    case FLOATX_SCALE_E4M3FN:
      return static_cast<float>(value_of(FLOATX_FORMAT_E4M3FN, element<uint8_t>(s, index))) * w.tensor_scale;
    default:
      return element<float>(s, index);
  }
}

// Element `index` of an array of `type`.
inline double load(floatx_type type, const void* data, int64_t index) {
  switch (type) {
    case FLOATX_TYPE_F16:
      return static_cast<double>(f16_to_f32(element<uint16_t>(data, index)));
    case FLOATX_TYPE_BF16:
      return static_cast<double>(bf16_to_f32(element<uint16_t>(data, index)));
    default:
      return static_cast<double>(element<float>(data, index));
  }
}

// The dense weight, [n][k]: exact, because a code value (8 bits) times a scale (24 bits) fits.
inline std::vector<double> dense(const weight& w) {
  std::vector<double> values(w.codes.size());
  for (int64_t row = 0; row < w.n; ++row) {
    for (int64_t column = 0; column < w.k; ++column) {
      const auto i = static_cast<size_t>(row * w.k + column);
      values[i] = value_of(w.format, w.codes[i]) * static_cast<double>(scale_of(w, row, column));
    }
  }
  return values;
}

struct sum {
  double value = 0;      // of x . w + bias
  double magnitude = 0;  // of |x| . |w| + |bias|, which bounds what rounding can do
};

// One element of y, from a row of x and one of the dense weight.
inline sum linear(int64_t k, const double* w_row, floatx_type x_type, const void* x_row, double bias) {
  sum s{bias, std::fabs(bias)};
  for (int64_t i = 0; i < k; ++i) {
    const double term = load(x_type, x_row, i) * w_row[i];
    s.value += term;
    s.magnitude += std::fabs(term);
  }
  return s;
}

}  // namespace floatx::reference
