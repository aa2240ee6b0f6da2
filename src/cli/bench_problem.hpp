// What is measured: layers by name, ways to quantize them, and random data for both processors.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/commands.hpp"
#include "cli/support.hpp"
#include "cli/weights.hpp"
#include "cli/workers.hpp"
#include "floatx.h"

namespace floatx::cli {

struct layer {
  std::string name;
  int64_t n;
  int64_t k;
};

// The linear layers of a decoder block, query, key and value as one, gate and up as one; or the layer "NxK".
// Throws usage_error.
std::vector<layer> layers_of(const std::string& shape);
std::vector<layer> layers_of(const std::vector<std::string>& shapes);

struct named_scheme {
  std::string format;  // as the user calls it: "e3m2", "nvfp4"
  quantization scheme;
};

// Every format with every group size; presets once, with their own. Throws usage_error.
std::vector<named_scheme> schemes_of(const bench_options& options);

// A canonical weight of random values of variance 1 / k, so that y has the variance of x. Some rows are drawn
// and quantized, and stand for all: their codes are as hard to multiply as fresh ones, and a large weight is
// ready in moments.
class random_weight {
 public:
  random_weight(const layer& shape, const quantization& scheme, const workers& threads);
  random_weight(const random_weight&) = delete;
  random_weight& operator=(const random_weight&) = delete;
  const floatx_weight& get() const { return weight_; }
  // The values [k] of a row.
  std::vector<float> row(int64_t n) const;

 private:
  floatx_weight weight_;
  aligned_buffer codes_;
  aligned_buffer scales_;
  float tensor_scale_ = 0;
};

// [rows, columns] random values of the type, of variance 1.
aligned_buffer random_values(int64_t rows, int64_t columns, floatx_type type);

}  // namespace floatx::cli
