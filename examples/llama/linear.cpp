// SPDX-License-Identifier: Apache-2.0
#include "linear.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "cpu_math.hpp"

namespace llama::cpu {
namespace {

floatx::weight pack(const matrix& source, const quantization& scheme, const thread_pool& threads) try {
  if (source.values == nullptr) {
    return floatx::weight::repack(source.canonical, FLOATX_LAYOUT_CPU, &threads.lent());
  }
  return floatx::weight::pack({*scheme.format, source.n, source.k, scheme.group_size, scheme.scale_type},
                              source.type, source.values, source.k, nullptr, &threads.lent());
} catch (const floatx::error& problem) {
  throw error(fmt::format("{}: {}", source.where, problem.what()));
}

}  // namespace

linear::linear(std::vector<matrix> parts, const quantization& scheme, thread_pool& threads)
    : threads_(&threads) {
  for (matrix& source : parts) {
    k_ = source.k;
    const int64_t rows = source.n;
    if (source.values != nullptr && !scheme.format) {
      if (source.shared) {
        auto own = std::make_shared<buffer>(static_cast<size_t>(rows) * source.row_bytes());
        source.values = std::memcpy(own->get(), source.values, own->size());
        source.owner = own;
      }
      parts_.push_back({std::move(source), n_});
    } else {
      parts_.push_back({pack(source, scheme, threads), n_});
    }
    n_ += rows;
  }
}

linear::linear(matrix part, const quantization& scheme, thread_pool& threads)
    : linear(std::vector<matrix>{std::move(part)}, scheme, threads) {}

void linear::run(int64_t m, const float* x, float* y) {
  for (const part& p : parts_) {
    if (const auto* weight = std::get_if<floatx::weight>(&p.weight)) {
      weight->linear(m, FLOATX_TYPE_F32, x, k_, nullptr, FLOATX_TYPE_F32, y + p.row, n_, &threads_->lent());
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
    if (const auto* weight = std::get_if<floatx::weight>(&p.weight)) {
      // What the formats and scales take; the packed form rounds up to whole tiles.
      floatx_weight canonical = weight->handle();
      canonical.layout = FLOATX_LAYOUT_CANONICAL;
      canonical.layout_version = 0;
      floatx_sizes sizes = {};
      sizes.struct_size = sizeof sizes;
      check(floatx_weight_sizes(&canonical, &sizes), "sizes");
      bytes += sizes.codes_bytes + sizes.scales_bytes;
    } else {
      const matrix& dense = std::get<matrix>(p.weight);
      bytes += static_cast<size_t>(dense.n) * dense.row_bytes();
    }
  }
  return bytes;
}

}  // namespace llama::cpu
