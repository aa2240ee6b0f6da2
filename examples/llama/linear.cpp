// SPDX-License-Identifier: Apache-2.0
#include "linear.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "cpu_math.hpp"

namespace llama::cpu {
namespace {

floatx_execution execution_on(const thread_pool& threads) {
  floatx_execution execution = {};
  execution.struct_size = sizeof execution;
  execution.memory = FLOATX_MEMORY_HOST;
  execution.threads = threads.lent().handle();
  return execution;
}

floatx_sizes sizes_of(const floatx_weight& weight, const std::string& where) {
  floatx_sizes sizes = {};
  sizes.struct_size = sizeof sizes;
  check(floatx_weight_sizes(&weight, &sizes), where);
  return sizes;
}

// What a matrix is once it is quantized, without a layout or memory.
floatx_weight describe(const matrix& source, const quantization& scheme) {
  const bool is_dense = source.values != nullptr;
  floatx_weight weight = {};
  weight.struct_size = sizeof weight;
  weight.format = is_dense ? *scheme.format : source.canonical.format;
  weight.n = source.n;
  weight.k = source.k;
  weight.group_size = is_dense ? scheme.group_size : source.canonical.group_size;
  weight.scale_type = is_dense ? scheme.scale_type : source.canonical.scale_type;
  return weight;
}

// One weight is one call for each token instead of several, and shares the threads more evenly. With a scale
// for the whole tensor each matrix keeps its own.
bool can_be_one(const std::vector<matrix>& sources, const quantization& scheme) {
  for (const matrix& source : sources) {
    if (source.values != nullptr && !scheme.format) return false;
    const floatx_weight first = describe(sources.front(), scheme);
    const floatx_weight other = describe(source, scheme);
    if (other.format != first.format || other.group_size != first.group_size ||
        other.scale_type != first.scale_type || other.scale_type == FLOATX_SCALE_E4M3FN) {
      return false;
    }
  }
  return true;
}

// Rows of a canonical weight as a weight of its own.
floatx_weight rows_of(const floatx_weight& weight, int64_t first, int64_t count) {
  const auto at = [&](void* begin, size_t bytes) { return static_cast<uint8_t*>(begin) + bytes; };
  const size_t code_bytes = weight.codes_bytes / static_cast<size_t>(weight.n);
  const size_t scale_bytes = weight.scales_bytes / static_cast<size_t>(weight.n);
  floatx_weight rows = weight;
  rows.n = count;
  rows.codes = at(weight.codes, static_cast<size_t>(first) * code_bytes);
  rows.codes_bytes = static_cast<size_t>(count) * code_bytes;
  rows.scales = at(weight.scales, static_cast<size_t>(first) * scale_bytes);
  rows.scales_bytes = static_cast<size_t>(count) * scale_bytes;
  return rows;
}

}  // namespace

void linear::packed::own(const std::string& where) {
  const floatx_sizes sizes = sizes_of(weight, where);
  weight.codes = codes.ensure(weight.codes_bytes = sizes.codes_bytes);
  weight.scales = scales.ensure(weight.scales_bytes = sizes.scales_bytes);
  if (weight.scale_type == FLOATX_SCALE_E4M3FN) {
    tensor_scale = std::make_unique<float>();
    weight.tensor_scale = tensor_scale.get();
  }
}

linear::packed::packed(const std::vector<matrix>& sources, const quantization& scheme,
                       const thread_pool& threads) {
  const floatx_execution how = execution_on(threads);
  const matrix& front = sources.front();
  weight = describe(front, scheme);
  weight.layout = FLOATX_LAYOUT_CPU;
  if (sources.size() == 1) {
    own(front.where);
    check(front.values != nullptr ? floatx_pack(&weight, front.type, front.values, front.k, nullptr, &how)
                                  : floatx_repack(&front.canonical, &weight, &how),
          front.where);
    return;
  }
  // In the canonical form rows lie one after another, so there the matrices are put together.
  weight.n = 0;
  for (const matrix& source : sources) weight.n += source.n;
  floatx_weight together = weight;
  together.layout = FLOATX_LAYOUT_CANONICAL;
  const floatx_sizes sizes = sizes_of(together, front.where);
  const buffer canonical_codes(sizes.codes_bytes), canonical_scales(sizes.scales_bytes);
  together.codes = canonical_codes.get();
  together.codes_bytes = sizes.codes_bytes;
  together.scales = canonical_scales.get();
  together.scales_bytes = sizes.scales_bytes;
  int64_t row = 0;
  for (const matrix& source : sources) {
    const floatx_weight rows = rows_of(together, row, source.n);
    if (source.values != nullptr) {
      check(floatx_pack(&rows, source.type, source.values, source.k, nullptr, &how), source.where);
    } else {
      std::memcpy(rows.codes, source.canonical.codes, rows.codes_bytes);
      std::memcpy(rows.scales, source.canonical.scales, rows.scales_bytes);
    }
    row += source.n;
  }
  own(front.where);
  check(floatx_repack(&together, &weight, &how), front.where);
}

linear::linear(std::vector<matrix> parts, const quantization& scheme, thread_pool& threads)
    : k_(parts.front().k), threads_(&threads) {
  if (can_be_one(parts, scheme)) {
    parts_.push_back({packed(parts, scheme, threads), 0});
    for (const matrix& source : parts) n_ += source.n;
    return;
  }
  for (matrix& source : parts) {
    const int64_t rows = source.n;
    if (source.values != nullptr && !scheme.format) {
      if (source.shared) {
        auto own = std::make_shared<buffer>(static_cast<size_t>(rows) * source.row_bytes());
        source.values = std::memcpy(own->get(), source.values, own->size());
        source.owner = own;
      }
      parts_.push_back({std::move(source), n_});
    } else {
      parts_.push_back({packed({source}, scheme, threads), n_});
    }
    n_ += rows;
  }
}

linear::linear(matrix part, const quantization& scheme, thread_pool& threads)
    : linear(std::vector<matrix>{std::move(part)}, scheme, threads) {}

void linear::run(int64_t m, const float* x, float* y) {
  for (const part& p : parts_) {
    if (const auto* quantized = std::get_if<packed>(&p.weight)) {
      const floatx_execution how = execution_on(*threads_);
      check(floatx_linear(&quantized->weight, m, FLOATX_TYPE_F32, x, k_, nullptr, FLOATX_TYPE_F32, y + p.row,
                          n_, &how),
            "linear");
    } else {
      run_dense(std::get<matrix>(p.weight), m, x, y + p.row);
    }
  }
}

void linear::run_dense(const matrix& dense, int64_t m, const float* x, float* y) {
  const int64_t stride = round_up(k_, dense_block);
  auto* prepared = prepared_.ensure_for<float>(m * stride);
  // Few tokens are not worth waking anyone.
  constexpr int64_t tokens_per_task = 16;
  threads_->each((m + tokens_per_task - 1) / tokens_per_task, [&](int64_t task) {
    for (int64_t t = task * tokens_per_task; t < std::min(m, (task + 1) * tokens_per_task); ++t) {
      prepare_x(dense.type, x + t * k_, k_, prepared + t * stride);
    }
  });
  // Rows that stay in a cache while all tokens pass; enough tasks for the threads to end together.
  const int64_t in_cache =
      std::max<int64_t>(4, (int64_t{256} << 10) / static_cast<int64_t>(dense.row_bytes()));
  const int64_t shared = round_up((dense.n + 8 * threads_->count() - 1) / (8 * threads_->count()), 4);
  const int64_t rows = std::min(in_cache / 4 * 4, shared);
  threads_->each((dense.n + rows - 1) / rows, [&](int64_t task) {
    const int64_t first = task * rows;
    const auto* w = static_cast<const char*>(dense.values) + static_cast<size_t>(first) * dense.row_bytes();
    dense_product(dense.type, w, std::min(rows, dense.n - first), k_, prepared, m, y + first, n_);
  });
}

size_t linear::bytes() const {
  size_t bytes = 0;
  for (const part& p : parts_) {
    if (const auto* quantized = std::get_if<packed>(&p.weight)) {
      // What the formats and scales take; the packed form rounds up to whole tiles.
      floatx_weight canonical = quantized->weight;
      canonical.layout = FLOATX_LAYOUT_CANONICAL;
      const floatx_sizes sizes = sizes_of(canonical, "sizes");
      bytes += sizes.codes_bytes + sizes.scales_bytes;
    } else {
      const matrix& dense = std::get<matrix>(p.weight);
      bytes += static_cast<size_t>(dense.n) * dense.row_bytes();
    }
  }
  return bytes;
}

}  // namespace llama::cpu
