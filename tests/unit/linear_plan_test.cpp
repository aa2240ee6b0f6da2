// The choice of a GPU kernel, without a GPU.
//
// SPDX-License-Identifier: Apache-2.0
#include "dispatch/linear_plan.hpp"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <limits>

#include "dequant_rule.hpp"
#include "floatx.h"
#include "floatx/format.hpp"
#include "linear_shape.hpp"
#include "linear_tile_arguments.hpp"
#include "support/catch.hpp"
#include "tuning/linear_tile.hpp"

using namespace floatx;
using namespace floatx::dispatch;

namespace {

constexpr kernels::unpacking usual = kernels::unpacking::usual;

bool has_tile_instance(const linear_kernel& kernel) {
  const auto is_it = [&](const tuning::tile_row& row) {
    return row.warps == kernel.strips && row.token_tiles == kernel.token_tiles &&
           (is_apart_in_block(kernel.scaling) || has_kernels(row, kernel.scaling));
  };
  if (is_apart_in_block(kernel.scaling)) {
    return std::any_of(std::begin(tuning::apart_rows), std::end(tuning::apart_rows), is_it);
  }
  return std::any_of(std::begin(tuning::tile_rows), std::end(tuning::tile_rows), is_it);
}

void check_plan(const linear_problem& problem, const device_limits& device, const linear_plan& plan) {
  const linear_kernel& kernel = plan.kernel;
  REQUIRE(kernel.scaling == kernel_of(kernel.family, problem, kernel.strips, kernel.token_tiles).scaling);
  // No interval is longer than a group.
  REQUIRE(kernel.scaling.interval * 16 <= problem.group_size);
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
    REQUIRE(plan.band_rows >= 1);
    REQUIRE((plan.shared_tiles > 0) == !plan.whole_tiles);
    REQUIRE((plan.workspace_bytes > 0) == !plan.whole_tiles);
    if (!plan.whole_tiles) {
      // Each thread block has as many whole tiles as another and of the rest more than a tile's pieces, lest
      // one wait for several; or all there is is less, of which it has some. The rest has counters and a
      // place for everyone's sums.
      REQUIRE(plan.split * plan.ways == 1);
      const int64_t tiles = static_cast<int64_t>(plan.tiles) * plan.token_blocks,
                    k_blocks = (problem.k + kernels::tile_k - 1) / kernels::tile_k;
      REQUIRE(plan.blocks <= device.multiprocessors);
      REQUIRE((tiles - plan.shared_tiles) % plan.blocks == 0);
      REQUIRE(plan.shared_tiles < 2 * plan.blocks);
      if (plan.shared_tiles <= plan.blocks) {
        REQUIRE(plan.shared_tiles == tiles);
        REQUIRE(tiles < device.multiprocessors);
        REQUIRE(tiles * k_blocks >= plan.blocks);
      }
      REQUIRE(static_cast<size_t>(plan.shared_tiles) * sizeof(unsigned) <= arrivals_bytes);
      REQUIRE(plan.workspace_bytes >=
              arrivals_bytes + sizeof(float) * static_cast<size_t>(plan.blocks) *
                                   static_cast<size_t>(16 * kernel.strips * 8 * kernel.token_tiles));
    }
    // Each way has slots of its own, of cells and of x, or it would miss phases of their barriers; and what
    // all leave in the end has room in them.
    REQUIRE(plan.stages % plan.ways == 0);
    REQUIRE(plan.x_slots >= 2);
    REQUIRE(plan.x_slots % plan.ways == 0);
    if (plan.split * plan.ways > 1) {
      const int cell_scale_bytes = problem.group_size == 0 ? 0
                                                           : static_cast<int>(64 * 128 / problem.group_size) *
                                                                 scale_bytes(problem.scale_type);
      REQUIRE(kernels::shared_sums_bytes(kernel.token_tiles, kernel.strips, plan.ways, plan.split) <=
              kernels::rings_bytes(kernel.bits, cell_scale_bytes, kernel.strips / plan.ways,
                                   kernel.token_tiles, plan.stages, plan.x_slots));
    }
    return;
  }
  REQUIRE(plan.shared_bytes + kernels::static_shared_bytes <= device.block_shared_bytes);
  REQUIRE(plan.warps >= kernels::least_stream_warps(kernel.strips));
  REQUIRE(plan.warps <= kernels::max_stream_warps(kernel.bits, kernel.token_tiles, kernel.scaling.interval));
  REQUIRE(plan.stages <= kernels::max_stages);
  // A pause of 0 says that the kernel before has ended.
  REQUIRE((plan.pause > 0) == problem.programmatic);
  REQUIRE((plan.ahead > 0) == problem.programmatic);
  // No two thread blocks on a multiprocessor, which keeps a kilobyte for each: else those of two kernels
  // would be dealt unevenly. Beside a programmatic launch none of another kernel.
  if (problem.programmatic) {
    REQUIRE(plan.shared_bytes + kernels::static_shared_bytes == device.block_shared_bytes);
  }
  REQUIRE(2 * (plan.shared_bytes + 1024) > device.block_shared_bytes + 1024);
  REQUIRE((kernel.token_tiles == 1 || kernel.token_tiles == 2 || kernel.token_tiles == 4));
  REQUIRE((kernel.strips == 4 || (kernel.strips == 2 && kernel.token_tiles <= 2)));
  REQUIRE(static_cast<int64_t>(plan.tiles) * kernel.strips * 16 >= problem.n);
  // Each thread block has work, and of what is shared less than a tile.
  REQUIRE((plan.shared_tiles > 0) == !plan.whole_tiles);
  REQUIRE((plan.workspace_bytes > 0) == !plan.whole_tiles);
  const int64_t k_blocks = (problem.k + kernels::tile_k - 1) / kernels::tile_k;
  if (plan.whole_tiles) {
    REQUIRE(plan.blocks <= plan.tiles);
  } else {
    REQUIRE((plan.tiles - plan.shared_tiles) % plan.blocks == 0);
    REQUIRE((plan.shared_tiles * k_blocks + plan.blocks - 1) / plan.blocks < k_blocks);
    if (plan.shared_tiles == plan.tiles) REQUIRE(plan.shared_tiles * k_blocks >= plan.blocks);
  }
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
        for (const scale_storage scales : {scale_storage::e8m0, scale_storage::e4m3fn, scale_storage::f16,
                                           scale_storage::bf16, scale_storage::f32}) {
          for (const int64_t m : {1, 8, 9, 16, 17, 64, 65, 4096, 1 << 20}) {
            for (const int64_t n : {1, 64, 65, 2048, 4096, 57344, 1 << 24}) {
              for (const int64_t k : {1, 129, 4096, 28672}) {
                const bool bf16 = m % 2 == 0;
                const bool folds =
                    k % 2 == 0 ? kernels::folds(format, bf16) : kernels::folds_exactly(format, bf16, scales);
                const linear_problem problem = {format.bits, kernels::unpacking_of(format, bf16),
                                                bf16,        m,
                                                n,           k,
                                                group,       scales,
                                                folds,       true,
                                                n % 2 == 0};
                const linear_plan without = plan_linear(problem, device, 0);
                const linear_plan with = plan_linear(problem, device, SIZE_MAX);
                CAPTURE(device.arch, format.name, group, static_cast<int>(scales), m, n, k);
                REQUIRE(without.whole_tiles);
                REQUIRE(without.workspace_bytes == 0);
                check_plan(problem, device, without);
                check_plan(problem, device, with);
                // What was asked for is enough, and a byte less is not taken for enough.
                REQUIRE(plan_linear(problem, device, with.workspace_bytes).workspace_bytes ==
                        with.workspace_bytes);
                if (with.workspace_bytes > 0) {
                  REQUIRE(plan_linear(problem, device, with.workspace_bytes - 1).workspace_bytes <
                          with.workspace_bytes);
                }
              }
            }
          }
        }
      }
    }
  }
}

TEST_CASE("tiles that do not go evenly among thread blocks are shared where that pays") {
  // Risk: the last tiles keep a few multiprocessors busy while the others wait, or a layer that gains nothing
  // takes the detour through the workspace.
  const device_limits device = {90, 132, 232448, true};
  struct layer {
    int64_t n, k;
    int shared;
  };
  // 160 tiles: one for each of 132, and 28. 344, 448: whole ones lose less than 16 pieces. 16: fewer than are
  // worth whole ones. 128 and 132: even.
  for (const layer& l : {layer{10240, 8192, 28},
                         {22016, 4096, 0},
                         {28672, 4096, 0},
                         {1024, 4096, 16},
                         {8192, 8192, 0},
                         {8448, 8192, 0}}) {
    for (const bool programmatic : {false, true}) {
      linear_problem problem = {6,     usual, false,       1, l.n, l.k, 0, scale_storage::f32,
                                false, true,  programmatic};
      CAPTURE(l.n, l.k, programmatic);
      REQUIRE(plan_linear(problem, device, SIZE_MAX).shared_tiles == l.shared);
      REQUIRE(plan_linear(problem, device, 0).shared_tiles == 0);
    }
  }
}

TEST_CASE("how fast memory is decides for few tokens alone") {
  // Risk: what memory hides on one GPU is not seen on another; or GPUs that multiply alike do it differently.
  const device_limits device = {90, 132, 232448, true};
  device_limits faster = device;
  faster.memory_bytes_per_us *= 1.5;
  for (const int bits : {3, 4, 6}) {
    for (const int64_t group : {0, 32, 128}) {
      for (const int64_t m : {256, 512, 1000, 4096}) {
        for (const int64_t n : {4096, 12288, 22016, 57344}) {
          for (const int64_t k : {4096, 8192, 28672}) {
            const linear_problem problem = {bits, usual, false, m, n, k, group, scale_storage::f16,
                                            true, true};
            const linear_plan plan = plan_linear(problem, device, SIZE_MAX);
            const linear_plan other = plan_linear(problem, faster, SIZE_MAX);
            CAPTURE(bits, group, m, n, k);
            REQUIRE(other.kernel.token_tiles == plan.kernel.token_tiles);
            REQUIRE(other.kernel.strips == plan.kernel.strips);
            REQUIRE(other.split == plan.split);
            REQUIRE(other.ways == plan.ways);
            REQUIRE(other.shared_tiles == plan.shared_tiles);
          }
        }
      }
    }
  }
  // More warps unpack weights where memory would be ahead of fewer.
  const linear_problem few = {6, usual, false, 32, 8192, 28672, 0, scale_storage::f32, true, true};
  CHECK(plan_linear(few, device, SIZE_MAX).kernel.strips == 8);
  CHECK(plan_linear(few, faster, SIZE_MAX).kernel.strips == 16);
}

TEST_CASE("a programmatic launch adds in the same order") {
  // Risk: y depends on how a kernel was launched.
  const device_limits device = {90, 132, 232448, true};
  for (const format_traits& format : formats) {
    if (format.exponent_bits > 5) continue;
    for (const int64_t group : {0, 32, 128}) {
      for (const int64_t m : {1, 8, 9, 16, 17, 64, 300}) {
        for (const int64_t n : {64, 1024, 4096, 11008, 22016, 57344}) {
          for (const int64_t k : {4096, 11008, 28672}) {
            linear_problem problem = {format.bits,        usual, false, m,    n, k, group,
                                      scale_storage::f16, false, true,  false};
            const linear_plan plain = plan_linear(problem, device, SIZE_MAX);
            problem.programmatic = true;
            const linear_plan launched = plan_linear(problem, device, SIZE_MAX);
            CAPTURE(format.name, group, m, n, k);
            REQUIRE(launched.kernel.family == plain.kernel.family);
            REQUIRE(launched.kernel.scaling == plain.kernel.scaling);
            REQUIRE(launched.kernel.token_tiles == plain.kernel.token_tiles);
            REQUIRE(launched.kernel.strips == plain.kernel.strips);
            REQUIRE(launched.warps == plain.warps);
            REQUIRE(launched.blocks == plain.blocks);
            REQUIRE(launched.whole_tiles == plain.whole_tiles);
            REQUIRE(launched.split == plain.split);
            REQUIRE(launched.ways == plain.ways);
            REQUIRE(launched.shared_tiles == plain.shared_tiles);
          }
        }
      }
    }
  }
}

TEST_CASE("how scales of groups come in") {
  // Risk: codes times scales that FP16 does not hold; a product that is rounded though none may be.
  const auto way = [](floatx_format id, bool bf16, scale_storage scales, int64_t group, bool exact) {
    const format_traits& format = *find_format(id);
    const bool folds = exact ? kernels::folds_exactly(format, bf16, scales) : kernels::folds(format, bf16);
    // Of a size of tile that has no kernels for k blocks that are apart.
    return kernel_of(linear_family::tile, {format.bits, usual, bf16, 64, 64, 64, group, scales, folds, true},
                     12, 16)
        .scaling.way;
  };
  using kernels::scaling;
  for (const bool bf16 : {false, true}) {
    CHECK(way(FLOATX_FORMAT_E3M2, bf16, scale_storage::f32, 0, false) == scaling::rows);
    for (const scale_storage scales : {scale_storage::f16, scale_storage::bf16, scale_storage::f32}) {
      CHECK(way(FLOATX_FORMAT_E3M2, bf16, scales, 32, false) == scaling::folded);
      CHECK(way(FLOATX_FORMAT_E3M2, bf16, scales, 32, true) == scaling::apart);
      CHECK(way(FLOATX_FORMAT_E5M0, bf16, scales, 32, false) == (bf16 ? scaling::folded : scaling::apart));
    }
    CHECK(way(FLOATX_FORMAT_E2M1, bf16, scale_storage::e4m3fn, 16, true) == scaling::folded);
    CHECK(way(FLOATX_FORMAT_E5M2, bf16, scale_storage::e4m3fn, 16, true) ==
          (bf16 ? scaling::folded : scaling::apart));
    CHECK(way(FLOATX_FORMAT_E2M4, bf16, scale_storage::e4m3fn, 16, true) ==
          (bf16 ? scaling::apart : scaling::folded));
    CHECK(way(FLOATX_FORMAT_E2M1, bf16, scale_storage::e8m0, 32, true) ==
          (bf16 ? scaling::folded : scaling::apart));
    CHECK(way(FLOATX_FORMAT_E3M2, bf16, scale_storage::f16, 128, false) == scaling::folded);
  }
}

TEST_CASE("how often scales of groups come in") {
  // Risk: a scale that is meant for 128 columns is taken for those of 32, or a smaller group's for a k block.
  using kernels::scaling;
  for (const bool bf16 : {false, true}) {
    for (const bool folds : {false, true}) {
      const auto scaling_with = [&](int64_t group, int strips, int token_tiles) {
        return kernel_of(linear_family::tile,
                         {6, usual, bf16, 64, 64, 64, group, scale_storage::f16, folds, true}, strips,
                         token_tiles)
            .scaling;
      };
      const scaling way = folds ? scaling::folded : scaling::apart;
      // Where tiles are of few tokens a k block adds up before its group's scale.
      CHECK(scaling_with(128, 16, 2) == linear_scaling{scaling::apart, kernels::steps});
      CHECK(scaling_with(128, 8, 16) == linear_scaling{way, kernels::steps});
      CHECK(scaling_with(64, 8, 16) == linear_scaling{way, 2});
      CHECK(scaling_with(16, 8, 16) == linear_scaling{way, 1});
      CHECK(scaling_with(0, 8, 16) == linear_scaling{scaling::rows, 0});
    }
  }
  // Larger tiles have no registers for it; weights that must not be rounded are then of smaller ones.
  const device_limits device = {90, 132, 232448, true};
  for (const int64_t m : {9, 16, 17, 64, 128, 4096}) {
    for (const bool folds : {false, true}) {
      const linear_problem problem = {6, usual, false, m, 8192, 8192, 128, scale_storage::f16, folds, true};
      const linear_kernel kernel = plan_linear(problem, device, SIZE_MAX).kernel;
      CAPTURE(m, folds);
      if (kernel.family == linear_family::stream) continue;
      CHECK((kernel.scaling.way == scaling::apart) == (!folds || m <= 17));
    }
  }
}

TEST_CASE("few rows are split, many are not") {
  // Risk: a narrow layer keeps a few multiprocessors busy, a wide one pays for sums it need not share.
  const device_limits h100 = {90, 132, 232448, true};
  CHECK(!plan_linear({6, usual, false, 1, 1024, 4096, 0, scale_storage::f32, false, true}, h100, SIZE_MAX)
             .whole_tiles);
  CHECK(plan_linear({6, usual, false, 1, 4096, 4096, 0, scale_storage::f32, false, true}, h100, SIZE_MAX)
            .whole_tiles);
  CHECK(plan_linear({6, usual, false, 1, 57344, 8192, 0, scale_storage::f32, false, true}, h100, SIZE_MAX)
            .whole_tiles);
}

TEST_CASE("many tokens are Hopper's tensor cores', if x suits the copies") {
  // Risk: a cliff where one family ends; x that a tensor map cannot describe.
  const device_limits h100 = {90, 132, 232448, true};
  for (const int64_t m : {17, 100, 5000}) {
    CHECK(plan_linear({6, usual, false, m, 4096, 4096, 0, scale_storage::f32, false, true}, h100, 0)
              .kernel.family == linear_family::tile);
    CHECK(plan_linear({6, usual, false, m, 4096, 4096, 0, scale_storage::f32, false, false}, h100, 0)
              .kernel.family == linear_family::stream);
  }
  CHECK(plan_linear({6, usual, false, 8, 4096, 4096, 0, scale_storage::f32, false, true}, h100, 0)
            .kernel.family == linear_family::stream);
}

TEST_CASE("what is left of whole tiles is shared where it would leave multiprocessors idle") {
  // Risk: a choice that saves a twentieth is lost and nobody sees it; a workspace that was asked for all of m
  // is too small for some of it.
  const device_limits h100 = {90, 132, 232448, true};
  linear_problem problem = {6, usual, false, 128, 57344, 8192, 0, scale_storage::f32, false, true};
  // 448 tiles of 128 rows: two for each of 132, and of 184 equal shares.
  const linear_plan tail = plan_linear(problem, h100, SIZE_MAX);
  CHECK(tail.shared_tiles == 184);
  CHECK(plan_linear(problem, h100, 0).whole_tiles);
  // As many tiles as there are multiprocessors leave none idle.
  problem.n = 192 * 132;
  CHECK(plan_linear(problem, h100, SIZE_MAX).whole_tiles);
  for (const int64_t n : {64, 4096, 22016, 57344}) {
    for (const int64_t m : {8, 16, 200, 9000}) {
      for (const int64_t group : {0, 16, 128}) {
        for (const bool folds : {false, true}) {
          for (const bool x_is_aligned : {false, true}) {
            const auto with = [&](int64_t tokens) {
              return linear_problem{4,     usual,       true, tokens, n, 4096, group, scale_storage::f32,
                                    folds, x_is_aligned};
            };
            const size_t most = most_workspace_bytes(with(m), h100);
            for (int64_t tokens = 1; tokens <= m; tokens += 1 + tokens / 16) {
              CAPTURE(n, m, group, folds, x_is_aligned, tokens);
              REQUIRE(plan_linear(with(tokens), h100, SIZE_MAX).workspace_bytes <= most);
            }
          }
        }
      }
    }
  }
}

TEST_CASE("division by a known number") {
  // Risk: a quotient off by one, and with it a tile done twice and another never.
  constexpr int most = std::numeric_limits<int>::max();
  for (const int by :
       {1, 2, 3, 5, 7, 64, 127, 128, 129, 641, 6700417, 1 << 30, (1 << 30) + 1, most - 1, most}) {
    const kernels::divisor divisor = kernels::divisor::of(by);
    for (const int64_t quotient : {0, 1, 2, 3, 1000, 4095, most / by - 1, most / by}) {
      for (const int64_t rest : {0, 1, by / 2, by - 1}) {
        const int64_t dividend = quotient * by + rest;
        if (rest >= by || dividend < 0 || dividend > most) continue;
        CAPTURE(by, dividend);
        REQUIRE(divisor.quotient(static_cast<int>(dividend)) == static_cast<int>(dividend / by));
      }
    }
  }
}
