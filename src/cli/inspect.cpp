// floatx inspect.
//
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cli/commands.hpp"
#include "cli/support.hpp"
#include "cli/terminal.hpp"
#include "cli/weights.hpp"
#include "io/error.hpp"

namespace floatx::cli {
namespace {

using io::printable;
using align = text_table::align;

void print_quantized(const std::vector<stored_weight>& weights) {
  text_table table({{"quantized tensor", align::left},
                    {"shape"},
                    {"format", align::left},
                    {"scales", align::left},
                    {"group", align::left},
                    {"bits/weight"},
                    {"was", align::left}});
  for (const stored_weight& weight : weights) {
    const quantized_entry& entry = weight.entry();
    table.add({printable(entry.name), fmt::format("{} x {}", entry.n, entry.k),
               describe(weight.scheme().format).name, std::string(name(entry.scale_type)),
               weight.scheme().group_size == 0 ? "row" : fmt::format("{}", weight.scheme().group_size),
               fmt::format("{:.3f}", weight.bits_per_weight()), std::string(io::name(entry.original))});
  }
  table.print();
  fmt::print("\n");
}

void print_files(const io::model& model, size_t quantized) {
  text_table table({{"tensor", align::left}, {"dtype", align::left}, {"shape"}, {"bytes"}});
  size_t tensors = 0;
  for (const io::shard& shard : model.shards()) {
    for (const io::tensor_info& info : shard.header.tensors) {
      table.add({printable(info.name), std::string(io::name(info.dtype)),
                 fmt::format("{}", fmt::join(info.shape, " x ")), fmt::format("{}", info.bytes())});
    }
    tensors += shard.header.tensors.size();
  }
  table.print();
  for (const io::shard& shard : model.shards()) {
    fmt::print("\n{}: {}\n", printable(shard.file.path()), show_bytes(shard.file.size()));
    for (const auto& [key, value] : shard.header.metadata) {
      // The quantized tensors are a table of their own.
      if (key != metadata_key) {
        fmt::print("  {}: {}\n", printable(key), printable(value));
      }
    }
  }
  fmt::print("\n{} tensors in {} file{}, {}; {} quantized by floatx\n", tensors, model.shards().size(),
             model.shards().size() == 1 ? "" : "s", show_bytes(model.file_bytes()), quantized);
}

nlohmann::ordered_json report(const io::model& model, const std::vector<stored_weight>& weights) {
  nlohmann::ordered_json out = {{"files", nlohmann::ordered_json::array()},
                                {"tensors", nlohmann::ordered_json::array()},
                                {"quantized", nlohmann::ordered_json::array()}};
  for (const io::shard& shard : model.shards()) {
    out["files"].push_back(
        {{"path", shard.file.path()}, {"bytes", shard.file.size()}, {"metadata", shard.header.metadata}});
    for (const io::tensor_info& info : shard.header.tensors) {
      out["tensors"].push_back({{"name", info.name},
                                {"dtype", io::name(info.dtype)},
                                {"shape", info.shape},
                                {"bytes", info.bytes()},
                                {"file", shard.file.path()}});
    }
  }
  for (const stored_weight& weight : weights) {
    const quantized_entry& entry = weight.entry();
    out["quantized"].push_back({{"name", entry.name},
                                {"shape", {entry.n, entry.k}},
                                {"format", describe(weight.scheme().format).name},
                                {"group_size", weight.scheme().group_size},
                                {"scale_type", name(entry.scale_type)},
                                {"scale_rule", name(weight.scheme().scale_rule)},
                                {"bits_per_weight", weight.bits_per_weight()},
                                {"dtype", io::name(entry.original)}});
  }
  return out;
}

}  // namespace

void inspect(const inspect_options& options) {
  const io::model model(options.paths);
  const std::vector<stored_weight> weights = find_stored_weights(model);
  json_report json(options.json, {&model});
  json.write(report(model, weights));
  json.commit();
  if (!weights.empty()) {
    print_quantized(weights);
  }
  print_files(model, weights.size());
}

}  // namespace floatx::cli
