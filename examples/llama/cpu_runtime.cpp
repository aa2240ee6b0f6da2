// The model on the CPU, in FP32 apart from the weights.
//
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "cpu_math.hpp"
#include "linear.hpp"
#include "runtime.hpp"

namespace llama {
namespace {

using cpu::round_up;
using cpu::vector_floats;

struct block_weights {
  std::vector<float> attention_norm;     // [hidden]
  cpu::linear query_key_value;           // [query + 2 key_value, hidden]
  cpu::linear attention_out;             // [hidden, query]
  std::vector<float> feed_forward_norm;  // [hidden]
  cpu::linear gate_up;                   // [2 inner, hidden]
  cpu::linear down;                      // [hidden, inner]
};

block_weights load_block(weight_source& source, const quantization& scheme, thread_pool& threads,
                         int64_t layer) {
  const model_config& c = source.config();
  const auto name = [&](const char* part) { return names::block(layer, part); };
  const auto linear = [&](const char* part, int64_t n, int64_t k) { return source.linear(name(part), n, k); };
  return {source.vector(name("input_layernorm"), c.hidden),
          {{linear("self_attn.q_proj", c.query_size(), c.hidden),
            linear("self_attn.k_proj", c.key_value_size(), c.hidden),
            linear("self_attn.v_proj", c.key_value_size(), c.hidden)},
           scheme,
           threads},
          {linear("self_attn.o_proj", c.hidden, c.query_size()), scheme, threads},
          source.vector(name("post_attention_layernorm"), c.hidden),
          {{linear("mlp.gate_proj", c.inner, c.hidden), linear("mlp.up_proj", c.inner, c.hidden)},
           scheme,
           threads},
          {linear("mlp.down_proj", c.hidden, c.inner), scheme, threads}};
}

matrix load_head(weight_source& source) {
  const model_config& c = source.config();
  return source.linear(c.tied_embeddings ? names::embedding : names::head, c.vocabulary, c.hidden);
}

quantization head_scheme(const quantization& scheme) { return scheme.head ? scheme : quantization{}; }

// The keys of one head of one sequence lie by dimension, keys[head_size, positions], so that a query meets
// sixteen positions in one vector; the values lie by position, values[positions, padded head_size], for the
// same reason.
class cache {
 public:
  cache(const model_config& c, const capacity& size)
      : positions_(round_up(size.context, vector_floats)),
        key_floats_(c.head_size * positions_),
        value_floats_(positions_ * round_up(c.head_size, vector_floats)),
        heads_(size.sequences * c.key_value_heads),
        keys_(static_cast<size_t>(c.layers * heads_ * key_floats_), 0.0F),
        values_(static_cast<size_t>(c.layers * heads_ * value_floats_), 0.0F) {}

  int64_t positions() const { return positions_; }
  // head: of all sequences, [sequences, key_value_heads].
  float* keys(int64_t layer, int64_t head) { return keys_.data() + (layer * heads_ + head) * key_floats_; }
  float* values(int64_t layer, int64_t head) {
    return values_.data() + (layer * heads_ + head) * value_floats_;
  }

 private:
  int64_t positions_, key_floats_, value_floats_, heads_;
  std::vector<float> keys_, values_;
};

class cpu_runtime : public runtime {
 public:
  cpu_runtime(weight_source& source, const quantization& scheme, const llama::capacity& size,
              thread_pool& threads)
      : runtime(source.config(), size),
        threads_(threads),
        embedding_(source.linear(names::embedding, config().vocabulary, config().hidden)),
        final_norm_(source.vector(names::final_norm, config().hidden)),
        head_(load_head(source), head_scheme(scheme), threads),
        cache_(config(), size) {
    for (int64_t layer = 0; layer < config().layers; ++layer) {
      blocks_.push_back(load_block(source, scheme, threads, layer));
    }
    const std::vector<double> frequencies = rope_frequencies(config());
    for (int64_t position = 0; position < size.context; ++position) {
      for (const double f : frequencies) {
        cosines_.push_back(static_cast<float>(std::cos(f * static_cast<double>(position))));
        sines_.push_back(static_cast<float>(std::sin(f * static_cast<double>(position))));
      }
    }
  }

  void feed(const int32_t* tokens, int64_t sequences, int64_t count, int64_t position) override {
    check_feed(tokens, sequences, count, position);
    const model_config& c = config();
    sequences_ = sequences;
    count_ = count;
    const int64_t m = sequences * count;
    auto* x = x_.ensure_for<float>(m * c.hidden);
    auto* normed = normed_.ensure_for<float>(m * c.hidden);
    auto* wide = wide_.ensure_for<float>(m * std::max(2 * c.inner, c.query_size() + 2 * c.key_value_size()));
    auto* narrow = narrow_.ensure_for<float>(m * std::max(c.inner, c.query_size()));
    for (int64_t t = 0; t < m; ++t) embedding_.read(tokens[t], x + t * c.hidden);

    for (int64_t layer = 0; layer < c.layers; ++layer) {
      block_weights& block = blocks_[static_cast<size_t>(layer)];
      norm(m, x, block.attention_norm, normed);
      block.query_key_value.run(m, normed, wide);
      turn_and_store(layer, position, wide);
      attend(layer, position, wide, narrow);
      block.attention_out.run(m, narrow, normed);
      add(m, x, normed);
      norm(m, x, block.feed_forward_norm, normed);
      block.gate_up.run(m, normed, wide);
      each_token(m, [&](int64_t t) {
        const float* gate = wide + t * 2 * c.inner;
        cpu::swiglu(gate, gate + c.inner, c.inner, narrow + t * c.inner);
      });
      block.down.run(m, narrow, normed);
      add(m, x, normed);
    }
    norm(m, x, final_norm_, normed);
  }

  const float* last_logits() override {
    const model_config& c = config();
    auto* last = x_.ensure_for<float>(sequences_ * c.hidden);
    const auto* normed = static_cast<const float*>(normed_.get());
    for (int64_t s = 0; s < sequences_; ++s) {
      std::copy_n(normed + ((s + 1) * count_ - 1) * c.hidden, c.hidden, last + s * c.hidden);
    }
    auto* logits = logits_.ensure_for<float>(sequences_ * c.vocabulary);
    head_.run(sequences_, last, logits);
    return logits;
  }

  void score(const int32_t* targets, double* losses) override {
    const model_config& c = config();
    const auto* normed = static_cast<const float*>(normed_.get());
    // Few enough for a large vocabulary.
    constexpr int64_t together = 256;
    const int64_t m = sequences_ * count_;
    auto* logits = logits_.ensure_for<float>(std::min(m, together) * c.vocabulary);
    for (int64_t first = 0; first < m; first += together) {
      const int64_t tokens = std::min(together, m - first);
      head_.run(tokens, normed + first * c.hidden, logits);
      threads_.each(tokens, [&](int64_t t) {
        const float* row = logits + t * c.vocabulary;
        losses[first + t] = cpu::log_sum_exp(row, c.vocabulary) - double{row[targets[first + t]]};
      });
    }
  }

  void step_greedily(int64_t sequences, int64_t position) override {
    const float* logits = last_logits();
    std::vector<int32_t> tokens;
    for (int64_t s = 0; s < sequences; ++s) {
      const float* row = logits + s * config().vocabulary;
      tokens.push_back(static_cast<int32_t>(std::max_element(row, row + config().vocabulary) - row));
    }
    feed(tokens.data(), sequences, 1, position);
  }
  void wait() override {}

  size_t block_bytes() const override {
    size_t bytes = 0;
    for (const block_weights& b : blocks_) {
      bytes += b.query_key_value.bytes() + b.attention_out.bytes() + b.gate_up.bytes() + b.down.bytes();
    }
    return bytes;
  }
  size_t norm_bytes() const {
    return static_cast<size_t>((2 * config().layers + 1) * config().hidden) * sizeof(float);
  }
  size_t weight_bytes() const override { return block_bytes() + head_.bytes() + norm_bytes(); }
  size_t model_bytes() const override {
    const bool shared = config().tied_embeddings && head_.bytes() == embedding_.bytes();
    return weight_bytes() + (shared ? 0 : embedding_.bytes());
  }
  size_t cache_bytes(int64_t position) const override {
    return static_cast<size_t>(config().layers * 2 * config().key_value_size() * position) * sizeof(float);
  }

  double read_bandwidth() override {
    // Larger than any cache; the best of several times.
    constexpr int64_t words = int64_t{1} << 27;
    constexpr int64_t per_task = words / 256;
    buffer memory(words * sizeof(uint64_t));
    auto* data = static_cast<uint64_t*>(memory.get());
    std::atomic<uint64_t> sum{0};
    threads_.each(words / per_task, [&](int64_t i) { std::fill_n(data + i * per_task, per_task, 1); });
    double best = 0;
    for (int i = 0; i < 5; ++i) {
      const auto begin = std::chrono::steady_clock::now();
      threads_.each(words / per_task,
                    [&](int64_t t) { sum += cpu::read_all(data + t * per_task, per_task); });
      const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
      best = std::max(best, static_cast<double>(words) * sizeof(uint64_t) / taken.count());
    }
    return sum > 0 ? best : 0;
  }
  std::string device_name() const override {
    return fmt::format("CPU, {}, {} threads", floatx_cpu_isa(), threads_.count());
  }

 private:
  template <class Body>
  void each_token(int64_t m, const Body& body) {
    constexpr int64_t per_task = 8;
    threads_.each((m + per_task - 1) / per_task, [&](int64_t task) {
      for (int64_t t = task * per_task; t < std::min(m, (task + 1) * per_task); ++t) body(t);
    });
  }

  void norm(int64_t m, const float* x, const std::vector<float>& weight, float* out) {
    const int64_t hidden = config().hidden;
    each_token(m, [&](int64_t t) {
      cpu::rms_norm(x + t * hidden, weight.data(), hidden, config().norm_epsilon, out + t * hidden);
    });
  }
  void add(int64_t m, float* to, const float* what) {
    const int64_t hidden = config().hidden;
    each_token(m, [&](int64_t t) { cpu::add(to + t * hidden, what + t * hidden, hidden); });
  }

  // RoPE: dimension i turns with dimension i + head_size / 2.
  void turn(float* head, int64_t position) const {
    const int64_t pairs = config().head_size / 2;
    const float* cosine = cosines_.data() + position * pairs;
    const float* sine = sines_.data() + position * pairs;
    for (int64_t i = 0; i < pairs; ++i) {
      const float a = head[i];
      const float b = head[i + pairs];
      head[i] = a * cosine[i] - b * sine[i];
      head[i + pairs] = b * cosine[i] + a * sine[i];
    }
  }

  // qkv[m, query + 2 key_value]: queries are turned where they lie, keys on their way to the cache.
  void turn_and_store(int64_t layer, int64_t position, float* qkv) {
    const model_config& c = config();
    const int64_t width = c.query_size() + 2 * c.key_value_size();
    threads_.each(sequences_ * c.key_value_heads, [&](int64_t head) {
      const int64_t sequence = head / c.key_value_heads;
      const int64_t h = head % c.key_value_heads;
      const int64_t group = c.heads / c.key_value_heads;
      float* keys = cache_.keys(layer, head);
      float* values = cache_.values(layer, head);
      for (int64_t t = 0; t < count_; ++t) {
        float* row = qkv + (sequence * count_ + t) * width;
        for (int64_t q = h * group; q < (h + 1) * group; ++q) turn(row + q * c.head_size, position + t);
        float* key = row + c.query_size() + h * c.head_size;
        turn(key, position + t);
        for (int64_t d = 0; d < c.head_size; ++d) keys[d * cache_.positions() + position + t] = key[d];
        std::copy_n(key + c.key_value_size(), c.head_size,
                    values + (position + t) * round_up(c.head_size, vector_floats));
      }
    });
  }

  void attend(int64_t layer, int64_t position, const float* qkv, float* out) {
    const model_config& c = config();
    constexpr int64_t tile = 8;  // queries
    const int64_t width = c.query_size() + 2 * c.key_value_size();
    const int64_t padded_head = round_up(c.head_size, vector_floats);
    const int64_t tiles = (count_ + tile - 1) / tile;
    const float scale = 1 / std::sqrt(static_cast<float>(c.head_size));
    threads_.each(sequences_ * c.heads * tiles, [&](int64_t task) {
      // The later tiles, which see more, first: the threads end together.
      const int64_t first = (tiles - 1 - task / (sequences_ * c.heads)) * tile;
      const int64_t sequence = task % (sequences_ * c.heads) / c.heads;
      const int64_t head = task % c.heads;
      const int64_t kv = sequence * c.key_value_heads + head / (c.heads / c.key_value_heads);
      const int64_t queries = std::min(tile, count_ - first);
      const int64_t visible = position + first + queries;
      const int64_t padded = round_up(visible, vector_floats);
      thread_local buffer memory;
      float* scores = memory.ensure_for<float>(tile * (cache_.positions() + padded_head));
      float* sums = scores + tile * cache_.positions();
      cpu::multiply(qkv + (sequence * count_ + first) * width + head * c.head_size, width, queries,
                    c.head_size, cache_.keys(layer, kv), cache_.positions(), padded, scores, padded);
      for (int64_t q = 0; q < queries; ++q) {
        cpu::softmax(scores + q * padded, position + first + q + 1, padded, scale);
      }
      cpu::multiply(scores, padded, queries, visible, cache_.values(layer, kv), padded_head, padded_head,
                    sums, padded_head);
      for (int64_t q = 0; q < queries; ++q) {
        std::copy_n(sums + q * padded_head, c.head_size,
                    out + (sequence * count_ + first + q) * c.query_size() + head * c.head_size);
      }
    });
  }

  thread_pool& threads_;
  row_reader embedding_;
  std::vector<block_weights> blocks_;
  std::vector<float> final_norm_;
  cpu::linear head_;
  cache cache_;
  std::vector<float> cosines_, sines_;  // [context, head_size / 2]
  buffer x_, normed_, wide_, narrow_, logits_;
  int64_t sequences_ = 0;
  int64_t count_ = 0;
};

}  // namespace

std::unique_ptr<runtime> make_cpu_runtime(weight_source& source, const quantization& scheme,
                                          const capacity& size, thread_pool& threads) {
  return std::make_unique<cpu_runtime>(source, scheme, size, threads);
}

}  // namespace llama
