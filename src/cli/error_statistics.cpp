// SPDX-License-Identifier: Apache-2.0
#include "cli/error_statistics.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace floatx::cli {

void error_statistics::add_row(const float* original, const float* quantized, int64_t k) {
  double squares = 0;
  double squared_errors = 0;
  double absmax = 0;
  double largest = 0;
  for (int64_t i = 0; i < k; ++i) {
    const double value = original[i];
    const double error = double{quantized[i]} - value;
    squares += value * value;
    squared_errors += error * error;
    absmax = std::max(absmax, std::fabs(value));
    largest = std::max(largest, std::fabs(error));
  }
  sum_squares += squares;
  sum_squared_errors += squared_errors;
  if (absmax > 0) {
    worst_error = std::max(worst_error, largest / absmax);
  }
}

void error_statistics::add(const error_statistics& other) {
  sum_squares += other.sum_squares;
  sum_squared_errors += other.sum_squared_errors;
  worst_error = std::max(worst_error, other.worst_error);
}

double error_statistics::relative_rms() const {
  return sum_squared_errors == 0 ? 0 : std::sqrt(sum_squared_errors / sum_squares);
}

double error_statistics::snr_db() const {
  return sum_squared_errors == 0 ? std::numeric_limits<double>::infinity()
                                 : 10 * std::log10(sum_squares / sum_squared_errors);
}

}  // namespace floatx::cli
