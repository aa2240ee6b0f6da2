// A model that runs, on whatever processor.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "config.hpp"
#include "threads.hpp"
#include "weights.hpp"

namespace llama {

// How many sequences of how many tokens a runtime holds.
struct capacity {
  int64_t sequences = 1;
  int64_t context = 0;          // of each sequence
  int64_t tokens_per_feed = 0;  // of all sequences together, in one call of feed
};

// What a part of a step takes in all layers together.
struct profile_entry {
  std::string part;
  double us;
};

class runtime {
 public:
  virtual ~runtime() = default;

  const model_config& config() const { return config_; }
  const llama::capacity& capacity() const { return capacity_; }

  // Runs tokens[sequences, count] through the model: the tokens at positions [position, position + count) of
  // each sequence. What was cached at these positions and behind them is replaced.
  virtual void feed(const int32_t* tokens, int64_t sequences, int64_t count, int64_t position) = 0;

  // Of the last feed: the logits [sequences, vocabulary] behind each sequence's last token. In host memory,
  // until the next call.
  virtual const float* last_logits() = 0;

  // Of the last feed: -log of the probability of targets[sequences, count], one for each token that was fed.
  virtual void score(const int32_t* targets, double* losses) = 0;

  // Feeds one token to each sequence, the one that was likeliest behind the last feed, and waits for nothing
  // that the next step does not need: what decoding costs. For benchmarks.
  virtual void step_greedily(int64_t sequences, int64_t position) = 0;
  // Returns when all work has been done.
  virtual void wait() = 0;

  // Bytes of all weights that a token reads, and of the keys and values that it reads at a position.
  virtual size_t weight_bytes() const = 0;
  virtual size_t cache_bytes(int64_t position) const = 0;
  // Bits of storage for each weight of the blocks' linear layers.
  double bits_per_weight() const {
    return 8 * static_cast<double>(block_bytes()) / static_cast<double>(config_.block_weights());
  }
  virtual size_t block_bytes() const = 0;
  // Of weights in storage, embeddings and norms included.
  virtual size_t model_bytes() const = 0;
  // Bytes a second at which memory can be read, measured now.
  virtual double read_bandwidth() = 0;
  virtual std::string device_name() const = 0;
  // The parts of a step at this position one by one, on the GPU; nothing on the CPU. Afterwards the sequences
  // have to be fed anew.
  virtual std::vector<profile_entry> profile(int64_t, int64_t) { return {}; }

 protected:
  runtime(const model_config& config, const llama::capacity& size) : config_(config), capacity_(size) {}
  // Throws error for tokens outside the vocabulary and for what the capacity does not hold.
  void check_feed(const int32_t* tokens, int64_t sequences, int64_t count, int64_t position) const;

 private:
  model_config config_;
  llama::capacity capacity_;
};

std::unique_ptr<runtime> make_cpu_runtime(weight_source& source, const quantization& scheme,
                                          const capacity& size, thread_pool& threads);
// Where there is no GPU, or the program was built without CUDA: throws error with the reason.
std::unique_ptr<runtime> make_cuda_runtime(weight_source& source, const quantization& scheme,
                                           const capacity& size, thread_pool& threads);

}  // namespace llama
