// SPDX-License-Identifier: Apache-2.0
#include "runtime.hpp"

#include <fmt/format.h>

namespace llama {

void runtime::check_feed(const int32_t* tokens, int64_t sequences, int64_t count, int64_t position) const {
  if (sequences < 1 || sequences > capacity_.sequences || count < 1 || position < 0 ||
      position + count > capacity_.context || sequences * count > capacity_.tokens_per_feed) {
    throw error(fmt::format("{} x {} tokens at position {} do not fit {} sequences of {} tokens, {} at once",
                            sequences, count, position, capacity_.sequences, capacity_.context,
                            capacity_.tokens_per_feed));
  }
  for (int64_t t = 0; t < sequences * count; ++t) {
    if (tokens[t] < 0 || tokens[t] >= config_.vocabulary) {
      throw error(fmt::format("token {} is outside the vocabulary of {}", tokens[t], config_.vocabulary));
    }
  }
}

}  // namespace llama
