#include "cuda/tensor_map.hpp"

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstring>

#include "cuda/device.hpp"
#include "linear_shape.hpp"
#include "status.hpp"

namespace floatx::cuda {
namespace {

// The driver's function, found through the run-time library: libfloatx links no libcuda.
decltype(&cuTensorMapEncodeTiled) encode_function() {
  static const auto function = [] {
    void* found = nullptr;
    cudaDriverEntryPointQueryResult result;
    if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault,
                                         &result) != cudaSuccess ||
        result != cudaDriverEntryPointSuccess) {
      cudaGetLastError();
      found = nullptr;
    }
    return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(found);
  }();
  return function;
}

}  // namespace

ptx::tensor_map make_tensor_map(floatx_type type, const void* matrix, int64_t rows, int64_t columns,
                                int64_t stride, int box_rows) {
  const auto encode = encode_function();
  if (!encode) fail(FLOATX_STATUS_CUDA_ERROR, "the driver has no cuTensorMapEncodeTiled");
  const cuuint64_t sizes[] = {static_cast<cuuint64_t>(columns), static_cast<cuuint64_t>(rows)};
  const cuuint64_t strides[] = {static_cast<cuuint64_t>(stride) * 2};
  const cuuint32_t box[] = {kernels::x_half_columns, static_cast<cuuint32_t>(box_rows)}, steps[] = {1, 1};
  CUtensorMap map;
  const CUresult result = encode(
      &map, type == FLOATX_TYPE_BF16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16, 2,
      const_cast<void*>(matrix), sizes, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
      CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) {
    fail(FLOATX_STATUS_CUDA_ERROR, "cuTensorMapEncodeTiled: CUresult %d", static_cast<int>(result));
  }
  ptx::tensor_map copy;
  static_assert(sizeof copy == sizeof map, "a tensor map is 128 bytes");
  std::memcpy(&copy, &map, sizeof copy);
  return copy;
}

}  // namespace floatx::cuda
