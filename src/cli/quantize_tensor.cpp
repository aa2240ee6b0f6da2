// SPDX-License-Identifier: Apache-2.0
#include "cli/quantize_tensor.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <floatx/codec.hpp>
#include <functional>
#include <string>

#include "io/error.hpp"

namespace floatx::cli {
namespace {

struct scratch {
  aligned_buffer values;  // of the input, where they cannot be used in place
  aligned_buffer original;
  aligned_buffer quantized;
  aligned_buffer codes;
  aligned_buffer scales;
};

floatx_pack_options pack_options(const quantization& scheme) {
  floatx_pack_options options = {};
  options.struct_size = sizeof options;
  options.scale_rule = scheme.scale_rule;
  options.exponent_rule = scheme.exponent_rule;
  return options;
}

// The library names rows of the block that it was given. Whoever asked for a file wants to read the tensor's
// row, and what can be done; so the place is looked for again, in the tensor.
[[noreturn]] void explain(const dense_tensor& source, const floatx_weight& weight, int64_t first,
                          int64_t count, const std::string& library_message) {
  const std::string tensor = io::show(source.info().name);
  const int64_t k = source.k();
  aligned_buffer raw;
  aligned_buffer converted;
  const float* values = source.rows_f32(first, count, raw, converted);
  for (int64_t i = 0; i < count * k; ++i) {
    if (!std::isfinite(values[i])) {
      throw std::runtime_error(fmt::format(
          "tensor {}: the weight at row {}, column {} is {}: weights must be finite{}", tensor, first + i / k,
          i % k, values[i], source.info().dtype == io::dtype::f64 ? " as F32" : ""));
    }
  }
  const int64_t group = weight.group_size == 0 ? k : weight.group_size;
  const float format_max = describe(weight.format).max;
  for (int64_t row = 0; row < count && weight.scale_type == FLOATX_SCALE_F16; ++row) {
    for (int64_t begin = 0; begin < k; begin += group) {
      const int64_t end = std::min(begin + group, k);
      float absmax = 0;
      for (int64_t column = begin; column < end; ++column) {
        absmax = std::max(absmax, std::fabs(values[row * k + column]));
      }
      const float scale = std::max(absmax, 1e-12f) / format_max;
      const float stored = f16_to_f32(f32_to_f16(scale));
      if (absmax > 0 && (stored == 0 || std::isinf(stored))) {
        throw std::runtime_error(fmt::format(
            "tensor {}: row {}, columns {} to {}: the scale {} {} F16; use --scale-type f32, or "
            "--allow-wider-scales "
            "for the tensors that need it",
            tensor, first + row, begin, end - 1, scale, stored == 0 ? "becomes 0 in" : "overflows"));
      }
    }
  }
  throw std::runtime_error(
      fmt::format("tensor {}, rows {} to {}: {}", tensor, first, first + count - 1, library_message));
}

void pack(const dense_tensor& source, const quantization& scheme, const floatx_weight& weight, int64_t first,
          const floatx_execution& execution, aligned_buffer& values) {
  const floatx_pack_options options = pack_options(scheme);
  const void* rows = source.rows(first, weight.n, values);
  const floatx_status status = floatx_pack(&weight, source.type(), rows, source.k(), &options, &execution);
  if (status == FLOATX_STATUS_INVALID_DATA) {
    explain(source, weight, first, weight.n, floatx_last_error());
  }
  check(status, fmt::format("tensor {}", io::show(source.info().name)));
}

error_statistics measure(const dense_tensor& source, const floatx_weight& block, int64_t first,
                         const floatx_execution& execution, scratch& memory) {
  const int64_t k = source.k();
  auto* quantized =
      static_cast<float*>(memory.quantized.ensure(static_cast<size_t>(block.n * k) * sizeof(float)));
  check(floatx_unpack(&block, FLOATX_TYPE_F32, quantized, k, &execution), io::show(source.info().name));
  const float* original = source.rows_f32(first, block.n, memory.values, memory.original);
  error_statistics statistics;
  for (int64_t row = 0; row < block.n; ++row) {
    statistics.add_row(original + row * k, quantized + row * k, k);
  }
  return statistics;
}

int64_t block_count(const dense_tensor& source) {
  const int64_t rows = rows_per_block(source.k());
  return (source.n() + rows - 1) / rows;
}

// task(block, first row, rows, worker)
template <class Task>
void for_each_block(const dense_tensor& source, const workers& threads, const Task& task) {
  const int64_t rows = rows_per_block(source.k());
  threads.run(block_count(source), [&](int64_t index, int worker) {
    const int64_t first = index * rows;
    const int64_t count = std::min(rows, source.n() - first);
    task(index, first, count, worker);
    source.forget(first, count);
  });
}

// Points a block of `rows` rows at scratch memory.
floatx_weight block_in(scratch& memory, const floatx_weight& shape, int64_t rows) {
  const canonical_row row = row_bytes(shape);
  floatx_weight block = shape;
  block.n = rows;
  block.codes_bytes = static_cast<size_t>(rows) * row.codes_bytes;
  block.codes = memory.codes.ensure(block.codes_bytes);
  block.scales_bytes = static_cast<size_t>(rows) * row.scales_bytes;
  block.scales = memory.scales.ensure(block.scales_bytes);
  return block;
}

}  // namespace

error_statistics quantize_tensor(const dense_tensor& source, const quantization& scheme,
                                 const quantized_entry& entry, io::safetensors_writer& output,
                                 const workers& threads, progress_bar& progress) {
  const floatx_weight shape = canonical(scheme, entry);
  // With a scale for the whole tensor, every value must have been seen before the first code is known: then
  // all codes are computed at once, else a block at a time.
  const bool at_once = entry.scale_type == FLOATX_SCALE_E4M3FN;
  scratch whole_memory;
  floatx_weight whole = shape;
  float tensor_scale = 0;
  if (at_once) {
    whole = block_in(whole_memory, shape, source.n());
    whole.tensor_scale = &tensor_scale;
    pack(source, scheme, whole, 0, threads.outside(), whole_memory.values);
    output.write(output.find(tensor_scale_name(entry.name)), 0, &tensor_scale, sizeof tensor_scale);
  }

  const size_t codes = output.find(codes_name(entry.name));
  const size_t scales = output.find(scales_name(entry.name));
  const canonical_row row = row_bytes(shape);
  const uint64_t source_row_bytes = source.info().bytes() / static_cast<uint64_t>(source.n());
  std::vector<scratch> memory(static_cast<size_t>(threads.count()));
  std::vector<error_statistics> statistics(static_cast<size_t>(block_count(source)));
  for_each_block(source, threads, [&](int64_t index, int64_t first, int64_t rows, int worker) {
    scratch& mine = memory[static_cast<size_t>(worker)];
    const floatx_execution execution = threads.inside(worker);
    const floatx_weight block = at_once ? rows_of(whole, first, rows) : block_in(mine, shape, rows);
    if (!at_once) {
      pack(source, scheme, block, first, execution, mine.values);
    }
    output.write(codes, static_cast<size_t>(first) * row.codes_bytes, block.codes, block.codes_bytes);
    output.write(scales, static_cast<size_t>(first) * row.scales_bytes, block.scales, block.scales_bytes);
    statistics[static_cast<size_t>(index)] = measure(source, block, first, execution, mine);
    progress.advance(static_cast<uint64_t>(rows) * source_row_bytes);
  });
  // In the order of the rows, so that the sums do not depend on the threads.
  error_statistics total;
  for (const error_statistics& part : statistics) {
    total.add(part);
  }
  return total;
}

bool needs_wider_scales(const dense_tensor& source, const quantization& scheme, const workers& threads) {
  quantized_entry entry;
  entry.n = source.n();
  entry.k = source.k();
  entry.scale_type = scheme.scale_type;
  const floatx_weight shape = canonical(scheme, entry);
  const floatx_pack_options options = pack_options(scheme);
  std::atomic<bool> refused{false};
  std::vector<scratch> memory(static_cast<size_t>(threads.count()));
  for_each_block(source, threads, [&](int64_t, int64_t first, int64_t rows, int worker) {
    if (refused) {
      return;
    }
    scratch& mine = memory[static_cast<size_t>(worker)];
    const floatx_weight block = block_in(mine, shape, rows);
    const floatx_execution execution = threads.inside(worker);
    const floatx_status status = floatx_pack(&block, source.type(), source.rows(first, rows, mine.values),
                                             source.k(), &options, &execution);
    if (status == FLOATX_STATUS_INVALID_DATA) {
      refused = true;
    } else {
      check(status, fmt::format("tensor {}", io::show(source.info().name)));
    }
  });
  return refused;
}

}  // namespace floatx::cli
