// SPDX-License-Identifier: Apache-2.0
#include "cli/gpu.hpp"

#include <dlfcn.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <stdexcept>
#include <thread>

#include "cli/gpu_kernels.hpp"
#include "cli/measure.hpp"
#include "cli/support.hpp"

namespace floatx::cli {
namespace {

int device_attribute(cudaDeviceAttr attribute) {
  int device = 0;
  int value = 0;
  check(cudaGetDevice(&device), "device");
  check(cudaDeviceGetAttribute(&value, attribute, device), "device attribute");
  return value;
}

struct event {
  event() { check(cudaEventCreate(&handle), "event"); }
  ~event() { cudaEventDestroy(handle); }
  event(const event&) = delete;
  event& operator=(const event&) = delete;
  cudaEvent_t handle = nullptr;
};

// Of the kernel's module, as nvidia-smi shows it; the CUDA runtime knows only the API that it offers.
std::string driver_version() {
  std::string version;
  if (void* nvml = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL)) {
    const auto init = reinterpret_cast<int (*)()>(dlsym(nvml, "nvmlInit_v2"));
    const auto get = reinterpret_cast<int (*)(char*, unsigned)>(dlsym(nvml, "nvmlSystemGetDriverVersion"));
    char text[96] = {};
    if (init != nullptr && get != nullptr && init() == 0 && get(text, sizeof text) == 0) {
      version = text;
    }
    dlclose(nvml);
  }
  if (version.empty()) {
    int api = 0;
    check(cudaDriverGetVersion(&api), "driver version");
    version = fmt::format("for CUDA {}.{}", api / 1000, api % 1000 / 10);
  }
  return version;
}

// Each by itself: the clock may change between two samples.
replay_time median_time(const std::vector<replay_time>& samples) {
  std::vector<double> us;
  std::vector<double> cycles;
  for (const replay_time& one : samples) {
    us.push_back(one.us);
    cycles.push_back(one.cycles);
  }
  return {median(us), median(cycles)};
}

}  // namespace

void check(cudaError_t error, const std::string& what) {
  if (error != cudaSuccess) {
    throw std::runtime_error(
        fmt::format("--cuda: {}: {} ({})", what, cudaGetErrorString(error), cudaGetErrorName(error)));
  }
}

gpu_buffer::gpu_buffer(size_t bytes) : bytes_(bytes) {
  if (bytes > 0) {
    void* memory = nullptr;
    const cudaError_t error = cudaMalloc(&memory, bytes);
    if (error != cudaSuccess) {
      // The runtime remembers the last error, and would report it again for the next kernel.
      cudaGetLastError();
      check(error, fmt::format("{} of GPU memory", show_bytes(bytes)));
    }
    memory_.reset(memory);
  }
}

gpu_buffer::gpu_buffer(size_t bytes, int value) : gpu_buffer(bytes) {
  if (bytes > 0) {
    check(cudaMemset(get(), value, bytes), "filling GPU memory");
    check(cudaDeviceSynchronize(), "filling GPU memory");
  }
}

gpu_buffer::gpu_buffer(const void* host, size_t bytes) : gpu_buffer(bytes) {
  if (bytes > 0) {
    check(cudaMemcpy(get(), host, bytes, cudaMemcpyHostToDevice), "copying to the GPU");
  }
}

gpu_stream::gpu_stream() { check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "stream"); }

gpu_stream::~gpu_stream() { cudaStreamDestroy(stream_); }

void gpu_stream::wait() const { check(cudaStreamSynchronize(stream_), "running"); }

gpu_graph::gpu_graph(const gpu_stream& stream, const std::function<void()>& enqueue) : stream_(stream.get()) {
  cudaGraph_t graph = nullptr;
  check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "capture");
  try {
    enqueue();
  } catch (...) {
    if (cudaStreamEndCapture(stream_, &graph) == cudaSuccess) {
      cudaGraphDestroy(graph);
    }
    throw;
  }
  check(cudaStreamEndCapture(stream_, &graph), "capture");
  const cudaError_t error = cudaGraphInstantiateWithFlags(&graph_, graph, 0);
  cudaGraphDestroy(graph);
  check(error, "graph");
}

gpu_graph::~gpu_graph() { cudaGraphExecDestroy(graph_); }

void gpu_graph::replay() const { check(cudaGraphLaunch(graph_, stream_), "graph"); }

std::vector<replay_time> time_graphs(const std::vector<const gpu_graph*>& graphs, const gpu_stream& stream,
                                     double seconds, double settle_seconds) {
  const event begin;
  const event end;
  clock_stamp stamps[2] = {};
  const gpu_buffer stamps_gmem(sizeof stamps, 0);  // no cycles, but NaN, where nobody stamps
  const auto multiprocessors = static_cast<unsigned>(device_attribute(cudaDevAttrMultiProcessorCount));
  const auto stamp = [&](int which) {
    stamp_clock(static_cast<clock_stamp*>(stamps_gmem.get()) + which, multiprocessors, stream.get());
    check(cudaGetLastError(), "clock");
  };
  // The first replay keeps the GPU busy while the events and the others are put behind it; else the time
  // would begin with the CPU's way to the GPU.
  const auto sample = [&](const gpu_graph& graph, int replays) -> replay_time {
    throw_if_interrupted();
    graph.replay();
    stamp(0);
    check(cudaEventRecord(begin.handle, stream.get()), "event");
    for (int i = 0; i < replays; ++i) {
      graph.replay();
    }
    check(cudaEventRecord(end.handle, stream.get()), "event");
    stamp(1);
    stream.wait();
    float ms = 0;
    check(cudaEventElapsedTime(&ms, begin.handle, end.handle), "event");
    check(cudaMemcpy(stamps, stamps_gmem.get(), sizeof stamps, cudaMemcpyDeviceToHost), "clock");
    const double us = 1e3 * double{ms} / replays;
    return {us, us * 1e3 * static_cast<double>(stamps[1].cycles - stamps[0].cycles) /
                    static_cast<double>(stamps[1].ns - stamps[0].ns)};
  };
  std::vector<int> replays;
  for (const gpu_graph* graph : graphs) {
    sample(*graph, 1);
    // Events resolve half a microsecond, and there is a short pause about them.
    replays.push_back(static_cast<int>(std::clamp(std::ceil(2000 / sample(*graph, 1).us), 1.0, 1000.0)));
  }
  using clock = std::chrono::steady_clock;
  std::vector<size_t> turns(graphs.size());
  std::iota(turns.begin(), turns.end(), size_t{0});
  std::vector<replay_time> times(graphs.size());
  if (settle_seconds > 0) {
    const auto samples_of_turn = [&](size_t i, double turn_seconds) {
      const auto start = clock::now();
      const std::chrono::duration<double> least(turn_seconds);
      std::vector<replay_time> of_turn;
      do {
        of_turn.push_back(sample(*graphs[i], replays[i]));
      } while (clock::now() - start < least);
      return of_turn;
    };
    // In every order once, for what ran before has left the GPU warm and its clock low, or not.
    double rounds = 0;
    do {
      for (const size_t i : turns) {
        std::this_thread::sleep_for(std::chrono::duration<double>(settle_seconds / 4));
        samples_of_turn(i, settle_seconds);  // which do not count
        const replay_time of_turn = median_time(samples_of_turn(i, seconds));
        times[i].us += of_turn.us;
        times[i].cycles += of_turn.cycles;
      }
      ++rounds;
    } while (std::next_permutation(turns.begin(), turns.end()));
    // Turns of the same graph are some 7 % apart (h100-tests.json, settle_turns).
    for (replay_time& of_graph : times) of_graph = {of_graph.us / rounds, of_graph.cycles / rounds};
    return times;
  }
  std::vector<std::vector<replay_time>> samples(graphs.size());
  const auto start = clock::now();
  const std::chrono::duration<double> least(seconds * static_cast<double>(graphs.size()));
  std::minstd_rand random;
  for (int round = 0; round < 20 || clock::now() - start < least; ++round) {
    // In another order each time: the GPU's clock depends on what ran before.
    std::shuffle(turns.begin(), turns.end(), random);
    for (const size_t i : turns) samples[i].push_back(sample(*graphs[i], replays[i]));
  }
  std::transform(samples.begin(), samples.end(), times.begin(), median_time);
  return times;
}

replay_time time_graph(const gpu_graph& graph, const gpu_stream& stream, double seconds) {
  return time_graphs({&graph}, stream, seconds)[0];
}

int gpu_rotation_count(size_t bytes) {
  const auto l2 = static_cast<size_t>(device_attribute(cudaDevAttrL2CacheSize));
  const size_t together = std::max<size_t>(260000000, 5 * l2);
  return static_cast<int>(std::clamp<size_t>(together / std::max<size_t>(bytes, 1) + 1, 4, 4096));
}

double gpu_read_bandwidth(const gpu_stream& stream) {
  size_t free = 0;
  size_t total = 0;
  check(cudaMemGetInfo(&free, &total), "memory");
  const size_t bytes = std::min(size_t{4} << 30, free / 2) / read_tile_bytes * read_tile_bytes;
  const gpu_buffer data(bytes);
  const gpu_buffer sink(sizeof(unsigned));
  fill_random(static_cast<uint16_t*>(data.get()), bytes / 2, false, 1, 1, stream.get());
  check(cudaGetLastError(), "random data");
  stream.wait();
  const auto processors = static_cast<unsigned>(device_attribute(cudaDevAttrMultiProcessorCount));
  double best_us = std::numeric_limits<double>::infinity();
  for (const unsigned blocks : {0u, 2 * processors, 3 * processors, 4 * processors}) {
    const gpu_graph graph(stream, [&] {
      read_all(data.get(), bytes, blocks, static_cast<unsigned*>(sink.get()), stream.get());
      check(cudaGetLastError(), "reading");
    });
    best_us = std::min(best_us, time_graph(graph, stream, 0.05).us);
  }
  return static_cast<double>(bytes) / best_us * 1e6;
}

gpu_description describe_gpu() {
  int device = 0;
  cudaDeviceProp properties = {};
  int runtime = 0;
  check(cudaGetDevice(&device), "device");
  check(cudaGetDeviceProperties(&properties, device), "device");
  check(cudaRuntimeGetVersion(&runtime), "runtime version");
  return {properties.name, driver_version(), fmt::format("{}.{}", runtime / 1000, runtime % 1000 / 10)};
}

}  // namespace floatx::cli
