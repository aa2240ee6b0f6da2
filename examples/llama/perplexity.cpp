// SPDX-License-Identifier: Apache-2.0
#include "perplexity.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>

namespace llama {

double perplexity::of_a_token() const { return std::exp(loss / static_cast<double>(tokens)); }

capacity perplexity_capacity(const model_config& config, int64_t context) {
  if (context == 0) context = config.context;
  if (context < 2 || context > config.context) {
    throw usage_error(fmt::format("--context {}: is not in 2 .. {}, the model's", context, config.context));
  }
  // Some windows at once, so that linear layers see enough tokens to be worth it.
  constexpr int64_t tokens = 2048;
  const int64_t window = context - 1;
  const int64_t sequences = std::max<int64_t>(1, tokens / window);
  return {sequences, context, sequences * window};
}

perplexity measure_perplexity(runtime& model, const std::vector<int32_t>& tokens, int64_t most_windows,
                              const std::function<void(int64_t, int64_t)>& on_window) {
  const int64_t window = model.capacity().context - 1;
  int64_t windows = static_cast<int64_t>(tokens.size()) / window;
  if (windows == 0) {
    throw error(fmt::format("the text has {} tokens, too few for a window of {}", tokens.size(), window));
  }
  if (most_windows > 0) windows = std::min(windows, most_windows);

  perplexity result;
  std::vector<int32_t> fed;
  std::vector<double> losses;
  const auto begin = std::chrono::steady_clock::now();
  for (int64_t first = 0; first < windows;) {
    const int64_t together = std::min(model.capacity().sequences, windows - first);
    const int32_t* targets = tokens.data() + first * window;
    fed.assign(targets, targets + together * window);
    for (int64_t w = 0; w < together; ++w) {
      // One place to the right, behind the BOS.
      std::copy_backward(targets + w * window, targets + (w + 1) * window - 1,
                         fed.begin() + (w + 1) * window);
      fed[static_cast<size_t>(w * window)] = model.config().bos;
    }
    losses.resize(fed.size());
    model.feed(fed.data(), together, window, 0);
    model.score(targets, losses.data());
    for (const double loss : losses) result.loss += loss;
    first += together;
    if (on_window) on_window(first, windows);
  }
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  result.windows = windows;
  result.tokens = windows * window;
  if (!std::isfinite(result.loss)) throw error("the perplexity is not finite");
  return result;
}

int64_t count_words(const std::string& text) {
  int64_t words = 0;
  bool inside = false;
  for (const char c : text) {
    const bool space = c == ' ' || (c >= '\t' && c <= '\r');
    words += !space && !inside ? 1 : 0;
    inside = !space;
  }
  return words;
}

}  // namespace llama
