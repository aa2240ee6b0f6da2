#include "dispatch/linear_plan.hpp"

#include <algorithm>

#include "linear_stream_shape.hpp"
#include "tuning/linear_stream.hpp"

namespace floatx::dispatch {
namespace {

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

int tiles_of(int64_t n, int strips) { return static_cast<int>(divide_up(n, 16 * strips)); }

// How much of the chip works until the last thread block ends, if each takes whole tiles.
double balance(int64_t tiles, int64_t multiprocessors) {
  return static_cast<double>(tiles) /
         static_cast<double>(divide_up(tiles, multiprocessors) * multiprocessors);
}

// Thread blocks that work side by side on a token tile: one a multiprocessor, shared among the token tiles.
int64_t slots(const device_limits& device, const linear_plan& plan) {
  return std::max(1, device.multiprocessors / plan.token_blocks);
}

}  // namespace

void lay_out(const linear_problem& problem, const device_limits& device, linear_plan& plan) {
  const linear_kernel& kernel = plan.kernel;
  const int tile_tokens = 8 * kernel.token_tiles;
  plan.token_blocks = static_cast<int>(divide_up(problem.m, tile_tokens));
  plan.tiles = tiles_of(problem.n, kernel.strips);
  const int64_t pieces = plan.tiles * divide_up(problem.k, kernels::tile_k);
  plan.blocks =
      static_cast<int>(std::min<int64_t>(slots(device, plan), plan.whole_tiles ? plan.tiles : pieces));
  plan.workspace_bytes = 0;
  if (!plan.whole_tiles) {
    plan.workspace_bytes =
        arrivals_bytes + static_cast<size_t>(plan.blocks) * static_cast<size_t>(plan.token_blocks) * 2 *
                             static_cast<size_t>(tile_tokens * kernel.strips * 16) * sizeof(float);
  }

  const int tokens = static_cast<int>(std::min<int64_t>(problem.m, tile_tokens));
  int cell_scale_bytes = 0;
  if (problem.group_size != 0) {
    cell_scale_bytes =
        static_cast<int>(kernels::cell_rows * kernels::tile_k / problem.group_size) * problem.scale_bytes;
  }
  const auto bytes = [&] {
    return plan.warps *
               (kernels::ring_header_bytes +
                plan.stages * kernels::stage_bytes(kernel.bits, cell_scale_bytes, kernel.strips, tokens)) +
           kernels::reduction_bytes(plan.warps, kernel.strips, tile_tokens);
  };
  while (plan.warps > 1 && bytes() + kernels::static_shared_bytes > device.block_shared_bytes) --plan.warps;
  plan.shared_bytes = bytes();
}

linear_plan plan_linear(const linear_problem& problem, const device_limits& device, size_t workspace_bytes) {
  const tuning::stream_row* row = tuning::stream_rows;
  while (problem.m > row->max_tokens || problem.bits < row->min_bits) ++row;

  linear_plan plan = {};
  const int promote = problem.group_size == 0 ? 0 : problem.group_size == 16 ? 1 : 2;
  plan.kernel = {problem.bits, problem.bf16, promote, row->token_tiles, problem.odd, row->strips};
  plan.token_blocks = static_cast<int>(divide_up(problem.m, 8 * row->token_tiles));
  plan.stages = row->stages;
  plan.warps = row->warps;

  const double with_four = balance(tiles_of(problem.n, 4), slots(device, plan));
  const double with_two = row->token_tiles <= 2 ? balance(tiles_of(problem.n, 2), slots(device, plan))
                                                : 0.0;  // the instances there are
  if (std::max(with_two, with_four) < tuning::least_whole_tile_balance) {
    lay_out(problem, device, plan);
    const size_t arrivals = static_cast<size_t>(plan.blocks) * static_cast<size_t>(plan.token_blocks);
    if (plan.blocks > plan.tiles && plan.workspace_bytes <= workspace_bytes &&
        arrivals * sizeof(unsigned) <= arrivals_bytes) {
      return plan;
    }
  }
  plan.whole_tiles = true;
  if (with_two > with_four * tuning::two_strips_gain) {
    plan.kernel.strips = 2;
    if (row->token_tiles == 1) {
      plan.warps = tuning::warps_of_two_strips;
      plan.stages = tuning::stages_of_two_strips;
    }
  }
  lay_out(problem, device, plan);
  return plan;
}

}  // namespace floatx::dispatch
