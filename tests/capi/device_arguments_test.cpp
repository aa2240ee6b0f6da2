// Requests for device memory: what no GPU could serve is invalid, and what one could serve is unsupported
// where there is none.
#include <string>
#include <vector>

#include "capi/arguments.hpp"

using namespace floatx::test;

namespace {

floatx_execution device() {
  floatx_execution e = host();
  e.memory = FLOATX_MEMORY_DEVICE;
  return e;
}

}  // namespace

TEST_CASE("device memory takes no weight of the CPU's layout", "[arguments]") {
  // Risk: host pointers handed to a device. Refused before any memory is looked at, with a GPU or without.
  pack_call pack;
  pack.execution = device();
  pack.invalid("weight->layout is 1");

  const weight_memory other(plain, FLOATX_LAYOUT_CPU);
  guarded_buffer values(n * k * sizeof(float));
  const floatx_execution where = device();
  require_invalid(floatx_unpack(&pack.weight, FLOATX_TYPE_F32, values.data(), k, &where),
                  "weight->layout is 1");
  require_invalid(floatx_repack(&pack.weight, &other.weight, &where), "source->layout is 1");
  size_t bytes = 12345;
  require_invalid(floatx_workspace_bytes(&pack.weight, FLOATX_OPERATION_LINEAR, FLOATX_MEMORY_DEVICE, 1,
                                         FLOATX_TYPE_F16, &bytes),
                  "weight->layout is 1");
  CHECK(bytes == 12345);
  CHECK(values.untouched());
  CHECK(other.untouched());
  CHECK(pack.target.untouched());
}

TEST_CASE("without CUDA or without a GPU every request for one is unsupported, and says why", "[arguments]") {
  // Risk: a caller on a machine without a GPU gets a crash, or a success that computed nothing.
  const floatx_status usable = floatx_layout_usable(FLOATX_LAYOUT_CUDA);
  if (usable == FLOATX_STATUS_OK) return;  // what a GPU does is tests/kernel's business
  const std::string reason = floatx_last_error();
  INFO(reason);
  CHECK(usable == unsupported);
  CHECK(reason.find("CUDA") != std::string::npos);

  // Packed on the host, as anyone may.
  const weight_memory weight(plain, FLOATX_LAYOUT_CUDA);
  const std::vector<float> ones(n * k, 1.0f);
  REQUIRE(floatx_pack(&weight.weight, FLOATX_TYPE_F32, ones.data(), k, nullptr, nullptr) == FLOATX_STATUS_OK);

  const weight_memory target(plain, FLOATX_LAYOUT_CUDA);
  guarded_buffer values(n * k * sizeof(float)), x(m * k * 2), y(m * n * 2);
  const floatx_execution where = device();
  const auto f16 = FLOATX_TYPE_F16;
  require_failure(floatx_pack(&target.weight, FLOATX_TYPE_F32, ones.data(), k, nullptr, &where), unsupported,
                  reason);
  require_failure(floatx_unpack(&weight.weight, FLOATX_TYPE_F32, values.data(), k, &where), unsupported,
                  reason);
  require_failure(floatx_repack(&weight.weight, &target.weight, &where), unsupported, reason);
  require_failure(floatx_slice(&weight.weight, 0, 0, &target.weight, &where), unsupported, reason);
  require_failure(floatx_linear(&weight.weight, m, f16, x.data(), k, nullptr, f16, y.data(), n, &where),
                  unsupported, reason);
  for (const floatx_operation operation :
       {FLOATX_OPERATION_PACK, FLOATX_OPERATION_UNPACK, FLOATX_OPERATION_REPACK, FLOATX_OPERATION_LINEAR}) {
    size_t bytes = 12345;
    require_failure(floatx_workspace_bytes(&weight.weight, operation, FLOATX_MEMORY_DEVICE, m, f16, &bytes),
                    unsupported, reason);
    CHECK(bytes == 12345);
  }
  CHECK(values.untouched());
  CHECK(y.untouched());
  CHECK(target.untouched());
}
