#include "cuda/device.hpp"

#include <array>
#include <mutex>

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

void launch(const void* kernel, const cudaLaunchConfig_t& config, void** parameters) {
  int device = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  static std::array<std::mutex, 64> of_devices;
  const std::lock_guard<std::mutex> lock(of_devices[static_cast<size_t>(device) % of_devices.size()]);
  // Tried: the most that a thread block can have as the limit of every launch, which would need no lock. The
  // cache seems to get what the limit leaves: see h100-tests.json, "shared_memory_limit".
  if (config.dynamicSmemBytes > size_t{48} << 10) {
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(config.dynamicSmemBytes)),
          "cudaFuncSetAttribute");
  }
  check(cudaLaunchKernelExC(&config, kernel, parameters), "cudaLaunchKernelExC");
}

void check_usable() { current_device(); }

}  // namespace floatx::cuda
