#include "cuda/cuda.hpp"
#include "cuda/device.hpp"
#include "status.hpp"

namespace floatx::cuda {
namespace {
[[noreturn]] void on_the_host_only(const char* what) {
  current_device();
  fail(FLOATX_STATUS_UNSUPPORTED,
       "this release %s weights on the host alone: use FLOATX_MEMORY_HOST and copy", what);
}
}  // namespace

void pack(const stored_weight&, floatx_type, const void*, int64_t, quantize_rules, const execution&) {
  on_the_host_only("packs");
}

void unpack(const stored_weight&, floatx_type, void*, int64_t, const execution&) {
  on_the_host_only("unpacks");
}

void slice(const stored_weight&, int64_t, int64_t, const stored_weight&, const execution&) {
  on_the_host_only("repacks");
}

}  // namespace floatx::cuda
