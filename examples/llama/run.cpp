// generate and perplexity, and what the commands share.
//
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "commands.hpp"
#include "perplexity.hpp"
#include "report.hpp"
#include "tokenizer.hpp"

namespace llama {
namespace {

floatx_scale_type parse_scale_type(const std::string& name) {
  if (name == "f32") return FLOATX_SCALE_F32;
  if (name == "f16") return FLOATX_SCALE_F16;
  if (name == "bf16") return FLOATX_SCALE_BF16;
  if (name == "e8m0") return FLOATX_SCALE_E8M0;
  if (name == "e4m3fn") return FLOATX_SCALE_E4M3FN;
  throw usage_error(fmt::format("--scale-type {}: is none of f32, f16, bf16, e8m0 and e4m3fn", show(name)));
}

// What of the text is complete: a character that needs more tokens shows as U+FFFD until they are there.
std::string complete(std::string text) {
  constexpr std::string_view replacement = "\xef\xbf\xbd";
  while (text.size() >= replacement.size() &&
         std::string_view(text).substr(text.size() - replacement.size()) == replacement) {
    text.resize(text.size() - replacement.size());
  }
  return text;
}

std::string rate(int64_t tokens, double seconds) {
  return fmt::format("{} tokens in {:.2f} s, {:.1f} a second", tokens, seconds,
                     seconds > 0 ? static_cast<double>(tokens) / seconds : 0);
}

}  // namespace

quantization run_options::scheme() const {
  quantization scheme;
  scheme.format = parse_format(format);
  scheme.group_size = group_size;
  scheme.scale_type = parse_scale_type(scale_type);
  scheme.head = quantize_head;
  if (scheme.head && !scheme.format) throw usage_error("--quantize-head needs --format");
  return scheme;
}

quantization scheme_for(const model_folder& model, const run_options& options) {
  quantization scheme = options.scheme();
  if (scheme.format && model.quantized()) {
    throw usage_error(fmt::format("--format {}: {} is quantized already, to {}", options.format,
                                  model.tensors().folder(), model.quantized()->name()));
  }
  return scheme;
}

std::unique_ptr<runtime> make_runtime(weight_source& source, const quantization& scheme, const capacity& size,
                                      const std::string& device, thread_pool& threads) {
  if (device == "cpu") return make_cpu_runtime(source, scheme, size, threads);
  if (device == "cuda") return make_cuda_runtime(source, scheme, size, threads);
  throw usage_error(fmt::format("--device {}: is neither cpu nor cuda", show(device)));
}

void generate_text(const generate_options& options) {
  model_folder source(options.model);
  const quantization scheme = scheme_for(source, options.run);
  const tokenizer text(options.model, source.config().vocabulary);
  thread_pool threads(options.run.threads);
  std::vector<int32_t> prompt = text.encode(options.prompt);
  prompt.insert(prompt.begin(), source.config().bos);
  const int64_t context =
      std::min(source.config().context, static_cast<int64_t>(prompt.size()) + options.most);
  const auto model = make_runtime(source, scheme, {1, context, std::min<int64_t>(context, 512)},
                                  options.run.device, threads);

  std::string shown = text.decode(prompt);
  fmt::print("{}", shown);
  std::fflush(stdout);
  const generation done =
      generate(*model, prompt, options.most, options.how, [&](const std::vector<int32_t>& tokens) {
        std::vector<int32_t> all = prompt;
        all.insert(all.end(), tokens.begin(), tokens.end());
        const std::string now = complete(text.decode(all));
        if (now.size() > shown.size()) {
          fmt::print("{}", now.substr(shown.size()));
          std::fflush(stdout);
          shown = now;
        }
        return true;
      });
  fmt::print("\n");
  std::fflush(stdout);
  fmt::print(stderr, "prefill: {}\ndecode:  {}\n",
             rate(static_cast<int64_t>(prompt.size()), done.prefill_seconds),
             rate(done.decoded, done.decode_seconds));
}

void show_perplexity(const perplexity_options& options) {
  model_folder source(options.model);
  const quantization scheme = scheme_for(source, options.run);
  const tokenizer text(options.model, source.config().vocabulary);
  thread_pool threads(options.run.threads);
  const mapped_file file(options.text);
  const std::vector<int32_t> tokens = text.encode(std::string(file.text()));
  const capacity size = perplexity_capacity(source.config(), options.context);
  const auto model = make_runtime(source, scheme, size, options.run.device, threads);
  perplexity found;
  {
    progress_bar bar("perplexity");
    found = measure_perplexity(*model, tokens, options.windows, [&](int64_t done, int64_t all) {
      bar.show(static_cast<double>(done) / static_cast<double>(all));
    });
  }
  const int64_t words = count_words(text.decode({tokens.begin(), tokens.begin() + found.tokens}));
  const double of_a_word = std::exp(found.loss / static_cast<double>(words));
  const std::string format = source.quantized() ? source.quantized()->name() : scheme.name();
  fmt::print("{}: perplexity {:.3f} a token, {:.2f} a word\n", format, found.of_a_token(), of_a_word);
  fmt::print("{} tokens, {} words in {} windows of {}; {:.1f} s, {:.0f} tokens a second\n", found.tokens,
             words, found.windows, size.context - 1, found.seconds,
             static_cast<double>(found.tokens) / found.seconds);
  if (!options.json.empty()) {
    const nlohmann::ordered_json out = {{"format", format},
                                        {"device", model->device_name()},
                                        {"perplexity", found.of_a_token()},
                                        {"word_perplexity", of_a_word},
                                        {"tokens", found.tokens},
                                        {"words", words},
                                        {"windows", found.windows},
                                        {"window_tokens", size.context - 1},
                                        {"seconds", found.seconds}};
    write_text(options.json, out.dump(2) + "\n");
  }
}

void write_text(const std::string& path, const std::string& text) {
  output_file file(path);
  file.write(text);
  file.commit();
}

nlohmann::ordered_json describe_machine(const runtime& model, double bandwidth) {
  return {{"cpu", processor_name()},
          {"device", model.device_name()},
          {"read_GBps", bandwidth / 1e9},
          {"floatx", floatx_version_string()},
          {"date", today()}};
}

}  // namespace llama
