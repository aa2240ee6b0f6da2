// Not a test: pack_cuda "[.speed]" prints what packing and moving take on this GPU.
//
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdio>
#include <functional>
#include <memory>
#include <vector>

#include "kernel/device_weight.hpp"

using namespace floatx;
using namespace floatx::test;

namespace {

constexpr int copies = 4, launches = 8;

using buffers = std::vector<std::unique_ptr<device_buffer>>;
using weights = std::vector<std::unique_ptr<device_weight>>;

weights make_weights(const description& d, floatx_layout layout) {
  weights all;
  for (int i = 0; i < copies; ++i) all.push_back(std::make_unique<device_weight>(d, layout));
  return all;
}

double packed_bytes(const weights& all) {
  return static_cast<double>(all[0]->codes.size() + all[0]->scales.size());
}

// The median of replays of a graph of launches, each on buffers of its own, so that nothing is found in the
// cache. bytes: read and written by one launch.
void measure(cudaStream_t stream, const char* name, double bytes, const std::function<void(size_t)>& launch) {
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  cuda_check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  for (int i = 0; i < launches; ++i) launch(static_cast<size_t>(i % copies));
  cuda_check(cudaStreamEndCapture(stream, &graph));
  cuda_check(cudaGraphInstantiate(&executable, graph, 0));
  cudaEvent_t begin, end;
  cuda_check(cudaEventCreate(&begin));
  cuda_check(cudaEventCreate(&end));
  std::vector<float> times;
  for (int replay = 0; replay < 23; ++replay) {
    cuda_check(cudaEventRecord(begin, stream));
    cuda_check(cudaGraphLaunch(executable, stream));
    cuda_check(cudaEventRecord(end, stream));
    cuda_check(cudaEventSynchronize(end));
    float ms;
    cuda_check(cudaEventElapsedTime(&ms, begin, end));
    if (replay > 2) times.push_back(ms * 1000 / launches);
  }
  std::sort(times.begin(), times.end());
  const double us = times[times.size() / 2];
  std::printf("%-36s %8.1f us  %7.1f MB  %5.2f TB/s\n", name, us, bytes / 1e6, bytes / us / 1e6);
  cuda_check(cudaEventDestroy(begin));
  cuda_check(cudaEventDestroy(end));
  cuda_check(cudaGraphExecDestroy(executable));
  cuda_check(cudaGraphDestroy(graph));
}

// Small numbers of both signs, as FP16, as BF16 and in pairs as FP32.
std::vector<uint16_t> make_dense(size_t count) {
  std::vector<uint16_t> dense(count);
  uint32_t state = 1;
  for (uint16_t& value : dense) {
    state = state * 1664525u + 1013904223u;
    value = static_cast<uint16_t>((state >> 16 & 0x83ffu) | 0x2800u | (state >> 8 & 0x0c00u));
  }
  return dense;
}

struct variant {
  const char* name;
  floatx_format format;
  floatx_scale_type scale;
  int64_t group;
  floatx_type type;
  floatx_layout layout;
};

constexpr variant variants[] = {
    {"pack f16 e3m2 row f32", FLOATX_FORMAT_E3M2, FLOATX_SCALE_F32, 0, FLOATX_TYPE_F16, FLOATX_LAYOUT_CUDA},
    {"pack bf16 e3m2 row f32", FLOATX_FORMAT_E3M2, FLOATX_SCALE_F32, 0, FLOATX_TYPE_BF16, FLOATX_LAYOUT_CUDA},
    {"pack f32 e3m2 row f32", FLOATX_FORMAT_E3M2, FLOATX_SCALE_F32, 0, FLOATX_TYPE_F32, FLOATX_LAYOUT_CUDA},
    {"pack f16 e2m0 row f32", FLOATX_FORMAT_E2M0, FLOATX_SCALE_F32, 0, FLOATX_TYPE_F16, FLOATX_LAYOUT_CUDA},
    {"pack f16 e2m1 row f16", FLOATX_FORMAT_E2M1, FLOATX_SCALE_F16, 0, FLOATX_TYPE_F16, FLOATX_LAYOUT_CUDA},
    {"pack f16 e4m3fn row f32", FLOATX_FORMAT_E4M3FN, FLOATX_SCALE_F32, 0, FLOATX_TYPE_F16,
     FLOATX_LAYOUT_CUDA},
    {"pack f16 e3m2 128 f16", FLOATX_FORMAT_E3M2, FLOATX_SCALE_F16, 128, FLOATX_TYPE_F16, FLOATX_LAYOUT_CUDA},
    {"pack bf16 mxfp4", FLOATX_FORMAT_E2M1, FLOATX_SCALE_E8M0, 32, FLOATX_TYPE_BF16, FLOATX_LAYOUT_CUDA},
    {"pack bf16 nvfp4", FLOATX_FORMAT_E2M1, FLOATX_SCALE_E4M3FN, 16, FLOATX_TYPE_BF16, FLOATX_LAYOUT_CUDA},
    {"pack f16 e3m2 row f32, canonical", FLOATX_FORMAT_E3M2, FLOATX_SCALE_F32, 0, FLOATX_TYPE_F16,
     FLOATX_LAYOUT_CANONICAL},
};

void measure_shape(cudaStream_t stream, int64_t n, int64_t k) {
  const auto count = static_cast<size_t>(n * k);
  const std::vector<uint16_t> dense = make_dense(count);
  buffers values, outputs;
  for (int i = 0; i < copies; ++i) {
    values.push_back(std::make_unique<device_buffer>(dense.data(), count * 2));
    outputs.push_back(std::make_unique<device_buffer>(count * 2));
  }
  const double dense_bytes = static_cast<double>(count) * 2;
  std::printf("n %d k %d\n", static_cast<int>(n), static_cast<int>(k));
  measure(stream, "copy", 2 * dense_bytes, [&](size_t i) {
    cuda_check(
        cudaMemcpyAsync(outputs[i]->data(), values[i]->data(), count * 2, cudaMemcpyDeviceToDevice, stream));
  });
  const floatx_execution how = on_device(nullptr, stream);
  for (const variant& v : variants) {
    // FP32 takes half the rows of two bytes' memory.
    const description d = {v.format, v.scale, v.type == FLOATX_TYPE_F32 ? n / 2 : n, k, v.group};
    const weights all = make_weights(d, v.layout);
    measure(stream, v.name, dense_bytes + packed_bytes(all), [&](size_t i) {
      require_ok(floatx_pack(&all[i]->weight, v.type, values[i]->data(), k, nullptr, &how));
    });
  }
  const description d = {FLOATX_FORMAT_E3M2, FLOATX_SCALE_F32, n, k, 0};
  const weights packed = make_weights(d, FLOATX_LAYOUT_CUDA);
  const weights canonical = make_weights(d, FLOATX_LAYOUT_CANONICAL);
  const report_buffer report;
  const floatx_execution reported = on_device(report.get(), stream);
  measure(stream, "pack f16 e3m2 row f32, with a report", dense_bytes + packed_bytes(packed), [&](size_t i) {
    require_ok(floatx_pack(&packed[i]->weight, FLOATX_TYPE_F16, values[i]->data(), k, nullptr, &reported));
  });
  measure(stream, "unpack e3m2 row to f16", dense_bytes + packed_bytes(packed), [&](size_t i) {
    require_ok(floatx_unpack(&packed[i]->weight, FLOATX_TYPE_F16, outputs[i]->data(), k, &how));
  });
  measure(stream, "repack e3m2 row to canonical", 2 * packed_bytes(packed),
          [&](size_t i) { require_ok(floatx_repack(&packed[i]->weight, &canonical[i]->weight, &how)); });
  measure(stream, "repack e3m2 row from canonical", 2 * packed_bytes(packed),
          [&](size_t i) { require_ok(floatx_repack(&canonical[i]->weight, &packed[i]->weight, &how)); });
}

}  // namespace

TEST_CASE("speed", "[.speed]") {
  NEEDS_GPU;
  cudaStream_t stream;
  cuda_check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  measure_shape(stream, 8192, 8192);
  measure_shape(stream, 8192, 28672);
  cuda_check(cudaStreamDestroy(stream));
}
