// Bad input to every function: the status, the argument's name in the message, and not one byte written.
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "capi/weight_memory.hpp"

using namespace floatx::test;

namespace {

constexpr int64_t n = 20, k = 48, m = 3;
constexpr int64_t huge = int64_t{1} << 31;
constexpr weight_description plain = {FLOATX_FORMAT_E3M2, FLOATX_SCALE_F16, n, k, 16};
constexpr weight_description nvfp4 = {FLOATX_FORMAT_E2M1, FLOATX_SCALE_E4M3FN, n, k, 16};

template <class Enum>
Enum unknown(int value = 99) {
  return static_cast<Enum>(value);
}

void require_failure(floatx_status actual, floatx_status expected, const std::string& text) {
  const std::string message = floatx_last_error();
  INFO("message: " << message);
  CHECK(actual == expected);
  CHECK(message.find(text) != std::string::npos);
}

void require_invalid(floatx_status actual, const std::string& text) {
  require_failure(actual, FLOATX_STATUS_INVALID_ARGUMENT, text);
}

floatx_execution host() {
  floatx_execution e{};
  e.struct_size = sizeof e;
  return e;
}

floatx_pack_options defaults() {
  floatx_pack_options o{};
  o.struct_size = sizeof o;
  return o;
}

void* misaligned(void* pointer) { return static_cast<uint8_t*>(pointer) + 1; }

// A struct followed by more than this library knows of, as a newer header would have it.
template <class Struct>
struct newer {
  explicit newer(const Struct& s) : known(s), tail{} { known.struct_size = sizeof(newer); }
  Struct known;
  uint64_t tail[2];
};

// Everything a call of floatx_pack needs, right until a test breaks it; nothing written unless it is OK.
struct pack_call {
  explicit pack_call(const weight_description& d = plain)
      : target(d, FLOATX_LAYOUT_CPU),
        weight(target.weight),
        data(static_cast<size_t>(d.n * d.k), 0.5f),
        values(data.data()),
        stride(d.k) {}

  floatx_status run() const { return floatx_pack(&weight, type, values, stride, options, execution); }
  void invalid(const std::string& text) const { fails(FLOATX_STATUS_INVALID_ARGUMENT, text); }
  void fails(floatx_status status, const std::string& text) const {
    require_failure(run(), status, text);
    CHECK(target.untouched());
  }

  weight_memory target;
  floatx_weight weight;
  std::vector<float> data;
  floatx_type type = FLOATX_TYPE_F32;
  const void* values;
  int64_t stride;
  const floatx_pack_options* options = nullptr;
  const floatx_execution* execution = nullptr;
};

// A weight that is wrong in one way, and what the message must then say.
struct bad_weight {
  std::function<void(floatx_weight&)> spoil;
  floatx_status status;
  const char* text;
};

constexpr floatx_status invalid_argument = FLOATX_STATUS_INVALID_ARGUMENT,
                        unsupported = FLOATX_STATUS_UNSUPPORTED;

const std::vector<bad_weight>& bad_descriptions() {
  static const std::vector<bad_weight> list = {
      {[](floatx_weight& w) { w.struct_size = 0; }, invalid_argument, "struct_size"},
      {[](floatx_weight& w) { w.struct_size -= 1; }, invalid_argument, "struct_size"},
      {[](floatx_weight& w) { w.struct_size = SIZE_MAX; }, invalid_argument, "struct_size"},
      {[](floatx_weight& w) { w.format = unknown<floatx_format>(0); }, invalid_argument, "weight->format"},
      {[](floatx_weight& w) { w.format = unknown<floatx_format>(0x10); }, invalid_argument, "weight->format"},
      {[](floatx_weight& w) { w.format = unknown<floatx_format>(0x43); }, invalid_argument, "weight->format"},
      {[](floatx_weight& w) { w.layout = unknown<floatx_layout>(); }, invalid_argument, "weight->layout"},
      {[](floatx_weight& w) { w.layout = FLOATX_LAYOUT_CUDA, w.format = FLOATX_FORMAT_E6M0; }, unsupported,
       "weight->format"},
      {[](floatx_weight& w) { w.n = 0; }, invalid_argument, "weight->n is 0"},
      {[](floatx_weight& w) { w.n = -1; }, invalid_argument, "weight->n is -1"},
      {[](floatx_weight& w) { w.n = huge; }, invalid_argument, "weight->n"},
      {[](floatx_weight& w) { w.n = INT64_MAX; }, invalid_argument, "weight->n"},
      {[](floatx_weight& w) { w.k = 0; }, invalid_argument, "weight->k is 0"},
      {[](floatx_weight& w) { w.k = INT64_MIN; }, invalid_argument, "weight->k"},
      {[](floatx_weight& w) { w.k = huge; }, invalid_argument, "weight->k"},
      {[](floatx_weight& w) { w.group_size = -16; }, invalid_argument, "weight->group_size is -16"},
      {[](floatx_weight& w) { w.group_size = 8; }, invalid_argument, "weight->group_size is 8"},
      {[](floatx_weight& w) { w.group_size = 48; }, invalid_argument, "weight->group_size is 48"},
      {[](floatx_weight& w) { w.group_size = 256; }, invalid_argument, "weight->group_size is 256"},
      {[](floatx_weight& w) { w.scale_type = unknown<floatx_scale_type>(); }, invalid_argument, "scale_type"},
      {[](floatx_weight& w) { w.scale_type = unknown<floatx_scale_type>(-1); }, invalid_argument,
       "scale_type"},
      {[](floatx_weight& w) { w.layout_version = -1; }, invalid_argument, "layout_version"},
      {[](floatx_weight& w) { w.layout_version = 1000; }, unsupported, "layout_version"},
  };
  return list;
}

const std::vector<bad_weight>& bad_memory() {
  static const std::vector<bad_weight> list = {
      {[](floatx_weight& w) { w.codes = nullptr; }, invalid_argument, "weight->codes is NULL"},
      {[](floatx_weight& w) { w.codes = misaligned(w.codes); }, invalid_argument, "weight->codes is"},
      {[](floatx_weight& w) { w.codes_bytes -= 1; }, invalid_argument, "weight->codes_bytes"},
      {[](floatx_weight& w) { w.codes_bytes = 0; }, invalid_argument, "weight->codes_bytes is 0"},
      {[](floatx_weight& w) { w.scales = nullptr; }, invalid_argument, "weight->scales is NULL"},
      {[](floatx_weight& w) { w.scales = misaligned(w.scales); }, invalid_argument, "weight->scales is"},
      {[](floatx_weight& w) { w.scales_bytes -= 1; }, invalid_argument, "weight->scales_bytes"},
      {[](floatx_weight& w) { w.tensor_scale = static_cast<float*>(w.scales); }, invalid_argument,
       "tensor_scale"},
      {[](floatx_weight& w) { w.scales = w.codes; }, invalid_argument, "overlaps"},
  };
  return list;
}

}  // namespace

TEST_CASE("the untouched call succeeds", "[arguments]") {
  // Risk: if the base of all calls below failed by itself, none of them would show anything.
  CHECK(pack_call().run() == FLOATX_STATUS_OK);
  CHECK(pack_call(nvfp4).run() == FLOATX_STATUS_OK);
}

TEST_CASE("a bad description is refused by all who read one", "[arguments]") {
  // Risk: a size computed from a description that no one has checked, then trusted for memory.
  for (const bad_weight& bad : bad_descriptions()) {
    INFO(bad.text);
    pack_call call;
    bad.spoil(call.weight);
    call.fails(bad.status, bad.text);

    floatx_sizes sizes{};
    sizes.struct_size = sizeof sizes;
    require_failure(floatx_weight_sizes(&call.weight, &sizes), bad.status, bad.text);
    CHECK(sizes.codes_bytes == 0);

    size_t bytes = 12345;
    require_failure(floatx_workspace_bytes(&call.weight, FLOATX_OPERATION_LINEAR, FLOATX_MEMORY_HOST, 1,
                                           FLOATX_TYPE_F32, &bytes),
                    bad.status, bad.text);
    CHECK(bytes == 12345);
  }
}

TEST_CASE("bad memory of a weight is refused", "[arguments]") {
  // Risk: a write past a short buffer or through NULL, or codes written over scales.
  for (const bad_weight& bad : bad_memory()) {
    INFO(bad.text);
    pack_call call;
    bad.spoil(call.weight);
    call.fails(bad.status, bad.text);
  }
  pack_call no_tensor_scale(nvfp4);
  no_tensor_scale.weight.tensor_scale = nullptr;
  no_tensor_scale.invalid("weight->tensor_scale is NULL");
  pack_call misaligned_scale(nvfp4);
  misaligned_scale.weight.tensor_scale =
      static_cast<float*>(misaligned(misaligned_scale.weight.tensor_scale));
  misaligned_scale.invalid("weight->tensor_scale is");
}

TEST_CASE("the canonical sizes of the largest weight that fits are told, larger ones refused",
          "[arguments]") {
  // Risk: a size that wraps around and asks for a small buffer.
  floatx_weight w =
      describe({FLOATX_FORMAT_E5M2, FLOATX_SCALE_F32, huge - 1, huge - 1, 0}, FLOATX_LAYOUT_CANONICAL);
  CHECK(sizes_of(w).codes_bytes == static_cast<size_t>(huge - 1) * static_cast<size_t>(huge - 1));
  w.layout = FLOATX_LAYOUT_CPU;
  CHECK(sizes_of(w).codes_bytes >= static_cast<size_t>(huge - 1) * static_cast<size_t>(huge - 1));
}

TEST_CASE("floatx_pack refuses bad values", "[arguments]") {
  // Risk: rows read from beyond the caller's matrix.
  pack_call null_values;
  null_values.values = nullptr;
  null_values.invalid("values is NULL");
  pack_call odd;
  odd.values = reinterpret_cast<const uint8_t*>(odd.data.data()) + 2;
  odd.invalid("values is");
  for (const int64_t stride : {k - 1, int64_t{0}, -k, INT64_MIN}) {
    pack_call call;
    call.stride = stride;
    call.invalid("values_stride");
  }
  pack_call endless;
  endless.stride = INT64_MAX;
  endless.invalid("values");
  pack_call type;
  type.type = unknown<floatx_type>();
  type.invalid("values_type is 99");
  pack_call null_weight;
  require_invalid(floatx_pack(nullptr, FLOATX_TYPE_F32, null_weight.values, k, nullptr, nullptr),
                  "weight is NULL");
}

TEST_CASE("floatx_pack refuses values inside the weight", "[arguments]") {
  // Risk: a weight that overwrites the values it is still being made from.
  guarded_buffer values(n * k * sizeof(float));
  pack_call call;
  call.values = values.data();
  call.weight.codes = values.data() + values.size() - 64, call.weight.codes_bytes = size_t{1} << 20;
  call.invalid("weight->codes overlaps values");
  pack_call scales;
  scales.values = values.data();
  scales.weight.scales = values.data(), scales.weight.scales_bytes = values.size();
  scales.invalid("weight->scales overlaps values");
  CHECK(values.untouched());
}

TEST_CASE("floatx_pack refuses bad options", "[arguments]") {
  // Risk: a rule that this library does not know taken for the default.
  floatx_pack_options options = defaults();
  pack_call call;
  call.options = &options;
  options.scale_rule = unknown<floatx_scale_rule>();
  call.invalid("options->scale_rule is 99");
  options = defaults();
  options.exponent_rule = unknown<floatx_exponent_rule>();
  call.invalid("options->exponent_rule is 99");
  options = defaults();
  options.struct_size = 4;
  call.invalid("options->struct_size is 4");

  pack_call e8m0({FLOATX_FORMAT_E2M1, FLOATX_SCALE_E8M0, n, k, 32});
  options = defaults();
  options.scale_rule = FLOATX_SCALE_RULE_UNROUNDED;
  e8m0.options = &options;
  e8m0.invalid("E8M0");
}

TEST_CASE("a bad execution is refused", "[arguments]") {
  // Risk: host pointers handed to a device, or device pointers read by the host.
  floatx_execution execution = host();
  pack_call call;
  call.execution = &execution;
  execution.memory = FLOATX_MEMORY_DEVICE;
  call.fails(unsupported, "FLOATX_MEMORY_HOST");
  execution = host();
  execution.memory = unknown<floatx_memory>();
  call.invalid("execution->memory is 99");
  execution = host();
  execution.flags = 0x80;
  call.invalid("execution->flags is 0x80");
  execution = host();
  execution.struct_size = 8;
  call.invalid("execution->struct_size is 8");
  execution = host();
  execution.workspace_bytes = 64;
  call.invalid("execution->workspace is NULL");
  guarded_buffer workspace(128);
  execution.workspace = misaligned(workspace.data());
  call.invalid("execution->workspace is");
  CHECK(workspace.untouched());
}

TEST_CASE("structs from a newer header are accepted while what is new is zero", "[arguments]") {
  // Risk: a field that changes the meaning of a call ignored in silence by an older library.
  pack_call call;
  newer<floatx_execution> execution(host());
  call.execution = &execution.known;
  execution.tail[1] = 1;
  call.fails(unsupported, "execution->struct_size");
  newer<floatx_pack_options> options(defaults());
  call.execution = nullptr, call.options = &options.known;
  options.tail[0] = 1;
  call.fails(unsupported, "options->struct_size");
  newer<floatx_weight> weight(call.weight);
  weight.tail[0] = 1;
  require_failure(floatx_pack(&weight.known, FLOATX_TYPE_F32, call.values, k, nullptr, nullptr), unsupported,
                  "weight->struct_size");
  CHECK(call.target.untouched());

  weight.tail[0] = options.tail[0] = execution.tail[1] = 0;
  CHECK(floatx_pack(&weight.known, FLOATX_TYPE_F32, call.values, k, &options.known, &execution.known) ==
        FLOATX_STATUS_OK);
}

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

  const auto refuse_slice = [&](int64_t row, int64_t column, int64_t rows, int64_t columns,
                                const char* text) {
    const weight_memory t = target([&](auto& d) { d.n = rows, d.k = columns; });
    require_invalid(floatx_slice(&source, row, column, &t.weight, nullptr), text);
    CHECK(t.untouched());
  };
  refuse_slice(-1, 0, 4, 16, "row_begin is -1");
  refuse_slice(17, 0, 4, 16, "row_begin is 17");
  refuse_slice(INT64_MAX, 0, 4, 16, "row_begin");
  refuse_slice(0, -16, 4, 16, "k_begin is -16");
  refuse_slice(0, 48, 4, 16, "k_begin is 48");
  refuse_slice(0, INT64_MIN, 4, 16, "k_begin");
  refuse_slice(0, 8, 4, 16, "k_begin is 8");
  refuse_slice(0, 16, 4, 17, "target->k is 17");
  refuse_slice(0, 0, n + 1, 16, "target->n is 21");
  refuse_slice(0, 0, 4, k + 16, "target->k is 64");
}

TEST_CASE("NaN and Inf codes and NaN scales of a checkpoint are refused with their place", "[arguments]") {
  // Risk: a broken checkpoint that turns whole rows of y into NaN.
  const auto refuse = [](weight_description d, size_t code_at, int code, size_t scale_at, int scale,
                         const char* text) {
    CAPTURE(text);
    weight_memory source(d, FLOATX_LAYOUT_CANONICAL);
    const weight_memory target(d, FLOATX_LAYOUT_CPU);
    std::fill_n(source.codes.data(), source.codes.size(), uint8_t{1});
    std::fill_n(source.scales.data(), source.scales.size(), uint8_t{1});
    if (d.scale_type == FLOATX_SCALE_E4M3FN) *source.weight.tensor_scale = 1;
    const weight_memory good(d, FLOATX_LAYOUT_CPU);
    REQUIRE(floatx_repack(&source.weight, &good.weight, nullptr) == FLOATX_STATUS_OK);
    if (code >= 0) source.codes.data()[code_at] = static_cast<uint8_t>(code);
    if (scale >= 0) source.scales.data()[scale_at] = static_cast<uint8_t>(scale);
    require_failure(floatx_repack(&source.weight, &target.weight, nullptr), FLOATX_STATUS_INVALID_DATA, text);
    CHECK(target.untouched());
  };
  const weight_description e4m3fn = {FLOATX_FORMAT_E4M3FN, FLOATX_SCALE_F32, n, k, 16};
  const weight_description e5m2 = {FLOATX_FORMAT_E5M2, FLOATX_SCALE_F32, n, k, 16};
  refuse(e4m3fn, 18 * k + 3, 0x7f, 0, -1, "row 18, column 3: the code is NaN or Inf");
  refuse(e4m3fn, 3 * k + 47, 0xff, 0, -1, "row 3, column 47: the code is NaN or Inf");
  for (const int code : {0x7c, 0x7d, 0x7f, 0xfc, 0xff}) {
    refuse(e5m2, 2 * k + 9, code, 0, -1, "row 2, column 9: the code is NaN or Inf");
  }
  refuse({FLOATX_FORMAT_E2M1, FLOATX_SCALE_E8M0, n, k, 16}, 0, -1, 5 * 3 + 2, 255,
         "row 5, column 32: the scale");
  refuse(nvfp4, 0, -1, 7 * 3 + 1, 0x7f, "row 7, column 16: the scale");
}

TEST_CASE("floatx_linear refuses bad arguments", "[arguments]") {
  // Risk: y written beyond its rows, or over x while x is still being read.
  pack_call packed;
  REQUIRE(packed.run() == FLOATX_STATUS_OK);
  const floatx_weight& w = packed.weight;
  std::vector<float> x_data(m * k, 1.0f), bias(n + 1, 0.0f);
  float* x = x_data.data();
  guarded_buffer out(m * n * sizeof(float));
  float* y = out.as<float>();
  const auto f32 = FLOATX_TYPE_F32;
  const auto odd = [](void* p) { return misaligned(p); };

  require_invalid(floatx_linear(nullptr, m, f32, x, k, nullptr, f32, y, n, nullptr), "weight is NULL");
  for (const int64_t rows : {int64_t{0}, int64_t{-1}, huge, INT64_MAX}) {
    require_invalid(floatx_linear(&w, rows, f32, x, k, nullptr, f32, y, n, nullptr), "m is");
  }
  require_invalid(floatx_linear(&w, m, unknown<floatx_type>(), x, k, nullptr, f32, y, n, nullptr),
                  "x_type is 99");
  require_invalid(floatx_linear(&w, m, f32, x, k, nullptr, unknown<floatx_type>(), y, n, nullptr),
                  "y_type is 99");
  require_invalid(floatx_linear(&w, m, f32, nullptr, k, nullptr, f32, y, n, nullptr), "x is NULL");
  require_invalid(floatx_linear(&w, m, f32, x, k, nullptr, f32, nullptr, n, nullptr), "y is NULL");
  require_invalid(floatx_linear(&w, m, f32, odd(x), k, nullptr, f32, y, n, nullptr), "x is");
  require_invalid(floatx_linear(&w, m, f32, x, k, nullptr, f32, odd(y), n, nullptr), "y is");
  require_invalid(floatx_linear(&w, m, f32, x, k, odd(bias.data()), f32, y, n, nullptr), "bias is");
  require_invalid(floatx_linear(&w, m, f32, x, k - 1, nullptr, f32, y, n, nullptr), "x_stride is 47");
  require_invalid(floatx_linear(&w, m, f32, x, k, nullptr, f32, y, n - 1, nullptr), "y_stride is 19");
  require_invalid(floatx_linear(&w, m, f32, x, INT64_MAX, nullptr, f32, y, n, nullptr), "x_stride");
  require_invalid(floatx_linear(&w, m, f32, x, k, nullptr, f32, x, n, nullptr), "y overlaps x");
  require_invalid(floatx_linear(&w, m, f32, x, k, y, f32, y, n, nullptr), "y overlaps bias");
  require_invalid(floatx_linear(&w, m, f32, x, k, nullptr, f32, w.codes, n, nullptr),
                  "y overlaps weight->codes");
  floatx_weight canonical = w;
  canonical.layout = FLOATX_LAYOUT_CANONICAL;
  require_invalid(floatx_linear(&canonical, m, f32, x, k, nullptr, f32, y, n, nullptr), "weight->layout");
  floatx_execution device = host();
  device.memory = FLOATX_MEMORY_DEVICE;
  require_failure(floatx_linear(&w, m, f32, x, k, nullptr, f32, y, n, &device), unsupported, "CUDA");
  CHECK(out.untouched());
}

TEST_CASE("the other functions refuse bad arguments", "[arguments]") {
  // Risk: NULL followed, or an enum from a newer header read past the end of a table.
  const floatx_weight w = describe(plain, FLOATX_LAYOUT_CPU);
  size_t bytes = 0;
  require_invalid(floatx_weight_sizes(&w, nullptr), "sizes is NULL");
  floatx_sizes sizes{};
  require_invalid(floatx_weight_sizes(&w, &sizes), "sizes->struct_size is 0");
  const auto workspace = [&](floatx_operation operation, floatx_memory memory, int64_t rows,
                             floatx_type type) {
    return floatx_workspace_bytes(&w, operation, memory, rows, type, &bytes);
  };
  const auto linear = FLOATX_OPERATION_LINEAR;
  const auto on_host = FLOATX_MEMORY_HOST;
  const auto f32 = FLOATX_TYPE_F32;
  require_invalid(workspace(unknown<floatx_operation>(), on_host, 1, f32), "operation is 99");
  require_invalid(workspace(linear, unknown<floatx_memory>(), 1, f32), "memory is 99");
  require_failure(workspace(linear, FLOATX_MEMORY_DEVICE, 1, f32), unsupported, "CUDA");
  require_invalid(workspace(linear, on_host, 0, f32), "m is 0");
  require_invalid(workspace(linear, on_host, 1, unknown<floatx_type>()), "x_type is 99");
  require_invalid(floatx_workspace_bytes(&w, linear, on_host, 1, f32, nullptr), "bytes is NULL");

  floatx_format format = FLOATX_FORMAT_E3M2;
  require_invalid(floatx_format_parse(nullptr, &format), "name is NULL");
  require_invalid(floatx_format_parse("e3m2", nullptr), "format is NULL");
  for (const char* name : {"", "e", "e9m9", "e1m0", "e3m2 ", "float5_e3m2fn", "float6_e3m2f"}) {
    require_invalid(floatx_format_parse(name, &format), "name is");
  }
  CHECK(format == FLOATX_FORMAT_E3M2);

  floatx_format_info info{};
  require_invalid(floatx_format_describe(format, nullptr), "info is NULL");
  require_invalid(floatx_format_describe(format, &info), "info->struct_size is 0");
  info.struct_size = sizeof info;
  require_invalid(floatx_format_describe(unknown<floatx_format>(), &info), "format is 0x63");

  uint8_t code = 0xee;
  float value = 7;
  require_invalid(floatx_format_encode(unknown<floatx_format>(), 1, &code), "format is 0x63");
  require_invalid(floatx_format_encode(format, 1, nullptr), "code is NULL");
  require_failure(floatx_format_encode(format, std::nanf(""), &code), FLOATX_STATUS_INVALID_DATA,
                  "value is NaN");
  require_invalid(floatx_format_decode(format, 1, nullptr), "value is NULL");
  require_invalid(floatx_format_decode(format, 0x40, &value), "code is 0x40");
  CHECK(code == 0xee);
  CHECK(value == 7);

  floatx_threads* threads = nullptr;
  require_invalid(floatx_threads_create(1, nullptr, nullptr, nullptr), "threads is NULL");
  require_invalid(floatx_threads_create(-1, nullptr, nullptr, &threads), "count is -1");
  require_invalid(floatx_threads_create(1025, nullptr, nullptr, &threads), "count is 1025");
  CHECK(threads == nullptr);
  floatx_threads_destroy(nullptr);

  require_failure(floatx_layout_usable(FLOATX_LAYOUT_CUDA), unsupported, "CUDA");
  require_failure(floatx_layout_usable(FLOATX_LAYOUT_CANONICAL), unsupported, "canonical");
  require_invalid(floatx_layout_usable(unknown<floatx_layout>()), "layout is 99");
  CHECK(std::string(floatx_status_string(unknown<floatx_status>())) == "unknown status");
}

TEST_CASE("a success leaves the message of the last failure", "[arguments]") {
  // Risk: a message lost between the failure and the caller who reads it after cleaning up.
  require_invalid(floatx_weight_sizes(nullptr, nullptr), "sizes is NULL");
  REQUIRE(pack_call().run() == FLOATX_STATUS_OK);
  CHECK(std::string(floatx_last_error()).find("sizes is NULL") != std::string::npos);
}
