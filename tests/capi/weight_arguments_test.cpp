// Bad descriptions and bad memory of a weight: the status, the argument's name in the message, and not one
// byte written.
#include "capi/arguments.hpp"

using namespace floatx::test;

namespace {

const std::vector<mistake<floatx_weight>>& bad_descriptions() {
  static const std::vector<mistake<floatx_weight>> list = {
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

const std::vector<mistake<floatx_weight>>& bad_memory() {
  static const std::vector<mistake<floatx_weight>> list = {
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
  for (const mistake<floatx_weight>& bad : bad_descriptions()) {
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
  for (const mistake<floatx_weight>& bad : bad_memory()) {
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
