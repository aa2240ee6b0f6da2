// What floatx quantize has to say when it is done.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "cli/error_statistics.hpp"
#include "cli/weights.hpp"

namespace floatx::cli {

class quantize_report {
 public:
  quantize_report(const quantization& scheme, uint64_t bytes_before, uint64_t bytes_after)
      : scheme_(scheme), bytes_before_(bytes_before), bytes_after_(bytes_after) {}

  void add(const quantized_entry& entry, const error_statistics& statistics);

  nlohmann::ordered_json json() const;
  // The table and the totals, on standard output.
  void print() const;

 private:
  struct row {
    quantized_entry entry;
    error_statistics statistics;
    double bits_per_weight;
  };

  quantization scheme_;
  uint64_t bytes_before_;
  uint64_t bytes_after_;
  std::vector<row> rows_;
  error_statistics total_;
  uint64_t weights_ = 0;
  double bits_ = 0;
};

}  // namespace floatx::cli
