// What the library has compiled for GPUs, without a GPU.
//
// SPDX-License-Identifier: Apache-2.0
#include <cstdint>

#include "dequant_rule.hpp"
#include "dispatch/linear_plan.hpp"
#include "instances/linear_stream.hpp"
#include "instances/linear_tile.hpp"
#include "kernel/kinds.hpp"
#include "support/catch.hpp"

using namespace floatx;
using namespace floatx::dispatch;

namespace {

const void* find(const linear_kernel& kernel) {
  return kernel.family == linear_family::tile ? instances::find_linear_tile(kernel)
                                              : instances::find_linear_stream(kernel);
}

}  // namespace

TEST_CASE("the kernel of every plan is compiled") {
  // Risk: a launch that fails on a user's GPU alone, for want of an instance. What a plan's kernel depends on
  // is how many multiprocessors share how many tiles, and how much shared memory there is.
  const device_limits devices[] = {{80, 108, 166912, false},  {86, 82, 101376, false},
                                   {89, 128, 101376, false},  {90, 132, 232448, false},
                                   {90, 132, 232448, true},   {100, 148, 232448, false},
                                   {120, 170, 101376, false}, {80, 1, 166912, false}};
  int64_t missing = 0;
  for (const device_limits& device : devices) {
    for (const format_traits& format : formats) {
      if (format.exponent_bits > 5) continue;
      for (const bool bf16 : {false, true}) {
        for (const int64_t group : test::all_group_sizes) {
          for (const int64_t m : {1, 8, 9, 16, 17, 32, 33, 64, 65, 128, 4096}) {
            for (const int64_t n : {1, 65, 2048, 4096, 11008, 57344}) {
              for (const int64_t k : {1, 4096, 28672}) {
                for (const size_t workspace : {size_t{0}, SIZE_MAX}) {
                  for (const scale_storage scales :
                       {scale_storage::f32, scale_storage::f16, scale_storage::e8m0, scale_storage::e4m3fn}) {
                    for (const bool folds : {false, kernels::folds(format, bf16)}) {
                      const linear_problem problem = {format.bits, kernels::unpacking_of(format, bf16),
                                                      bf16,        m,
                                                      n,           k,
                                                      group,       scales,
                                                      folds,       true};
                      if (find(plan_linear(problem, device, workspace).kernel)) continue;
                      CAPTURE(device.arch, format.name, bf16, group, static_cast<int>(scales), folds, m, n,
                              k);
                      CHECK(++missing == 0);
                    }
                  }
                }
              }
            }
          }
        }
      }
    }
  }
  CHECK(
      find(
          {linear_family::stream, 6, false, {kernels::scaling::apart, 3}, 1, kernels::unpacking::usual, 4}) ==
      nullptr);
}
