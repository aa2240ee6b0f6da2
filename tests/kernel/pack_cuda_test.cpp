// Quantizing and packing in device memory: byte by byte what the host makes.
//
// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <limits>
#include <vector>

#include "kernel/dense_values.hpp"
#include "kernel/device_weight.hpp"

using namespace floatx;
using namespace floatx::test;

namespace {

floatx_pack_options options_of(floatx_scale_rule scale_rule, floatx_exponent_rule exponent_rule) {
  return {sizeof(floatx_pack_options), scale_rule, exponent_rule};
}

// Packs on both sides and compares.
void check_pack(const description& d, floatx_layout layout, const dense_values& values,
                const floatx_pack_options& options, bool with_report) {
  INFO(text_of(d, layout, values.type) << " stride " << values.stride << " shift " << values.shift
                                       << " rules " << options.scale_rule << options.exponent_rule);
  host_weight host(d, layout);
  require_ok(floatx_pack(&host.weight, values.type, values.first(), values.stride, &options, nullptr));
  device_weight device(d, layout);
  const device_values on_gpu(values);
  const report_buffer report;
  const floatx_execution how = on_device(with_report ? report.get() : nullptr);
  require_ok(floatx_pack(&device.weight, values.type, on_gpu.first(), values.stride, &options, &how));
  compare(device, host);
  CHECK(on_gpu.memory.guards_intact());
  if (with_report) check_is_ok(report.read());
}

}  // namespace

TEST_CASE("packing: every format, scale type, rule, type of values and layout") {
  // Risk: arithmetic or an arrangement that differs from the host's in one of them.
  NEEDS_GPU;
  uint32_t count = 0;
  for (const format_traits& format : formats) {
    const auto id = static_cast<floatx_format>(format.id);
    for (const floatx_scale_type scale : all_scale_types) {
      for (const int rule : {0, 1}) {
        const floatx_pack_options options =
            scale == FLOATX_SCALE_E8M0
                ? options_of(FLOATX_SCALE_RULE_STORED,
                             rule ? FLOATX_EXPONENT_RULE_CEIL : FLOATX_EXPONENT_RULE_FLOOR)
                : options_of(rule ? FLOATX_SCALE_RULE_UNROUNDED : FLOATX_SCALE_RULE_STORED,
                             FLOATX_EXPONENT_RULE_FLOOR);
        for (const floatx_type type : all_types) {
          for (const int64_t group : {int64_t{0}, all_group_sizes[1 + count % 4]}) {
            const description d = {id, scale, 21, 300, group};
            // F16 scales of the extremes are refused.
            const dense_values values(type, d, 304, 0, scale == FLOATX_SCALE_F16, count);
            for (const floatx_layout layout : device_layouts) {
              if (holds(layout, id)) check_pack(d, layout, values, options, count % 2 == 0);
            }
            ++count;
          }
        }
      }
    }
  }
}

TEST_CASE("packing: every odd n and k, any leading dimension and alignment") {
  // Risk: something read or written beyond an edge; padding that is not zero.
  NEEDS_GPU;
  uint32_t count = 0;
  for (const int64_t n : odd_sizes) {
    for (const int64_t k : odd_sizes) {
      for (const floatx_type type : all_types) {
        const format_traits& format = formats[count % format_count];
        const auto id = static_cast<floatx_format>(format.id);
        const description d = {id, all_scale_types[count % 5], n, k, all_group_sizes[count / 3 % 5]};
        // In turn: aligned rows, aligned rows of odd length apart, no alignment.
        const int64_t stride = count % 3 == 2 ? k + 3 : (k + 7) / 8 * 8 + count % 2 * 8;
        const dense_values values(type, d, stride, count % 3 == 2 ? 1 : 0, d.scale_type == FLOATX_SCALE_F16,
                                  count);
        for (const floatx_layout layout : device_layouts) {
          if (holds(layout, id)) check_pack(d, layout, values, options_of({}, {}), count % 4 == 0);
        }
        ++count;
      }
    }
  }
}

TEST_CASE("packing: rows from one thread block's share to more than a cluster holds") {
  // Risk: a largest value that misses the share of another thread block, or a part that is read again
  // wrongly.
  NEEDS_GPU;
  uint32_t count = 0;
  for (const int64_t k : {1024, 1025, 2048, 2049, 4096, 5000, 8192, 11008, 16384, 16500, 40000}) {
    for (const floatx_type type : all_types) {
      for (const int64_t group : {0, 32}) {
        const description d = {count % 2 ? FLOATX_FORMAT_E3M2 : FLOATX_FORMAT_E2M3,
                               all_scale_types[count % 5], 35, k, group};
        const dense_values values(type, d, k + (count % 3 == 2 ? 1 : 8), 0, d.scale_type == FLOATX_SCALE_F16,
                                  count);
        for (const floatx_layout layout : device_layouts) {
          check_pack(d, layout, values, options_of({}, {}), count % 2 == 0);
        }
        ++count;
      }
    }
  }
}

TEST_CASE("packing: an outlier in any column decides its row") {
  // Risk: a lane, a step or a thread block whose values do not count.
  NEEDS_GPU;
  const int64_t k = 4100;
  for (const floatx_type type : all_types) {
    const description d = {FLOATX_FORMAT_E3M2, FLOATX_SCALE_F32, 512, k, 0};
    dense_values values(type, d, k + 4, 0, true, 3);
    for (int64_t row = 0; row < d.n; ++row) values.set(row, row * 8 + row % 9, row % 2 ? 123.0f : -123.0f);
    check_pack(d, FLOATX_LAYOUT_CUDA, values, options_of({}, {}), false);
  }
}

TEST_CASE("bad values are reported as the host reports them") {
  // Risk: an offence missed, the wrong one named, or one named where there is none.
  NEEDS_GPU;
  struct bad {
    int64_t row, column;
    float value;
  };
  const float nan = std::nanf(""), inf = std::numeric_limits<float>::infinity();
  const std::vector<std::vector<bad>> cases = {
      {{0, 0, nan}},
      {{36, 2999, inf}},
      {{20, 100, -inf}, {20, 99, nan}, {21, 0, nan}, {19, 2500, inf}},
      {{3, 2999, nan}, {5, 0, nan}},
      {{17, 640, 60000.0f}, {17, 641, nan}},
  };
  for (const floatx_type type : all_types) {
    for (const int64_t group : {0, 16, 128}) {
      for (const floatx_scale_type scale : all_scale_types) {
        for (const floatx_layout layout : device_layouts) {
          const description d = {FLOATX_FORMAT_E3M2, scale, 37, 3000, group};
          const dense_values good(type, d, 3000, 0, true, 8);
          for (const auto& offences : cases) {
            dense_values values = good;
            for (const bad& b : offences) values.set(b.row, b.column, b.value);
            INFO(text_of(d, layout, type));
            host_weight host(d, layout);
            const floatx_status status =
                floatx_pack(&host.weight, type, values.first(), values.stride, nullptr, nullptr);
            long long row = -1, column = -1;
            REQUIRE(status == FLOATX_STATUS_INVALID_DATA);
            REQUIRE(place_in_message(row, column));
            device_weight device(d, layout);
            const device_values on_gpu(values);
            const report_buffer report;
            const floatx_execution how = on_device(report.get());
            require_ok(floatx_pack(&device.weight, type, on_gpu.first(), values.stride, nullptr, &how));
            const floatx_report found = report.read();
            CHECK(found.status == FLOATX_STATUS_INVALID_DATA);
            CHECK(found.row == row);
            CHECK(found.column == column);
            CHECK(device.guards_intact());
          }
        }
      }
    }
  }
}

TEST_CASE("scales that F16 cannot hold are reported") {
  // Risk: Inf or 0 stored for a group that is neither; a NaN of the same row named after it.
  NEEDS_GPU;
  for (const float extreme : {1e-9f, 1e9f}) {
    for (const int64_t group : {0, 32}) {
      for (const bool with_nan : {false, true}) {
        const description d = {FLOATX_FORMAT_E3M2, FLOATX_SCALE_F16, 40, 300, group};
        dense_values values(FLOATX_TYPE_F32, d, 300, 0, true,
                            5);  // row 21 is of zeros
        for (int64_t i = 96; i < 300; ++i) values.set(21, i, extreme);
        if (group == 0) {
          for (int64_t i = 0; i < 96; ++i) values.set(21, i, extreme);
        }
        if (with_nan) values.set(21, 299, std::nanf(""));
        host_weight host(d, FLOATX_LAYOUT_CUDA);
        REQUIRE(floatx_pack(&host.weight, FLOATX_TYPE_F32, values.first(), 300, nullptr, nullptr) ==
                FLOATX_STATUS_INVALID_DATA);
        long long row = -1, column = -1;
        REQUIRE(place_in_message(row, column));
        CHECK(row == 21);
        device_weight device(d, FLOATX_LAYOUT_CUDA);
        const device_values on_gpu(values);
        void* pinned = nullptr;
        cuda_check(cudaHostAlloc(&pinned, sizeof(floatx_report), cudaHostAllocDefault));
        auto* report = static_cast<floatx_report*>(pinned);
        const floatx_execution how = on_device(report);
        require_ok(floatx_pack(&device.weight, FLOATX_TYPE_F32, on_gpu.first(), 300, nullptr, &how));
        cuda_check(cudaDeviceSynchronize());
        CHECK(report->status == FLOATX_STATUS_INVALID_DATA);
        CHECK(report->row == row);
        CHECK(report->column == column);
        cuda_check(cudaFreeHost(pinned));
      }
    }
  }
}

TEST_CASE("a graph packs whatever its values are when it is launched") {
  // Risk: something done at capture instead of at launch; a report or a tensor scale that keeps its last
  // value.
  NEEDS_GPU;
  cudaStream_t stream;
  cuda_check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  for (const int64_t group : {0, 16}) {
    const description d = {FLOATX_FORMAT_E2M1, FLOATX_SCALE_E4M3FN, 70, 5000, group};
    dense_values values(FLOATX_TYPE_F16, d, 5000, 0, true, 1);
    device_values on_gpu(values);
    device_weight first(d, FLOATX_LAYOUT_CUDA), second(d, FLOATX_LAYOUT_CANONICAL);
    device_buffer unpacked(static_cast<size_t>(d.n * d.k) * 2);
    const report_buffer report;
    const floatx_execution how = on_device(report.get(), stream);
    const auto work = [&] {
      require_ok(floatx_pack(&first.weight, FLOATX_TYPE_F16, on_gpu.first(), 5000, nullptr, &how));
      const floatx_execution plain = on_device(nullptr, stream);
      require_ok(floatx_repack(&first.weight, &second.weight, &plain));
      require_ok(floatx_unpack(&second.weight, FLOATX_TYPE_F16, unpacked.data(), d.k, &plain));
    };
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    cuda_check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    work();
    cuda_check(cudaStreamEndCapture(stream, &graph));
    cuda_check(cudaGraphInstantiate(&executable, graph, 0));
    for (uint32_t round = 0; round < 4; ++round) {
      dense_values next(FLOATX_TYPE_F16, d, 5000, 0, true, round);
      if (round == 1) next.set(5, 6, std::nanf(""));
      on_gpu.memory.upload(next.data.data());
      cuda_check(cudaDeviceSynchronize());  // the stream does not wait for the default one
      cuda_check(cudaGraphLaunch(executable, stream));
      cuda_check(cudaStreamSynchronize(stream));
      const floatx_report found = report.read();
      if (round == 1) {
        CHECK(found.status == FLOATX_STATUS_INVALID_DATA);
        CHECK(found.row == 5);
        CHECK(found.column == 6);
        continue;
      }
      check_is_ok(found);
      host_weight host(d, FLOATX_LAYOUT_CUDA), canonical(d, FLOATX_LAYOUT_CANONICAL);
      require_ok(floatx_pack(&host.weight, FLOATX_TYPE_F16, next.first(), 5000, nullptr, nullptr));
      require_ok(floatx_repack(&host.weight, &canonical.weight, nullptr));
      std::vector<uint16_t> dense(static_cast<size_t>(d.n * d.k));
      require_ok(floatx_unpack(&host.weight, FLOATX_TYPE_F16, dense.data(), d.k, nullptr));
      compare(first, host);
      compare(second, canonical);
      CHECK(difference(unpacked, dense.data()) == -1);
    }
    cuda_check(cudaGraphExecDestroy(executable));
    cuda_check(cudaGraphDestroy(graph));
  }
  cuda_check(cudaStreamDestroy(stream));
}

TEST_CASE("what device memory refuses") {
  // Risk: the CPU's layout read by a GPU; a report that nothing can be written to.
  NEEDS_GPU;
  const description d = {FLOATX_FORMAT_E3M2, FLOATX_SCALE_F32, 16, 128, 0};
  device_buffer values(16 * 128 * 4), memory(1 << 16);
  floatx_weight w = describe(d, FLOATX_LAYOUT_CPU);
  w.codes = memory.data(), w.codes_bytes = 1 << 15;
  w.scales = memory.data() + (1 << 15), w.scales_bytes = 1 << 15;
  floatx_execution how = on_device();
  CHECK(floatx_pack(&w, FLOATX_TYPE_F32, values.data(), 128, nullptr, &how) ==
        FLOATX_STATUS_INVALID_ARGUMENT);
  device_weight target(d, FLOATX_LAYOUT_CUDA);
  const report_buffer report;
  how.report = reinterpret_cast<floatx_report*>(reinterpret_cast<char*>(report.get()) + 4);
  CHECK(floatx_pack(&target.weight, FLOATX_TYPE_F32, values.data(), 128, nullptr, &how) ==
        FLOATX_STATUS_INVALID_ARGUMENT);
}
