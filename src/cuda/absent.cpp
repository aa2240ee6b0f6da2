// The CUDA backend of a build without CUDA.
#include "cuda/cuda.hpp"
#include "status.hpp"

namespace floatx::cuda {
namespace {
[[noreturn]] void absent() {
  fail(FLOATX_STATUS_UNSUPPORTED, "floatx was built without CUDA: only FLOATX_MEMORY_HOST can be used");
}
}  // namespace

void check_usable() { absent(); }

void pack(const stored_weight&, floatx_type, const void*, int64_t, quantize_rules, const execution&) {
  absent();
}

void unpack(const stored_weight&, floatx_type, void*, int64_t, const execution&) { absent(); }

void slice(const stored_weight&, int64_t, int64_t, const stored_weight&, const execution&) { absent(); }

size_t linear_workspace_bytes(const weight_shape&, int64_t, floatx_type) { absent(); }

void linear(const weight_shape&, const void*, const void*, const float*, int64_t, floatx_type, const void*,
            int64_t, const void*, void*, int64_t, const execution&) {
  absent();
}

}  // namespace floatx::cuda
