// Choosing the next token, and doing it again and again.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "runtime.hpp"

namespace llama {

struct sampling {
  double temperature = 0;  // 0: the likeliest token
  double top_p = 1;        // only the likeliest tokens that together have this probability
  uint64_t seed = 0;
};

// A token for `position`. Chance depends on the seed and the position alone, so that a text that is taken up
// again goes on as it would have.
int32_t choose(const float* logits, int64_t vocabulary, const sampling& how, int64_t position);

struct generation {
  std::vector<int32_t> tokens;  // without the prompt
  double prefill_seconds = 0;
  double decode_seconds = 0;
  int64_t decoded = 0;  // tokens that decode_seconds were spent on
};

// Goes on behind `prompt` by up to `most` tokens; ends before a token of config().eos and where the context
// is full.
//   on_token  called with all tokens so far, for each; false ends.
generation generate(runtime& model, const std::vector<int32_t>& prompt, int64_t most, const sampling& how,
                    const std::function<bool(const std::vector<int32_t>&)>& on_token = {});

}  // namespace llama
