// kernels::linear_tile on the emulated machine: its arithmetic of tiles, slots and lanes without a GPU.
//
// SPDX-License-Identifier: Apache-2.0
#include "kernel/emulated/ptx.hpp"

// After what it is made of here.
#include "dispatch/linear_launch.hpp"
#include "instances/unpackings.hpp"
#include "kernel/gpu_problem.hpp"
#include "linear_tile.cuh"
#include "support/catch.hpp"
#include "support/guard.hpp"
#include "tuning/linear_tile.hpp"

using namespace floatx;
using namespace floatx::test;

namespace {

using kernel = void (*)(kernels::linear_tile_arguments);

// Those that are compiled here: of all rows of the tuning tables for FP16 and most formats of 6 bits, else
// one.
template <int Bits, class Activation, kernels::scaling Scaling, int Interval, kernels::unpacking How>
kernel find_tile(int warps, int tiles) {
  constexpr bool is_apart = dispatch::is_apart_in_block({Scaling, Interval}),
                 of_blocks = Scaling == kernels::scaling::apart && !is_apart,
                 all = Bits == 6 && How == kernels::unpacking::usual && std::is_same_v<Activation, __half>;
#define FLOATX_TILE(Tiles, Warps)                                                         \
  if (warps == Warps && tiles == Tiles) {                                                 \
    return &kernels::linear_tile<Bits, Activation, Scaling, Interval, Tiles, How, Warps>; \
  }
  FLOATX_TILE(2, 16)
  if constexpr (!is_apart) FLOATX_TILE(4, 16)
  if constexpr (all) {
    FLOATX_TILE(8, 12)
    FLOATX_TILE(16, 8)
  }
  if constexpr (all && is_apart) FLOATX_TILE(4, 16)
  if constexpr (all && !is_apart) {
    FLOATX_TILE(2, 12)
    FLOATX_TILE(4, 12)
    FLOATX_TILE(8, 16)
    FLOATX_TILE(2, 8)
    FLOATX_TILE(4, 8)
    FLOATX_TILE(8, 8)
    FLOATX_TILE(12, 8)
  }
  if constexpr (all && !is_apart && !of_blocks) {
    FLOATX_TILE(16, 12)
    FLOATX_TILE(24, 12)
    FLOATX_TILE(20, 8)
    FLOATX_TILE(24, 8)
    FLOATX_TILE(32, 8)
  }
  if constexpr (all && Scaling == kernels::scaling::rows) {
    FLOATX_TILE(16, 16)
    FLOATX_TILE(22, 8)
  }
#undef FLOATX_TILE
  return nullptr;
}

// Of groups of 128, folded: with more tokens a tile.
template <int Bits, class Activation, kernels::unpacking How>
kernel find_folded_blocks(int warps, int tiles) {
  if constexpr (Bits == 6) {
    if (warps == 8 && tiles == 8) {
      return &kernels::linear_tile<Bits, Activation, kernels::scaling::folded, kernels::steps, 8, How, 8>;
    }
  }
  return nullptr;
}

template <int Bits, class Activation, kernels::unpacking How>
kernel find_tile(const dispatch::linear_kernel& k) {
  using kernels::scaling;
  if (k.scaling.way == scaling::rows) {
    return find_tile<Bits, Activation, scaling::rows, 0, How>(k.strips, k.token_tiles);
  }
  if constexpr (How == kernels::unpacking::halved) {
    return nullptr;
  } else if (k.scaling.way == scaling::folded) {
    return k.scaling.interval == 1
               ? find_tile<Bits, Activation, scaling::folded, 1, How>(k.strips, k.token_tiles)
           : k.scaling.interval == 2
               ? find_tile<Bits, Activation, scaling::folded, 2, How>(k.strips, k.token_tiles)
               : find_folded_blocks<Bits, Activation, How>(k.strips, k.token_tiles);
  } else {
    return k.scaling.interval == 1
               ? find_tile<Bits, Activation, scaling::apart, 1, How>(k.strips, k.token_tiles)
           : k.scaling.interval == 2
               ? find_tile<Bits, Activation, scaling::apart, 2, How>(k.strips, k.token_tiles)
               : find_tile<Bits, Activation, scaling::apart, kernels::steps, How>(k.strips, k.token_tiles);
  }
}

template <int Bits, class Activation>
kernel find_tile(const dispatch::linear_kernel& k) {
  constexpr bool bf16 = std::is_same_v<Activation, __nv_bfloat16>;
  return reinterpret_cast<kernel>(instances::with_unpacking<Bits, bf16>(k.unpacking, [&](auto how) {
    return reinterpret_cast<const void*>(find_tile<Bits, Activation, decltype(how)::value>(k));
  }));
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
  bool shares = false;  // of what is left of whole tiles
  bool exact = false;   // no weight may be rounded
};

// Runs the layer and compares it. False where the choice is none that a plan could hold.
bool run(floatx_format format, int64_t n, int64_t k, int64_t m, int64_t group, floatx_scale_type scales,
         floatx_type type, choice c, int multiprocessors = 132) {
  const format_traits& traits = *find_format(format);
  reference::weight w = random_weight(format, n, k, group, scales, 51);
  set_extreme_scales(w);
  const dispatch::linear_problem problem = {
      traits.bits,
      kernels::unpacking_of(traits, type == FLOATX_TYPE_BF16),
      type == FLOATX_TYPE_BF16,
      m,
      n,
      k,
      group,
      static_cast<scale_storage>(scales),
      c.exact ? kernels::folds_exactly(traits, type == FLOATX_TYPE_BF16, static_cast<scale_storage>(scales))
              : kernels::folds(traits, type == FLOATX_TYPE_BF16),
      true};
  const dispatch::device_limits device = {90, multiprocessors, emulated::shared_bytes, true};
  dispatch::linear_plan plan = {};
  plan.kernel = dispatch::kernel_of(dispatch::linear_family::tile, problem, c.warps, c.token_tiles);
  plan.ways = c.ways;
  plan.split = c.split;
  plan.whole_tiles = !c.shares;
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
  const float* tensor_scale = scales == FLOATX_SCALE_E4M3FN ? &w.tensor_scale : nullptr;
  // Counters, which are zero before and after, and sums that must be written before they are read.
  guarded_buffer workspace(plan.workspace_bytes);
  const size_t counters = std::min(workspace.size(), dispatch::arrivals_bytes);
  std::fill_n(workspace.data(), workspace.size(), uint8_t{0xff});
  std::fill_n(workspace.data(), counters, uint8_t{0});
  kernels::linear_tile_arguments args = dispatch::tile_arguments_of(
      plan, {format, n, k, group, scales},
      {packed.codes.data(), packed.scales.data(), tensor_scale, m, problem.bf16, x.data.data(), x.stride,
       bias.data(), y.data.data(), y.stride, workspace.data()});
  const auto boxes_of = [&](int64_t tokens) {
    return ptx::tensor_map{{reinterpret_cast<uint64_t>(x.data.data()), static_cast<uint64_t>(m),
                            static_cast<uint64_t>(k), static_cast<uint64_t>(x.stride),
                            static_cast<uint64_t>(tokens)}};
  };
  const int tokens = 8 * c.token_tiles;
  args.x = boxes_of(tokens);
  args.last_x = boxes_of(m % tokens);
  try {
    emulated::launch(plan.blocks, plan.warps * 32, plan.split, [&] { chosen(args); });
  } catch (const emulated::fault& fault) {
    CAPTURE(traits.name, n, k, m, group, scales, c.warps, c.token_tiles, c.ways, c.split);
    FAIL(fault.what);
  }
  CHECK(y.surroundings_intact());
  CHECK(workspace.check());
  CHECK(std::all_of(workspace.data(), workspace.data() + counters, [](uint8_t byte) { return byte == 0; }));
  const std::vector<reference::sum> exact = exact_sums(n, reference::dense(w), x, type, &bias);
  const std::vector<double> folding = plan.kernel.scaling.way == kernels::scaling::folded
                                          ? folding_errors(w, x, exact, type, &bias)
                                          : std::vector<double>(exact.size());
  for (int64_t t = 0; t < m; ++t) {
    for (int64_t row = 0; row < n; ++row) {
      const auto i = static_cast<size_t>(t * n + row);
      if (!device_close(type, k, exact[i], y.at(t, row), folding[i])) {
        CAPTURE(traits.name, n, k, m, group, scales, c.warps, c.token_tiles, c.ways, c.split, t, row,
                y.at(t, row));
        FAIL("y is wrong");
      }
    }
  }
  return true;
}

}  // namespace

TEST_CASE("each row of the tuning table, whole and shared") {
  // Risk: a slot, a square or a share that is taken for another's, and only with some ways or clusters.
  for (const tuning::tile_row& row : tuning::tile_rows) {
    int runs = 0;
    for (const int ways : {1, 2, 3, 4}) {
      for (const int split : {1, 2, 3}) {
        runs += run(FLOATX_FORMAT_E3M2, 200, 600, 8 * row.token_tiles - 5, 0, FLOATX_SCALE_F16,
                    FLOATX_TYPE_F16, {row.warps, row.token_tiles, ways, split});
      }
    }
    CAPTURE(row.warps, row.token_tiles);
    CHECK(runs >= 2);
  }
  // How scales come in does not depend on how tiles are shared.
  const auto run_groups = [&](const tuning::tile_row& row, int64_t group, floatx_scale_type scales,
                              bool exact = false) {
    int runs = 0;
    for (const int shared : {1, 2}) {
      runs += run(FLOATX_FORMAT_E3M2, 130, 400, 8 * row.token_tiles - 5, group, scales, FLOATX_TYPE_F16,
                  {row.warps, row.token_tiles, shared, shared, false, exact});
    }
    CAPTURE(row.warps, row.token_tiles, group, scales);
    CHECK(runs >= 1);
  };
  for (const tuning::tile_row& row : tuning::tile_rows) {
    using kernels::scaling;
    for (const auto& [group, scales] : {std::pair{16, FLOATX_SCALE_E4M3FN},
                                        {16, FLOATX_SCALE_F16},
                                        {32, FLOATX_SCALE_F16},
                                        {32, FLOATX_SCALE_E8M0},
                                        {64, FLOATX_SCALE_E8M0}}) {
      if (dispatch::has_kernels(row, {scaling::folded, group == 16 ? 1 : 2})) run_groups(row, group, scales);
    }
    if (!dispatch::has_kernels(row, {scaling::apart, kernels::steps})) continue;
    for (const auto scales : {FLOATX_SCALE_F32, FLOATX_SCALE_BF16, FLOATX_SCALE_E8M0}) {
      run_groups(row, 128, scales, true);
    }
    if (!dispatch::has_kernels(row, {scaling::folded, kernels::steps}))
      run_groups(row, 128, FLOATX_SCALE_E4M3FN);
  }
  for (const tuning::tile_row& row : tuning::apart_rows) {
    run_groups(row, 16, FLOATX_SCALE_F16, true);
    run_groups(row, 32, FLOATX_SCALE_BF16, true);
    for (const int64_t group : {32, 64, 128}) run_groups(row, group, FLOATX_SCALE_F32, true);
  }
  // BF16 x: scales of a standard's type where they have a loop of their own, and where they have not.
  for (const int token_tiles : {2, 4}) {
    for (const auto& [group, scales] : {std::pair{16, FLOATX_SCALE_E4M3FN}, {32, FLOATX_SCALE_E8M0}}) {
      CHECK(run(FLOATX_FORMAT_E3M2, 130, 900, 8 * token_tiles - 5, group, scales, FLOATX_TYPE_BF16,
                {16, token_tiles, 1, 2}));
    }
  }
  // Groups of 128, folded: scales that are pairs of the type of x, and others.
  for (const floatx_type type : {FLOATX_TYPE_F16, FLOATX_TYPE_BF16}) {
    for (const floatx_scale_type scales :
         {FLOATX_SCALE_F16, FLOATX_SCALE_BF16, FLOATX_SCALE_F32, FLOATX_SCALE_E8M0, FLOATX_SCALE_E4M3FN}) {
      for (const int shared : {1, 2}) {
        CHECK(run(FLOATX_FORMAT_E3M2, 130, 900, 59, 128, scales, type, {8, 8, shared, shared}));
      }
    }
  }
}

TEST_CASE("several tiles one after the other") {
  // Risk: what is left of a tile, in rings, staging or registers, gets into the next, whose last is not full.
  for (const int multiprocessors : {1, 2, 5}) {
    for (const int64_t m : {250, 257}) {
      CHECK(run(FLOATX_FORMAT_E3M2, 128 * 5 - 3, 300, m, 0, FLOATX_SCALE_F16, FLOATX_TYPE_F16, {8, 32, 1, 1},
                multiprocessors));
      CHECK(run(FLOATX_FORMAT_E3M2, 128 * 5 - 3, 300, m, 32, FLOATX_SCALE_F16, FLOATX_TYPE_F16, {8, 32, 1, 1},
                multiprocessors));
    }
  }
  // Of an odd number of squares each tile's first takes the place of the last one's last, which a slow warp
  // may be yet to read.
  for (const int token_tiles : {2, 22}) {
    const emulated::late_warp late(5, 2000);
    CHECK(run(FLOATX_FORMAT_E3M2, 128 * 3 - 3, 300, 16 * token_tiles - 3, 0, FLOATX_SCALE_F16,
              FLOATX_TYPE_F16, {8, token_tiles, 1, 1}, 2));
  }
  for (const bool exact : {false, true}) {  // folded, apart
    CHECK(run(FLOATX_FORMAT_E3M2, 128 * 3 - 3, 300, 130, 32, FLOATX_SCALE_F32, FLOATX_TYPE_F16,
              {8, 16, 1, 1, false, exact}, 2));
  }
}

TEST_CASE("what is left of whole tiles in equal shares") {
  // Risk: a piece is left out or done twice, the sums of one share are added to another tile, a counter is
  // not zero again, or what is left of a part of a tile gets into the next tile. Of five tiles of three k
  // blocks two thread blocks have a whole one each and share three; three and four share all, a tile is of
  // two at most; seven have most of them parts of two; sixteen are more than there are k blocks, and some
  // have nothing to do but a tile's end. The first k block may be alone in its share.
  for (const int multiprocessors : {2, 3, 4, 7, 16}) {
    for (const auto& [warps, token_tiles] : {std::pair{8, 32}, {12, 16}, {12, 4}}) {
      for (const int64_t group : {0, 32}) {
        CAPTURE(multiprocessors, warps, token_tiles, group);
        CHECK(run(FLOATX_FORMAT_E3M2, 16 * warps * 5 - 3, 300, 8 * token_tiles - 3, group, FLOATX_SCALE_F16,
                  FLOATX_TYPE_F16, {warps, token_tiles, 1, 1, true}, multiprocessors));
      }
    }
  }
  // What others have left comes when there is room in the ring of x, and perhaps late.
  for (const int every : {1, 2, 3, 5}) {
    const emulated::late_copies late(every, 300);
    CHECK(run(FLOATX_FORMAT_E3M2, 16 * 12 * 5 - 3, 300, 125, 0, FLOATX_SCALE_F16, FLOATX_TYPE_F16,
              {12, 16, 1, 1, true}, 4));
  }
  // One tile, whose 40 k blocks 9 thread blocks have: eight wait for nothing, one for all of these.
  CHECK(run(FLOATX_FORMAT_E3M2, 130, 128 * 40 - 1, 13, 0, FLOATX_SCALE_F16, FLOATX_TYPE_F16,
            {12, 4, 1, 1, true}, 9));
  // Not where a tile is shared otherwise, nor by so many warps.
  CHECK(!run(FLOATX_FORMAT_E3M2, 130, 300, 13, 0, FLOATX_SCALE_F16, FLOATX_TYPE_F16, {12, 4, 1, 2, true}, 9));
  CHECK(!run(FLOATX_FORMAT_E3M2, 130, 300, 13, 0, FLOATX_SCALE_F16, FLOATX_TYPE_F16, {16, 4, 1, 1, true}, 9));
}

TEST_CASE("copies that are late") {
  // Risk: a way takes what was in a slot before for what it waits for, because a copy for another way is
  // slow. Each copy in 11 comes only after all others have had time to use their slots twice.
  const emulated::late_copies late(11, 400);
  int runs = 0;
  for (const tuning::tile_row& row : tuning::tile_rows) {
    for (const int ways : {2, 3, 4}) {
      runs += run(FLOATX_FORMAT_E3M2, 64, 128 * 40, 8 * row.token_tiles, 0, FLOATX_SCALE_F16, FLOATX_TYPE_F16,
                  {row.warps, row.token_tiles, ways, 1});
    }
  }
  CHECK(runs >= 12);
}

TEST_CASE("scales and codes that are late") {
  // Risk: two threads copy what is one k block, and those that multiply begin with the codes when the scales
  // are yet to come, or the other way round, or either goes to a slot that is in use. Each copy in so many
  // comes only after all others have had time to use their slots twice: of scales, of codes, of x.
  for (const int every : {2, 3, 7, 13}) {
    const emulated::late_copies late(every, 200);
    for (const choice& c : {choice{8, 8, 1, 1}, {12, 4, 1, 1}, {16, 4, 2, 1}, {8, 16, 1, 1, false, true}}) {
      for (const auto& [group, scales] : {std::pair{32, FLOATX_SCALE_F16}, {128, FLOATX_SCALE_F32}}) {
        CAPTURE(every, c.warps, c.exact, group);
        CHECK(run(FLOATX_FORMAT_E3M2, 16 * c.warps, 128 * 12, 13, group, scales, FLOATX_TYPE_F16, c));
      }
    }
  }
}

TEST_CASE("sums of other thread blocks that are late") {
  // Risk: a thread block adds its share of a tile before the others' sums are there, they come where its ring
  // still is in use, or it ends before its own are sent. Each copy or message in 7, or a few so that those of
  // one thread block alone are among them, comes only after all others have had time to end.
  for (const int every : {7, 23, 31, 53}) {
    const emulated::late_copies late(every, 200);
    for (const auto& [warps, token_tiles] : {std::pair{16, 4}, {12, 16}, {8, 16}}) {
      for (const int split : {2, 3}) {
        for (const int ways : {1, 2}) {
          if (warps / 4 % ways != 0) continue;
          CHECK(run(FLOATX_FORMAT_E3M2, 66, 128 * 7, 8 * token_tiles - 3, 0, FLOATX_SCALE_F16,
                    FLOATX_TYPE_F16, {warps, token_tiles, ways, split}));
        }
      }
    }
  }
}

TEST_CASE("edges, widths and types on the emulated machine") {
  // Risk: what holds for full tiles of six bits does not for others.
  for (const floatx_format format :
       {FLOATX_FORMAT_E2M0, FLOATX_FORMAT_E1M1, FLOATX_FORMAT_E2M1, FLOATX_FORMAT_E2M2, FLOATX_FORMAT_E2M3,
        FLOATX_FORMAT_E5M0, FLOATX_FORMAT_E3M3, FLOATX_FORMAT_E4M3FN}) {
    for (const floatx_type type : {FLOATX_TYPE_F16, FLOATX_TYPE_BF16}) {
      CHECK(run(format, 130, 300, 70, 0, FLOATX_SCALE_F16, type, {16, 4, 1, 1}));
      if (format == FLOATX_FORMAT_E5M0) continue;
      CHECK(run(format, 130, 300, 70, 32, FLOATX_SCALE_F16, type, {16, 4, 2, 2}));
      // Apart where they cannot be folded.
      for (const floatx_scale_type scales : {FLOATX_SCALE_E4M3FN, FLOATX_SCALE_E8M0}) {
        CHECK((run(format, 130, 300, 70, 32, scales, type, {16, 4, 1, 2}) ||
               run(format, 130, 300, 13, 32, scales, type, {16, 2, 1, 2})));
      }
    }
  }
  for (const int64_t n : {1, 64, 65, 257}) {
    for (const int64_t k : {1, 127, 129}) {
      CHECK(run(FLOATX_FORMAT_E3M2, n, k, 9, 0, FLOATX_SCALE_F16, FLOATX_TYPE_F16,
                {16, 4, k == 129 ? 4 : 1, 1}));
    }
  }
}
