// Vectors are GCC's: one source for every instruction set. Helpers are inlined into each clone, so no vector
// crosses a call.
//
// SPDX-License-Identifier: Apache-2.0
#include "cpu_math.hpp"

#include <cmath>
#include <cstring>

#if defined(__x86_64__) && defined(__GNUC__)
#define LLAMA_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define LLAMA_CLONES
#endif
#define LLAMA_INLINE static inline __attribute__((always_inline))

namespace llama::cpu {
namespace {

typedef float floats __attribute__((vector_size(64)));
typedef uint32_t words __attribute__((vector_size(64)));
typedef int32_t integers __attribute__((vector_size(64)));

template <class Vector>
LLAMA_INLINE Vector load(const void* from) {
  Vector value;
  std::memcpy(&value, from, sizeof value);
  return value;
}
LLAMA_INLINE void store(float* to, floats value) { std::memcpy(to, &value, sizeof value); }
LLAMA_INLINE floats all(float value) { return floats{} + value; }
LLAMA_INLINE floats as_floats(words bits) { return (floats)bits; }

LLAMA_INLINE float sum_of(floats v) {
  float sum = 0;
  for (int i = 0; i < vector_floats; ++i) sum += v[i];
  return sum;
}

// A block of a row as two vectors, in the order in which prepare_x leaves x.
struct block {
  floats first, second;
};
struct bf16_row {
  static constexpr int64_t bytes = 2;
  LLAMA_INLINE block read(const uint8_t* w) {
    const words pairs = load<words>(w);
    return {as_floats(pairs << 16), as_floats(pairs & 0xffff0000U)};
  }
};
struct f16_row {
  static constexpr int64_t bytes = 2;
  // The exponent's bias by a product, which is exact and serves subnormals too. An Inf would become 65536,
  // but a weight is finite.
  LLAMA_INLINE floats widen(words half) {
    const floats magnitude = as_floats((half & 0x7fffU) << 13) * 0x1p112F;
    return as_floats((words)magnitude | (half & 0x8000U) << 16);
  }
  LLAMA_INLINE block read(const uint8_t* w) {
    const words pairs = load<words>(w);
    return {widen(pairs & 0xffffU), widen(pairs >> 16)};
  }
};
struct f32_row {
  static constexpr int64_t bytes = 4;
  LLAMA_INLINE block read(const uint8_t* w) { return {load<floats>(w), load<floats>(w + 64)}; }
};

template <class Row, int Rows, int Tokens>
LLAMA_INLINE void dense_tile(const uint8_t* w, int64_t row_bytes, int64_t k, const float* x, int64_t x_stride,
                             float* y, int64_t y_stride) {
  floats sum[Rows][Tokens] = {};
  const auto step = [&](const block* blocks, int64_t at) __attribute__((always_inline)) {
    for (int t = 0; t < Tokens; ++t) {
      const floats first = load<floats>(x + t * x_stride + at);
      const floats second = load<floats>(x + t * x_stride + at + vector_floats);
      for (int r = 0; r < Rows; ++r) sum[r][t] += blocks[r].first * first;
      for (int r = 0; r < Rows; ++r) sum[r][t] += blocks[r].second * second;
    }
  };
  const int64_t whole = k / dense_block * dense_block;
  block blocks[Rows];
  for (int64_t at = 0; at < whole; at += dense_block) {
    for (int r = 0; r < Rows; ++r) blocks[r] = Row::read(w + r * row_bytes + at * Row::bytes);
    step(blocks, at);
  }
  if (whole < k) {
    for (int r = 0; r < Rows; ++r) {
      uint8_t rest[dense_block * Row::bytes] = {};
      std::memcpy(rest, w + r * row_bytes + whole * Row::bytes,
                  static_cast<size_t>((k - whole) * Row::bytes));
      blocks[r] = Row::read(rest);
    }
    step(blocks, whole);
  }
  for (int t = 0; t < Tokens; ++t) {
    for (int r = 0; r < Rows; ++r) y[t * y_stride + r] = sum_of(sum[r][t]);
  }
}

template <class Row>
LLAMA_INLINE void dense_rows(const uint8_t* w, int64_t rows, int64_t k, const float* x, int64_t m, float* y,
                             int64_t y_stride) {
  const int64_t row_bytes = k * Row::bytes;
  const int64_t x_stride = round_up(k, dense_block);
  int64_t t = 0;
  for (; t + 4 <= m; t += 4) {
    int64_t r = 0;
    for (; r + 4 <= rows; r += 4) {
      dense_tile<Row, 4, 4>(w + r * row_bytes, row_bytes, k, x + t * x_stride, x_stride, y + t * y_stride + r,
                            y_stride);
    }
    for (; r < rows; ++r) {
      dense_tile<Row, 1, 4>(w + r * row_bytes, row_bytes, k, x + t * x_stride, x_stride, y + t * y_stride + r,
                            y_stride);
    }
  }
  for (; t < m; ++t) {
    int64_t r = 0;
    for (; r + 4 <= rows; r += 4) {
      dense_tile<Row, 4, 1>(w + r * row_bytes, row_bytes, k, x + t * x_stride, x_stride, y + t * y_stride + r,
                            y_stride);
    }
    for (; r < rows; ++r) {
      dense_tile<Row, 1, 1>(w + r * row_bytes, row_bytes, k, x + t * x_stride, x_stride, y + t * y_stride + r,
                            y_stride);
    }
  }
}

template <int Rows, int Vectors>
LLAMA_INLINE void multiply_tile(const float* a, int64_t a_stride, int64_t depth, const float* b,
                                int64_t b_stride, float* c, int64_t c_stride) {
  floats sum[Rows][Vectors] = {};
  for (int64_t d = 0; d < depth; ++d) {
    for (int v = 0; v < Vectors; ++v) {
      const floats from = load<floats>(b + d * b_stride + v * vector_floats);
      for (int r = 0; r < Rows; ++r) sum[r][v] += a[r * a_stride + d] * from;
    }
  }
  for (int r = 0; r < Rows; ++r) {
    for (int v = 0; v < Vectors; ++v) store(c + r * c_stride + v * vector_floats, sum[r][v]);
  }
}

template <int Rows>
LLAMA_INLINE void multiply_rows(const float* a, int64_t a_stride, int64_t depth, const float* b,
                                int64_t b_stride, int64_t columns, float* c, int64_t c_stride) {
  int64_t j = 0;
  for (; j + 4 * vector_floats <= columns; j += 4 * vector_floats) {
    multiply_tile<Rows, 4>(a, a_stride, depth, b + j, b_stride, c + j, c_stride);
  }
  for (; j < columns; j += vector_floats) {
    multiply_tile<Rows, 1>(a, a_stride, depth, b + j, b_stride, c + j, c_stride);
  }
}

// exp(x) to within 2 units in the last place for x in -87 .. 88: 2^n times the series of e^r,
// |r| <= ln(2) / 2. What is below becomes e^-87, which no sum here notices.
LLAMA_INLINE floats exponential(floats x) {
  x = x < -87.0F ? all(-87.0F) : x;
  x = x > 88.0F ? all(88.0F) : x;
  const floats scaled = x * 1.44269504F;
  // Rounds: adding 1.5 * 2^23 leaves the integer in the low bits.
  const floats shifted = scaled + 12582912.0F;
  const floats n = shifted - 12582912.0F;
  // ln(2) in two parts, the first of few bits so that n times it is exact.
  const floats r = (x - n * 0.693359375F) + n * 2.12194440e-4F;
  floats p = all(1.0F / 5040);
  p = p * r + 1.0F / 720;
  p = p * r + 1.0F / 120;
  p = p * r + 1.0F / 24;
  p = p * r + 1.0F / 6;
  p = p * r + 0.5F;
  p = p * r + 1.0F;
  p = p * r + 1.0F;
  const integers power = ((integers)shifted - 0x4b400000 + 127) << 23;
  return p * (floats)power;
}

}  // namespace

void prepare_x(floatx_type weights, const float* x, int64_t k, float* out) {
  const int64_t padded = round_up(k, dense_block);
  for (int64_t at = 0; at < padded; at += dense_block) {
    for (int64_t i = 0; i < dense_block; ++i) {
      const int64_t place = weights == FLOATX_TYPE_F32 ? i : i / 2 + i % 2 * vector_floats;
      out[at + place] = at + i < k ? x[at + i] : 0;
    }
  }
}

LLAMA_CLONES void dense_product(floatx_type weights, const void* w, int64_t rows, int64_t k, const float* x,
                                int64_t m, float* y, int64_t y_stride) {
  const auto* bytes = static_cast<const uint8_t*>(w);
  if (weights == FLOATX_TYPE_BF16) {
    dense_rows<bf16_row>(bytes, rows, k, x, m, y, y_stride);
  } else if (weights == FLOATX_TYPE_F16) {
    dense_rows<f16_row>(bytes, rows, k, x, m, y, y_stride);
  } else {
    dense_rows<f32_row>(bytes, rows, k, x, m, y, y_stride);
  }
}

LLAMA_CLONES void multiply(const float* a, int64_t a_stride, int64_t rows, int64_t depth, const float* b,
                           int64_t b_stride, int64_t columns, float* c, int64_t c_stride) {
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4) {
    multiply_rows<4>(a + r * a_stride, a_stride, depth, b, b_stride, columns, c + r * c_stride, c_stride);
  }
  for (; r < rows; ++r) {
    multiply_rows<1>(a + r * a_stride, a_stride, depth, b, b_stride, columns, c + r * c_stride, c_stride);
  }
}

LLAMA_CLONES void softmax(float* scores, int64_t visible, int64_t padded, float scale) {
  float largest = scores[0];
  for (int64_t i = 1; i < visible; ++i) largest = scores[i] > largest ? scores[i] : largest;
  for (int64_t i = visible; i < padded; ++i) scores[i] = -INFINITY;
  floats sums = {};
  for (int64_t i = 0; i < padded; i += vector_floats) {
    const floats from = load<floats>(scores + i);
    const floats e = from == -INFINITY ? floats{} : exponential((from - largest) * scale);
    sums += e;
    store(scores + i, e);
  }
  const float factor = 1 / sum_of(sums);
  for (int64_t i = 0; i < padded; ++i) scores[i] *= factor;
}

LLAMA_CLONES double log_sum_exp(const float* x, int64_t count) {
  float largest = x[0];
  for (int64_t i = 1; i < count; ++i) largest = x[i] > largest ? x[i] : largest;
  // In FP32 by vectors and in FP64 over these, so that a large vocabulary loses nothing.
  double sum = 0;
  int64_t i = 0;
  for (; i + vector_floats <= count; i += vector_floats) {
    sum += double{sum_of(exponential(load<floats>(x + i) - largest))};
  }
  for (; i < count; ++i) sum += std::exp(double{x[i]} - double{largest});
  return std::log(sum) + double{largest};
}

LLAMA_CLONES void rms_norm(const float* x, const float* weight, int64_t count, float epsilon, float* out) {
  floats sums = {};
  int64_t i = 0;
  for (; i + vector_floats <= count; i += vector_floats) {
    const floats v = load<floats>(x + i);
    sums += v * v;
  }
  float sum = sum_of(sums);
  for (; i < count; ++i) sum += x[i] * x[i];
  const float factor = 1 / std::sqrt(sum / static_cast<float>(count) + epsilon);
  for (i = 0; i < count; ++i) out[i] = x[i] * factor * weight[i];
}

LLAMA_CLONES void swiglu(const float* gate, const float* up, int64_t count, float* out) {
  int64_t i = 0;
  for (; i + vector_floats <= count; i += vector_floats) {
    const floats g = load<floats>(gate + i);
    store(out + i, g / (1.0F + exponential(-g)) * load<floats>(up + i));
  }
  for (; i < count; ++i) out[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
}

LLAMA_CLONES void add(float* to, const float* what, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] += what[i];
}

LLAMA_CLONES uint64_t read_all(const uint64_t* data, int64_t count) {
  uint64_t sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += data[i];
  return sum;
}

}  // namespace llama::cpu
