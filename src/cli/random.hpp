// Random numbers for tests and measurements: the same with every standard library.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace floatx::cli {

std::vector<float> random_normal(size_t count, uint64_t seed);

}  // namespace floatx::cli
