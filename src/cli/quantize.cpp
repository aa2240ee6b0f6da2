// floatx quantize.
//
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <regex.h>

#include <nlohmann/json.hpp>

#include "cli/commands.hpp"
#include "cli/names.hpp"
#include "cli/quantize_report.hpp"
#include "cli/quantize_tensor.hpp"
#include "cli/support.hpp"
#include "cli/terminal.hpp"
#include "cli/transfer.hpp"
#include "cli/weights.hpp"
#include "cli/workers.hpp"
#include "io/error.hpp"

namespace floatx::cli {
namespace {

using io::show;

quantization scheme_of(const quantize_options& options) {
  quantization scheme;
  if (const preset* fixed = find_preset(options.format)) {
    if (options.group_size.value_or(fixed->group_size) != fixed->group_size ||
        options.scale_type.value_or(std::string(name(fixed->scale_type))) != name(fixed->scale_type)) {
      throw usage_error(
          fmt::format("--format {} fixes --group-size {} and --scale-type {}; use --format {} to choose "
                      "them",
                      fixed->name, fixed->group_size, name(fixed->scale_type), describe(fixed->format).name));
    }
    scheme.format = fixed->format;
    scheme.group_size = fixed->group_size;
    scheme.scale_type = fixed->scale_type;
  } else {
    if (floatx_format_parse(options.format.c_str(), &scheme.format) != FLOATX_STATUS_OK) {
      throw usage_error(
          fmt::format("--format {}: unknown format; 'floatx formats' lists them", show(options.format)));
    }
    scheme.group_size = options.group_size.value_or(0);
    if (options.scale_type) {
      // CLI11 has checked the word.
      scheme.scale_type = parse_scale_type(*options.scale_type).value();
    }
  }
  scheme.scale_rule = parse_scale_rule(options.scale_rule).value();
  scheme.exponent_rule = parse_exponent_rule(options.exponent_rule).value();
  if (scheme.exponent_rule != FLOATX_EXPONENT_RULE_FLOOR && scheme.scale_type != FLOATX_SCALE_E8M0) {
    throw usage_error("--exponent-rule is for --scale-type e8m0");
  }
  if (scheme.scale_rule != FLOATX_SCALE_RULE_STORED && scheme.scale_type == FLOATX_SCALE_E8M0) {
    throw usage_error("--scale-rule unrounded is not for --scale-type e8m0");
  }
  if (options.allow_wider_scales && scheme.scale_type != FLOATX_SCALE_F16) {
    throw usage_error("--allow-wider-scales is for --scale-type f16");
  }
  return scheme;
}

// A POSIX extended regular expression: the standard library's recurses once for each character of a name.
class pattern {
 public:
  pattern(const char* option, const std::string& text) {
    const int failure = regcomp(&compiled_, text.c_str(), REG_EXTENDED | REG_NOSUB);
    if (failure != 0) {
      char reason[128];
      regerror(failure, &compiled_, reason, sizeof reason);
      throw usage_error(fmt::format("{} {}: not a regular expression: {}", option, show(text), reason));
    }
  }
  ~pattern() { regfree(&compiled_); }
  pattern(const pattern&) = delete;
  pattern& operator=(const pattern&) = delete;

  bool matches(const std::string& name) const {
    return regexec(&compiled_, name.c_str(), 0, nullptr, 0) == 0;
  }

 private:
  regex_t compiled_;
};

// Which tensors are quantized.
class selection {
 public:
  explicit selection(const quantize_options& options) {
    if (options.include) {
      include_.emplace("--include", *options.include);
    }
    // Who names what to include has been told about embeddings and norms.
    if (options.exclude || !options.include) {
      exclude_.emplace("--exclude", options.exclude.value_or(default_exclude));
    }
  }

  bool names(const std::string& tensor) const {
    constexpr std::string_view suffix = ".weight";
    return tensor.size() > suffix.size() &&
           tensor.compare(tensor.size() - suffix.size(), suffix.size(), suffix) == 0 &&
           (!include_ || include_->matches(tensor)) && !(exclude_ && exclude_->matches(tensor));
  }

 private:
  std::optional<pattern> include_;
  std::optional<pattern> exclude_;
};

// A tensor to quantize: where it is, and what it becomes.
struct task {
  io::tensor_place place;
  dense_tensor source;
  quantized_entry entry;
};

bool can_be_quantized(const io::tensor_info& info) {
  constexpr uint64_t largest = 0x7fffffff;
  return library_type(info.dtype) && info.shape.size() == 2 && info.shape[0] > 0 && info.shape[1] > 0 &&
         info.shape[0] <= largest && info.shape[1] <= largest;
}

std::vector<task> find_tasks(const io::model& model, const selection& selected, bool quiet) {
  std::vector<task> tasks;
  size_t tensors = 0;
  for (size_t s = 0; s < model.shards().size(); ++s) {
    const io::shard& shard = model.shards()[s];
    if (has_quantization(shard)) {
      throw std::runtime_error(
          fmt::format("{}: is quantized already; 'floatx dequantize' takes it back", shard.file.path()));
    }
    tensors += shard.header.tensors.size();
    for (size_t t = 0; t < shard.header.tensors.size(); ++t) {
      const io::tensor_info& info = shard.header.tensors[t];
      if (!selected.names(info.name)) {
        continue;
      }
      if (!can_be_quantized(info)) {
        if (info.shape.size() == 2 && !quiet) {
          fmt::print(stderr, "floatx: note: tensor {} stays as it is: {} [{}] cannot be quantized\n",
                     show(info.name), io::name(info.dtype), fmt::join(info.shape, ", "));
        }
        continue;
      }
      const dense_tensor source(shard, info);
      tasks.push_back({{s, t}, source, {info.name, source.n(), source.k(), info.dtype, FLOATX_SCALE_F32}});
    }
  }
  if (tasks.empty()) {
    throw std::runtime_error(
        fmt::format("{}: no tensor to quantize among {}: it takes a 2-D F32, F16, BF16 or F64 "
                    "tensor whose name ends in .weight and passes --include and --exclude",
                    model.is_folder() ? model.folder() : model.shards()[0].file.path(), tensors));
  }
  return tasks;
}

// Opens the output files: the tensors that stay, and what becomes of the others.
void add_parts(const io::model& model, const quantization& scheme, const std::vector<task>& tasks,
               io::model_output& output) {
  for (size_t part = 0; part < output.part_count(); ++part) {
    std::vector<io::tensor_info> tensors;
    std::vector<quantized_entry> entries;
    auto next = tasks.begin();
    for (size_t s = 0; s < model.shards().size(); ++s) {
      for (size_t t = 0; t < model.shards()[s].header.tensors.size(); ++t) {
        const bool is_task = next != tasks.end() && next->place.shard == s && next->place.tensor == t;
        if (output.part_of(s) == part) {
          if (!is_task) {
            tensors.push_back(model.shards()[s].header.tensors[t]);
          } else {
            entries.push_back(next->entry);
            for (io::tensor_info& made : stored_tensors(scheme, next->entry)) {
              if (model.find(made.name)) {
                throw std::runtime_error(
                    fmt::format("{}: tensor {} is in the way of the one that {} would become",
                                model.shards()[s].file.path(), show(made.name), show(next->entry.name)));
              }
              tensors.push_back(std::move(made));
            }
          }
        }
        next += is_task ? 1 : 0;
      }
    }
    io::metadata_map metadata = output.source_metadata(part);
    if (!entries.empty()) {
      metadata[metadata_key] = serialize(scheme, entries);
    }
    output.add_part(std::move(tensors), metadata);
  }
}

}  // namespace

void quantize(const quantize_options& options) {
  quantization scheme = scheme_of(options);
  const selection selected(options);
  const workers threads(options.jobs);
  const io::model model({options.paths.begin(), options.paths.end() - 1});
  std::vector<task> tasks = find_tasks(model, selected, options.quiet);
  for (task& t : tasks) {
    t.entry.scale_type = scheme.scale_type;
    const floatx_weight weight = canonical(scheme, t.entry);
    floatx_sizes sizes = {};
    sizes.struct_size = sizeof sizes;
    check(floatx_weight_sizes(&weight, &sizes), fmt::format("tensor {}", show(t.entry.name)));
  }
  json_report json(options.json, {&model});
  io::model_output output(model, options.paths.back());
  if (!options.json.empty()) {
    output.require_not_output(options.json);
  }
  if (options.allow_wider_scales) {
    // The sizes in the header depend on this, so it is found out first.
    for (task& t : tasks) {
      if (needs_wider_scales(t.source, scheme, threads)) {
        t.entry.scale_type = FLOATX_SCALE_F32;
      }
    }
  }
  add_parts(model, scheme, tasks, output);

  quantize_report report(scheme, model.file_bytes(), output.file_bytes());
  {
    progress_bar progress(model.file_bytes(), !options.quiet);
    auto next = tasks.begin();
    for (size_t s = 0; s < model.shards().size(); ++s) {
      io::safetensors_writer& writer = output.part(output.part_of(s));
      const io::shard& shard = model.shards()[s];
      for (size_t t = 0; t < shard.header.tensors.size(); ++t) {
        const io::tensor_info& info = shard.header.tensors[t];
        progress.label(show(info.name));
        if (next != tasks.end() && next->place.shard == s && next->place.tensor == t) {
          report.add(next->entry,
                     quantize_tensor(next->source, scheme, next->entry, writer, threads, progress));
          ++next;
        } else {
          copy_tensor(shard, info, writer, threads, progress);
        }
      }
    }
    progress.label("writing to the disk");
    json.write(report.json());
    output.commit();
    json.commit();
  }
  if (!options.quiet) {
    report.print();
  }
}

}  // namespace floatx::cli
