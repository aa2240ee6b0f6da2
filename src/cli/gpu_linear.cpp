// SPDX-License-Identifier: Apache-2.0
#include "cli/gpu_linear.hpp"

#include <fmt/format.h>

#include <cmath>
#include <floatx/codec.hpp>
#include <stdexcept>

#include "cli/names.hpp"
#include "cli/packed_weight.hpp"

namespace floatx::cli {
namespace {

constexpr size_t round_up(size_t bytes) { return (bytes + 255) / 256 * 256; }

double value_of(uint16_t bits, floatx_type type) {
  return type == FLOATX_TYPE_F16 ? f16_to_f32(bits) : bf16_to_f32(bits);
}

}  // namespace

gpu_weights::gpu_weights(const layer& shape, const quantization& scheme, const workers& threads, int copies)
    : source_(shape, scheme, threads) {
  const packed_weight packed(source_.get(), FLOATX_LAYOUT_CUDA, threads.outside(),
                             fmt::format("{}x{}", shape.n, shape.k));
  floatx_weight weight = packed.get();
  const size_t scales_at = round_up(weight.codes_bytes);
  const size_t tensor_scale_at = scales_at + round_up(weight.scales_bytes);
  const size_t copy_bytes = tensor_scale_at + (weight.tensor_scale != nullptr ? round_up(sizeof(float)) : 0);
  const int count = copies > 0 ? copies : gpu_rotation_count(packed.bytes());
  memory_ = gpu_buffer(static_cast<size_t>(count) * copy_bytes);
  for (int i = 0; i < count; ++i) {
    uint8_t* to = static_cast<uint8_t*>(memory_.get()) + static_cast<size_t>(i) * copy_bytes;
    if (i == 0) {
      const char* what = "copying the weight";
      check(cudaMemcpy(to, weight.codes, weight.codes_bytes, cudaMemcpyHostToDevice), what);
      check(cudaMemcpy(to + scales_at, weight.scales, weight.scales_bytes, cudaMemcpyHostToDevice), what);
      if (weight.tensor_scale != nullptr) {
        check(cudaMemcpy(to + tensor_scale_at, weight.tensor_scale, sizeof(float), cudaMemcpyHostToDevice),
              what);
      }
    } else {
      check(cudaMemcpy(to, memory_.get(), copy_bytes, cudaMemcpyDeviceToDevice), "copying the weight");
    }
    copies_.push_back(weight);
    copies_.back().codes = to;
    copies_.back().scales = to + scales_at;
    if (weight.tensor_scale != nullptr) {
      copies_.back().tensor_scale = reinterpret_cast<float*>(to + tensor_scale_at);
    }
  }
  // Copies within the device need not have ended, and the benchmark's stream does not wait for them.
  check(cudaDeviceSynchronize(), "copying the weight");
}

floatx_execution gpu_execution(const gpu_stream& stream) {
  floatx_execution execution = {};
  execution.struct_size = sizeof execution;
  execution.memory = FLOATX_MEMORY_DEVICE;
  execution.stream = stream.get();
  return execution;
}

gpu_buffer gpu_workspace(const floatx_weight& weight, int64_t m, floatx_type type) {
  size_t bytes = 0;
  check(floatx_workspace_bytes(&weight, FLOATX_OPERATION_LINEAR, FLOATX_MEMORY_DEVICE, m, type, &bytes),
        "--cuda: workspace");
  return gpu_buffer(bytes, 0);
}

void enqueue_linear(const floatx_weight& weight, const gpu_call& call, const gpu_buffer& workspace,
                    uint32_t flags, const gpu_stream& stream) {
  floatx_execution execution = gpu_execution(stream);
  execution.flags = flags;
  execution.workspace = workspace.get();
  execution.workspace_bytes = workspace.size();
  const floatx_status status = floatx_linear(&weight, call.m, call.type, call.x, call.x_stride, nullptr,
                                             call.type, call.y, call.y_stride, &execution);
  if (status != FLOATX_STATUS_OK) {
    check(status,
          fmt::format("--cuda: {}x{}, {}, m = {}", weight.n, weight.k, describe(weight.format).name, call.m));
  }
}

void check_samples(const random_weight& weight, const gpu_call& call, uint32_t flags, const void* x_host,
                   const std::string& where) {
  const int64_t n = weight.get().n;
  const int64_t k = weight.get().k;
  constexpr int samples = 8;
  for (int i = 0; i < samples; ++i) {
    const int64_t row = i * (call.m - 1) / (samples - 1);
    // The corners, and places that no tile has in common.
    const int64_t column = i == 0 ? 0 : i == samples - 1 ? n - 1 : i * int64_t{2654435761} % n;
    uint16_t found = 0;
    check(cudaMemcpy(&found, static_cast<uint16_t*>(call.y) + row * call.y_stride + column, sizeof found,
                     cudaMemcpyDeviceToHost),
          "reading y");
    const std::vector<float> w = weight.row(column);
    const uint16_t* x = static_cast<const uint16_t*>(x_host) + row * k;
    double sum = 0;
    double magnitude = 0;
    for (int64_t j = 0; j < k; ++j) {
      const double product = value_of(x[j], call.type) * double{w[static_cast<size_t>(j)]};
      sum += product;
      magnitude += std::fabs(product);
    }
    // Tensor cores align the 16 products of a step to the largest and cut off below 2^-23 of it, so k
    // products and the partial sums they meet lose no more than 2^-23 of the sum of magnitudes each; 64 more
    // for the scales and the sums of the split. Then one rounding to the type of y. Before all that from nine
    // tokens on a scale of a group and its product with a code may be rounded to the type of x.
    const double unit = call.type == FLOATX_TYPE_F16 ? 0x1p-11 : 0x1p-8;
    const bool may_round =
        weight.get().group_size > 0 && call.m > 8 && (flags & FLOATX_EXECUTION_EXACT_WEIGHTS) == 0;
    const double of_weights = may_round ? 2 * unit : 0;
    const double tolerance =
        ((static_cast<double>(k) + 64) * 0x1p-23 + of_weights) * magnitude + unit * std::fabs(sum) + 0x1p-25;
    const double y = value_of(found, call.type);
    // Written so that NaN is wrong.
    if (!(std::fabs(y - sum) <= tolerance)) {
      throw std::runtime_error(
          fmt::format("--cuda: WRONG RESULT: {}: y[{}, {}] is {}, but should be {} within {}", where, row,
                      column, y, sum, tolerance));
    }
  }
}

}  // namespace floatx::cli
