// Perplexity of a text.
//
// The text is encoded in one call. Its tokens are cut into windows of capacity().context - 1, each of which
// is fed behind a BOS of its own, so that the first token of a window is predicted from the BOS alone and the
// last from all others; what does not fill a window at the end is dropped. The token perplexity is exp(sum of
// -log p / tokens) over all windows; the word perplexity divides by the words, between white space, of the
// same tokens as text.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "runtime.hpp"

namespace llama {

struct perplexity {
  int64_t windows = 0;
  int64_t tokens = 0;
  double loss = 0;  // sum of -log p
  double seconds = 0;
  double of_a_token() const;
};

// tokens: without a BOS. Throws error where they fill no window.
//   most_windows  0 = all.
//   on_window     called with how many have been done, and of how many.
perplexity measure_perplexity(runtime& model, const std::vector<int32_t>& tokens, int64_t most_windows,
                              const std::function<void(int64_t, int64_t)>& on_window = {});

// What a runtime needs for it.
//   context  0 = the model's. Throws error for more than that, and for less than 2.
capacity perplexity_capacity(const model_config& config, int64_t context = 0);

int64_t count_words(const std::string& text);

}  // namespace llama
