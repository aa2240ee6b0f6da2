// kernels::linear_stream on the emulated machine: its arithmetic of pieces, slots and shares without a GPU.
//
// SPDX-License-Identifier: Apache-2.0
#include "kernel/emulated/ptx.hpp"

// The dynamic shared memory of the thread block that runs.
namespace floatx::kernels {
alignas(1024) thread_local unsigned char smem[emulated::shared_bytes];
}

// After what it is made of here.
#include "dispatch/linear_launch.hpp"
#include "instances/unpackings.hpp"
#include "kernel/gpu_problem.hpp"
#include "linear_stream.cuh"
#include "support/catch.hpp"

using namespace floatx;
using namespace floatx::test;

namespace {

using kernel = void (*)(kernels::linear_arguments);

// Those that are compiled here: for FP16 and most formats of 6 bits all, else one or two.
template <int Bits, class Activation, int Promote, kernels::unpacking How>
kernel find_stream(int tiles, int strips) {
  if (tiles == 1 && strips == 4) return &kernels::linear_stream<Bits, Activation, Promote, 1, How, 4>;
  if constexpr (Bits == 6 && How == kernels::unpacking::usual && std::is_same_v<Activation, __half>) {
    if (tiles == 1 && strips == 2) return &kernels::linear_stream<Bits, Activation, Promote, 1, How, 2>;
    if (tiles == 2 && strips == 4) return &kernels::linear_stream<Bits, Activation, Promote, 2, How, 4>;
    if (tiles == 2 && strips == 2) return &kernels::linear_stream<Bits, Activation, Promote, 2, How, 2>;
    if (tiles == 4 && strips == 4) return &kernels::linear_stream<Bits, Activation, Promote, 4, How, 4>;
  }
  return nullptr;
}

template <int Bits, class Activation, kernels::unpacking How>
kernel find_stream(const dispatch::linear_kernel& k) {
  if (k.scaling.interval == 0) return find_stream<Bits, Activation, 0, How>(k.token_tiles, k.strips);
  if constexpr (How != kernels::unpacking::halved) {
    switch (k.scaling.interval) {
      case 1:
        if constexpr (Bits == 6) return find_stream<Bits, Activation, 1, How>(k.token_tiles, k.strips);
        return nullptr;
      case 2:
        return find_stream<Bits, Activation, 2, How>(k.token_tiles, k.strips);
      default:
        return find_stream<Bits, Activation, kernels::steps, How>(k.token_tiles, k.strips);
    }
  }
  return nullptr;
}

template <int Bits, class Activation>
kernel find_stream(const dispatch::linear_kernel& k) {
  constexpr bool bf16 = std::is_same_v<Activation, __nv_bfloat16>;
  return reinterpret_cast<kernel>(instances::with_unpacking<Bits, bf16>(k.unpacking, [&](auto how) {
    return reinterpret_cast<const void*>(find_stream<Bits, Activation, decltype(how)::value>(k));
  }));
}

template <int Bits>
kernel find_stream_of(const dispatch::linear_kernel& k) {
  return k.bf16 ? find_stream<Bits, __nv_bfloat16>(k) : find_stream<Bits, __half>(k);
}

kernel find_kernel(const dispatch::linear_kernel& k) {
  switch (k.bits) {
    case 3:
      return find_stream_of<3>(k);
    case 4:
      return find_stream_of<4>(k);
    case 5:
      return find_stream_of<5>(k);
    case 6:
      return find_stream_of<6>(k);
    case 7:
      return find_stream_of<7>(k);
    default:
      return find_stream_of<8>(k);
  }
}

struct choice {
  int token_tiles, strips, warps, stages;
  bool whole_tiles;
  bool programmatic = false;
};

struct layer {
  floatx_format format;
  int64_t n, k, m, group;
  floatx_type type;
  bool is_aligned = true;  // x
};

dispatch::linear_problem problem_of(const layer& l, bool programmatic) {
  const format_traits& traits = *find_format(l.format);
  const bool bf16 = l.type == FLOATX_TYPE_BF16;
  return {traits.bits, kernels::unpacking_of(traits, bf16),
          bf16,        l.m,
          l.n,         l.k,
          l.group,     scale_storage::f16,
          false,       l.is_aligned,
          programmatic};
}

void run(const layer& l, const dispatch::linear_plan& plan);

void run(const layer& l, choice c, int multiprocessors) {
  CAPTURE(multiprocessors);
  const dispatch::linear_problem problem = problem_of(l, c.programmatic);
  dispatch::linear_plan plan = {};
  plan.kernel = dispatch::kernel_of(dispatch::linear_family::stream, problem, c.strips, c.token_tiles);
  plan.warps = c.warps;
  plan.stages = c.stages;
  plan.whole_tiles = c.whole_tiles;
  dispatch::lay_out(problem, {80, multiprocessors, 166912, false}, plan);
  run(l, plan);
}

void run(const layer& l, const dispatch::linear_plan& plan) {
  CAPTURE(find_format(l.format)->name, l.n, l.k, l.m, l.group, l.is_aligned, plan.kernel.token_tiles,
          plan.kernel.strips, plan.warps, plan.stages, plan.blocks, plan.shared_tiles, plan.pause);
  const bool bf16 = l.type == FLOATX_TYPE_BF16;
  const kernel chosen = find_kernel(plan.kernel);
  REQUIRE(chosen);

  const reference::weight w = random_weight(l.format, l.n, l.k, l.group, FLOATX_SCALE_F16, 61);
  const gpu_arrangement packed(w);
  const int64_t row = gpu::round_up(l.k, 8) + 8;
  activations x(l.type, l.m, l.k, l.is_aligned ? row : row + 1, 62);
  for (int64_t t = 0; t < l.m; ++t) {
    for (int64_t i = l.k; i < x.stride; ++i) x.set(t, i, std::numeric_limits<float>::quiet_NaN());
  }
  const std::vector<uint8_t> bias = random_bias(l.type, l.n, 63);
  outputs y(l.type, l.m, l.n, l.n + 3);
  // Whatever is read of the shares before it was written makes y wrong.
  std::vector<unsigned char> workspace(plan.workspace_bytes, 0xff);
  std::fill_n(workspace.begin(), std::min(plan.workspace_bytes, dispatch::arrivals_bytes),
              static_cast<unsigned char>(0));
  const kernels::linear_arguments args =
      dispatch::arguments_of(plan, {l.format, l.n, l.k, l.group, FLOATX_SCALE_F16},
                             {packed.codes.data(), packed.scales.data(), nullptr, l.m, bf16, x.data.data(),
                              x.stride, bias.data(), y.data.data(), y.stride, workspace.data()});
  const auto as_thread = [&] {
    emulated::self().in->shared = kernels::smem;
    if (emulated::self().index == 0) std::memset(kernels::smem, 0xff, sizeof kernels::smem);
    chosen(args);
  };
  try {
    for (int token_block = 0; token_block < plan.token_blocks; ++token_block) {
      emulated::launch(plan.blocks, kernels::stream_threads(plan.warps), 1, as_thread, token_block);
    }
  } catch (const emulated::fault& fault) {
    FAIL(fault.what);
  }
  CHECK(y.surroundings_intact());
  for (size_t i = 0; i < std::min(plan.workspace_bytes, dispatch::arrivals_bytes); ++i) {
    if (workspace[i] != 0) FAIL("the counters of arrivals are not zero again");
  }
  const std::vector<reference::sum> exact = exact_sums(l.n, reference::dense(w), x, l.type, &bias);
  for (int64_t t = 0; t < l.m; ++t) {
    for (int64_t r = 0; r < l.n; ++r) {
      if (!device_close(l.type, l.k, exact[static_cast<size_t>(t * l.n + r)], y.at(t, r))) {
        CAPTURE(t, r, y.at(t, r));
        FAIL("y is wrong");
      }
    }
  }
}

}  // namespace

TEST_CASE("whole tiles and shares of them, with every size of tile") {
  // Risk: a piece that no warp takes, or a share that is added twice, and only with some numbers of warps,
  // slots and thread blocks.
  for (const int64_t group : {0, 16, 32, 64, 128}) {
    for (const bool whole_tiles : {true, false}) {
      for (const auto& [tiles, strips] : {std::pair{1, 4}, {1, 2}, {2, 4}, {2, 2}, {4, 4}}) {
        const layer l = {FLOATX_FORMAT_E3M2, 150, 600, 8 * tiles - 3, group, FLOATX_TYPE_F16};
        run(l, {tiles, strips, strips == 2 ? 3 : 4, 2, whole_tiles}, tiles == 2 ? 5 : 2);
      }
    }
  }
  for (const int strips : {2, 4}) {
    for (const int warps : {kernels::least_stream_warps(strips), 5, 12}) {
      for (const int stages : {2, 3, 6}) {
        run({FLOATX_FORMAT_E3M2, 70, 900, 1, 0, FLOATX_TYPE_F16}, {1, strips, warps, stages, stages != 3}, 3);
      }
    }
  }
}

TEST_CASE("shares that are whole tiles") {
  // Risk: one is taken for a tile that no other thread block works on, and has another tile's scales.
  for (const int strips : {2, 4}) {
    for (const int64_t k : {1, 128, 129}) {
      for (const int64_t n : {65, 150, 300}) {
        run({FLOATX_FORMAT_E3M2, n, k, 3, 0, FLOATX_TYPE_F16}, {1, strips, 4, 2, false}, 3);
      }
    }
  }
}

TEST_CASE("slots are filled while the kernel before runs") {
  // Risk: where that ends with some slots filled, or all, or further pieces on their way to the L2 cache, a
  // slot is filled twice or its x is that of another piece.
  for (const int64_t turns : {0, 5, 10, 20, 40, 2000}) {
    const emulated::late_kernel late(turns);
    for (const int strips : {2, 4}) {
      for (const int warps : {kernels::least_stream_warps(strips), 5, 8}) {
        for (const int stages : {2, 3, 6}) {
          run({FLOATX_FORMAT_E3M2, 70, 2600, 1, 0, FLOATX_TYPE_F16},
              {1, strips, warps, stages, stages != 3, true}, 1);
        }
      }
    }
  }
}

TEST_CASE("every width and both types of x") {
  // Risk: what holds for six bits does not for others.
  for (const format_traits& format : formats) {
    if (format.exponent_bits > 5) continue;
    for (const floatx_type type : {FLOATX_TYPE_F16, FLOATX_TYPE_BF16}) {
      for (const int64_t group : {0, 32}) {
        const auto how = kernels::unpacking_of(format, type == FLOATX_TYPE_BF16);
        if (group != 0 && how == kernels::unpacking::halved) continue;
        run({static_cast<floatx_format>(format.id), 66, 260, 3, group, type}, {1, 4, 2, 2, true}, 2);
      }
    }
  }
}

TEST_CASE("what an H100 is given for small layers") {
  // Risk: a plan breaks what the kernel takes for granted.
  const dispatch::device_limits device = {90, 132, 232448, false};
  for (const int64_t n : {1, 65, 130, 300}) {
    for (const int64_t k : {1, 129, 300, 1030}) {
      for (const int64_t m : {1, 9}) {
        const layer l = {FLOATX_FORMAT_E3M2, n, k, m, 0, FLOATX_TYPE_F16};
        const bool programmatic = (n + k + m) % 2 == 0;
        run(l, dispatch::plan_linear(problem_of(l, programmatic), device, SIZE_MAX));
      }
    }
  }
}

TEST_CASE("edges of n, k and m, and x that is not aligned") {
  // Risk: padding is multiplied, or written.
  for (const int64_t n : {1, 64, 65}) {
    for (const int64_t k : {1, 127, 128, 129, 257}) {
      for (const int64_t m : {1, 8, 9, 19}) {
        const int tiles = m <= 8 ? 1 : 2;
        run({FLOATX_FORMAT_E3M2, n, k, m, 0, FLOATX_TYPE_F16, (n + k + m) % 2 == 0}, {tiles, 2, 2, 2, true},
            4);
      }
    }
  }
}
