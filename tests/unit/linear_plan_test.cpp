// The choice of a GPU kernel, without a GPU.
//
// SPDX-License-Identifier: Apache-2.0
#include "dispatch/linear_plan.hpp"

#include <cstdint>

#include "floatx/format.hpp"
#include "linear_shape.hpp"
#include "support/catch.hpp"
#include "tuning/linear_tile.hpp"

using namespace floatx;
using namespace floatx::dispatch;

namespace {

bool has_tile_instance(const linear_kernel& kernel) {
  for (const tuning::tile_row& row : tuning::tile_rows) {
    if (row.warps == kernel.strips && row.token_tiles == kernel.token_tiles &&
        tuning::serves(row, kernel.promote)) {
      return true;
    }
  }
  return false;
}

void check_plan(const linear_problem& problem, const device_limits& device, const linear_plan& plan) {
  const linear_kernel& kernel = plan.kernel;
  // Intervals of 4 steps may be had in place of 8.
  const int longest = promote_of(kernel.family, problem.group_size);
  REQUIRE((kernel.promote == longest || (longest == 8 && kernel.promote == 4)));
  REQUIRE(static_cast<int64_t>(plan.token_blocks) * kernel.token_tiles * 8 >= problem.m);
  REQUIRE(plan.blocks >= 1);
  REQUIRE(plan.stages >= 2);
  if (kernel.family == linear_family::tile) {
    REQUIRE(device.has_wgmma);
    REQUIRE(plan.shared_bytes <= device.block_shared_bytes);
    REQUIRE(has_tile_instance(kernel));
    REQUIRE(kernel.strips / 4 % plan.ways == 0);
    REQUIRE(static_cast<int64_t>(plan.tiles) * kernel.strips / plan.ways * 16 >= problem.n);
    REQUIRE((plan.split >= 1 && plan.split <= 8));
    REQUIRE(plan.workspace_bytes == 0);
    REQUIRE(plan.band_rows >= 1);
    // Each way has a slot of cells and one of x, and what all leave in the end has room in them.
    REQUIRE(plan.stages >= plan.ways);
    REQUIRE(plan.x_slots >= plan.ways);
    if (plan.split * plan.ways > 1) {
      const int cell_scale_bytes =
          problem.group_size == 0 ? 0 : static_cast<int>(64 * 128 / problem.group_size) * problem.scale_bytes;
      REQUIRE(kernels::shared_sums_bytes(kernel.token_tiles, kernel.strips, plan.ways, plan.split) <=
              kernels::rings_bytes(kernel.bits, cell_scale_bytes, kernel.strips / plan.ways,
                                   kernel.token_tiles, plan.stages, plan.x_slots));
    }
    return;
  }
  REQUIRE(plan.shared_bytes + kernels::static_shared_bytes <= device.block_shared_bytes);
  REQUIRE(plan.warps >= 1);
  REQUIRE(plan.warps <= kernels::max_stream_warps(kernel.token_tiles));
  REQUIRE(plan.stages <= kernels::max_stages);
  // No two thread blocks on a multiprocessor, which keeps a kilobyte for each: else those of two kernels would
  // be dealt unevenly.
  REQUIRE(2 * (plan.shared_bytes + 1024) > device.block_shared_bytes + 1024);
  REQUIRE((kernel.token_tiles == 1 || kernel.token_tiles == 2 || kernel.token_tiles == 4));
  REQUIRE((kernel.strips == 4 || (kernel.strips == 2 && kernel.token_tiles <= 2)));
  REQUIRE(static_cast<int64_t>(plan.tiles) * kernel.strips * 16 >= problem.n);
  if (plan.whole_tiles) REQUIRE(plan.blocks <= plan.tiles);
}

}  // namespace

TEST_CASE("every problem has a plan that its device can run") {
  // Risk: a plan that no launch can have: more shared memory than there is, no instance, work left over.
  const device_limits devices[] = {
      {80, 108, 166912, false},  {86, 82, 101376, false}, {89, 128, 101376, false}, {90, 132, 232448, true},
      {90, 132, 232448, false},  {90, 7, 232448, true},   {90, 1, 232448, true},    {100, 148, 232448, false},
      {120, 170, 101376, false}, {80, 1, 166912, false}};
  for (const device_limits& device : devices) {
    for (const format_traits& format : formats) {
      if (format.exponent_bits > 5) continue;
      for (const int64_t group : {0, 16, 32, 64, 128}) {
        for (const int scale_bytes : {1, 2, 4}) {
          for (const int64_t m : {1, 8, 9, 16, 17, 64, 65, 4096, 1 << 20}) {
            for (const int64_t n : {1, 64, 65, 2048, 4096, 57344, 1 << 24}) {
              for (const int64_t k : {1, 129, 4096, 28672}) {
                const linear_problem problem = {format.bits, false, false, m, n, k, group, scale_bytes, true};
                const linear_plan without = plan_linear(problem, device, 0);
                const linear_plan with = plan_linear(problem, device, SIZE_MAX);
                CAPTURE(device.arch, format.name, group, scale_bytes, m, n, k);
                REQUIRE(without.whole_tiles);
                REQUIRE(without.workspace_bytes == 0);
                check_plan(problem, device, without);
                check_plan(problem, device, with);
                // What was asked for is enough, and a byte less is not taken for enough.
                REQUIRE(plan_linear(problem, device, with.workspace_bytes).whole_tiles == with.whole_tiles);
                if (with.workspace_bytes > 0) {
                  REQUIRE(plan_linear(problem, device, with.workspace_bytes - 1).whole_tiles);
                }
              }
            }
          }
        }
      }
    }
  }
}

TEST_CASE("few rows are split, many are not") {
  // Risk: a narrow layer keeps a few multiprocessors busy, a wide one pays for sums it need not share.
  const device_limits h100 = {90, 132, 232448, true};
  CHECK(!plan_linear({6, false, false, 1, 1024, 4096, 0, 4, true}, h100, SIZE_MAX).whole_tiles);
  CHECK(plan_linear({6, false, false, 1, 4096, 4096, 0, 4, true}, h100, SIZE_MAX).whole_tiles);
  CHECK(plan_linear({6, false, false, 1, 57344, 8192, 0, 4, true}, h100, SIZE_MAX).whole_tiles);
}

TEST_CASE("many tokens are Hopper's tensor cores', if x suits the copies") {
  // Risk: a cliff where one family ends; x that a tensor map cannot describe.
  const device_limits h100 = {90, 132, 232448, true};
  for (const int64_t m : {17, 100, 5000}) {
    CHECK(plan_linear({6, false, false, m, 4096, 4096, 0, 4, true}, h100, 0).kernel.family ==
          linear_family::tile);
    CHECK(plan_linear({6, false, false, m, 4096, 4096, 0, 4, false}, h100, 0).kernel.family ==
          linear_family::stream);
  }
  CHECK(plan_linear({6, false, false, 8, 4096, 4096, 0, 4, true}, h100, 0).kernel.family ==
        linear_family::stream);
}
