// The linear layer on the GPU against its definition in FP64.
//
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "cuda/device.hpp"
#include "cuda/linear.hpp"
#include "dispatch/linear_launch.hpp"
#include "floatx/layout.hpp"
#include "instances/linear_stream.hpp"
#include "instances/linear_tile.hpp"
#include "kernel/gpu_problem.hpp"
#include "kernel/linear_problem.hpp"
#include "support/device_memory.hpp"
#include "support/skip.hpp"
#include "tuning/linear_tile.hpp"

using namespace floatx;
using namespace floatx::test;

namespace {

bool fits_cuda(floatx_format format) { return find_format(format)->exponent_bits <= 5; }

// A weight in the GPU's arrangement, made on the host, in device memory.
struct device_weight {
  reference::weight canonical;
  std::vector<double> dense;
  weight_shape shape;
  std::unique_ptr<device_buffer> codes, scales, tensor_scale;
  floatx_weight c_weight = {};

  explicit device_weight(reference::weight w)
      : canonical(std::move(w)),
        dense(reference::dense(canonical)),
        shape{canonical.format, canonical.n, canonical.k, canonical.group_size, canonical.scale_type} {
    const gpu_arrangement packed(canonical);
    codes = std::make_unique<device_buffer>(packed.codes.data(), packed.codes.size());
    scales = std::make_unique<device_buffer>(packed.scales.data(), packed.scales.size());
    c_weight.struct_size = sizeof c_weight;
    c_weight.format = shape.format;
    c_weight.layout = FLOATX_LAYOUT_CUDA;
    c_weight.n = shape.n;
    c_weight.k = shape.k;
    c_weight.group_size = shape.group_size;
    c_weight.scale_type = shape.scale_type;
    c_weight.codes = codes->data();
    c_weight.codes_bytes = codes->size();
    c_weight.scales = scales->data();
    c_weight.scales_bytes = scales->size();
    if (shape.scale_type == FLOATX_SCALE_E4M3FN) {
      tensor_scale = std::make_unique<device_buffer>(&canonical.tensor_scale, sizeof(float));
      c_weight.tensor_scale = reinterpret_cast<float*>(tensor_scale->data());
    }
  }
};

// Warps and token tiles of all rows of the tile family's tuning tables.
std::set<std::pair<int, int>> tile_sizes() {
  std::set<std::pair<int, int>> sizes;
  for (const tuning::tile_row& row : tuning::tile_rows) sizes.insert({row.warps, row.token_tiles});
  for (const tuning::tile_row& row : tuning::apart_rows) sizes.insert({row.warps, row.token_tiles});
  return sizes;
}

// How a tile is shared: ways, thread blocks of a cluster; where it is not, by a GPU of one multiprocessor,
// whose thread block takes all of them; and in equal shares, of everything and of what three whole tiles
// leave.
struct sharing {
  int ways, split, processors;
  bool shares = false;  // of what is left of whole tiles
};
constexpr sharing sharings[] = {{1, 1, 0}, {1, 1, 1}, {1, 1, 0, true}, {1, 1, 3, true}, {1, 2, 0},
                                {1, 3, 0}, {2, 1, 0}, {2, 2, 0},       {2, 3, 0},       {3, 1, 0},
                                {3, 2, 0}, {3, 3, 0}, {4, 1, 0},       {4, 2, 0},       {4, 3, 0}};

// Scratch for any plan of these tests, zeroed once.
struct scratch {
  device_buffer memory{64 << 20};
  scratch() { memory.fill(0); }
};

struct device_run {
  device_buffer x, y;
  std::unique_ptr<device_buffer> bias;
  bool folds = false;  // whether the kernel that ran has multiplied weights by their scales

  device_run(const activations& input, const std::vector<uint8_t>* bias_values, const outputs& output)
      : x(input.data.data(), input.data.size()), y(output.data.size()) {
    if (bias_values) bias = std::make_unique<device_buffer>(bias_values->data(), bias_values->size());
  }
};

// What the layer should give, and what it may be off by where weights are multiplied by their scales.
struct expectation {
  std::vector<reference::sum> sums;
  std::vector<double> folding;

  expectation(const device_weight& w, const activations& x, floatx_type y_type,
              const std::vector<uint8_t>* bias)
      : sums(exact_sums(w.shape.n, w.dense, x, y_type, bias)),
        folding(w.shape.group_size == 0 ? std::vector<double>(sums.size())
                                        : folding_errors(w.canonical, x, sums, y_type, bias)) {}
};

void compare(int64_t k, const expectation& expected, device_run& run, outputs& y) {
  CHECK(run.y.guards_intact());
  run.y.download(y.data.data());
  CHECK(y.surroundings_intact());
  for (int64_t t = 0; t < y.m; ++t) {
    for (int64_t row = 0; row < y.n; ++row) {
      const auto i = static_cast<size_t>(t * y.n + row);
      const reference::sum& exact = expected.sums[i];
      if (!device_close(y.type, k, exact, y.at(t, row), run.folds ? expected.folding[i] : 0)) {
        CAPTURE(t, row, y.at(t, row), exact.value, exact.magnitude);
        FAIL("y is wrong");
      }
    }
  }
}

void compare(const device_weight& w, const activations& x, const std::vector<uint8_t>* bias, device_run& run,
             outputs& y) {
  compare(x.k, expectation(w, x, y.type, bias), run, y);
}

bool folds(const dispatch::linear_plan& plan) { return plan.kernel.scaling.way == kernels::scaling::folded; }

void run_through_api(const device_weight& w, const activations& x, device_run& run, const outputs& y,
                     scratch* workspace, cudaStream_t stream = nullptr, uint32_t flags = 0) {
  floatx_execution how = {};
  how.struct_size = sizeof how;
  how.memory = FLOATX_MEMORY_DEVICE;
  how.flags = flags;
  how.stream = stream;
  if (workspace) {
    how.workspace = workspace->memory.data();
    how.workspace_bytes = workspace->memory.size();
  }
  run.folds = folds(dispatch::plan_linear(
      cuda::problem_of(w.shape, x.m, x.type, dispatch::rows_are_aligned(run.x.data(), x.stride), false,
                       (flags & FLOATX_EXECUTION_EXACT_WEIGHTS) != 0),
      cuda::current_device(), how.workspace_bytes));
  INFO(floatx_last_error());
  REQUIRE(floatx_linear(&w.c_weight, x.m, x.type, run.x.data(), x.stride,
                        run.bias ? run.bias->data() : nullptr, y.type, run.y.data(), y.stride,
                        &how) == FLOATX_STATUS_OK);
}

std::string describe(const weight_shape& s, int64_t m, floatx_type type) {
  char text[128];
  std::snprintf(text, sizeof text, "%s group %d scales %d m %d n %d k %d type %d",
                find_format(s.format)->name, static_cast<int>(s.group_size), static_cast<int>(s.scale_type),
                static_cast<int>(m), static_cast<int>(s.n), static_cast<int>(s.k), static_cast<int>(type));
  return text;
}

// One for each kernel there is: of every width and kernels::unpacking with FP16 and with BF16 x.
constexpr floatx_format of_instances[] = {FLOATX_FORMAT_E2M0, FLOATX_FORMAT_E2M1,   FLOATX_FORMAT_E2M2,
                                          FLOATX_FORMAT_E1M3, FLOATX_FORMAT_E3M2,   FLOATX_FORMAT_E2M3,
                                          FLOATX_FORMAT_E5M0, FLOATX_FORMAT_E3M3,   FLOATX_FORMAT_E4M2,
                                          FLOATX_FORMAT_E5M1, FLOATX_FORMAT_E4M3FN, FLOATX_FORMAT_E5M2};

constexpr floatx_type device_types[] = {FLOATX_TYPE_F16, FLOATX_TYPE_BF16};

}  // namespace

TEST_CASE("every format with every kind of scale") {
  // Risk: a mask, a turn or a scale's conversion is wrong for one of them.
  NEEDS_GPU;
  scratch workspace;
  for (const floatx_format format : all_formats) {
    if (!fits_cuda(format)) continue;
    for (const int64_t group : all_group_sizes) {
      for (const floatx_scale_type scale : all_scale_types) {
        const device_weight w(random_weight(format, 70, 200, group, scale, 3));
        for (const floatx_type type : device_types) {
          // One family of kernels serves few tokens, the other many, with rounded weights or without.
          for (const auto& [m, flags] :
               {std::pair<int64_t, uint32_t>{3, 0}, {20, 0}, {20, FLOATX_EXECUTION_EXACT_WEIGHTS}}) {
            INFO(describe(w.shape, m, type) << " flags " << flags);
            const activations x(type, m, w.shape.k, 208, 5);
            const std::vector<uint8_t> bias = random_bias(type, w.shape.n, 6);
            outputs y(type, m, w.shape.n, w.shape.n + 3);
            device_run run(x, &bias, y);
            run_through_api(w, x, run, y, &workspace, nullptr, flags);
            compare(w, x, &bias, run, y);
          }
        }
      }
    }
  }
}

TEST_CASE("edges of n, k and m, and any leading dimension") {
  // Risk: something is read or written beyond an edge, or a tail of k is multiplied by what lies behind it.
  NEEDS_GPU;
  scratch workspace;
  for (const int64_t n : {1, 15, 16, 17, 63, 64, 65, 129}) {
    for (const int64_t k : {1, 15, 16, 17, 127, 128, 129, 300}) {
      const device_weight row_scales(random_weight(FLOATX_FORMAT_E3M2, n, k, 0, FLOATX_SCALE_F32, 11));
      const device_weight groups(random_weight(FLOATX_FORMAT_E2M1, n, k, 32, FLOATX_SCALE_F16, 12));
      for (const int64_t m : {1, 2, 7, 8, 9, 16, 17, 31, 32, 33, 65, 129}) {
        for (const device_weight* w : {&row_scales, &groups}) {
          const floatx_type type = m % 2 ? FLOATX_TYPE_F16 : FLOATX_TYPE_BF16;
          INFO(describe(w->shape, m, type));
          activations x(type, m, k, gpu::round_up(k, 8) + (n % 2 ? 8 : 1), 13);
          // What lies between the rows of x must not matter, even if it is NaN.
          for (int64_t t = 0; t < m; ++t) {
            for (int64_t i = k; i < x.stride; ++i) x.set(t, i, std::numeric_limits<float>::quiet_NaN());
          }
          outputs y(type, m, n, n + m % 3);
          device_run run(x, nullptr, y);
          run_through_api(*w, x, run, y, n % 2 ? &workspace : nullptr);
          compare(*w, x, nullptr, run, y);
        }
      }
    }
  }
}

TEST_CASE("every instance of the stream family, whole and shared") {
  // Risk: an instance that this machine's table does not choose is wrong on the machine that does; and what
  // helpers do at the end of a tile, whole or shared, while others are at the next, which few thread blocks
  // do.
  NEEDS_GPU;
  scratch workspace;
  const dispatch::device_limits device = cuda::current_device();
  int instances = 0;
  for (const floatx_format format : of_instances) {
    for (const int64_t group : {0, 16, 64, 128}) {
      const device_weight w(random_weight(format, 200, 900, group, FLOATX_SCALE_F16, 21));
      for (const floatx_type type : device_types) {
        for (const int tiles : {1, 2, 4}) {
          const int64_t m = 8 * tiles + 1 - tiles % 2;
          const activations x(type, m, w.shape.k, 904, 22);
          const expectation expected(w, x, type, nullptr);
          for (const int strips : {2, 4}) {
            for (const int stages : {2, 3, 6}) {
              for (const auto& [whole, processors] :
                   {std::pair{true, 0}, {true, 3}, {false, 0}, {false, 3}}) {
                dispatch::linear_problem problem = cuda::problem_of(w.shape, m, type, true);
                problem.programmatic = stages == 6;
                dispatch::linear_plan plan = {};
                plan.kernel = dispatch::kernel_of(dispatch::linear_family::stream, problem, strips, tiles);
                if (!instances::find_linear_stream(plan.kernel)) continue;
                plan.warps = stages == 3 ? 5
                                         : kernels::max_stream_warps(problem.bits, tiles,
                                                                     plan.kernel.scaling.interval);
                plan.stages = stages;
                plan.whole_tiles = whole;
                dispatch::device_limits limits = device;
                if (processors > 0) limits.multiprocessors = processors;
                dispatch::lay_out(problem, limits, plan);
                REQUIRE(plan.workspace_bytes <= workspace.memory.size());
                INFO(describe(w.shape, m, type) << " tiles " << tiles << " strips " << strips << " stages "
                                                << stages << " whole " << whole << " blocks " << plan.blocks);
                outputs y(type, m, w.shape.n, w.shape.n);
                device_run run(x, nullptr, y);
                const cuda::execution how = {nullptr, workspace.memory.data(), workspace.memory.size(),
                                             nullptr, problem.programmatic,    false};
                cuda::linear_with(plan, w.shape, w.c_weight.codes, w.c_weight.scales, w.c_weight.tensor_scale,
                                  m, type, run.x.data(), x.stride, nullptr, run.y.data(), y.stride, how);
                compare(w.shape.k, expected, run, y);
                ++instances;
              }
            }
          }
        }
      }
    }
  }
  CHECK(instances >= 5760);
}

namespace {

// How many there were.
int run_tile_instances(const dispatch::device_limits& device, bool of_8_bits) {
  scratch workspace;
  int instances = 0;
  for (const floatx_format format : of_instances) {
    if ((find_format(format)->bits == 8) != of_8_bits) continue;
    // Each way in which scales come in (kernels::scaling).
    constexpr std::pair<int64_t, floatx_scale_type> kinds[] = {
        {0, FLOATX_SCALE_F16},     {16, FLOATX_SCALE_F16},  {32, FLOATX_SCALE_F16},
        {64, FLOATX_SCALE_F16},    {128, FLOATX_SCALE_F16}, {64, FLOATX_SCALE_F32},
        {16, FLOATX_SCALE_E4M3FN}, {32, FLOATX_SCALE_E8M0}, {128, FLOATX_SCALE_BF16}};
    for (const auto& [group, scales] : kinds) {
      reference::weight canonical = random_weight(format, 200, 900, group, scales, 23);
      set_extreme_scales(canonical);
      const device_weight w(std::move(canonical));
      for (const floatx_type type : device_types) {
        std::map<int, std::unique_ptr<expectation>> expectations;  // by token tiles
        for (const auto& [warps, tiles] : tile_sizes()) {
          const int64_t m = 8 * tiles + 1 - tiles / 8 % 2;
          const activations x(type, m, w.shape.k, 904, 24);
          std::unique_ptr<expectation>& expected = expectations[tiles];
          const auto run_instance = [&](const dispatch::linear_problem& problem) {
            dispatch::linear_plan plan = {};
            plan.kernel = dispatch::kernel_of(dispatch::linear_family::tile, problem, warps, tiles);
            if (!instances::find_linear_tile(plan.kernel)) return;
            if (!expected) expected = std::make_unique<expectation>(w, x, type, nullptr);
            for (const auto& [ways, split, processors, shares] : sharings) {
              if (warps / 4 % ways != 0) continue;
              plan.ways = ways;
              plan.split = split;
              plan.whole_tiles = !shares;
              dispatch::device_limits limits = device;
              if (processors > 0) limits.multiprocessors = processors;
              dispatch::lay_out(problem, limits, plan);
              if (!dispatch::has_room(problem, device, plan)) continue;
              INFO(describe(w.shape, m, type)
                   << " scaling " << static_cast<int>(plan.kernel.scaling.way) << " warps " << warps
                   << " tiles " << tiles << " ways " << ways << " split " << split << " blocks "
                   << plan.blocks << " shared tiles " << plan.shared_tiles);
              outputs y(type, m, w.shape.n, w.shape.n + split % 2);
              device_run run(x, nullptr, y);
              run.folds = folds(plan);
              const auto launch = [&] {
                cuda::linear_with(
                    plan, w.shape, w.c_weight.codes, w.c_weight.scales, w.c_weight.tensor_scale, m, type,
                    run.x.data(), x.stride, nullptr, run.y.data(), y.stride,
                    {nullptr, workspace.memory.data(), workspace.memory.size(), nullptr, false, false});
              };
              launch();
              compare(w.shape.k, *expected, run, y);
              ++instances;
              // Risk: a slot is filled while a slow warp still reads it, once in some launches.
              std::vector<uint8_t> again(y.data.size());
              for (int repeat = 0; repeat < 5; ++repeat) {
                launch();
                run.y.download(again.data());
                if (std::memcmp(again.data(), y.data.data(), again.size()) != 0) {
                  FAIL("launch " << repeat + 2 << " gives other bits");
                }
              }
            }
          };
          const dispatch::linear_problem problem = cuda::problem_of(w.shape, m, type, true),
                                         unrounded = cuda::problem_of(w.shape, m, type, true, false, true);
          run_instance(problem);
          if (unrounded.folds != problem.folds) run_instance(unrounded);
        }
      }
    }
  }
  return instances;
}

}  // namespace

// Risk: as above; and sums that a cluster or several ways share are lost, doubled or read too early; and what
// a tile leaves behind gets into the next of the same thread block. In two, to be run side by side; how many
// there are at least is what lay_out and has_room say with an H100's shared memory.
TEST_CASE("every instance of the tile family of 3 to 7 bits, whole and shared") {
  NEEDS_GPU;
  const dispatch::device_limits device = cuda::current_device();
  if (!device.has_wgmma) return skip("no wgmma");
  CHECK(run_tile_instances(device, false) >= 32578);
}

TEST_CASE("every instance of the tile family of 8 bits, whole and shared") {
  NEEDS_GPU;
  const dispatch::device_limits device = cuda::current_device();
  if (!device.has_wgmma) return skip("no wgmma");
  CHECK(run_tile_instances(device, true) >= 5764);
}

TEST_CASE("what is left of whole tiles in equal shares, of every size of tile") {
  // Risk: sums are read before they are there, or those of the launch before; a counter that is not zero for
  // the next launch; a thread block that waits for ever. Of five tiles of 15 k blocks two thread blocks
  // share three, three all; seven, 50 and 75 have less than a tile each, some of 75 no k block.
  NEEDS_GPU;
  const dispatch::device_limits device = cuda::current_device();
  if (!device.has_wgmma) return skip("no wgmma");
  scratch workspace;
  int plans = 0;
  constexpr std::pair<int64_t, floatx_scale_type> kinds[] = {{0, FLOATX_SCALE_F16},
                                                             {32, FLOATX_SCALE_F16},
                                                             {64, FLOATX_SCALE_F32},
                                                             {128, FLOATX_SCALE_BF16},
                                                             {32, FLOATX_SCALE_E4M3FN}};
  for (const auto& [group, scales] : kinds) {
    for (const auto& [warps, tiles] : tile_sizes()) {
      const device_weight w(random_weight(FLOATX_FORMAT_E3M2, 16 * warps * 5 - 3, 1900, group, scales, 27));
      const int64_t m = 8 * tiles - 3;
      const dispatch::linear_problem problem = cuda::problem_of(w.shape, m, FLOATX_TYPE_F16, true);
      dispatch::linear_plan plan = {};
      plan.kernel = dispatch::kernel_of(dispatch::linear_family::tile, problem, warps, tiles);
      if (!instances::find_linear_tile(plan.kernel)) continue;
      const activations x(FLOATX_TYPE_F16, m, w.shape.k, 1904, 28);
      const expectation expected(w, x, FLOATX_TYPE_F16, nullptr);
      plan.ways = 1;
      plan.split = 1;
      for (const int processors : {2, 3, 7, 50, 132}) {
        plan.whole_tiles = false;
        dispatch::device_limits limits = device;
        limits.multiprocessors = processors;
        dispatch::lay_out(problem, limits, plan);
        if (!dispatch::has_room(problem, limits, plan)) continue;
        INFO(describe(w.shape, m, FLOATX_TYPE_F16)
             << " warps " << warps << " tiles " << tiles << " blocks " << plan.blocks);
        outputs y(FLOATX_TYPE_F16, m, w.shape.n, w.shape.n);
        device_run run(x, nullptr, y);
        run.folds = folds(plan);
        // Each launch adds to the counters of the one before, whose sums it finds in the workspace.
        for (int repeat = 0; repeat < 4; ++repeat) {
          run.y.fill(device_buffer::poison);
          cuda::linear_with(
              plan, w.shape, w.c_weight.codes, w.c_weight.scales, w.c_weight.tensor_scale, m, FLOATX_TYPE_F16,
              run.x.data(), x.stride, nullptr, run.y.data(), y.stride,
              {nullptr, workspace.memory.data(), workspace.memory.size(), nullptr, false, repeat % 2 != 0});
          compare(w.shape.k, expected, run, y);
        }
        ++plans;
      }
    }
  }
  CHECK(plans >= 330);  // lay_out and has_room with an H100's shared memory
}

TEST_CASE("the same bits in every run, on every stream, from a graph and under dependent launch") {
  // Risk: sums whose order depends on who is first; a graph that replays with a stale workspace.
  NEEDS_GPU;
  const int64_t m = GENERATE(5, 40);
  scratch workspace;
  const device_weight w(random_weight(FLOATX_FORMAT_E3M2, 130, 5000, 0, FLOATX_SCALE_F32, 31));
  const activations x(FLOATX_TYPE_F16, m, w.shape.k, 5000, 32);
  outputs y(FLOATX_TYPE_F16, m, w.shape.n, w.shape.n), again(FLOATX_TYPE_F16, m, w.shape.n, w.shape.n);
  device_run run(x, nullptr, y);
  run_through_api(w, x, run, y, &workspace);
  compare(w, x, nullptr, run, y);
  const auto same = [&] {
    run.y.download(again.data.data());
    run.y.fill(device_buffer::poison);
    return std::memcmp(y.data.data(), again.data.data(), y.data.size()) == 0;
  };
  run.y.fill(device_buffer::poison);
  for (int i = 0; i < 20; ++i) {
    run_through_api(w, x, run, y, &workspace, nullptr, i % 2 ? FLOATX_EXECUTION_PROGRAMMATIC_LAUNCH : 0u);
    cuda_check(cudaDeviceSynchronize());
    CHECK(same());
  }
  cudaStream_t streams[4];
  std::vector<std::unique_ptr<scratch>> workspaces;
  std::vector<std::unique_ptr<device_run>> runs;
  for (cudaStream_t& stream : streams) {
    cuda_check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    workspaces.push_back(std::make_unique<scratch>());
    runs.push_back(std::make_unique<device_run>(x, nullptr, y));
  }
  cuda_check(cudaDeviceSynchronize());
  for (int round = 0; round < 5; ++round) {
    for (int i = 0; i < 4; ++i) run_through_api(w, x, *runs[i], y, workspaces[i].get(), streams[i]);
  }
  cuda_check(cudaDeviceSynchronize());
  for (int i = 0; i < 4; ++i) {
    runs[i]->y.download(again.data.data());
    CHECK(std::memcmp(y.data.data(), again.data.data(), y.data.size()) == 0);
  }
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  cuda_check(cudaStreamBeginCapture(streams[0], cudaStreamCaptureModeGlobal));
  for (int i = 0; i < 3; ++i) {
    run_through_api(w, x, run, y, &workspace, streams[0], FLOATX_EXECUTION_PROGRAMMATIC_LAUNCH);
  }
  cuda_check(cudaStreamEndCapture(streams[0], &graph));
  cuda_check(cudaGraphInstantiate(&executable, graph, 0));
  for (int i = 0; i < 5; ++i) {
    cuda_check(cudaGraphLaunch(executable, streams[0]));
    cuda_check(cudaStreamSynchronize(streams[0]));
    CHECK(same());
  }
  cuda_check(cudaGraphExecDestroy(executable));
  cuda_check(cudaGraphDestroy(graph));
  for (const cudaStream_t stream : streams) cuda_check(cudaStreamDestroy(stream));
}

TEST_CASE("calls of one kernel that want different amounts of shared memory: threads, a graph") {
  // Risk: a limit of the kernel, which is the same for all, set for one call and found by another: by a
  // thread's at the same time, or by a graph that is instantiated after it.
  NEEDS_GPU;
  const device_weight w(random_weight(FLOATX_FORMAT_E3M2, 64, 256, 0, FLOATX_SCALE_F32, 35));
  const int64_t tokens[] = {1, 8};
  std::vector<activations> inputs;
  std::vector<outputs> results;
  std::vector<std::unique_ptr<device_run>> runs;
  std::vector<std::unique_ptr<scratch>> workspaces;
  for (const int64_t m : tokens) {
    inputs.emplace_back(FLOATX_TYPE_F16, m, w.shape.k, w.shape.k, 36);
    results.emplace_back(FLOATX_TYPE_F16, m, w.shape.n, w.shape.n);
    runs.push_back(std::make_unique<device_run>(inputs.back(), nullptr, results.back()));
    workspaces.push_back(std::make_unique<scratch>());
  }
  cuda_check(cudaDeviceSynchronize());
  const auto plan_of = [&](int64_t m) {
    return dispatch::plan_linear(cuda::problem_of(w.shape, m, FLOATX_TYPE_F16, true), cuda::current_device(),
                                 workspaces[0]->memory.size());
  };
  REQUIRE(plan_of(tokens[0]).kernel.strips == plan_of(tokens[1]).kernel.strips);
  REQUIRE(plan_of(tokens[0]).kernel.token_tiles == plan_of(tokens[1]).kernel.token_tiles);
  REQUIRE(plan_of(tokens[0]).shared_bytes != plan_of(tokens[1]).shared_bytes);
  cudaStream_t streams[2];
  for (cudaStream_t& stream : streams) {
    cuda_check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  }
  std::string failures[2];
  const auto calls = [&](size_t i) {
    floatx_execution how = {};
    how.struct_size = sizeof how;
    how.memory = FLOATX_MEMORY_DEVICE;
    how.stream = streams[i];
    how.workspace = workspaces[i]->memory.data();
    how.workspace_bytes = workspaces[i]->memory.size();
    for (int call = 0; call < 5000 && failures[i].empty(); ++call) {
      if (floatx_linear(&w.c_weight, tokens[i], FLOATX_TYPE_F16, runs[i]->x.data(), inputs[i].stride, nullptr,
                        FLOATX_TYPE_F16, runs[i]->y.data(), results[i].stride, &how) != FLOATX_STATUS_OK) {
        failures[i] = floatx_last_error();
      }
    }
  };
  std::thread other(calls, 1);
  calls(0);
  other.join();
  for (size_t i = 0; i < 2; ++i) {
    cuda_check(cudaStreamSynchronize(streams[i]));
    CHECK(failures[i] == "");
    compare(w, inputs[i], nullptr, *runs[i], results[i]);
  }

  const auto call = [&](size_t i) {
    run_through_api(w, inputs[i], *runs[i], results[i], workspaces[i].get(), streams[i]);
  };
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  cuda_check(cudaStreamBeginCapture(streams[1], cudaStreamCaptureModeGlobal));
  call(1);
  cuda_check(cudaStreamEndCapture(streams[1], &graph));
  call(0);
  cuda_check(cudaGraphInstantiate(&executable, graph, 0));
  call(0);
  runs[1]->y.fill(device_buffer::poison);
  cuda_check(cudaDeviceSynchronize());
  cuda_check(cudaGraphLaunch(executable, streams[1]));
  cuda_check(cudaStreamSynchronize(streams[1]));
  compare(w, inputs[1], nullptr, *runs[1], results[1]);
  cuda_check(cudaGraphExecDestroy(executable));
  cuda_check(cudaGraphDestroy(graph));
  for (const cudaStream_t stream : streams) cuda_check(cudaStreamDestroy(stream));
}

TEST_CASE("extremes of x and of the scales") {
  // Risk: a scale that goes in before the sum makes it overflow or vanish; a NaN that spreads to other
  // tokens.
  NEEDS_GPU;
  const int64_t m = GENERATE(4, 20), group = GENERATE(0, 32);
  const bool has_powers = group > 0 && GENERATE(false, true);
  scratch workspace;
  for (const floatx_type type : device_types) {
    reference::weight canonical = random_weight(FLOATX_FORMAT_E3M2, 64, 256, group,
                                                has_powers ? FLOATX_SCALE_E8M0 : FLOATX_SCALE_F32, 41);
    const float tiny = type == FLOATX_TYPE_F16 ? 0x1p-24f : 0x1p-60f,
                large = type == FLOATX_TYPE_F16 ? 60000.0f : 0x1p60f;
    for (int64_t i = 0; i < 64 * canonical.groups(); ++i) {
      const bool is_small = (i / canonical.groups() + i % canonical.groups()) % 2 == 1;
      const int exponent = !is_small ? 0 : type == FLOATX_TYPE_F16 ? -20 : -60;
      if (has_powers) {
        canonical.scales[static_cast<size_t>(i)] = static_cast<uint8_t>(127 + exponent);
      } else {
        const float scale = std::ldexp(1.0f, exponent);
        std::memcpy(&canonical.scales[static_cast<size_t>(i) * 4], &scale, 4);
      }
    }
    const device_weight w(std::move(canonical));
    activations x(type, m, 256, 256, 42);
    for (int64_t i = 0; i < 256; ++i) {
      x.set(0, i, tiny * static_cast<float>(i % 5));
      x.set(1, i, i % 3 ? large : -large);
    }
    outputs y(type, m, 64, 64);
    device_run run(x, nullptr, y);
    run_through_api(w, x, run, y, &workspace);
    compare(w, x, nullptr, run, y);
    x.set(2, 100, std::numeric_limits<float>::quiet_NaN());
    run.x.upload(x.data.data());
    run_through_api(w, x, run, y, &workspace);
    outputs with_nan(type, m, 64, 64);
    run.y.download(with_nan.data.data());
    for (int64_t row = 0; row < 64; ++row) {
      CHECK(std::isnan(with_nan.at(2, row)));
      for (int64_t t = 0; t < m; ++t) {
        if (t != 2) CHECK(with_nan.at(t, row) == y.at(t, row));
      }
    }
  }
}
