// kernels::linear_tile on the emulated machine: its arithmetic of tiles, slots and lanes without a GPU.
//
// SPDX-License-Identifier: Apache-2.0
#include "kernel/emulated/ptx.hpp"

// After what it is made of here.
#include "dispatch/linear_launch.hpp"
#include "kernel/gpu_problem.hpp"
#include "linear_tile.cuh"
#include "support/catch.hpp"
#include "tuning/linear_tile.hpp"

using namespace floatx;
using namespace floatx::test;

namespace {

using kernel = void (*)(kernels::linear_tile_arguments);

// Those that are compiled here: of all rows of the tuning table for 6 bits, else two.
template <int Bits, class Activation, int Promote, bool Odd>
kernel find_tile(int warps, int tiles) {
  if (warps == 16 && tiles == 8) return &kernels::linear_tile<Bits, Activation, Promote, 8, Odd, 16>;
  if constexpr (Bits == 6 && !Odd && sizeof(Activation) == sizeof(__half) &&
                std::is_same_v<Activation, __half>) {
    if (warps == 16 && tiles == 2) return &kernels::linear_tile<Bits, Activation, Promote, 2, Odd, 16>;
    if constexpr (Promote == 0) {
      if (warps == 16 && tiles == 4) return &kernels::linear_tile<Bits, Activation, Promote, 4, Odd, 16>;
      if (warps == 16 && tiles == 12) return &kernels::linear_tile<Bits, Activation, Promote, 12, Odd, 16>;
      if (warps == 16 && tiles == 16) return &kernels::linear_tile<Bits, Activation, Promote, 16, Odd, 16>;
      if (warps == 12 && tiles == 16) return &kernels::linear_tile<Bits, Activation, Promote, 16, Odd, 12>;
    } else {
      if (warps == 8 && tiles == 16) return &kernels::linear_tile<Bits, Activation, Promote, 16, Odd, 8>;
    }
    if constexpr (Promote != 1 && Promote != 8) {
      if (warps == 8 && tiles == 32) return &kernels::linear_tile<Bits, Activation, Promote, 32, Odd, 8>;
    }
  }
  return nullptr;
}

template <int Bits, class Activation>
kernel find_tile(const dispatch::linear_kernel& k) {
  switch (k.promote) {
    case 0:
      return k.odd ? find_tile<Bits, Activation, 0, true>(k.strips, k.token_tiles)
                   : find_tile<Bits, Activation, 0, false>(k.strips, k.token_tiles);
    case 2:
      return find_tile<Bits, Activation, 2, false>(k.strips, k.token_tiles);
    case 4:
      return find_tile<Bits, Activation, 4, false>(k.strips, k.token_tiles);
    case 8:
      if constexpr (Bits == 6 && std::is_same_v<Activation, __half>) {
        if (k.strips == 8 && k.token_tiles == 32) {
          return &kernels::linear_tile<Bits, Activation, 8, 32, false, 8>;
        }
      }
      return nullptr;
    default:
      return nullptr;
  }
}

template <int Bits>
kernel find_tile_of(const dispatch::linear_kernel& k) {
  return k.bf16 ? find_tile<Bits, __nv_bfloat16>(k) : find_tile<Bits, __half>(k);
}

kernel find_kernel(const dispatch::linear_kernel& k) {
  switch (k.bits) {
    case 3:
      return find_tile_of<3>(k);
    case 4:
      return find_tile_of<4>(k);
    case 5:
      return find_tile_of<5>(k);
    case 6:
      return find_tile_of<6>(k);
    case 7:
      return find_tile_of<7>(k);
    default:
      return find_tile_of<8>(k);
  }
}

struct choice {
  int warps, token_tiles, ways, split;
};

// Runs the layer and compares it. False where the choice is none that a plan could hold.
bool run(floatx_format format, int64_t n, int64_t k, int64_t m, int64_t group, floatx_type type, choice c,
         int multiprocessors = 132) {
  const format_traits& traits = *find_format(format);
  const reference::weight w = random_weight(format, n, k, group, FLOATX_SCALE_F16, 51);
  const dispatch::linear_problem problem = {traits.bits,
                                            kernels::is_odd(traits, type == FLOATX_TYPE_BF16),
                                            type == FLOATX_TYPE_BF16,
                                            m,
                                            n,
                                            k,
                                            group,
                                            2,
                                            true};
  const dispatch::device_limits device = {90, multiprocessors, emulated::shared_bytes, true};
  dispatch::linear_plan plan = {};
  plan.kernel = {dispatch::linear_family::tile,
                 problem.bits,
                 problem.bf16,
                 dispatch::promote_of(dispatch::linear_family::tile, group),
                 c.token_tiles,
                 problem.odd,
                 c.warps};
  plan.ways = c.ways;
  plan.split = c.split;
  const kernel chosen = find_kernel(plan.kernel);
  if (!chosen || c.warps / 4 % c.ways != 0) return false;
  dispatch::lay_out(problem, device, plan);
  if (!dispatch::has_room(problem, device, plan)) return false;

  const gpu_arrangement packed(w);
  activations x(type, m, k, gpu::round_up(k, 8) + 8, 52);
  for (int64_t t = 0; t < m; ++t) {
    for (int64_t i = k; i < x.stride; ++i) x.set(t, i, std::numeric_limits<float>::quiet_NaN());
  }
  const std::vector<uint8_t> bias = random_bias(type, n, 53);
  outputs y(type, m, n, n % 2 ? gpu::round_up(n, 8) : n + 3);
  kernels::linear_tile_arguments args =
      dispatch::tile_arguments_of(plan, {format, n, k, group, FLOATX_SCALE_F16},
                                  {packed.codes.data(), packed.scales.data(), nullptr, m, problem.bf16,
                                   x.data.data(), x.stride, bias.data(), y.data.data(), y.stride, nullptr});
  args.x = {{reinterpret_cast<uint64_t>(x.data.data()), static_cast<uint64_t>(m), static_cast<uint64_t>(k),
             static_cast<uint64_t>(x.stride),
             static_cast<uint64_t>(8 * kernels::x_box_tiles(c.token_tiles))}};
  try {
    emulated::launch(plan.blocks, plan.warps * 32, plan.split, [&] { chosen(args); });
  } catch (const emulated::fault& fault) {
    CAPTURE(traits.name, n, k, m, group, c.warps, c.token_tiles, c.ways, c.split);
    FAIL(fault.what);
  }
  CHECK(y.surroundings_intact());
  const std::vector<reference::sum> exact = exact_sums(n, reference::dense(w), x, type, &bias);
  for (int64_t t = 0; t < m; ++t) {
    for (int64_t row = 0; row < n; ++row) {
      if (!device_close(type, k, exact[static_cast<size_t>(t * n + row)], y.at(t, row))) {
        CAPTURE(traits.name, n, k, m, group, c.warps, c.token_tiles, c.ways, c.split, t, row, y.at(t, row));
        FAIL("y is wrong");
      }
    }
  }
  return true;
}

}  // namespace

TEST_CASE("each row of the tuning table, whole and shared") {
  // Risk: a slot, a square or a share that is taken for another's, and only with some ways or clusters.
  int runs = 0;
  for (const tuning::tile_row& row : tuning::tile_rows) {
    for (const int ways : {1, 2, 3, 4}) {
      for (const int split : {1, 3}) {
        const int64_t group = row.promote * 16, m = 8 * row.token_tiles - 5;
        runs += run(FLOATX_FORMAT_E3M2, 200, 600, m, group, FLOATX_TYPE_F16,
                    {row.warps, row.token_tiles, ways, split});
      }
    }
  }
  CHECK(runs >= 60);
}

TEST_CASE("the narrow tiles of a last round") {
  // Risk: tokens between two cuts are done twice or never.
  for (const int multiprocessors : {2, 3, 5, 9}) {
    for (const int64_t m : {250, 257}) {
      CHECK(run(FLOATX_FORMAT_E3M2, 128 * 5 - 3, 300, m, 0, FLOATX_TYPE_F16, {8, 32, 1, 1}, multiprocessors));
    }
  }
}

TEST_CASE("edges, widths and types on the emulated machine") {
  // Risk: what holds for full tiles of six bits does not for others.
  for (const floatx_format format :
       {FLOATX_FORMAT_E2M0, FLOATX_FORMAT_E1M1, FLOATX_FORMAT_E2M1, FLOATX_FORMAT_E2M2, FLOATX_FORMAT_E2M3,
        FLOATX_FORMAT_E5M0, FLOATX_FORMAT_E3M3, FLOATX_FORMAT_E4M3FN}) {
    for (const floatx_type type : {FLOATX_TYPE_F16, FLOATX_TYPE_BF16}) {
      CHECK(run(format, 130, 300, 70, 0, type, {16, 8, 1, 1}));
      if (format != FLOATX_FORMAT_E5M0) CHECK(run(format, 130, 300, 70, 32, type, {16, 8, 2, 2}));
    }
  }
  for (const int64_t n : {1, 64, 65, 257}) {
    for (const int64_t k : {1, 127, 129}) {
      CHECK(run(FLOATX_FORMAT_E3M2, n, k, 9, 0, FLOATX_TYPE_F16, {16, 2, k == 129 ? 4 : 1, 1}));
    }
  }
}
