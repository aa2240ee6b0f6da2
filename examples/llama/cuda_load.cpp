// The model on the GPU: how it gets there, what it takes, and where its time goes.
//
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "cuda_model.hpp"

namespace llama {

using gpu::half_bits;
using gpu::memory;

namespace {

constexpr int64_t tile_rows = 64;  // that attention over prompts reads past the end

// Rows of the embedding are looked up, so a quantized one is unpacked.
matrix dense(const matrix& source) {
  if (source.values != nullptr) return source;
  matrix unpacked = source;
  auto values = std::make_shared<buffer>(static_cast<size_t>(source.n * source.k) * sizeof(float));
  check(floatx_unpack(&source.canonical, FLOATX_TYPE_F32, values->get(), source.k, nullptr), source.where);
  unpacked.type = FLOATX_TYPE_F32;
  unpacked.values = values->get();
  unpacked.owner = values;
  return unpacked;
}

}  // namespace

cuda_model::cuda_model(weight_source& source, const quantization& scheme, const llama::capacity& size)
    : runtime(source.config(), size),
      context_{stream_, gpu::has_programmatic_launch(), gpu::is_hopper(), gpu::cublas_lt::load(), {}, {}} {
  const model_config& c = config();
  if (c.head_size > 256 || c.hidden > 32768) {
    throw error(fmt::format("--device cuda: head_dim {} and hidden_size {}: at most 256 and 32768 here",
                            c.head_size, c.hidden));
  }
  load(source, scheme);
  allocate();
  tune();
}

void cuda_model::load(weight_source& source, const quantization& scheme) {
  const model_config& c = config();
  const auto vector = [&](const std::string& name) {
    const std::vector<float> values = source.vector(name, c.hidden);
    return memory::copy(values.data(), values.size() * sizeof(float));
  };
  const auto with = [&](std::vector<matrix> parts) { return gpu::linear(parts, scheme, context_); };
  for (int64_t layer = 0; layer < c.layers; ++layer) {
    const auto name = [&](const char* part) { return names::block(layer, part); };
    const auto get = [&](const char* part, int64_t n, int64_t k) { return source.linear(name(part), n, k); };
    blocks_.push_back({vector(name("input_layernorm")),
                       with({get("self_attn.q_proj", c.query_size(), c.hidden),
                             get("self_attn.k_proj", c.key_value_size(), c.hidden),
                             get("self_attn.v_proj", c.key_value_size(), c.hidden)}),
                       with({get("self_attn.o_proj", c.hidden, c.query_size())}),
                       vector(name("post_attention_layernorm")),
                       with({get("mlp.gate_proj", c.inner, c.hidden), get("mlp.up_proj", c.inner, c.hidden)}),
                       with({get("mlp.down_proj", c.hidden, c.inner)})});
  }
  final_norm_ = vector(names::final_norm);
  const matrix embedding = source.linear(names::embedding, c.vocabulary, c.hidden);
  embedding_ = std::make_unique<gpu::linear>(std::vector<matrix>{dense(embedding)}, quantization{}, context_);
  const matrix head = c.tied_embeddings ? embedding : source.linear(names::head, c.vocabulary, c.hidden);
  head_ = std::make_unique<gpu::linear>(std::vector<matrix>{head}, scheme.head ? scheme : quantization{},
                                        context_);
  if (context_.programmatic) head_->begin_early();
}

void cuda_model::allocate() {
  const model_config& c = config();
  const llama::capacity& size = capacity();
  const int64_t m = std::max(size.tokens_per_feed, size.sequences);
  const auto halves = [](int64_t count) { return static_cast<size_t>(count) * sizeof(half_bits); };
  const auto words = [](int64_t count) { return static_cast<size_t>(count) * sizeof(float); };
  residual_ = memory(words(m * c.hidden));
  normed_ = memory(halves(m * c.hidden));
  delta_ = memory(halves(m * c.hidden));
  last_ = memory(halves(size.sequences * c.hidden));
  const int64_t qkv = c.query_size() + 2 * c.key_value_size();
  wide_ = memory::zeros(halves((m + tile_rows) * std::max(2 * c.inner, qkv)));
  narrow_ = memory(halves(m * std::max(c.inner, c.query_size())));
  logits_ = memory(halves(std::max(std::min(m, score_tokens), size.sequences) * c.vocabulary));
  losses_ = memory(words(m));
  tokens_ = memory::zeros(words(m));
  targets_ = memory(words(m));
  position_ = memory::zeros(sizeof(int));
  staging_.ensure(words(m));
  position_staging_.ensure(sizeof(int));
  cache_ = memory::zeros(halves(c.layers * 2 * size.sequences * c.key_value_size() * size.context));
  std::vector<float2> turns;
  const std::vector<double> frequencies = rope_frequencies(c);
  for (int64_t position = 0; position < size.context; ++position) {
    for (const double f : frequencies) {
      const double angle = f * static_cast<double>(position);
      turns.push_back({static_cast<float>(std::cos(angle)), static_cast<float>(std::sin(angle))});
    }
  }
  turns_ = memory::copy(turns.data(), turns.size() * sizeof(float2));
  for (block_weights& b : blocks_) {
    for (gpu::linear* l : {&b.query_key_value, &b.attention_out, &b.gate_up, &b.down}) l->prepare(m);
  }
  head_->prepare(std::max(std::min(m, score_tokens), size.sequences));
}

// The baseline shall be as fast as cuBLASLt can be: for single tokens, and for as many as fit.
void cuda_model::tune() {
  if (!context_.blas) return;
  const auto tune_all = [&](gpu::linear block_weights::*which, int64_t m, const memory& x, const memory& y) {
    std::vector<const void*> weights;
    for (const block_weights& b : blocks_) {
      if ((b.*which).dense() != nullptr) weights.push_back((b.*which).dense());
    }
    const gpu::linear& first = blocks_.front().*which;
    if (!weights.empty()) {
      context_.blas->tune(stream_, m, first.n(), first.k(), weights, x.get(), y.get());
    }
  };
  std::set<int64_t> sizes = {capacity().sequences, capacity().tokens_per_feed};
  for (int64_t m = 1; m <= capacity().sequences; m *= 2) sizes.insert(m);
  for (const int64_t m : sizes) {
    tune_all(&block_weights::query_key_value, m, normed_, wide_);
    tune_all(&block_weights::attention_out, m, narrow_, delta_);
    tune_all(&block_weights::gate_up, m, normed_, wide_);
    tune_all(&block_weights::down, m, narrow_, delta_);
  }
  if (head_->dense() != nullptr) {
    context_.blas->tune(stream_, 1, head_->n(), head_->k(), {head_->dense()}, last_.get(), logits_.get());
  }
  stream_.wait();
}

size_t cuda_model::block_bytes() const {
  size_t bytes = 0;
  for (const block_weights& b : blocks_) {
    bytes += b.query_key_value.bytes() + b.attention_out.bytes() + b.gate_up.bytes() + b.down.bytes();
  }
  return bytes;
}

size_t cuda_model::weight_bytes() const {
  return block_bytes() + head_->bytes() +
         static_cast<size_t>((2 * config().layers + 1) * config().hidden) * sizeof(float);
}

size_t cuda_model::model_bytes() const {
  return weight_bytes() + (config().tied_embeddings && head_->dense() != nullptr ? 0 : embedding_->bytes());
}

size_t cuda_model::cache_bytes(int64_t position) const {
  return static_cast<size_t>(config().layers * 2 * config().key_value_size() * position) * sizeof(half_bits);
}

double cuda_model::read_bandwidth() {
  const size_t bytes = size_t{2} << 30;
  const memory data = memory::zeros(bytes);
  const memory sink = memory::zeros(sizeof(unsigned));
  // Zeros are read as fast as anything, as long as they come from memory: it is larger than any cache.
  const int processors = gpu::processor_count();
  double best = 1e30;
  for (const int blocks : {2 * processors, 4 * processors, 8 * processors, 64 * processors}) {
    for (int i = 0; i < 5; ++i) {
      best = std::min(best, gpu::time_ms(stream_, [&] {
                        gpu::read_all(stream_.get(), data.get(), bytes, blocks, sink.as<unsigned>());
                      }));
    }
  }
  return static_cast<double>(bytes) / (1e-3 * best);
}

// Each part of a step by itself, for all layers in one graph, so that no cache holds the weights: what the
// parts take when nothing overlaps but neighbours of their kind.
std::vector<profile_entry> cuda_model::profile(int64_t sequences, int64_t position) {
  const int64_t m = sequences;
  set_position(position);
  std::vector<profile_entry> found;
  const auto measure = [&](const char* part, const std::function<void(size_t)>& enqueue, size_t times) {
    const gpu::graph once(stream_, [&] {
      for (size_t i = 0; i < times; ++i) enqueue(i);
    });
    std::vector<double> taken;
    for (int i = 0; i < 9; ++i) taken.push_back(gpu::time_ms(stream_, [&] { once.launch(); }));
    std::sort(taken.begin(), taken.end());
    found.push_back({part, 1e3 * taken[4]});
  };
  const size_t layers = blocks_.size();
  auto* normed = normed_.as<half_bits>();
  auto* narrow = narrow_.as<half_bits>();
  measure(
      "norm", [&](size_t) { norm(m, delta_.as<half_bits>(), final_norm_, normed); }, 2 * layers + 1);
  measure(
      "qkv", [&](size_t i) { blocks_[i].query_key_value.run(m, normed, wide_.get()); }, layers);
  measure(
      "attention", [&](size_t i) { attend(sequences, 1, i); }, layers);
  measure(
      "out", [&](size_t i) { blocks_[i].attention_out.run(m, narrow, delta_.get()); }, layers);
  measure(
      "gate_up", [&](size_t i) { blocks_[i].gate_up.run(m, normed, wide_.get()); }, layers);
  measure(
      "swiglu",
      [&](size_t) {
        gpu::swiglu(on(), wide_.as<half_bits>(), static_cast<int>(m), static_cast<int>(config().inner),
                    narrow);
      },
      layers);
  measure(
      "down", [&](size_t i) { blocks_[i].down.run(m, narrow, delta_.get()); }, layers);
  measure(
      "head", [&](size_t) { run_head(sequences); }, 1);
  measure(
      "argmax", [&](size_t) { choose_and_advance(sequences); }, 1);
  measure(
      "all",
      [&](size_t) {
        run_head(sequences);
        choose_and_advance(sequences);
        forward(sequences, 1);
      },
      1);
  return found;
}

}  // namespace llama
