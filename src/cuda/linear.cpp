#include "cuda/linear.hpp"

#include <algorithm>

#include "cuda/cuda.hpp"
#include "cuda/device.hpp"
#include "cuda/tensor_map.hpp"
#include "dispatch/linear_launch.hpp"
#include "instances/linear_stream.hpp"
#include "instances/linear_tile.hpp"
#include "status.hpp"

namespace floatx::cuda {

dispatch::linear_problem problem_of(const weight_shape& shape, int64_t m, floatx_type x_type,
                                    bool x_is_aligned, bool programmatic, bool exact_weights) {
  const format_traits& format = *find_format(shape.format);
  const bool bf16 = x_type == FLOATX_TYPE_BF16;
  return {format.bits,
          kernels::unpacking_of(format, bf16),
          bf16,
          m,
          shape.n,
          shape.k,
          shape.group_size,
          static_cast<scale_storage>(shape.scale_type),
          exact_weights ? kernels::folds_exactly(format, bf16, static_cast<scale_storage>(shape.scale_type))
                        : kernels::folds(format, bf16),
          x_is_aligned,
          programmatic};
}

size_t linear_workspace_bytes(const weight_shape& shape, int64_t m, floatx_type x_type) {
  return most_workspace_bytes(problem_of(shape, m, x_type, false), current_device());
}

void linear(const weight_shape& shape, const void* codes, const void* scales, const float* tensor_scale,
            int64_t m, floatx_type x_type, const void* x, int64_t x_stride, const void* bias, void* y,
            int64_t y_stride, const execution& how) {
  // A grid holds 65535 token tiles.
  constexpr int64_t chunk = int64_t{1} << 18;
  const dispatch::device_limits device = current_device();
  for (int64_t token = 0; token < m; token += chunk) {
    const int64_t count = std::min(chunk, m - token);
    const uint16_t* x_of_chunk = static_cast<const uint16_t*>(x) + token * x_stride;
    const dispatch::linear_plan plan =
        plan_linear(problem_of(shape, count, x_type, dispatch::rows_are_aligned(x_of_chunk, x_stride),
                               how.programmatic_launch, how.exact_weights),
                    device, how.workspace_bytes);
    linear_with(plan, shape, codes, scales, tensor_scale, count, x_type, x_of_chunk, x_stride, bias,
                static_cast<uint16_t*>(y) + token * y_stride, y_stride, how);
  }
}

void linear_with(const dispatch::linear_plan& plan, const weight_shape& shape, const void* codes,
                 const void* scales, const float* tensor_scale, int64_t m, floatx_type x_type, const void* x,
                 int64_t x_stride, const void* bias, void* y, int64_t y_stride, const execution& how) {
  const bool is_tile = plan.kernel.family == dispatch::linear_family::tile;
  const void* kernel =
      is_tile ? instances::find_linear_tile(plan.kernel) : instances::find_linear_stream(plan.kernel);
  if (!kernel) fail(FLOATX_STATUS_INTERNAL, "the plan names a kernel that was not compiled");

  const int64_t k_blocks = (shape.k + kernels::tile_k - 1) / kernels::tile_k;
  if (static_cast<int64_t>(plan.tiles) * k_blocks > 0x7fffffff) {
    fail(FLOATX_STATUS_UNSUPPORTED, "weight->n x weight->k is %lld x %lld: the kernels hold up to 2^31 tiles",
         static_cast<long long>(shape.n), static_cast<long long>(shape.k));
  }
  // linear_stream looks a tile ahead of its rows, in 32 bits.
  constexpr int64_t most_rows = 0x7fffffff - 2 * kernels::cell_rows;
  if (!is_tile && shape.n > most_rows) {
    fail(FLOATX_STATUS_UNSUPPORTED, "weight->n is %lld: the kernels for few tokens hold up to %lld rows",
         static_cast<long long>(shape.n), static_cast<long long>(most_rows));
  }
  cudaLaunchAttribute attributes[2] = {};
  unsigned count = 0;
  if (how.programmatic_launch && current_device().arch >= 90) {
    attributes[count].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[count++].val.programmaticStreamSerializationAllowed = 1;
  }
  if (plan.split > 1) {
    attributes[count].id = cudaLaunchAttributeClusterDimension;
    attributes[count++].val.clusterDim = {static_cast<unsigned>(plan.split), 1, 1};
  }
  cudaLaunchConfig_t config = {};
  config.gridDim =
      dim3(static_cast<unsigned>(plan.blocks), is_tile ? 1u : static_cast<unsigned>(plan.token_blocks));
  config.blockDim =
      dim3(static_cast<unsigned>(is_tile ? plan.warps * 32 : kernels::stream_threads(plan.warps)));
  config.dynamicSmemBytes = static_cast<size_t>(plan.shared_bytes);
  config.stream = how.stream;
  config.attrs = attributes;
  config.numAttrs = count;
  const dispatch::linear_operands operands = {
      codes, scales,   tensor_scale, m, x_type == FLOATX_TYPE_BF16, x, x_stride, bias,
      y,     y_stride, how.workspace};
  kernels::linear_arguments args;
  kernels::linear_tile_arguments tile_args;
  void* parameters[1];
  if (is_tile) {
    tile_args = tile_arguments_of(plan, shape, operands);
    const auto boxes_of = [&](int64_t tokens) {
      return make_tensor_map(x_type, x, m, shape.k, x_stride, static_cast<int>(tokens));
    };
    const int tokens = 8 * plan.kernel.token_tiles;
    if (m >= tokens) tile_args.x = boxes_of(tokens);
    if (m % tokens != 0) tile_args.last_x = boxes_of(m % tokens);
    parameters[0] = &tile_args;
  } else {
    args = arguments_of(plan, shape, operands);
    parameters[0] = &args;
  }
  launch(kernel, is_tile ? 0 : kernels::static_shared_bytes, config, parameters);
}

}  // namespace floatx::cuda
