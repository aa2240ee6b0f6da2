// linear.c through the C++ header: the weight owns its memory, and errors are exceptions.
// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <floatx/floatx.hpp>
#include <random>
#include <vector>

namespace {

constexpr std::int64_t m = 4, n = 256, k = 1024;

std::vector<float> random_values(std::int64_t count, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = normal(generator);
  return values;
}

double relative_error(const float* x, const float* w, const float* y) {
  double difference = 0, reference = 0;
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      float sum = 0;
      for (std::int64_t l = 0; l < k; ++l) sum += x[i * k + l] * w[j * k + l];
      difference += std::pow(double{y[i * n + j]} - double{sum}, 2);
      reference += std::pow(double{sum}, 2);
    }
  }
  return std::sqrt(difference / reference);
}

}  // namespace

int main() try {
  const std::vector<float> w = random_values(n * k, 1);
  const std::vector<float> x = random_values(m * k, 2);
  std::vector<float> y(static_cast<std::size_t>(m * n));

  const floatx::threads threads;
  const auto weight = floatx::weight::pack({FLOATX_FORMAT_E3M2, n, k}, w.data(), nullptr, &threads);
  weight.linear(m, x.data(), y.data(), nullptr, &threads);

  const double error = relative_error(x.data(), w.data(), y.data());
  std::printf("%zu bytes instead of %zu, relative error %.4f\n",
              weight.handle().codes_bytes + weight.handle().scales_bytes, w.size() * sizeof(float), error);
  return error < 0.072 ? 0 : 1;  // linear.c says why
} catch (const std::exception& problem) {
  std::fprintf(stderr, "%s\n", problem.what());
  return 2;
}
