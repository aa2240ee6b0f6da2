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
    const auto place = [&](int64_t index) { return &scales[static_cast<size_t>(index) * size]; };
    for (int64_t row = 0; row < w.n; ++row) {
      const auto scale = [&](int64_t group) {
        return &w.scales[static_cast<size_t>(row * w.groups() + group) * size];
      };
      const auto magnitude = [&](int64_t group) {
        return std::abs(reference::scale_of(w, row, group * w.group_size));
      };
      int64_t largest = 0;
      for (int64_t group = 0; group < w.groups(); ++group) {
        std::memcpy(place(gpu::scale_index(w.k, w.group_size, row, group)), scale(group), size);
        if (magnitude(group) > magnitude(largest)) largest = group;
      }
      if (w.group_size == 0) continue;
      uint8_t* of_row = place(gpu::largest_scale_index(w.n, w.k, w.group_size, row));
      std::memcpy(of_row, scale(largest), size);
      if (w.scale_type != FLOATX_SCALE_E8M0) of_row[size - 1] &= 0x7f;
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
// by rounding. And a result passes other roundings: one for each group of 16, one for each thread block that
// has a share of its tile, 16 for the warps of a block, and power of two, scale, tensor scale and bias.
// `weights` is what rounded weights add to that, see folding_errors.
inline bool device_close(floatx_type type, int64_t k, const reference::sum& exact, double y,
                         double weights = 0) {
  const double p = static_cast<double>(2 * k + (k + 15) / 16 + (k + 127) / 128 + 16 + 4) * 0x1p-24;
  return is_within(type, p / (1 - p) * (exact.magnitude + weights) + weights, exact, y);
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

// [m][n]: how far `sums` may be off because products of codes and scales are rounded to the type of x, u =
// 2^-11 of FP16 and 2^-8 of BF16: the product by u, where it has more significant bits than the type, and
// before that a scale by u, where it has. FP16 has subnormal numbers besides: a row's scales are multiplied
// by a power of two that brings the largest to 2^14 or more (E4M3FN has one that leaves nothing to round),
// and either rounding may be by 2^-25, that of a scale times a code below 2, which all is 2^(bias - 15) of
// the weight. With BF16 a weight below its normal numbers is off by up to 2^-134, more if the row's scales
// are lowered, the largest to 2^(bias - 1) or more.
inline std::vector<double> folding_errors(const reference::weight& w, const activations& x,
                                          const std::vector<reference::sum>& sums, floatx_type y_type,
                                          const std::vector<uint8_t>* bias) {
  const format_traits& format = *find_format(w.format);
  const bool bf16 = x.type == FLOATX_TYPE_BF16;
  const int bits = bf16 ? 8 : 11, of_code = format.mantissa_bits + 1;
  const int of_scale = w.scale_type == FLOATX_SCALE_F32      ? 24
                       : w.scale_type == FLOATX_SCALE_F16    ? 11
                       : w.scale_type == FLOATX_SCALE_BF16   ? 8
                       : w.scale_type == FLOATX_SCALE_E4M3FN ? 4
                                                             : 1;
  const int of_rounded_scale = std::min(of_scale, bits);
  const bool rounds = of_code > 1 && of_rounded_scale > 1 && of_rounded_scale + of_code > bits;
  const double relative = std::pow(1 + std::ldexp(1.0, -bits), (of_scale > bits) + rounds) - 1;
  std::vector<double> absolute;  // of a weight, for each row
  for (int64_t row = 0; row < w.n; ++row) {
    double largest = 0;
    for (int64_t group = 0; group < w.groups(); ++group) {
      largest = std::fmax(largest, std::fabs(reference::scale_of(w, row, group * w.group_size)));
    }
    absolute.push_back(bf16 ? std::ldexp(std::fmax(1, std::ldexp(largest, 1 - format.bias)), -134)
                       : w.scale_type == FLOATX_SCALE_E4M3FN
                           ? 0
                           : std::ldexp(3 * largest, -25 - 14 + 15 - format.bias));
  }
  std::vector<double> errors;
  for (int64_t t = 0; t < x.m; ++t) {
    double all_x = 0;
    for (int64_t i = 0; i < x.k; ++i) all_x += std::fabs(reference::load(x.type, x.row(t), i));
    for (int64_t row = 0; row < w.n; ++row) {
      const double added = bias ? std::fabs(reference::load(y_type, bias->data(), row)) : 0;
      errors.push_back(relative * (sums[static_cast<size_t>(t * w.n + row)].magnitude - added) +
                       absolute[static_cast<size_t>(row)] * all_x);
    }
  }
  return errors;
}

}  // namespace floatx::test
