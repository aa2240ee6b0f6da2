#include "cuda/device.hpp"

#include "cuda/cuda.hpp"
#include "instances/linear_tile.hpp"
#include "status.hpp"

namespace floatx::cuda {

void check(cudaError_t error, const char* call) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // it has been reported: the next call must not find it again
  fail(FLOATX_STATUS_CUDA_ERROR, "%s: %s (%s)", call, cudaGetErrorName(error), cudaGetErrorString(error));
}

dispatch::device_limits current_device() {
  int device = 0;
  if (const cudaError_t error = cudaGetDevice(&device); error != cudaSuccess) {
    cudaGetLastError();
    fail(FLOATX_STATUS_UNSUPPORTED, "no usable GPU: %s (%s)", cudaGetErrorName(error),
         cudaGetErrorString(error));
  }
  const auto attribute = [&](cudaDeviceAttr which) {
    int value = 0;
    check(cudaDeviceGetAttribute(&value, which, device), "cudaDeviceGetAttribute");
    return value;
  };
  const int arch =
      10 * attribute(cudaDevAttrComputeCapabilityMajor) + attribute(cudaDevAttrComputeCapabilityMinor);
  if (arch < 80) {
    fail(FLOATX_STATUS_UNSUPPORTED, "the GPU's compute capability is %d.%d: must be at least 8.0", arch / 10,
         arch % 10);
  }
  return {arch, attribute(cudaDevAttrMultiProcessorCount),
          attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin), arch == 90 && instances::has_linear_tile};
}

void allow_all_shared_memory(const void* kernel, const dispatch::device_limits& device, int static_bytes) {
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             device.block_shared_bytes - static_bytes),
        "cudaFuncSetAttribute");
}

void check_usable() { current_device(); }

}  // namespace floatx::cuda
