// The arithmetic of the CPU runtime that floatx does not do: dense weights, which the baseline needs, and the
// inner loops of attention and of the small operators. Compiled for several instruction sets in one file, of
// which the loader chooses.
//
// Every sum is formed in the same order for any number of tokens and threads.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <floatx.h>

#include <cstdint>

namespace llama::cpu {

// Dense rows are read in blocks of this many values; x is padded with zeros to a multiple of it.
constexpr int64_t dense_block = 32;
// Columns of attention come in vectors of this many floats.
constexpr int64_t vector_floats = 16;
constexpr int64_t round_up(int64_t value, int64_t to) { return (value + to - 1) / to * to; }

// x[k] as dense_product takes it, to out[round_up(k, dense_block)]: for 16-bit weights the even and the odd
// elements of each block apart, which is how two 16-bit weights in a 32-bit word come out of a shift and a
// mask.
void prepare_x(floatx_type weights, const float* x, int64_t k, float* out);

// y[t, r] = x[t] . w[r] for m tokens and `rows` rows of w[rows, k].
//   x  [m, round_up(k, dense_block)], as prepare_x leaves it.
void dense_product(floatx_type weights, const void* w, int64_t rows, int64_t k, const float* x, int64_t m,
                   float* y, int64_t y_stride);

// c[rows, columns] = a[rows, depth] . b[depth, columns]; columns is a multiple of vector_floats.
void multiply(const float* a, int64_t a_stride, int64_t rows, int64_t depth, const float* b, int64_t b_stride,
              int64_t columns, float* c, int64_t c_stride);

// scores[i] = exp(scale * scores[i]) / sum for i < visible, 0 for visible <= i < padded.
void softmax(float* scores, int64_t visible, int64_t padded, float scale);

// log(sum of exp(x[i])) for i < count.
double log_sum_exp(const float* x, int64_t count);

// out = x * weight / rms(x)
void rms_norm(const float* x, const float* weight, int64_t count, float epsilon, float* out);

// out[i] = gate[i] * sigmoid(gate[i]) * up[i]
void swiglu(const float* gate, const float* up, int64_t count, float* out);

void add(float* to, const float* what, int64_t count);

// Bytes of memory summed as fast as they can be read; the sum, so that nobody leaves it out.
uint64_t read_all(const uint64_t* data, int64_t count);

}  // namespace llama::cpu
