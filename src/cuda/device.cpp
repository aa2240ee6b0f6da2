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
  dispatch::device_limits limits = {arch, attribute(cudaDevAttrMultiProcessorCount),
                                    attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin),
                                    arch == 90 && instances::has_linear_tile};
  // Twice a clock, which is in kHz, as many bits. Where a driver does not tell, what the limits begin with.
  const double bytes_per_us =
      attribute(cudaDevAttrMemoryClockRate) * 1e-3 * 2 * attribute(cudaDevAttrGlobalMemoryBusWidth) / 8;
  if (bytes_per_us > 0) limits.memory_bytes_per_us = bytes_per_us;
  return limits;
}

void launch(const void* kernel, int static_shared_bytes, const cudaLaunchConfig_t& config,
            void** parameters) {
  constexpr size_t without_opting_in = size_t{48} << 10;
  if (config.dynamicSmemBytes > without_opting_in) {
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               current_device().block_shared_bytes - static_shared_bytes),
          "cudaFuncSetAttribute");
  }
  check(cudaLaunchKernelExC(&config, kernel, parameters), "cudaLaunchKernelExC");
}

void check_usable() { current_device(); }

}  // namespace floatx::cuda
