// The only file that sees CLI11, which takes a compiler as long as all the others together.
//
// SPDX-License-Identifier: Apache-2.0
#include "cli/command_line.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "cli/commands.hpp"
#include "cli/names.hpp"
#include "cli/support.hpp"

namespace floatx::cli {
namespace {

using action = std::function<void()>;

// Shows positional arguments as "IN... OUT" where CLI11 would show the name of the option.
class help_formatter : public CLI::Formatter {
 public:
  std::string make_option_name(const CLI::Option* option, bool is_positional) const override {
    return is_positional ? option->get_option_text()
                         : CLI::Formatter::make_option_name(option, is_positional);
  }
  std::string make_option_opts(const CLI::Option* option) const override {
    return option->get_positional() ? "" : CLI::Formatter::make_option_opts(option);
  }
  std::string make_option_usage(const CLI::Option* option) const override {
    return option->get_option_text();
  }
};

// ---- Options that several commands have ------------------------------------------------------------------

const CLI::IsMember group_sizes({0, 16, 32, 64, 128});
const CLI::IsMember value_types({"f32", "f16", "bf16"});
const CLI::Range token_counts(1, 65536);

//   words  what help shows for them.
void add_paths(CLI::App& command, const char* words, std::vector<std::string>& paths, const char* text,
               int fewest, int most) {
  command.add_option("paths", paths, text)->required()->expected(fewest, most)->option_text(words);
}

//   word  what help shows for the value.
template <class Value>
CLI::Option* add_value(CLI::App& command, const char* name, const char* word, Value& value,
                       const std::string& text) {
  return command.add_option(name, value, text)->option_text(word);
}

template <class Value>
CLI::Option* add_list(CLI::App& command, const char* name, std::vector<Value>& values, const char* text) {
  return add_value(command, name, "LIST", values, text)->delimiter(',');
}

template <class Value>
void add_scale_type(CLI::App& command, Value& value) {
  add_value(command, "--scale-type", "TYPE", value, "f32 (default), f16, bf16, e8m0 or e4m3fn")
      ->check(CLI::IsMember({"f32", "f16", "bf16", "e8m0", "e4m3fn"}));
}

void add_threads(CLI::App& command, const char* name, int& value) {
  add_value(command, name, "N", value, "Threads (default: one for each processor)")
      ->check(CLI::Range(1, 1024));
}

void add_json(CLI::App& command, std::string& path) {
  add_value(command, "--json", "FILE", path, "Also write the result to this file, as JSON");
}

void add_quiet(CLI::App& command, bool& quiet) {
  command.add_flag("--quiet", quiet, "Print nothing but errors");
}

// A command whose options live as long as the parser.
template <class Options>
struct command_of {
  CLI::App& app;
  Options& options;
};

template <class Options>
command_of<Options> add_command(CLI::App& app, action& chosen, const char* name, const char* text,
                                void (*run)(const Options&), const std::string& footer) {
  const auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(name, text)->footer(footer);
  command->callback([options, run, &chosen] { chosen = [options, run] { run(*options); }; });
  return {*command, *options};
}

// ---- The commands ----------------------------------------------------------------------------------------

void add_quantize(CLI::App& app, action& chosen) {
  const auto [command, options] = add_command(
      app, chosen, "quantize", "Quantize the linear layers of safetensors files", quantize,
      "Every 2-D floating tensor whose name ends in .weight is quantized, apart from those\n"
      "that --exclude matches; all others are carried over byte for byte.\n\n"
      "IN is a file, several shards, or a folder with model.safetensors.index.json or\n"
      "model.safetensors. OUT is one file if it ends in .safetensors, else a folder, which\n"
      "gets one file for each input file, an index where there was one or there are several\n"
      "files, and the configuration and tokenizer files of an input folder. Existing files of\n"
      "the same name are replaced once everything has been written; the input never is.\n\n"
      "REGEX is a POSIX extended regular expression, which may match any part of a name.\n\n"
      "Presets for --format:\n" +
          list_presets("  ", "\n") +
          "\n"
          "Examples:\n"
          "  floatx quantize model.safetensors model-e3m2.safetensors --format e3m2\n"
          "  floatx quantize Llama-3-8B/ Llama-3-8B-nvfp4/ --format nvfp4 --json report.json\n"
          "  floatx quantize a.safetensors b.safetensors out/ --format e2m3 --group-size 64\n"
          "  floatx quantize in.safetensors out.safetensors --include mlp --exclude 'layers\\.0\\.'");
  add_paths(command, "IN... OUT", options.paths, "What to read, and where to write", 2, -1);
  add_value(command, "--format", "NAME", options.format, "Format or preset (default: e3m2)");
  add_value(command, "--group-size", "G", options.group_size,
            "Weights that share a scale: 0 (a row, default), 16, 32, 64 or 128")
      ->check(group_sizes);
  add_scale_type(command, options.scale_type);
  add_value(command, "--scale-rule", "RULE", options.scale_rule,
            "Divide by the scale as stored (default), or unrounded")
      ->check(CLI::IsMember({"stored", "unrounded"}));
  add_value(command, "--exponent-rule", "RULE", options.exponent_rule,
            "How e8m0 scales round: floor (default) or ceil")
      ->check(CLI::IsMember({"floor", "ceil"}));
  add_value(command, "--include", "REGEX", options.include,
            "Only tensors that this matches; lifts the default --exclude");
  add_value(command, "--exclude", "REGEX", options.exclude,
            fmt::format("Not the tensors that this matches (default: {})", default_exclude));
  command.add_flag("--allow-wider-scales", options.allow_wider_scales,
                   "F32 scales for a tensor whose scales F16 does not hold");
  add_threads(command, "--jobs", options.jobs);
  add_json(command, options.json);
  add_quiet(command, options.quiet);
}

void add_dequantize(CLI::App& app, action& chosen) {
  const auto [command, options] =
      add_command(app, chosen, "dequantize", "Turn quantized files back into ordinary ones", dequantize,
                  "IN and OUT are as for 'floatx quantize'. Tensors that are not quantized are carried over\n"
                  "byte for byte.\n\n"
                  "Example:\n"
                  "  floatx dequantize model-e3m2.safetensors model-back.safetensors --dtype bf16");
  add_paths(command, "IN... OUT", options.paths, "What to read, and where to write", 2, -1);
  add_value(command, "--dtype", "TYPE", options.type, "f32, f16 or bf16 (default: what each tensor was)")
      ->check(value_types);
  add_threads(command, "--jobs", options.jobs);
  add_quiet(command, options.quiet);
}

void add_inspect(CLI::App& app, action& chosen) {
  const auto [command, options] = add_command(
      app, chosen, "inspect", "Check safetensors files and list what they hold", inspect,
      "FILE is a file, several shards, or a folder. Every rule of the file format is checked, and\n"
      "quantized tensors against the metadata that describe them; the data are not read.\n\n"
      "Example:\n"
      "  floatx inspect model-e3m2.safetensors");
  add_paths(command, "FILE...", options.paths, "What to read", 1, -1);
  add_json(command, options.json);
}

void add_compare(CLI::App& app, action& chosen) {
  const auto [command, options] = add_command(
      app, chosen, "compare", "Run the quantized linear layers on the CPU and compare with the original",
      compare,
      "For each quantized tensor W[n,k] and random x[m,k], y = x W^T is computed by floatx_linear\n"
      "from the quantized weight and in FP64 from the original one. ORIGINAL and QUANTIZED are\n"
      "files or folders.\n\n"
      "Example:\n"
      "  floatx compare model.safetensors model-e3m2.safetensors --tokens 64");
  add_paths(command, "ORIGINAL QUANTIZED", options.paths, "What to read", 2, 2);
  add_value(command, "--tokens", "M", options.tokens, "Rows of x (default: 16)")->check(token_counts);
  add_value(command, "--seed", "S", options.seed, "Seed of x (default: 1)");
  add_threads(command, "--jobs", options.jobs);
  add_json(command, options.json);
}

void add_formats(CLI::App& app, action& chosen) {
  const auto [command, options] = add_command(
      app, chosen, "formats", "List the formats", formats,
      "A format eEmM has a sign bit, E exponent bits and M mantissa bits. An octave is\n"
      "[2^i, 2^(i+1)). The rounding error is relative to the value, for values from the smallest\n"
      "normal to the maximum.");
  add_json(command, options.json);
}

void add_bench(CLI::App& app, action& chosen) {
  const auto [command, options] = add_command(
      app, chosen, "bench", "Measure the speed of the linear layer on this machine", bench,
      "Weights are random, and each call takes the next of so many copies that no cache holds\n"
      "them. µs is the median call, GB/s counts the packed codes and scales, and their share of\n"
      "the read bandwidth is that of a plain reading loop in the same run.\n\n"
      "With --cuda the calls of one pass over the copies are a CUDA graph, and µs is the median\n"
      "replay over the calls in it. The floor is the time to read the codes and scales at the\n"
      "read bandwidth, or to multiply at the rate of a large cuBLAS product, whichever is longer;\n"
      "cuBLAS, in turns with floatx, multiplies the same weights, dequantized to 16 bits. Samples\n"
      "of floatx's products are checked. MHz is the clock meanwhile, which power may lower: cycles,\n"
      "which the JSON has, do not depend on it. --type may be a list, too.\n\n"
      "Examples:\n"
      "  floatx bench --shape llama-3-8b --format e3m2,nvfp4 --m 1,16\n"
      "  floatx bench --shape 4096x14336 --format e2m1 --group-size 32 --threads 2\n"
      "  floatx bench --cuda --shape llama-2-7b --m 1,16,64 --chain --json gpu.json");
  add_list(command, "--shape", options.shapes,
           "NxK, llama-2-7b, llama-2-70b or llama-3-8b (default), or several");
  add_list(command, "--format", options.formats, "Formats or presets (default: e3m2)");
  add_list(command, "--group-size", options.group_sizes,
           "0 (a row, default), 16, 32, 64 or 128, or several; not for presets")
      ->check(group_sizes);
  add_scale_type(command, options.scale_type);
  add_list(command, "--m", options.m, "Tokens (default: 1), or several")->check(token_counts);
  add_list(command, "--type", options.types,
           "Type of x and y: f32 (default, CPU only), f16 (default with --cuda) or bf16")
      ->check(value_types);
  add_value(command, "--seconds", "S", options.seconds,
            "Time for each measurement (default: 0.5; 0.05 with --cuda, and at least 20 replays)")
      ->check(CLI::Range(0.001, 3600.0));
  add_threads(command, "--threads", options.threads);
  add_json(command, options.json);
  CLI::Option* cuda = command.add_flag("--cuda", options.cuda, "Measure the GPU");
  command
      .add_flag("--chain", options.chain,
                "Also the layers of a decoder block one after another, without and with\n"
                "programmatic launch")
      ->needs(cuda);
  command
      .add_flag("--exact-weights", options.exact_weights,
                "Round no product of a code and its group's scale to the type of x")
      ->needs(cuda);
  add_value(command, "--settle", "S", options.settle_seconds,
            "Long turns, of which the first S seconds do not count, in every order of what is measured\n"
            "once: products of many tokens draw so much power that the GPU lowers its clock, and in\n"
            "short turns what draws more lowers it for the others (default: 0, short turns)")
      ->check(CLI::Range(0.0, 60.0))
      ->needs(cuda);
  add_value(command, "--commit", "TEXT", options.commit, "Noted in the JSON")->needs(cuda);
}

}  // namespace

std::function<void()> parse_command_line(int argc, char** argv) {
  CLI::App app{
      "Quantizes the linear layers of a model to floats of 3 to 8 bits.\n\n"
      "  floatx quantize model.safetensors model-e3m2.safetensors --format e3m2\n"
      "  floatx compare model.safetensors model-e3m2.safetensors\n"
      "  floatx formats\n",
      "floatx"};
  app.set_version_flag("--version", fmt::format("floatx {}", floatx_version_string()));
  app.require_subcommand(1);
  app.formatter(std::make_shared<help_formatter>());
  app.get_formatter()->column_width(30);
  action chosen = [] {};
  add_quantize(app, chosen);
  add_dequantize(app, chosen);
  add_inspect(app, chosen);
  add_compare(app, chosen);
  add_formats(app, chosen);
  add_bench(app, chosen);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& help_or_version) {
    app.exit(help_or_version);
    return [] {};
  } catch (const CLI::ParseError& error) {
    throw usage_error(fmt::format("{} (floatx --help tells more)", error.what()));
  }
  return chosen;
}

}  // namespace floatx::cli
