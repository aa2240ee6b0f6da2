// The CPU's packed form: every code and scale has a place of its own, and the padding is zero.
#include "kernel/linear_problem.hpp"

using namespace floatx;
using namespace floatx::test;

TEST_CASE("codes come back from the packed form", "[packed]") {
  // Risk: two codes that share bits, or a bit lost, in the arrangement of one of the widths.
  uint32_t seed = 1;
  for (const floatx_format format : all_formats) {
    for (const int64_t n : {1, 15, 16, 17, 40}) {
      for (const int64_t k : {1, 2, 31, 32, 33, 100}) {
        const packed_weight w(random_weight(format, n, k, 0, FLOATX_SCALE_F32, seed++));
        REQUIRE(w.codes.guards_intact());
        std::vector<uint8_t> loaded(w.canonical.codes.size(), 0xff);
        for (int64_t row = 0; row < n; row += cpu::strip_rows) {
          cpu::load_strip(w.shape, w.codes.data(), row, &loaded[static_cast<size_t>(row * k)]);
        }
        REQUIRE(loaded == w.canonical.codes);
      }
    }
  }
}

TEST_CASE("each bit of the packed form belongs to one bit of one code", "[packed]") {
  // Risk: a round trip that only works because both directions share a mistake in the padding.
  for (const floatx_format format : {FLOATX_FORMAT_E2M0, FLOATX_FORMAT_E2M1, FLOATX_FORMAT_E2M2,
                                     FLOATX_FORMAT_E3M2, FLOATX_FORMAT_E3M3, FLOATX_FORMAT_E5M2}) {
    reference::weight canonical = random_weight(format, 16, 32, 0, FLOATX_SCALE_F32, 1);
    const int bits = visit_format(format, [](auto f) { return static_cast<int>(decltype(f)::bits); });
    std::vector<uint8_t> seen(static_cast<size_t>(16 * 32 * bits / 8), 0);
    for (size_t i = 0; i < canonical.codes.size(); ++i) {
      for (int bit = 0; bit < bits; ++bit) {
        std::fill(canonical.codes.begin(), canonical.codes.end(), uint8_t{0});
        canonical.codes[i] = static_cast<uint8_t>(1 << bit);
        const packed_weight w(canonical);
        REQUIRE(w.codes.size() == seen.size());
        int set = 0;
        for (size_t b = 0; b < seen.size(); ++b) {
          const uint8_t byte = w.codes.data()[b];
          REQUIRE((seen[b] & byte) == 0);
          seen[b] = static_cast<uint8_t>(seen[b] | byte);
          for (int j = 0; j < 8; ++j) set += byte >> j & 1;
        }
        REQUIRE(set == 1);
      }
    }
    REQUIRE(seen == std::vector<uint8_t>(seen.size(), 0xff));
  }
}

TEST_CASE("padding is zero, whatever was in the memory", "[packed]") {
  // Risk: equal weights that do not pack to equal bytes; NaN in padding that meets a real x.
  for (const floatx_format format : all_formats) {
    reference::weight canonical = random_weight(format, 17, 33, 16, FLOATX_SCALE_F16, 2);
    std::fill(canonical.codes.begin(), canonical.codes.end(), uint8_t{0});
    std::fill(canonical.scales.begin(), canonical.scales.end(), uint8_t{0});
    const packed_weight w(canonical);
    for (size_t i = 0; i < w.codes.size(); ++i) REQUIRE(w.codes.data()[i] == 0);
    for (size_t i = 0; i < w.scales.size(); ++i) REQUIRE(w.scales.data()[i] == 0);
  }
}

TEST_CASE("scales come back from the packed form", "[packed]") {
  // Risk: a group or a row of scales exchanged; bytes written past the end.
  uint32_t seed = 1;
  for (const floatx_scale_type type : all_scale_types) {
    for (const int64_t group_size : all_group_sizes) {
      for (const int64_t n : {1, 16, 37}) {
        for (const int64_t k : {1, 16, 17, 130}) {
          const packed_weight w(random_weight(FLOATX_FORMAT_E2M1, n, k, group_size, type, seed++));
          REQUIRE(w.scales.guards_intact());
          std::vector<uint8_t> loaded(w.canonical.scales.size(), 0xff);
          cpu::load_scales(w.shape, w.scales.data(), loaded.data());
          REQUIRE(loaded == w.canonical.scales);
        }
      }
    }
  }
}

TEST_CASE("a strip is the same wherever its rows are", "[packed]") {
  // Risk: slicing a weight by rows, which copies whole strips.
  const reference::weight whole = random_weight(FLOATX_FORMAT_E3M2, 48, 70, 32, FLOATX_SCALE_F16, 9);
  reference::weight part = whole;
  part.n = 16;
  part.codes.assign(whole.codes.begin() + 16 * 70, whole.codes.begin() + 32 * 70);
  const auto row_scales = static_cast<std::ptrdiff_t>(whole.groups() * 2);
  part.scales.assign(whole.scales.begin() + 16 * row_scales, whole.scales.begin() + 32 * row_scales);
  const packed_weight a(whole), b(part);
  CHECK(std::memcmp(a.codes.data() + cpu::strip_codes_bytes(a.shape), b.codes.data(), b.codes.size()) == 0);
  CHECK(std::memcmp(a.scales.data() + cpu::strip_scales_bytes(a.shape), b.scales.data(), b.scales.size()) ==
        0);
}
