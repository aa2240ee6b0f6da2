// SPDX-License-Identifier: Apache-2.0
#include "sampling.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

namespace llama {
namespace {

// A number in [0, 1) for each pair: the finalizer of splitmix64 over a counter.
double uniform(uint64_t seed, int64_t position) {
  uint64_t z = seed * 0x9e3779b97f4a7c15U + static_cast<uint64_t>(position + 1) * 0xd1b54a32d192ed03U;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
  z ^= z >> 31;
  return static_cast<double>(z >> 11) * 0x1p-53;
}

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace

int32_t choose(const float* logits, int64_t vocabulary, const sampling& how, int64_t position) {
  const int64_t likeliest = std::max_element(logits, logits + vocabulary) - logits;
  if (!std::isfinite(logits[likeliest])) {
    throw error(fmt::format("position {}: the logits are not finite", position));
  }
  if (how.temperature <= 0) return static_cast<int32_t>(likeliest);
  std::vector<int32_t> order(static_cast<size_t>(vocabulary));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
  std::vector<double> weights;
  double all = 0;
  for (const int32_t token : order) {
    weights.push_back(std::exp((double{logits[token]} - double{logits[likeliest]}) / how.temperature));
    all += weights.back();
  }
  double kept = 0;
  size_t count = 0;
  do {
    kept += weights[count++];
  } while (count < weights.size() && kept < how.top_p * all);
  double left = uniform(how.seed, position) * kept;
  for (size_t i = 0; i < count; ++i) {
    left -= weights[i];
    if (left < 0) return order[i];
  }
  return order[count - 1];
}

generation generate(runtime& model, const std::vector<int32_t>& prompt, int64_t most, const sampling& how,
                    const std::function<bool(const std::vector<int32_t>&)>& on_token) {
  const auto prompt_tokens = static_cast<int64_t>(prompt.size());
  const int64_t context = model.capacity().context;
  if (prompt_tokens < 1 || prompt_tokens >= context) {
    throw error(fmt::format("a prompt of {} tokens does not fit a context of {}", prompt_tokens, context));
  }
  generation done;
  const int64_t at_once = model.capacity().tokens_per_feed;
  auto begin = std::chrono::steady_clock::now();
  for (int64_t at = 0; at < prompt_tokens; at += at_once) {
    model.feed(prompt.data() + at, 1, std::min(at_once, prompt_tokens - at), at);
  }
  const float* logits = model.last_logits();
  done.prefill_seconds = seconds_since(begin);

  begin = std::chrono::steady_clock::now();
  const std::vector<int32_t>& eos = model.config().eos;
  for (int64_t position = prompt_tokens; position < context && position < prompt_tokens + most; ++position) {
    const int32_t token = choose(logits, model.config().vocabulary, how, position);
    if (std::find(eos.begin(), eos.end(), token) != eos.end()) break;
    done.tokens.push_back(token);
    if ((on_token && !on_token(done.tokens)) || position + 1 == context) break;
    if (position + 1 == prompt_tokens + most) break;
    model.feed(&token, 1, 1, position);
    logits = model.last_logits();
    ++done.decoded;
  }
  done.decode_seconds = seconds_since(begin);
  return done;
}

}  // namespace llama
