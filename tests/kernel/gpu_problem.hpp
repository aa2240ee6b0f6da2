// A linear layer in the GPU's arrangement, and what its kernels owe.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "floatx/layout.hpp"
#include "kernel/linear_problem.hpp"

namespace floatx::test {

// A weight's codes and scales as the kernels read them, made bit by bit.
struct gpu_arrangement {
  std::vector<uint8_t> codes, scales;

  explicit gpu_arrangement(const reference::weight& w) {
    const format_traits& format = *find_format(w.format);
    codes.resize(static_cast<size_t>(gpu::codes_bytes(format.bits, w.n, w.k)));
    for (int64_t row = 0; row < gpu::round_up(w.n, gpu::block_rows); row += gpu::strip_rows) {
      const int64_t rows = std::max<int64_t>(0, std::min<int64_t>(gpu::strip_rows, w.n - row));
      gpu::store_strip(format.bits, format.mantissa_bits, w.k, row, rows,
                       rows ? &w.codes[static_cast<size_t>(row * w.k)] : nullptr, codes.data());
    }
    const size_t size = bytes_of(w.scale_type);
    scales.resize(static_cast<size_t>(gpu::scale_count(w.n, w.k, w.group_size)) * size);
    for (int64_t row = 0; row < w.n; ++row) {
      for (int64_t group = 0; group < w.groups(); ++group) {
        std::memcpy(&scales[static_cast<size_t>(gpu::scale_index(w.k, w.group_size, row, group)) * size],
                    &w.scales[static_cast<size_t>(row * w.groups() + group) * size], size);
      }
    }
  }
};

// Some groups' scales are 0, the first of a row's and later ones, though their codes are not; and some are
// the smallest and the largest that the type has, side by side.
inline void set_extreme_scales(reference::weight& w) {
  if (w.group_size == 0) return;
  const int64_t groups = w.groups();
  for (int64_t row = 0; row < w.n; ++row) {
    for (int64_t group = 0; group < groups; ++group) {
      const auto at = static_cast<size_t>(row * groups + group);
      const int what = static_cast<int>((row * 5 + group * 3) % 17);
      if (what > 3 || (what == 0 && w.scale_type == FLOATX_SCALE_E8M0)) continue;
      const uint16_t of_f16[] = {0, 0, 1, 0x7bff};
      const uint8_t of_e4m3fn[] = {0, 0, 1, 0x7e}, of_e8m0[] = {0, 96, 97, 160};
      if (w.scale_type == FLOATX_SCALE_F16) std::memcpy(&w.scales[at * 2], &of_f16[what], 2);
      if (w.scale_type == FLOATX_SCALE_E4M3FN) w.scales[at] = of_e4m3fn[what];
      if (w.scale_type == FLOATX_SCALE_E8M0) w.scales[at] = of_e8m0[what];
    }
  }
}

// As summing_error of the CPU's test, with two differences. An MMA aligns its 16 products and the sum so far
// to the largest of them and drops what lies below 2^-23 of it, so each of k terms may lose twice as much as
// by rounding. And a result passes other roundings: one for each group of 16 or two for each of 32 (sums that
// pass from one group's unit to another's are multiplied by a rounded quotient), one for each thread block
// that has a share of its tile, 16 for the warps of a block, and power of two, scale, tensor scale and bias.
inline bool device_close(floatx_type type, int64_t k, const reference::sum& exact, double y) {
  const double p = static_cast<double>(2 * k + (k + 15) / 16 + (k + 127) / 128 + 16 + 4) * 0x1p-24;
  return is_within(type, p / (1 - p) * exact.magnitude, exact, y);
}

// [m][n]: what y should be.
inline std::vector<reference::sum> exact_sums(int64_t n, const std::vector<double>& dense,
                                              const activations& x, floatx_type y_type,
                                              const std::vector<uint8_t>* bias) {
  std::vector<reference::sum> sums;
  for (int64_t t = 0; t < x.m; ++t) {
    for (int64_t row = 0; row < n; ++row) {
      const double add = bias ? reference::load(y_type, bias->data(), row) : 0;
      sums.push_back(reference::linear(x.k, &dense[static_cast<size_t>(row * x.k)], x.type, x.row(t), add));
    }
  }
  return sums;
}

}  // namespace floatx::test
