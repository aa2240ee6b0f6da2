// The runtime against a reference of its own, and against itself where two ways must lead to the same.
//
// SPDX-License-Identifier: Apache-2.0
#include "llama/runtime.hpp"

#include <cmath>

#include "llama/perplexity.hpp"
#include "llama/sampling.hpp"
#include "llama/weights.hpp"
#include "reference.hpp"
#include "support/catch.hpp"

namespace {

using llama::capacity;
using llama::quantization;

const std::vector<int32_t> prompt = {1, 300, 17, 1999, 42, 42, 801, 5, 1204, 77, 350, 2};

std::unique_ptr<llama::runtime> on_cpu(llama::weight_source& source, llama::thread_pool& threads,
                                       const quantization& scheme = {}, int64_t sequences = 1) {
  return llama::make_cpu_runtime(source, scheme, {sequences, 40, 80}, threads);
}

std::vector<float> copy(const float* logits, int64_t count) { return {logits, logits + count}; }

// What FP32 may lose. A sum of k products, k at most 768 here, is off by about sqrt(k) 2^-24 = 2^-19 of the
// norm of its terms; one block leads a value through eight of them in a row (q, k, scores, attention, out,
// gate, up, down), and four blocks, the head and the vectors' exponential make some 36. As a walk at random
// that is 6 * 2^-19; four times as much is allowed for the gain of the layers between them.
double tolerance(const reference::values& expected) {
  double squares = 0;
  for (const double v : expected) squares += v * v;
  return 24 * 0x1p-19 * std::sqrt(squares / static_cast<double>(expected.size()));
}

void compare(const float* found, const reference::values& expected) {
  double worst = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double difference = std::fabs(double{found[i]} - expected[i]);
    worst = difference <= worst ? worst : difference;  // NaN counts as worst
  }
  INFO("worst difference " << worst << " of " << tolerance(expected));
  CHECK(worst <= tolerance(expected));
}

}  // namespace

// Guards against a model that computes something else than a Llama: every part of it shows in the logits.
TEST_CASE("logits of the bundled model are the reference's") {
  const bool quantized = GENERATE(false, true);
  INFO("quantized: " << quantized);
  reference::model expected = reference::model::load(FLOATX_MODEL);
  quantization scheme;
  if (quantized) {
    expected.quantize_e3m2();
    scheme.format = FLOATX_FORMAT_E3M2;
  }
  const std::vector<reference::values> logits = expected.logits(prompt);

  llama::thread_pool threads(2);
  llama::model_folder source(FLOATX_MODEL);
  const auto model = on_cpu(source, threads, scheme);
  const auto count = static_cast<int64_t>(prompt.size());
  model->feed(prompt.data(), 1, count, 0);
  compare(model->last_logits(), logits.back());

  // One token at a time: the cache instead of the prompt.
  for (int64_t t = 0; t < count; ++t) {
    model->feed(prompt.data() + t, 1, 1, t);
    compare(model->last_logits(), logits[static_cast<size_t>(t)]);
  }
}

// Guards against sizes that only the bundled model makes easy: grouped heads, tails of vectors, untied
// embeddings, every type of weights.
TEST_CASE("logits of an odd model are the reference's") {
  const std::string dtype = GENERATE("F32", "F16", "BF16");
  const cli_test::temporary_folder folder;
  reference::write_model(folder.path(), reference::odd_config(),
                         reference::random_tensors(reference::odd_config(), dtype));
  const std::vector<int32_t> tokens = {1, 5, 60, 33, 2, 2, 17, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19};
  const auto expected = reference::model::load(folder.path()).logits(tokens);

  llama::thread_pool threads(2);
  llama::model_folder source(folder.path());
  const auto model = on_cpu(source, threads);
  const auto count = static_cast<int64_t>(tokens.size());
  model->feed(tokens.data(), 1, count, 0);
  compare(model->last_logits(), expected.back());

  std::vector<double> losses(tokens.size());
  model->feed(tokens.data(), 1, count, 0);
  model->score(tokens.data(), losses.data());
  for (size_t t = 0; t < tokens.size(); ++t) {
    double sum = 0;
    for (const double logit : expected[t]) sum += std::exp(logit);
    const double loss = std::log(sum) - expected[t][static_cast<size_t>(tokens[t])];
    // Two logits' worth of the tolerance above.
    CHECK(std::fabs(losses[t] - loss) <= 2 * tolerance(expected[t]));
  }
}

// Guards against a cache that is read or written at the wrong place, by any of the ways tokens come in. Every
// sum has the same order in all of them, but floatx promises equal bits for equal m only, so quantized layers
// may differ as FP32 does.
TEST_CASE("the cache gives what recomputing everything gives") {
  const bool quantized = GENERATE(false, true);
  quantization scheme;
  if (quantized) scheme.format = FLOATX_FORMAT_E2M1;
  llama::thread_pool threads(2);
  llama::model_folder source(FLOATX_MODEL);
  const auto model = on_cpu(source, threads, scheme, 2);
  const int64_t vocabulary = source.config().vocabulary;
  const auto same = [&](const std::vector<float>& found, const std::vector<float>& expected) {
    if (!quantized) {
      CHECK(found == expected);
    } else {
      compare(found.data(), reference::values(expected.begin(), expected.end()));
    }
  };

  model->feed(prompt.data(), 1, 12, 0);
  const std::vector<float> whole = copy(model->last_logits(), vocabulary);
  // In pieces, over a cache that holds other tokens.
  std::vector<int32_t> others(12, 7);
  model->feed(others.data(), 1, 12, 0);
  model->feed(prompt.data(), 1, 5, 0);
  model->feed(prompt.data() + 5, 1, 6, 5);
  model->feed(prompt.data() + 11, 1, 1, 11);
  same(copy(model->last_logits(), vocabulary), whole);

  // As the second of two sequences: neither disturbs the other.
  std::vector<int32_t> both = others;
  both.insert(both.end(), prompt.begin(), prompt.end());
  model->feed(both.data(), 2, 12, 0);
  same(copy(model->last_logits() + vocabulary, vocabulary), whole);
}

// Guards against chance that depends on how a text came about, and against threads that change it.
TEST_CASE("a generation that is taken up again goes on as it would have") {
  const bool random = GENERATE(false, true);
  llama::sampling how;
  how.temperature = random ? 0.9 : 0;
  how.top_p = 0.95;
  how.seed = 11;
  llama::thread_pool one(1), two(2);
  llama::model_folder source(FLOATX_MODEL);
  const auto model = on_cpu(source, two);
  const auto other = on_cpu(source, one);
  const std::vector<int32_t> begin(prompt.begin(), prompt.begin() + 6);
  const std::vector<int32_t> whole = llama::generate(*model, begin, 24, how).tokens;
  REQUIRE(whole.size() == 24);
  CHECK(llama::generate(*other, begin, 24, how).tokens == whole);

  std::vector<int32_t> resumed = begin;
  resumed.insert(resumed.end(), whole.begin(), whole.begin() + 10);
  const std::vector<int32_t> rest = llama::generate(*model, resumed, 14, how).tokens;
  CHECK(rest == std::vector<int32_t>(whole.begin() + 10, whole.end()));
  if (random) {
    how.seed = 12;
    CHECK(llama::generate(*model, begin, 24, how).tokens != whole);
  }
}

// Guards against a distribution that is not the one that was asked for.
TEST_CASE("tokens are chosen by their probability") {
  const std::vector<float> logits = {std::log(0.5F), std::log(0.3F), std::log(0.2F), -1000};
  llama::sampling how;
  CHECK(llama::choose(logits.data(), 4, how, 3) == 0);
  how.temperature = 1;
  int counts[4] = {};
  constexpr int draws = 20000;
  for (int i = 0; i < draws; ++i) ++counts[llama::choose(logits.data(), 4, how, i)];
  // Five standard deviations of a binomial distribution: at most 5 * sqrt(0.25 / draws).
  const double margin = 5 * std::sqrt(0.25 / draws);
  CHECK(std::fabs(counts[0] / double{draws} - 0.5) < margin);
  CHECK(std::fabs(counts[1] / double{draws} - 0.3) < margin);
  CHECK(counts[3] == 0);
  how.top_p = 0.79;
  for (int i = 0; i < 1000; ++i) CHECK(llama::choose(logits.data(), 4, how, i) < 2);
  const float nan[] = {NAN, NAN};
  CHECK_THROWS_AS(llama::choose(nan, 2, how, 0), llama::error);
}

// Guards against windows that are cut, shifted or counted wrongly: the loss is summed by hand from the
// reference.
TEST_CASE("perplexity is that of windows behind a BOS") {
  const cli_test::temporary_folder folder;
  nlohmann::json config = reference::odd_config();
  config["max_position_embeddings"] = 8;
  reference::write_model(folder.path(), config, reference::random_tensors(config, "F32"));
  const reference::model expected = reference::model::load(folder.path());
  std::vector<int32_t> tokens;
  for (int i = 0; i < 7 * 7 + 3; ++i) tokens.push_back(4 + i * 13 % 57);

  double loss = 0;
  for (size_t w = 0; w < 7; ++w) {
    std::vector<int32_t> window = {1};
    window.insert(window.end(), tokens.begin() + static_cast<long>(w) * 7,
                  tokens.begin() + static_cast<long>(w + 1) * 7);
    const auto logits = expected.logits(window);
    for (size_t t = 0; t < 7; ++t) {
      double sum = 0;
      for (const double logit : logits[t]) sum += std::exp(logit);
      loss += std::log(sum) - logits[t][static_cast<size_t>(window[t + 1])];
    }
  }
  llama::thread_pool threads(2);
  llama::model_folder source(folder.path());
  const auto model = llama::make_cpu_runtime(source, {}, {3, 8, 21}, threads);
  const llama::perplexity found = llama::measure_perplexity(*model, tokens, 0);
  CHECK(found.windows == 7);
  CHECK(found.tokens == 49);
  // The tolerance of 49 losses of random logits, whose size is about 4.
  CHECK(std::fabs(found.loss - loss) < 49 * 2 * 24 * 0x1p-19 * 4);
  CHECK(llama::measure_perplexity(*model, tokens, 2).tokens == 14);
  CHECK_THROWS_AS(llama::measure_perplexity(*model, {1, 2}, 0), llama::error);
  CHECK(llama::count_words("  one two\nthree\t four ") == 4);
}

// Guards against reading or writing outside the buffers.
TEST_CASE("what does not fit is refused") {
  llama::thread_pool threads(1);
  llama::model_folder source(FLOATX_MODEL);
  const auto model = llama::make_cpu_runtime(source, {}, {1, 16, 8}, threads);
  const std::vector<int32_t> tokens(20, 1);
  CHECK_THROWS_AS(model->feed(tokens.data(), 1, 9, 0), llama::error);
  CHECK_THROWS_AS(model->feed(tokens.data(), 1, 8, 9), llama::error);
  CHECK_THROWS_AS(model->feed(tokens.data(), 2, 4, 0), llama::error);
  const int32_t outside = 2048;
  CHECK_THROWS_AS(model->feed(&outside, 1, 1, 0), llama::error);
  CHECK_THROWS_AS(llama::generate(*model, tokens, 4, {}), llama::error);
}

// Guards against frequencies that only the unscaled model has right. Values by hand: theta 10000, head size 4
// gives 1 and 0.01; stretched by 8 between 1 and 4 turns within 8192 positions: 0.01 turns 13 times and is
// kept, 2 pi / 8192 * 2.5 turns 2.5 times and is half and half.
TEST_CASE("RoPE is scaled as config.json says") {
  llama::model_config config;
  config.head_size = 4;
  config.scaling.type = llama::rope_scaling::kind::llama3;
  config.scaling.factor = 8;
  CHECK(llama::rope_frequencies(config) == std::vector<double>{1, 0.01});
  const double f = 2 * 3.14159265358979323846 / 8192 * 2.5;
  config.rope_theta = 1 / (f * f);
  CHECK(llama::rope_frequencies(config)[1] == Approx(0.5 * f + 0.5 * f / 8));
  config.scaling.type = llama::rope_scaling::kind::linear;
  CHECK(llama::rope_frequencies(config)[0] == 0.125);
}
