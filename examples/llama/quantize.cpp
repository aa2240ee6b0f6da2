// Writes what `floatx quantize` writes, with the linear layers of the blocks quantized.
//
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <filesystem>
#include <list>
#include <nlohmann/json.hpp>

#include "commands.hpp"
#include "report.hpp"

namespace llama {
namespace {

namespace fs = std::filesystem;
using json = nlohmann::ordered_json;

const char* scale_dtype(floatx_scale_type type) {
  switch (type) {
    case FLOATX_SCALE_F16:
      return "F16";
    case FLOATX_SCALE_BF16:
      return "BF16";
    case FLOATX_SCALE_E8M0:
      return "F8_E8M0";
    case FLOATX_SCALE_E4M3FN:
      return "F8_E4M3";
    default:
      return "F32";
  }
}

// Configuration and tokenizer, but no other weights.
void copy_companions(const fs::path& from, const fs::path& to) {
  constexpr uintmax_t largest = 64 << 20;
  for (const fs::directory_entry& entry : fs::directory_iterator(from)) {
    const std::string name = entry.path().filename().string();
    if (!entry.is_regular_file() || entry.file_size() > largest ||
        name.find(".safetensors") != std::string::npos || entry.path().extension() == ".bin" ||
        entry.path().extension() == ".pth") {
      continue;
    }
    const mapped_file source(entry.path().string());
    write_text((to / name).string(), std::string(source.text()));
  }
}

}  // namespace

void quantize(const quantize_options& options) {
  const quantization scheme = options.run.scheme();
  if (!scheme.format) throw usage_error("quantize: --format none leaves nothing to do");
  model_folder source(options.model);
  if (source.quantized()) {
    throw error(fmt::format("{}: is quantized already, to {}", options.model, source.quantized()->name()));
  }
  const fs::path out = options.out;
  if (fs::exists(out) && fs::equivalent(out, options.model)) {
    throw usage_error(fmt::format("{}: is the model itself; the quantized one goes elsewhere", options.out));
  }
  if (fs::exists(out / "model.safetensors.index.json")) {
    throw error(fmt::format("{}: holds the index of another model", options.out));
  }

  const thread_pool threads(options.run.threads);
  std::vector<tensor_to_write> tensors;
  std::list<floatx::weight> weights;  // whose memory `tensors` points to
  json entries = json::object();
  double before = 0, after = 0;
  progress_bar bar("quantizing");
  for (const auto& [name, t] : source.tensors().tensors()) {
    const bool is_head = scheme.head && name == names::head;
    if (!is_block_linear(name) && !is_head) {
      tensors.push_back({name, t.dtype, t.shape, t.data, t.bytes});
      after += static_cast<double>(t.bytes);
      before += static_cast<double>(t.bytes);
      continue;
    }
    if (t.shape.size() != 2)
      throw error(fmt::format("{}: has not 2 dimensions", source.tensors().where(name)));
    const matrix dense = source.linear(name, t.shape[0], t.shape[1]);
    try {
      weights.push_back(floatx::weight::pack(
          {*scheme.format, dense.n, dense.k, scheme.group_size, scheme.scale_type, FLOATX_LAYOUT_CANONICAL},
          dense.type, dense.values, dense.k, nullptr, &threads.lent()));
    } catch (const floatx::error& problem) {
      throw error(fmt::format("{}: {}", dense.where, problem.what()));
    }
    const floatx_weight& w = weights.back().handle();
    std::vector<int64_t> scale_shape{dense.n};
    if (scheme.group_size != 0) scale_shape.push_back((dense.k + scheme.group_size - 1) / scheme.group_size);
    tensors.push_back({name + "_packed",
                       "U8",
                       {dense.n, static_cast<int64_t>(w.codes_bytes) / dense.n},
                       w.codes,
                       w.codes_bytes});
    tensors.push_back({name + "_scale", scale_dtype(w.scale_type), scale_shape, w.scales, w.scales_bytes});
    if (w.tensor_scale != nullptr) {
      tensors.push_back({name + "_scale_2", "F32", {1}, w.tensor_scale, sizeof(float)});
    }
    entries[name] = {{"shape", {dense.n, dense.k}}, {"dtype", t.dtype}};
    before += static_cast<double>(t.bytes);
    after += static_cast<double>(w.codes_bytes + w.scales_bytes);
    bar.show(static_cast<double>(tensors.size()) /
             static_cast<double>(3 * source.tensors().tensors().size()));
  }
  json metadata = {{"version", 1},
                   {"producer", fmt::format("floatx {}", floatx_version_string())},
                   {"format", format_name(*scheme.format)},
                   {"group_size", scheme.group_size},
                   {"scale_type", options.run.scale_type},
                   {"scale_rule", "stored"}};
  if (scheme.scale_type == FLOATX_SCALE_E8M0) metadata["exponent_rule"] = "floor";
  metadata["tensors"] = entries;

  fs::create_directories(out);
  copy_companions(options.model, out);
  // Last: a folder that has weights is complete.
  write_tensors((out / "model.safetensors").string(), std::move(tensors), {{"floatx", metadata.dump()}});
  fmt::print("{}: {} layers in {}, {} instead of {}\n", options.out, entries.size(), scheme.name(),
             show_bytes(after), show_bytes(before));
}

}  // namespace llama
