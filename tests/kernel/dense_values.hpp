// Values of every kind, in host and in device memory, for the tests of packing and moving.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "floatx/codec.hpp"
#include "kernel/device_weight.hpp"
#include "support/device_memory.hpp"

namespace floatx::test {

inline void store(floatx_type type, void* data, int64_t index, float value) {
  if (type == FLOATX_TYPE_F32) {
    std::memcpy(static_cast<char*>(data) + 4 * index, &value, 4);
  } else {
    const uint16_t bits = type == FLOATX_TYPE_F16 ? f32_to_f16(value) : f32_to_bf16(value);
    std::memcpy(static_cast<char*>(data) + 2 * index, &bits, 2);
  }
}

// The largest number of the type.
inline float largest(floatx_type type) {
  return type == FLOATX_TYPE_F16 ? 65504.0f : type == FLOATX_TYPE_BF16 ? 0x1.fep127f : 0x1.fffffep127f;
}

// [n][stride], NaN between the rows. Rows differ in kind: ordinary, zeros of both signs, midpoints between
// codes, one value throughout, and unless `tame` the smallest and largest numbers and all magnitudes mixed.
struct dense_values {
  floatx_type type;
  int64_t n, k, stride, shift;
  std::vector<uint8_t> data;  // the first `shift` elements are not used, so that rows are not aligned

  dense_values(floatx_type type_, const description& d, int64_t stride_, int64_t shift_, bool tame,
               uint32_t seed)
      : type(type_), n(d.n), k(d.k), stride(stride_), shift(shift_) {
    data.resize(static_cast<size_t>(shift + n * stride) * bytes_of(type));
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    std::uniform_real_distribution<float> uniform(-1, 1);
    const format_traits& format = *find_format(d.format);
    // What F16 scales hold, of E6M0 too.
    const float unit = !tame ? 1.0f : format.max > 1e6f ? 1e6f : format.max > 1e3f ? 1e3f : 1.0f;
    for (int64_t i = 0; i < shift + n * stride; ++i) store(type, data.data(), i, std::nanf(""));
    for (int64_t row = 0; row < n; ++row) {
      const auto kind = (row + seed) % (tame ? 5 : 8);
      for (int64_t i = 0; i < k; ++i) {
        float value = 0;
        switch (kind) {
          case 0:
            value = unit * (0.02f * normal(random) + 0.001f);
            break;
          case 1:
            value = i % 3 ? 0.0f : -0.0f;
            break;
          case 2:  // multiples of half a step, and max, so that the scale is a power of two
            value = i % 16 == 0 ? format.max * 0.125f
                                : static_cast<float>(static_cast<int>(random() % 512) - 256) * 0.0625f *
                                      format.smallest_subnormal;
            break;
          case 3:
            value = unit * 0.37f;
            break;
          case 4:
            value = unit * (i % 50 == 7 ? 30.0f * uniform(random) : 0.01f * normal(random));
            break;
          case 5:
            value = uniform(random) * (type == FLOATX_TYPE_F16 ? 0x1p-20f : 0x1p-120f);
            break;
          case 6:
            value = uniform(random) * largest(type);
            break;
          default:
            value = std::ldexp(uniform(random), static_cast<int>(random() % 250) - 149);
            break;
        }
        if (!(std::fabs(value) <= largest(type))) value = largest(type);
        set(row, i, value);
      }
    }
  }
  void set(int64_t row, int64_t column, float value) {
    store(type, data.data(), shift + row * stride + column, value);
  }
  const void* first() const { return data.data() + static_cast<size_t>(shift) * bytes_of(type); }
};

// Values in device memory as they lie on the host.
struct device_values {
  device_buffer memory;
  const dense_values& values;

  explicit device_values(const dense_values& from)
      : memory(from.data.data(), from.data.size()), values(from) {}
  void* first() const { return memory.data() + static_cast<size_t>(values.shift) * bytes_of(values.type); }
};

}  // namespace floatx::test
