// How far a quantized tensor is from the original.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace floatx::cli {

struct error_statistics {
  double sum_squares = 0;         // of the original values
  double sum_squared_errors = 0;  // of quantized - original
  double worst_error = 0;         // the largest |error| in units of its row's absmax

  void add_row(const float* original, const float* quantized, int64_t k);
  void add(const error_statistics& other);

  // sqrt(sum e^2 / sum w^2); 0 where there is no error, also for a tensor of zeros.
  double relative_rms() const;
  // 10 log10(sum w^2 / sum e^2); infinite where there is no error.
  double snr_db() const;
};

}  // namespace floatx::cli
