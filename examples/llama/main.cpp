// floatx-llama: Llama models on floatx.
//
// The exit status is 0 for success, 1 for a failure and 2 for a wrong command line.
//
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>

#include "commands.hpp"

namespace {

using namespace llama;

void add_scales(CLI::App& command, run_options& run) {
  command
      .add_option("--group-size", run.group_size, "Weights along k that share a scale; 0 (default) is a row")
      ->check(CLI::IsMember({0, 16, 32, 64, 128}));
  command.add_option("--scale-type", run.scale_type, "f16 (default), f32, bf16, e8m0 or e4m3fn");
  command.add_flag("--quantize-head", run.quantize_head, "Quantize the output layer, too");
}

void add_processor(CLI::App& command, run_options& run) {
  command.add_option("--device", run.device, "cpu (default) or cuda");
  command.add_option("--threads", run.threads, "Of the CPU (default: one for each processor)")
      ->check(CLI::Range(1, 1024));
}

void add_run(CLI::App& command, run_options& run) {
  command.add_option("--format", run.format, "none (default: weights as they are), e3m2, e2m1, ...");
  add_scales(command, run);
  add_processor(command, run);
}

void add_model(CLI::App& command, std::string& model) {
  command.add_option("MODEL", model, "A folder with config.json, model.safetensors and tokenizer.model")
      ->required();
}

int run(int argc, char** argv) {
  CLI::App app("Llama models on floatx.", "floatx-llama");
  app.require_subcommand(1);

  quantize_options to_quantize;
  to_quantize.run.format = "e3m2";
  CLI::App* command = app.add_subcommand("quantize", "Write a quantized copy of a model");
  add_model(*command, to_quantize.model);
  command->add_option("OUT", to_quantize.out, "The folder to write")->required();
  command->add_option("--format", to_quantize.run.format, "e3m2 (default), e2m1, ...");
  add_scales(*command, to_quantize.run);
  command->add_option("--threads", to_quantize.run.threads, "Default: one for each processor");
  command->callback([&] { quantize(to_quantize); });

  generate_options to_generate;
  command = app.add_subcommand("generate", "Go on with a text");
  add_model(*command, to_generate.model);
  add_run(*command, to_generate.run);
  command->add_option("--prompt", to_generate.prompt, "The beginning of the text");
  command->add_option("--max-tokens", to_generate.most, "At most so many (default 200)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 30));
  command->add_option("--temperature", to_generate.how.temperature, "0 (default): always the likeliest token")
      ->check(CLI::Range(0.0, 100.0));
  command
      ->add_option("--top-p", to_generate.how.top_p,
                   "Only the likeliest tokens of this probability (default 1)")
      ->check(CLI::Range(0.0, 1.0));
  command->add_option("--seed", to_generate.how.seed, "Equal seeds give equal texts (default 0)");
  command->callback([&] { generate_text(to_generate); });

  perplexity_options to_measure;
  command = app.add_subcommand("perplexity", "Measure how well a model predicts a text");
  add_model(*command, to_measure.model);
  add_run(*command, to_measure.run);
  command->add_option("--text", to_measure.text, "The text, a file in UTF-8")->required();
  command->add_option("--windows", to_measure.windows, "Only the first so many windows");
  command->add_option("--context", to_measure.context,
                      "Tokens of a window and its BOS (default: the model's context)");
  command->add_option("--json", to_measure.json, "Also write the result to this file");
  command->callback([&] { show_perplexity(to_measure); });

  bench_options to_bench;
  command = app.add_subcommand("bench", "Measure random weights of a well-known shape");
  command
      ->add_option("--shape", to_bench.shape,
                   "llama-2-7b, llama-2-13b, llama-2-70b, llama-3-8b, llama-3.2-1b")
      ->required();
  command->add_option("--format", to_bench.formats, "Default: none,e3m2")->delimiter(',');
  command->add_option("--group-size", to_bench.group_sizes, "Default: 0")->delimiter(',');
  command->add_option("--scale-type", to_bench.run.scale_type, "f16 (default), f32, bf16, e8m0 or e4m3fn");
  command->add_flag("--quantize-head", to_bench.run.quantize_head, "Quantize the output layer, too");
  add_processor(*command, to_bench.run);
  command->add_option("--batch", to_bench.batches, "Sequences at once (default: 1)")
      ->delimiter(',')
      ->check(CLI::Range(1, 1024));
  command->add_option("--from", to_bench.from, "Tokens cached at the first step (default 128)");
  command->add_option("--to", to_bench.to, "Tokens cached at the last step (default 512)");
  command->add_option("--prefill", to_bench.prefill, "Also measure a prompt of so many tokens");
  command->add_option("--seconds", to_bench.seconds, "For each measurement, about (default 10)");
  command->add_flag("--profile", to_bench.profile, "On the GPU, show what the parts of a step take");
  command->add_option("--json", to_bench.json, "Also write the result to this file");
  command->add_option("--figure", to_bench.figure, "Also draw the first batch size to this file, as SVG");
  command->callback([&] { bench(to_bench); });

  table_options to_tabulate;
  command = app.add_subcommand("table", "Perplexity and tokens a second of one format after the other");
  add_model(*command, to_tabulate.model);
  command->add_option("--text", to_tabulate.text, "The text, a file in UTF-8")->required();
  command->add_option("--windows", to_tabulate.windows, "Only the first so many windows");
  command->add_option("--context", to_tabulate.context,
                      "Tokens of a window and its BOS (default: the model's context)");
  command->add_option("--out", to_tabulate.out, "Also write OUT.md, OUT.json and OUT.svg");
  command->add_option("--scale-type", to_tabulate.run.scale_type, "f16 (default), f32 or bf16");
  command->add_flag("--quantize-head", to_tabulate.run.quantize_head, "Quantize the output layer, too");
  add_processor(*command, to_tabulate.run);
  command->callback([&] { table(to_tabulate); });

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& problem) {
    return app.exit(problem) == 0 ? 0 : 2;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) try { return run(argc, argv); } catch (const llama::usage_error& problem) {
  fmt::print(stderr, "floatx-llama: {}\n", problem.what());
  return 2;
} catch (const std::bad_alloc&) {
  fmt::print(stderr, "floatx-llama: there is not enough memory\n");
  return 1;
} catch (const std::exception& problem) {
  fmt::print(stderr, "floatx-llama: {}\n", problem.what());
  return 1;
}
