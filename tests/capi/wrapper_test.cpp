// floatx.hpp over floatx.h: what it owns, when it lets go, and what it throws.
//
// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "floatx/floatx.hpp"
#include "support/catch.hpp"

namespace {

constexpr int64_t n = 70, k = 160, m = 3;

std::vector<float> values_of(int64_t count, int seed) {
  std::vector<float> values(static_cast<size_t>(count));
  uint32_t state = static_cast<uint32_t>(seed);
  for (float& value : values) {
    state = state * 1664525u + 1013904223u;
    value = static_cast<float>(static_cast<int32_t>(state)) * 0x1p-31f;
  }
  return values;
}

std::vector<float> unpacked(const floatx::weight& weight) {
  std::vector<float> values(static_cast<size_t>(weight.handle().n * weight.handle().k));
  weight.unpack(values.data());
  return values;
}

static_assert(!std::is_copy_constructible_v<floatx::weight> && !std::is_copy_assignable_v<floatx::weight>);
static_assert(std::is_nothrow_move_constructible_v<floatx::weight>);
static_assert(std::is_nothrow_move_assignable_v<floatx::weight>);
static_assert(!std::is_copy_constructible_v<floatx::threads>);
static_assert(std::is_nothrow_move_constructible_v<floatx::threads>);

}  // namespace

TEST_CASE("C++: a weight does what the C API does with the same memory", "[wrapper]") {
  // Risk: an argument passed in another's place. Every kind of scale, since each has other memory.
  const std::vector<float> w = values_of(n * k, 1), x = values_of(m * k, 2), bias = values_of(n, 3);
  const floatx::threads pool(2);
  for (const floatx_scale_type scale :
       {FLOATX_SCALE_F32, FLOATX_SCALE_F16, FLOATX_SCALE_BF16, FLOATX_SCALE_E8M0, FLOATX_SCALE_E4M3FN}) {
    CAPTURE(static_cast<int>(scale));
    const auto weight = floatx::weight::pack({FLOATX_FORMAT_E2M1, n, k, 16, scale}, w.data(), nullptr, &pool);
    const std::vector<float> rounded = unpacked(weight);

    // y through the wrapper and through floatx.h, to the bit.
    std::vector<float> y(static_cast<size_t>(m * n)), same = y;
    weight.linear(m, x.data(), y.data(), bias.data(), &pool);
    REQUIRE(floatx_linear(&weight.handle(), m, FLOATX_TYPE_F32, x.data(), k, bias.data(), FLOATX_TYPE_F32,
                          same.data(), n, nullptr) == FLOATX_STATUS_OK);
    CHECK(y == same);

    // The other layouts hold the same values, and so do windows of them.
    for (const floatx_layout layout : {FLOATX_LAYOUT_CANONICAL, FLOATX_LAYOUT_CUDA}) {
      const floatx::weight moved = weight.repack(layout, &pool);
      CHECK(moved.handle().layout == layout);
      CHECK(unpacked(moved) == rounded);
      CHECK(unpacked(floatx::weight::repack(moved.handle(), FLOATX_LAYOUT_CPU)) == rounded);
    }
    const std::vector<float> window = unpacked(weight.slice(5, 20, 32, 64, &pool));
    bool equal = true;
    for (int64_t row = 0; row < 20; ++row) {
      for (int64_t i = 0; i < 64; ++i) {
        equal = equal && window[static_cast<size_t>(row * 64 + i)] ==
                             rounded[static_cast<size_t>((row + 5) * k + 32 + i)];
      }
    }
    CHECK(equal);
  }
}

TEST_CASE("C++: a weight that moves takes its memory along", "[wrapper]") {
  // Risk: memory freed twice, or a handle that points into what has been freed (the sanitizers look on).
  const std::vector<float> w = values_of(n * k, 4);
  const floatx::weight_description nvfp4 = {FLOATX_FORMAT_E2M1, n, k, 16, FLOATX_SCALE_E4M3FN};
  floatx::weight first = floatx::weight::pack(nvfp4, w.data());
  const std::vector<float> rounded = unpacked(first);
  floatx::weight second = std::move(first);
  CHECK(first.handle().codes == nullptr);
  CHECK(unpacked(second) == rounded);
  first = floatx::weight::pack({FLOATX_FORMAT_E3M2, 1, 1}, w.data());
  first = std::move(second);
  CHECK(second.handle().codes == nullptr);
  CHECK(unpacked(first) == rounded);

  floatx::threads one(1), other(2);
  floatx::threads moved = std::move(one);
  CHECK(one.handle() == nullptr);
  other = std::move(moved);
  CHECK(unpacked(floatx::weight::pack(nvfp4, w.data(), nullptr, &other)) == rounded);
}

TEST_CASE("C++: an error is an exception with the status and the sentence", "[wrapper]") {
  // Risk: a failure swallowed between the two languages.
  const auto failure = [](auto call) {
    try {
      call();
    } catch (const floatx::error& e) {
      return std::make_pair(e.status(), std::string(e.what()));
    }
    return std::make_pair(FLOATX_STATUS_OK, std::string());
  };
  std::vector<float> w = values_of(n * k, 5);
  const auto size = failure([&] { floatx::weight::pack({FLOATX_FORMAT_E3M2, -1, k}, w.data()); });
  CHECK(size.first == FLOATX_STATUS_INVALID_ARGUMENT);
  CHECK(size.second.find("weight->n is -1") != std::string::npos);

  w[2 * k + 7] = std::numeric_limits<float>::quiet_NaN();
  const auto data = failure([&] { floatx::weight::pack({FLOATX_FORMAT_E3M2, n, k}, w.data()); });
  CHECK(data.first == FLOATX_STATUS_INVALID_DATA);
  CHECK(data.second == floatx_last_error());

  const auto layout = failure([&] {
    floatx::weight::pack({FLOATX_FORMAT_E6M0, n, k, 0, FLOATX_SCALE_F32, FLOATX_LAYOUT_CUDA}, w.data());
  });
  CHECK(layout.first == FLOATX_STATUS_UNSUPPORTED);
  CHECK(failure([] { floatx::threads(-1); }).first == FLOATX_STATUS_INVALID_ARGUMENT);
}
