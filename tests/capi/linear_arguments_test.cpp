// Bad arguments of floatx_linear: the status, the argument's name in the message, and not one byte written.
#include <algorithm>
#include <vector>

#include "capi/arguments.hpp"

using namespace floatx::test;

namespace {

// Everything a call of floatx_linear needs, right until a test breaks it; nothing written unless it is OK.
struct linear_call {
  linear_call()
      : x_memory(m * k * sizeof(float)), bias_memory(n * sizeof(float)), y_memory(m * n * sizeof(float)) {
    REQUIRE(packed.run() == FLOATX_STATUS_OK);
  }

  floatx_status run() const {
    return floatx_linear(&weight, rows, x_type, x, x_stride, bias, y_type, y, y_stride, &execution);
  }
  void fails(floatx_status status, const std::string& text) const {
    require_failure(run(), status, text);
    CHECK(x_memory.untouched());
    CHECK(bias_memory.untouched());
    CHECK(y_memory.untouched());
    pack_call again;
    REQUIRE(again.run() == FLOATX_STATUS_OK);
    CHECK(packed.target.check());
    CHECK(same_contents(packed.target, again.target));
  }
  // A workspace that begins where something else of the call is.
  void work_in(void* place) { execution.workspace = place, execution.workspace_bytes = 64; }

  pack_call packed;
  guarded_buffer x_memory, bias_memory, y_memory;
  floatx_weight weight = packed.weight;
  int64_t rows = m, x_stride = k, y_stride = n;
  floatx_type x_type = FLOATX_TYPE_F32, y_type = FLOATX_TYPE_F32;
  void* x = x_memory.data();
  void* bias = bias_memory.data();
  void* y = y_memory.data();
  floatx_execution execution = host();
};

}  // namespace

TEST_CASE("the untouched linear succeeds", "[arguments]") {
  // Risk: if the base of all calls below failed by itself, none of them would show anything.
  CHECK(linear_call().run() == FLOATX_STATUS_OK);
  linear_call call;
  guarded_buffer workspace(64);
  call.work_in(workspace.data());
  CHECK(call.run() == FLOATX_STATUS_OK);
}

TEST_CASE("flags that are for devices change no bit on the host", "[arguments]") {
  // Risk: a caller who asks for them everywhere is refused on the host, or gets another y.
  linear_call call;
  auto* x = static_cast<float*>(call.x);
  for (int64_t i = 0; i < m * k; ++i) x[i] = static_cast<float>(i % 23 - 11) / 7;
  call.bias = nullptr;
  REQUIRE(call.run() == FLOATX_STATUS_OK);
  const auto* y = static_cast<const uint8_t*>(call.y);
  const std::vector<uint8_t> without(y, y + m * n * sizeof(float));
  for (const uint32_t flags : {FLOATX_EXECUTION_PROGRAMMATIC_LAUNCH, FLOATX_EXECUTION_EXACT_WEIGHTS,
                               FLOATX_EXECUTION_PROGRAMMATIC_LAUNCH | FLOATX_EXECUTION_EXACT_WEIGHTS}) {
    std::fill_n(static_cast<uint8_t*>(call.y), without.size(), uint8_t{0xff});
    call.execution.flags = flags;
    CHECK(call.run() == FLOATX_STATUS_OK);
    CHECK(std::equal(without.begin(), without.end(), y));
  }
}

TEST_CASE("floatx_linear refuses bad arguments", "[arguments]") {
  // Risk: y written beyond its rows, or x read beyond its own.
  check_mistakes<linear_call>({
      {[](linear_call& c) { c.rows = 0; }, invalid_argument, "m is 0"},
      {[](linear_call& c) { c.rows = -1; }, invalid_argument, "m is -1"},
      {[](linear_call& c) { c.rows = huge; }, invalid_argument, "m is 2147483648"},
      {[](linear_call& c) { c.rows = INT64_MAX; }, invalid_argument, "m is"},
      {[](linear_call& c) { c.x_type = unknown<floatx_type>(); }, invalid_argument, "x_type is 99"},
      {[](linear_call& c) { c.y_type = unknown<floatx_type>(); }, invalid_argument, "y_type is 99"},
      {[](linear_call& c) { c.x = nullptr; }, invalid_argument, "x is NULL"},
      {[](linear_call& c) { c.y = nullptr; }, invalid_argument, "y is NULL"},
      {[](linear_call& c) { c.x = misaligned(c.x); }, invalid_argument, "x is"},
      {[](linear_call& c) { c.y = misaligned(c.y); }, invalid_argument, "y is"},
      {[](linear_call& c) { c.bias = misaligned(c.bias); }, invalid_argument, "bias is"},
      {[](linear_call& c) { c.x_stride = k - 1; }, invalid_argument, "x_stride is 47"},
      {[](linear_call& c) { c.y_stride = n - 1; }, invalid_argument, "y_stride is 19"},
      {[](linear_call& c) { c.x_stride = INT64_MAX; }, invalid_argument, "x_stride"},
      {[](linear_call& c) { c.weight.layout = FLOATX_LAYOUT_CANONICAL; }, invalid_argument, "weight->layout"},
      {[](linear_call& c) { c.execution.memory = FLOATX_MEMORY_DEVICE; }, invalid_argument,
       "weight->layout is 1"},
  });
  const linear_call call;
  require_invalid(floatx_linear(nullptr, m, call.x_type, call.x, k, nullptr, call.y_type, call.y, n, nullptr),
                  "weight is NULL");
}

TEST_CASE("floatx_linear refuses buffers that overlap", "[arguments]") {
  // Risk: y or the workspace written over what is still being read.
  check_mistakes<linear_call>({
      {[](linear_call& c) { c.y = c.x; }, invalid_argument, "y overlaps x"},
      {[](linear_call& c) { c.y = c.x_memory.data() + c.x_memory.size() - 4; }, invalid_argument,
       "y overlaps x"},
      {[](linear_call& c) { c.y = c.bias; }, invalid_argument, "y overlaps bias"},
      {[](linear_call& c) { c.y = c.weight.codes; }, invalid_argument, "y overlaps weight->codes"},
      {[](linear_call& c) { c.y = c.weight.scales; }, invalid_argument, "y overlaps weight->scales"},
      {[](linear_call& c) { c.work_in(c.y); }, invalid_argument, "y overlaps execution->workspace"},
      {[](linear_call& c) { c.work_in(c.x); }, invalid_argument, "execution->workspace overlaps x"},
      {[](linear_call& c) { c.work_in(c.x_memory.data() + c.x_memory.size() - 64); }, invalid_argument,
       "execution->workspace overlaps x"},
      {[](linear_call& c) { c.work_in(c.bias); }, invalid_argument, "execution->workspace overlaps bias"},
      {[](linear_call& c) { c.work_in(c.weight.codes); }, invalid_argument,
       "execution->workspace overlaps weight->codes"},
      {[](linear_call& c) { c.work_in(c.weight.scales); }, invalid_argument,
       "execution->workspace overlaps weight->scales"},
  });
}
