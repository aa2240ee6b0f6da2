#include "cuda/linear.hpp"

#include <algorithm>

#include "cuda/cuda.hpp"
#include "cuda/device.hpp"
#include "instances/linear_stream.hpp"
#include "linear_stream_arguments.hpp"
#include "status.hpp"

namespace floatx::cuda {
namespace {

bool is_aligned(const void* pointer, size_t alignment) {
  return reinterpret_cast<uintptr_t>(pointer) % alignment == 0;
}

}  // namespace

dispatch::linear_problem problem_of(const weight_shape& shape, int64_t m, floatx_type x_type) {
  const format_traits& format = *find_format(shape.format);
  const bool bf16 = x_type == FLOATX_TYPE_BF16;
  return {format.bits,
          kernels::is_odd(format, bf16),
          bf16,
          m,
          shape.n,
          shape.k,
          shape.group_size,
          scale_bytes(static_cast<scale_storage>(shape.scale_type))};
}

size_t linear_workspace_bytes(const weight_shape& shape, int64_t m, floatx_type x_type) {
  // It must do for every smaller m, too. The plan depends on m by way of the rows of the tuning table and of
  // how many token tiles share the chip, so few values decide.
  const dispatch::device_limits device = current_device();
  size_t bytes = 0;
  for (int64_t tokens = 1; tokens <= std::min<int64_t>(m, 8192);
       tokens = std::max(tokens + 1, tokens * 9 / 8)) {
    bytes = std::max(bytes, plan_linear(problem_of(shape, tokens, x_type), device, SIZE_MAX).workspace_bytes);
  }
  return std::max(bytes, plan_linear(problem_of(shape, m, x_type), device, SIZE_MAX).workspace_bytes);
}

void linear(const weight_shape& shape, const void* codes, const void* scales, const float* tensor_scale,
            int64_t m, floatx_type x_type, const void* x, int64_t x_stride, const void* bias, void* y,
            int64_t y_stride, const execution& how) {
  // A grid holds 65535 token tiles.
  constexpr int64_t chunk = int64_t{1} << 18;
  const dispatch::device_limits device = current_device();
  for (int64_t token = 0; token < m; token += chunk) {
    const int64_t count = std::min(chunk, m - token);
    const dispatch::linear_plan plan =
        plan_linear(problem_of(shape, count, x_type), device, how.workspace_bytes);
    linear_with(plan, shape, codes, scales, tensor_scale, count, x_type,
                static_cast<const uint16_t*>(x) + token * x_stride, x_stride, bias,
                static_cast<uint16_t*>(y) + token * y_stride, y_stride, how);
  }
}

void linear_with(const dispatch::linear_plan& plan, const weight_shape& shape, const void* codes,
                 const void* scales, const float* tensor_scale, int64_t m, floatx_type x_type, const void* x,
                 int64_t x_stride, const void* bias, void* y, int64_t y_stride, const execution& how) {
  const void* kernel = instances::find_linear_stream(plan.kernel);
  if (!kernel) fail(FLOATX_STATUS_INTERNAL, "the plan names a kernel that was not compiled");

  const auto storage = static_cast<scale_storage>(shape.scale_type);
  kernels::linear_arguments args = {};
  args.codes = static_cast<const unsigned char*>(codes);
  args.scales = static_cast<const unsigned char*>(scales);
  args.tensor_scale = tensor_scale;
  args.x = x;
  args.bias = bias;
  args.y = y;
  args.x_stride = x_stride;
  args.y_stride = y_stride;
  args.arrivals = static_cast<unsigned*>(how.workspace);
  args.partials =
      plan.whole_tiles
          ? nullptr
          : reinterpret_cast<float*>(static_cast<char*>(how.workspace) + dispatch::arrivals_bytes);
  args.m = static_cast<int>(m);
  args.n = static_cast<int>(shape.n);
  args.k = static_cast<int>(shape.k);
  args.k_blocks = static_cast<int>((shape.k + kernels::tile_k - 1) / kernels::tile_k);
  args.tiles = plan.tiles;
  const int64_t items = plan.whole_tiles ? plan.tiles : static_cast<int64_t>(plan.tiles) * args.k_blocks;
  if (static_cast<int64_t>(plan.tiles) * args.k_blocks > 0x7fffffff) {
    fail(FLOATX_STATUS_UNSUPPORTED, "weight->n x weight->k is %lld x %lld: the kernels hold up to 2^31 tiles",
         static_cast<long long>(shape.n), static_cast<long long>(shape.k));
  }
  args.shares_quotient = static_cast<int>(items / plan.blocks);
  args.shares_remainder = static_cast<int>(items % plan.blocks);
  args.stages = plan.stages;
  args.whole_tiles = plan.whole_tiles;
  args.group_size = static_cast<int>(shape.group_size);
  args.cell_scale_bytes =
      shape.group_size == 0
          ? 0
          : static_cast<int>(kernels::cell_rows * kernels::tile_k / shape.group_size) * scale_bytes(storage);
  args.scale_type = storage;
  args.x_is_aligned = is_aligned(x, 16) && x_stride % 8 == 0;
  args.rule = kernels::make_dequant_rule(*find_format(shape.format), x_type == FLOATX_TYPE_BF16);

  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, plan.shared_bytes),
        "cudaFuncSetAttribute");
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(plan.blocks), static_cast<unsigned>(plan.token_blocks));
  config.blockDim = dim3(static_cast<unsigned>(plan.warps) * 32);
  config.dynamicSmemBytes = static_cast<size_t>(plan.shared_bytes);
  config.stream = how.stream;
  config.attrs = &attribute;
  config.numAttrs = how.programmatic_launch && current_device().arch >= 90 ? 1 : 0;
  void* parameters[] = {&args};
  check(cudaLaunchKernelExC(&config, kernel, parameters), "cudaLaunchKernelExC");
}

}  // namespace floatx::cuda
