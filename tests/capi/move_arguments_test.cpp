// Bad arguments of floatx_unpack, floatx_repack and floatx_slice: the status, the argument's name in the
// message, and not one byte written.
#include "capi/arguments.hpp"

using namespace floatx::test;

TEST_CASE("floatx_unpack refuses bad arguments", "[arguments]") {
  // Risk: values written beyond the caller's matrix or over the weight.
  pack_call packed;
  REQUIRE(packed.run() == FLOATX_STATUS_OK);
  const floatx_weight& w = packed.weight;
  guarded_buffer out(n * k * sizeof(float));
  const auto f32 = FLOATX_TYPE_F32;
  require_invalid(floatx_unpack(nullptr, f32, out.data(), k, nullptr), "weight is NULL");
  require_invalid(floatx_unpack(&w, f32, nullptr, k, nullptr), "values is NULL");
  require_invalid(floatx_unpack(&w, f32, misaligned(out.data()), k, nullptr), "values is");
  require_invalid(floatx_unpack(&w, f32, out.data(), k - 1, nullptr), "values_stride");
  require_invalid(floatx_unpack(&w, unknown<floatx_type>(), out.data(), k, nullptr), "values_type is 99");
  require_invalid(floatx_unpack(&w, f32, w.codes, k, nullptr), "values overlaps weight->codes");
  CHECK(out.untouched());
}

TEST_CASE("floatx_repack and floatx_slice refuse what does not fit", "[arguments]") {
  // Risk: a window that reaches outside its source, or cuts a group and so changes values.
  pack_call packed;
  REQUIRE(packed.run() == FLOATX_STATUS_OK);
  const floatx_weight& source = packed.weight;
  const auto target = [](auto change) {
    weight_description d = plain;
    change(d);
    return weight_memory(d, FLOATX_LAYOUT_CPU);
  };
  const auto refuse_repack = [&](auto change, const char* text) {
    const weight_memory t = target(change);
    require_invalid(floatx_repack(&source, &t.weight, nullptr), text);
    CHECK(t.untouched());
  };
  refuse_repack([](auto& d) { d.n = n - 1; }, "target->n is 19");
  refuse_repack([](auto& d) { d.k = k + 1; }, "target->k is 49");
  refuse_repack([](auto& d) { d.format = FLOATX_FORMAT_E2M3; }, "target");
  refuse_repack([](auto& d) { d.group_size = 0; }, "target");
  refuse_repack([](auto& d) { d.scale_type = FLOATX_SCALE_BF16; }, "target");
  require_invalid(floatx_repack(nullptr, &source, nullptr), "source is NULL");
  require_invalid(floatx_repack(&source, nullptr, nullptr), "target is NULL");
  require_invalid(floatx_repack(&source, &source, nullptr), "overlaps");

  struct window {
    int64_t row, column, rows, columns;
    const char* text;
  };
  for (const window& w : {window{-1, 0, 4, 16, "row_begin is -1"},
                          {17, 0, 4, 16, "row_begin is 17"},
                          {INT64_MAX, 0, 4, 16, "row_begin"},
                          {0, -16, 4, 16, "k_begin is -16"},
                          {0, 48, 4, 16, "k_begin is 48"},
                          {0, INT64_MIN, 4, 16, "k_begin"},
                          {0, 8, 4, 16, "k_begin is 8"},
                          {0, 16, 4, 17, "target->k is 17"},
                          {0, 0, n + 1, 16, "target->n is 21"},
                          {0, 0, 4, k + 16, "target->k is 64"}}) {
    const weight_memory t = target([&](auto& d) { d.n = w.rows, d.k = w.columns; });
    require_invalid(floatx_slice(&source, w.row, w.column, &t.weight, nullptr), w.text);
    CHECK(t.untouched());
  }
}
