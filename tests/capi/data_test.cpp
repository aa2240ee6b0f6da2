// NaN, Inf and scales out of range in the data: refused, with their place, and nothing is written.
#include <algorithm>
#include <cstring>
#include <limits>

#include "capi/arguments.hpp"

using namespace floatx::test;

namespace {

// A weight as a checkpoint has it, right until a test breaks it.
struct checkpoint {
  explicit checkpoint(const weight_description& d) : source(d, FLOATX_LAYOUT_CANONICAL) {
    std::fill_n(source.codes.data(), source.codes.size(), uint8_t{1});
    std::fill_n(source.scales.data(), source.scales.size(), uint8_t{1});
    if (d.scale_type == FLOATX_SCALE_E4M3FN) *source.weight.tensor_scale = 1;
  }

  void set_scale(int64_t row, int64_t group, uint32_t bits) {
    const auto groups = static_cast<size_t>((source.weight.k + 15) / 16), n_rows = static_cast<size_t>(n);
    const size_t bytes = source.scales.size() / (n_rows * groups);
    const size_t index = static_cast<size_t>(row) * groups + static_cast<size_t>(group);
    std::memcpy(source.scales.data() + index * bytes, &bits, bytes);
  }
  void check_accepted() const {
    const weight_memory target(description(), FLOATX_LAYOUT_CPU);
    CHECK(floatx_repack(&source.weight, &target.weight, nullptr) == FLOATX_STATUS_OK);
  }
  void check_refused(const std::string& text) const {
    for (const floatx_layout layout : {FLOATX_LAYOUT_CPU, FLOATX_LAYOUT_CUDA, FLOATX_LAYOUT_CANONICAL}) {
      const weight_memory target(description(), layout);
      require_failure(floatx_repack(&source.weight, &target.weight, nullptr), invalid_data, text);
      CHECK(target.untouched());
    }
  }
  weight_description description() const {
    const floatx_weight& w = source.weight;
    return {w.format, w.scale_type, w.n, w.k, w.group_size};
  }

  weight_memory source;
};

}  // namespace

TEST_CASE("NaN and Inf in the values are refused with their place", "[arguments]") {
  // Risk: a NaN that becomes a number, or a message that names another element.
  const float bad[] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                       -std::numeric_limits<float>::infinity()};
  for (const weight_description& d : {plain, nvfp4}) {
    for (const float value : bad) {
      pack_call call(d);
      call.data[17 * k + 5] = value;
      call.data[19 * k] = value;  // the first in row order is named
      call.fails(FLOATX_STATUS_INVALID_DATA, "row 17, column 5");
    }
  }
}

TEST_CASE("F16 scales that overflow or vanish are refused with their place", "[arguments]") {
  // Risk: a group silently scaled by Inf or 0.
  pack_call large;
  large.data[4 * k + 20] = 1e30f;
  large.fails(FLOATX_STATUS_INVALID_DATA, "row 4, column 16: the scale of this group overflows F16");
  pack_call tiny;
  for (int64_t i = 32; i < 48; ++i) tiny.data[static_cast<size_t>(6 * k + i)] = 1e-9f;
  tiny.fails(FLOATX_STATUS_INVALID_DATA, "row 6, column 32: the scale of this nonzero group rounds to 0");
  pack_call zeros;  // but a group of zeros is an ordinary weight
  for (int64_t i = 32; i < 48; ++i) zeros.data[static_cast<size_t>(6 * k + i)] = 0;
  CHECK(zeros.run() == FLOATX_STATUS_OK);
}

TEST_CASE("NaN and Inf codes of a checkpoint are refused with their place", "[arguments]") {
  // Risk: a broken checkpoint that turns whole rows of y into NaN.
  struct special {
    floatx_format format;
    uint8_t code;
  };
  for (const special& s : {special{FLOATX_FORMAT_E4M3FN, 0x7f},
                           {FLOATX_FORMAT_E4M3FN, 0xff},
                           {FLOATX_FORMAT_E5M2, 0x7c},
                           {FLOATX_FORMAT_E5M2, 0x7d},
                           {FLOATX_FORMAT_E5M2, 0x7f},
                           {FLOATX_FORMAT_E5M2, 0xfc},
                           {FLOATX_FORMAT_E5M2, 0xff}}) {
    CAPTURE(s.format, s.code);
    checkpoint c({s.format, FLOATX_SCALE_F32, n, k, 16});
    c.check_accepted();
    c.source.codes.data()[18 * k + 3] = s.code;
    c.check_refused("row 18, column 3: the code is NaN or Inf");
    c.source.codes.data()[3 * k + 47] = s.code;  // the first in row order is named
    c.check_refused("row 3, column 47: the code is NaN or Inf");
  }
}

TEST_CASE("NaN and Inf scales of a checkpoint are refused with their place", "[arguments]") {
  // Risk: as above, by one scale; or a large finite scale that is taken for Inf.
  struct kind {
    floatx_scale_type type;
    std::vector<uint32_t> finite, special;
  };
  const kind kinds[] = {
      {FLOATX_SCALE_F32,
       {0x7f7fffff, 0xff7fffff, 0x00000001},
       {0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001}},
      {FLOATX_SCALE_F16, {0x7bff, 0xfbff, 0x0001}, {0x7c00, 0xfc00, 0x7e00, 0x7c01, 0xffff}},
      {FLOATX_SCALE_BF16, {0x7f7f, 0xff7f, 0x0001}, {0x7f80, 0xff80, 0x7fc0, 0x7f81, 0xffff}},
      {FLOATX_SCALE_E8M0, {0xfe, 0x00}, {0xff}},
      {FLOATX_SCALE_E4M3FN, {0x7e, 0xfe, 0x00}, {0x7f, 0xff}},
  };
  for (const kind& kind : kinds) {
    checkpoint c({FLOATX_FORMAT_E2M1, kind.type, n, 40, 16});  // the last group is short
    for (const uint32_t bits : kind.finite) {
      CAPTURE(kind.type, bits);
      c.set_scale(19, 2, bits);
      c.check_accepted();
    }
    for (const uint32_t bits : kind.special) {
      CAPTURE(kind.type, bits);
      checkpoint broken(c.description());
      broken.set_scale(19, 2, bits);
      broken.check_refused("row 19, column 32: the scale of this group is NaN or Inf");
      broken.set_scale(7, 1, bits);  // the first in row order is named
      broken.check_refused("row 7, column 16: the scale of this group is NaN or Inf");
    }
  }
}

TEST_CASE("a tensor scale that is NaN or Inf is refused", "[arguments]") {
  // Risk: the whole weight multiplied by it.
  checkpoint c(nvfp4);
  using limits = std::numeric_limits<float>;
  for (const float value : {limits::quiet_NaN(), limits::infinity(), -limits::infinity()}) {
    *c.source.weight.tensor_scale = value;
    c.check_refused("source->tensor_scale is ");
  }
  *c.source.weight.tensor_scale = limits::max();
  c.check_accepted();
}

TEST_CASE("a slice names the place in its source, and looks at its window alone", "[arguments]") {
  // Risk: a shard refused for what another shard holds, or an offence that the user cannot find.
  checkpoint c(plain);
  c.set_scale(9, 2, 0x7c00);
  const auto slice = [&](int64_t row, int64_t column, bool refused) {
    const weight_memory target({plain.format, plain.scale_type, 4, 16, 16}, FLOATX_LAYOUT_CPU);
    const floatx_status status = floatx_slice(&c.source.weight, row, column, &target.weight, nullptr);
    if (refused) {
      require_failure(status, invalid_data, "row 9, column 32: the scale of this group is NaN or Inf");
      CHECK(target.untouched());
    } else {
      CHECK(status == FLOATX_STATUS_OK);
    }
  };
  slice(8, 32, true);
  slice(10, 32, false);
  slice(5, 32, false);
  slice(8, 16, false);
}
