#include "dispatch/linear_launch.hpp"

#include <algorithm>

namespace floatx::dispatch {

bool rows_are_aligned(const void* matrix, int64_t stride) {
  return reinterpret_cast<uintptr_t>(matrix) % 16 == 0 && stride % 8 == 0;
}

kernels::linear_arguments arguments_of(const linear_plan& plan, const weight_shape& shape,
                                       const linear_operands& of) {
  const auto storage = static_cast<scale_storage>(shape.scale_type);
  kernels::linear_arguments args = {};
  args.codes = static_cast<const unsigned char*>(of.codes);
  args.scales = static_cast<const unsigned char*>(of.scales);
  args.tensor_scale = of.tensor_scale;
  args.x = of.x;
  args.bias = of.bias;
  args.y = of.y;
  args.x_stride = of.x_stride;
  args.y_stride = of.y_stride;
  args.arrivals = static_cast<unsigned*>(of.workspace);
  args.partials = plan.shared_tiles == 0
                      ? nullptr
                      : reinterpret_cast<float*>(static_cast<char*>(of.workspace) + arrivals_bytes);
  args.m = static_cast<int>(of.m);
  args.n = static_cast<int>(shape.n);
  args.k = static_cast<int>(shape.k);
  args.k_blocks = static_cast<int>((shape.k + kernels::tile_k - 1) / kernels::tile_k);
  args.tiles = plan.tiles;
  args.shared_tiles = plan.shared_tiles;
  args.shares = kernels::partition::of(static_cast<int64_t>(plan.shared_tiles) * args.k_blocks, plan.blocks);
  args.whole = kernels::partition::of(plan.tiles - plan.shared_tiles, plan.blocks);
  args.stages = plan.stages;
  args.pause = plan.pause;
  args.ahead = plan.ahead;
  args.groups_log2 = -1;
  for (int64_t left = shape.group_size; left > 0 && left <= kernels::tile_k; left *= 2) ++args.groups_log2;
  args.cell_scale_bytes =
      shape.group_size == 0
          ? 0
          : static_cast<int>(kernels::cell_rows * kernels::tile_k / shape.group_size) * scale_bytes(storage);
  args.scale_type = storage;
  args.x_is_aligned = rows_are_aligned(of.x, of.x_stride);
  args.rule = kernels::make_dequant_rule(*find_format(shape.format), of.bf16);
  return args;
}

kernels::linear_tile_arguments tile_arguments_of(const linear_plan& plan, const weight_shape& shape,
                                                 const linear_operands& of) {
  kernels::linear_tile_arguments args = {};
  args.common = arguments_of(plan, shape, of);
  args.tiles = plan.tiles * plan.token_blocks;
  args.split = kernels::divisor::of(plan.split);
  args.ways = plan.ways;
  args.piece_tiles = kernels::divisor::of(args.common.k_blocks + kernels::tile_end_pieces);
  args.common.shares =
      kernels::partition::of(static_cast<int64_t>(plan.shared_tiles) * args.piece_tiles.by, plan.blocks);
  args.strips = plan.kernel.strips / plan.ways;
  args.band_tiles = kernels::divisor::of(plan.band_rows * plan.token_blocks);
  args.band_rows = kernels::divisor::of(plan.band_rows);
  args.last_band_rows = kernels::divisor::of(std::max(1, plan.tiles % plan.band_rows));
  args.x_slots = plan.x_slots;
  if (shape.group_size > 0) {
    args.largest_scales =
        args.common.scales +
        gpu::largest_scale_index(shape.n, shape.k, shape.group_size, 0) * scale_bytes(args.common.scale_type);
  }
  args.scales_are_f16 = args.common.scale_type == scale_storage::f16;
  args.scales_are_e4m3fn = args.common.scale_type == scale_storage::e4m3fn;
  args.form_of_scales =
      kernels::scale_form_of(args.common.scale_type, of.bf16, shape.group_size, plan.kernel.scaling.interval,
                             plan.kernel.strips, plan.kernel.token_tiles);
  const int of_group = 2 * scale_bytes(args.common.scale_type);
  if (shape.group_size == 32) args.scale_steps[0] = of_group;
  if (shape.group_size == 32) args.scale_steps[1] = 2 * of_group;
  if (shape.group_size == 64) args.scale_steps[1] = of_group;
  args.y_is_aligned = rows_are_aligned(of.y, of.y_stride);
  return args;
}

}  // namespace floatx::dispatch
