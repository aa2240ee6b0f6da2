// floatx dequantize.
//
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

#include "cli/commands.hpp"
#include "cli/names.hpp"
#include "cli/support.hpp"
#include "cli/terminal.hpp"
#include "cli/transfer.hpp"
#include "cli/weights.hpp"
#include "cli/workers.hpp"
#include "io/error.hpp"

namespace floatx::cli {
namespace {

using io::show;

// The type that was asked for, or else the one that the tensor had; F32 for F64.
floatx_type target_type(const dequantize_options& options, const stored_weight& weight) {
  return options.type ? parse_type(*options.type).value()
                      : library_type(weight.entry().original).value_or(FLOATX_TYPE_F32);
}

// The index of a value that the target type could not hold, or -1.
int64_t find_infinity(const void* values, floatx_type type, int64_t count) {
  const auto find = [count](const auto* bits, auto mask) {
    const auto* found = std::find_if(bits, bits + count, [mask](auto b) { return (b & mask) == mask; });
    return found == bits + count ? int64_t{-1} : static_cast<int64_t>(found - bits);
  };
  switch (type) {
    case FLOATX_TYPE_F16:
      return find(static_cast<const uint16_t*>(values), uint16_t{0x7c00});
    case FLOATX_TYPE_BF16:
      return find(static_cast<const uint16_t*>(values), uint16_t{0x7f80});
    default:
      return find(static_cast<const uint32_t*>(values), uint32_t{0x7f800000});
  }
}

void dequantize_tensor(const stored_weight& source, floatx_type type, io::safetensors_writer& output,
                       const workers& threads, progress_bar& progress) {
  const quantized_entry& entry = source.entry();
  const size_t target = output.find(entry.name);
  const int64_t block_rows = rows_per_block(entry.k);
  const size_t row_output_bytes = static_cast<size_t>(entry.k) * element_bytes(type);
  std::vector<aligned_buffer> memory(static_cast<size_t>(threads.count()));
  threads.run((entry.n + block_rows - 1) / block_rows, [&](int64_t index, int worker) {
    const int64_t first = index * block_rows;
    const int64_t rows = std::min(block_rows, entry.n - first);
    const floatx_weight block = rows_of(source.weight(), first, rows);
    const size_t bytes = static_cast<size_t>(rows) * row_output_bytes;
    void* values = memory[static_cast<size_t>(worker)].ensure(bytes);
    const floatx_execution execution = threads.inside(worker);
    check(floatx_unpack(&block, type, values, entry.k, &execution),
          fmt::format("tensor {}, rows {} to {}", show(entry.name), first, first + rows - 1));
    if (const int64_t at = find_infinity(values, type, rows * entry.k); at >= 0) {
      throw std::runtime_error(fmt::format("tensor {}: the weight at row {}, column {} is not finite as {}{}",
                                           show(entry.name), first + at / entry.k, at % entry.k, name(type),
                                           type == FLOATX_TYPE_F32 ? "" : "; use --dtype f32"));
    }
    output.write(target, static_cast<uint64_t>(first) * row_output_bytes, values, bytes);
    source.forget(first, rows);
    progress.advance(block.codes_bytes + block.scales_bytes);
  });
}

}  // namespace

void dequantize(const dequantize_options& options) {
  const workers threads(options.jobs);
  const io::model model({options.paths.begin(), options.paths.end() - 1});
  const std::vector<stored_weight> weights = find_stored_weights(model);
  if (weights.empty()) {
    throw std::runtime_error(fmt::format("{}: nothing to dequantize: __metadata__ has no {} entry",
                                         model.is_folder() ? model.folder() : model.shards()[0].file.path(),
                                         show(metadata_key)));
  }
  // The weight that a stored tensor belongs to.
  std::unordered_map<std::string, const stored_weight*> owner;
  for (const stored_weight& weight : weights) {
    if (model.find(weight.entry().name)) {
      throw std::runtime_error(fmt::format("{}: holds tensor {} both quantized and not",
                                           model.shards()[weight.shard()].file.path(),
                                           show(weight.entry().name)));
    }
    for (const std::string& tensor : weight.tensor_names()) {
      owner.emplace(tensor, &weight);
    }
  }

  io::model_output output(model, options.paths.back());
  for (size_t part = 0; part < output.part_count(); ++part) {
    std::vector<io::tensor_info> tensors;
    for (size_t s = 0; s < model.shards().size(); ++s) {
      for (const io::tensor_info& info : model.shards()[s].header.tensors) {
        if (output.part_of(s) == part && owner.count(info.name) == 0) {
          tensors.push_back(info);
        }
      }
    }
    for (const stored_weight& weight : weights) {
      if (output.part_of(weight.shard()) == part) {
        const quantized_entry& entry = weight.entry();
        tensors.push_back({entry.name,
                           file_dtype(target_type(options, weight)),
                           {static_cast<uint64_t>(entry.n), static_cast<uint64_t>(entry.k)}});
      }
    }
    output.add_part(std::move(tensors), output.source_metadata(part, metadata_key));
  }

  {
    progress_bar progress(model.file_bytes(), !options.quiet);
    for (size_t s = 0; s < model.shards().size(); ++s) {
      const io::shard& shard = model.shards()[s];
      for (const io::tensor_info& info : shard.header.tensors) {
        if (owner.count(info.name) == 0) {
          progress.label(show(info.name));
          copy_tensor(shard, info, output.part(output.part_of(s)), threads, progress);
        }
      }
    }
    for (const stored_weight& weight : weights) {
      progress.label(show(weight.entry().name));
      dequantize_tensor(weight, target_type(options, weight), output.part(output.part_of(weight.shard())),
                        threads, progress);
    }
    progress.label("writing to the disk");
    output.commit();
  }
  if (!options.quiet) {
    fmt::print("{} tensors dequantized; size: {} before, {} after\n", weights.size(),
               show_bytes(model.file_bytes()), show_bytes(output.file_bytes()));
  }
}

}  // namespace floatx::cli
