// Bad arguments of floatx_pack, its options and any execution: the status, the argument's name in the
// message, and not one byte written.
#include "capi/arguments.hpp"

using namespace floatx::test;

namespace {

// A struct followed by more than this library knows of, as a newer header would have it.
template <class Struct>
struct newer {
  explicit newer(const Struct& s) : known(s), tail{} { known.struct_size = sizeof(newer); }
  Struct known;
  uint64_t tail[2];
};

}  // namespace

TEST_CASE("floatx_pack refuses bad values", "[arguments]") {
  // Risk: rows read from beyond the caller's matrix.
  check_mistakes<pack_call>({
      {[](pack_call& c) { c.values = nullptr; }, invalid_argument, "values is NULL"},
      {[](pack_call& c) { c.values = reinterpret_cast<const uint8_t*>(c.data.data()) + 2; }, invalid_argument,
       "values is"},
      {[](pack_call& c) { c.stride = k - 1; }, invalid_argument, "values_stride is 47"},
      {[](pack_call& c) { c.stride = 0; }, invalid_argument, "values_stride is 0"},
      {[](pack_call& c) { c.stride = -k; }, invalid_argument, "values_stride is -48"},
      {[](pack_call& c) { c.stride = INT64_MIN; }, invalid_argument, "values_stride"},
      {[](pack_call& c) { c.stride = INT64_MAX; }, invalid_argument, "values"},
      {[](pack_call& c) { c.type = unknown<floatx_type>(); }, invalid_argument, "values_type is 99"},
  });
  const pack_call call;
  require_invalid(floatx_pack(nullptr, FLOATX_TYPE_F32, call.values, k, nullptr, nullptr), "weight is NULL");
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
  check_mistakes<pack_call>({
      {[](pack_call& c) { c.options.scale_rule = unknown<floatx_scale_rule>(); }, invalid_argument,
       "options->scale_rule is 99"},
      {[](pack_call& c) { c.options.exponent_rule = unknown<floatx_exponent_rule>(); }, invalid_argument,
       "options->exponent_rule is 99"},
      {[](pack_call& c) { c.options.struct_size = 4; }, invalid_argument, "options->struct_size is 4"},
  });
  pack_call e8m0({FLOATX_FORMAT_E2M1, FLOATX_SCALE_E8M0, n, k, 32});
  e8m0.options.scale_rule = FLOATX_SCALE_RULE_UNROUNDED;
  e8m0.invalid("E8M0");
}

TEST_CASE("a bad execution is refused", "[arguments]") {
  // Risk: a wish that is not understood, or a workspace that cannot be used, is passed over in silence.
  guarded_buffer workspace(128);
  check_mistakes<pack_call>({
      {[&](pack_call& c) {
         c.execution.memory = FLOATX_MEMORY_DEVICE;
         c.execution.report = reinterpret_cast<floatx_report*>(misaligned(workspace.data()));
       },
       invalid_argument, "execution->report is"},
      {[](pack_call& c) { c.execution.memory = unknown<floatx_memory>(); }, invalid_argument,
       "execution->memory is 99"},
      {[](pack_call& c) { c.execution.flags = 0x80; }, invalid_argument, "execution->flags is 0x80"},
      {[](pack_call& c) { c.execution.struct_size = 8; }, invalid_argument, "execution->struct_size is 8"},
      {[](pack_call& c) { c.execution.workspace_bytes = 64; }, invalid_argument,
       "execution->workspace is NULL"},
      {[&](pack_call& c) {
         c.execution.workspace = misaligned(workspace.data()), c.execution.workspace_bytes = 64;
       },
       invalid_argument, "execution->workspace is"},
  });
  CHECK(workspace.untouched());
}

TEST_CASE("structs from a newer header are accepted while what is new is zero", "[arguments]") {
  // Risk: a field that changes the meaning of a call ignored in silence by an older library.
  const pack_call call;
  newer<floatx_execution> execution(call.execution);
  newer<floatx_pack_options> options(call.options);
  newer<floatx_weight> weight(call.weight);
  const auto run = [&] {
    return floatx_pack(&weight.known, call.type, call.values, call.stride, &options.known, &execution.known);
  };
  const auto refused = [&](uint64_t& field, const char* text) {
    field = 1;
    require_failure(run(), unsupported, text);
    CHECK(call.target.untouched());
    field = 0;
  };
  refused(execution.tail[1], "execution->struct_size");
  refused(options.tail[0], "options->struct_size");
  refused(weight.tail[0], "weight->struct_size");
  CHECK(run() == FLOATX_STATUS_OK);
}
