// SPDX-License-Identifier: Apache-2.0
#include "cli/random.hpp"

#include <cmath>
#include <random>

namespace floatx::cli {

// By hand (Box-Muller), because the standard fixes its engines but not its distributions.
std::vector<float> random_normal(size_t count, uint64_t seed) {
  std::mt19937_64 engine(seed);
  // In (0, 1): the logarithm of 0 must not be asked for.
  const auto uniform = [&] { return (static_cast<double>(engine() >> 11) + 0.5) * 0x1p-53; };
  std::vector<float> values(count);
  for (float& value : values) {
    constexpr double two_pi = 6.283185307179586;
    const double radius = std::sqrt(-2 * std::log(uniform()));
    value = static_cast<float>(radius * std::cos(two_pi * uniform()));
  }
  return values;
}

}  // namespace floatx::cli
