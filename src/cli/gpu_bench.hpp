// What the parts of floatx bench --cuda share.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <limits>

#include "cli/gpu.hpp"
#include "cli/terminal.hpp"
#include "cli/workers.hpp"

namespace floatx::cli {

struct gpu_bench {
  const gpu_stream& stream;
  const workers& threads;
  progress_bar& progress;
  double seconds;         // for each measurement
  double settle_seconds;  // before it
  uint32_t flags;         // of every call, FLOATX_EXECUTION_*
  double read_bytes_per_us = 0;
  double flops_per_us = std::numeric_limits<double>::infinity();  // where there is no cuBLAS to tell

  // The time that a product cannot beat: to read the weight, or to multiply.
  double floor_us(size_t bytes, int64_t m, int64_t n, int64_t k) const;
};

}  // namespace floatx::cli
