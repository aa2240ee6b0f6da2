// floatx bench --cuda. Only where the program is built with CUDA.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cli/commands.hpp"

namespace floatx::cli {

void bench_cuda(const bench_options& options);

}  // namespace floatx::cli
