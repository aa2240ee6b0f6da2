// The model on the GPU: FP16 activations around an FP32 residual stream, one CUDA graph for each step of
// decoding.
//
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <floatx/codec.hpp>
#include <map>

#include "gpu_linear.hpp"
#include "kernels.hpp"
#include "runtime.hpp"

namespace llama {
namespace {

using gpu::half_bits;
using gpu::launch_on;
using gpu::memory;

constexpr int64_t score_tokens = 512;  // whose logits are there at once
constexpr int64_t tile_rows = 64;      // that attention over prompts reads past the end

struct block_weights {
  memory attention_norm;
  gpu::linear query_key_value;
  gpu::linear attention_out;
  memory feed_forward_norm;
  gpu::linear gate_up;
  gpu::linear down;
};

class cuda_model : public runtime {
 public:
  cuda_model(weight_source& source, const quantization& scheme, const llama::capacity& size)
      : runtime(source.config(), size),
        context_{stream_, gpu::has_programmatic_launch(), gpu::cublas_lt::load(), {}, {}} {
    const model_config& c = config();
    if (c.head_size > 256 || c.hidden > 32768) {
      throw error(fmt::format("--device cuda: head_dim {} and hidden_size {}: at most 256 and 32768 here",
                              c.head_size, c.hidden));
    }
    load(source, scheme);
    allocate();
    tune();
  }

  void feed(const int32_t* tokens, int64_t sequences, int64_t count, int64_t position) override {
    check_feed(tokens, sequences, count, position);
    stream_.wait();  // what is in pinned memory may be in use
    std::copy_n(tokens, sequences * count, staging_.as<int32_t>());
    upload(tokens_, sequences * count);
    set_position(position);
    sequences_ = sequences;
    count_ = count;
    if (count == 1) {
      graph_of(forward_graphs_, sequences, [&] { forward(sequences, 1); }).launch();
    } else {
      forward(sequences, count);
    }
  }

  const float* last_logits() override {
    run_head(sequences_);
    const int64_t count = sequences_ * config().vocabulary;
    std::vector<half_bits> halves(static_cast<size_t>(count));
    stream_.wait();
    gpu::check(
        cudaMemcpy(halves.data(), logits_.get(), halves.size() * sizeof(half_bits), cudaMemcpyDeviceToHost),
        "logits");
    host_logits_.resize(halves.size());
    std::transform(halves.begin(), halves.end(), host_logits_.begin(),
                   [](half_bits h) { return floatx::f16_to_f32(h); });
    return host_logits_.data();
  }

  void score(const int32_t* targets, double* losses) override {
    const model_config& c = config();
    const int64_t m = sequences_ * count_;
    stream_.wait();
    std::copy_n(targets, m, staging_.as<int32_t>());
    upload(targets_, m);
    const half_bits* states = count_ == 1 ? last_.as<half_bits>() : normed_.as<half_bits>();
    for (int64_t first = 0; first < m; first += score_tokens) {
      const int64_t tokens = std::min(score_tokens, m - first);
      head_->run(tokens, states + first * c.hidden, logits_.get());
      gpu::loss(on(), logits_.as<half_bits>(), targets_.as<int>() + first, static_cast<int>(tokens),
                static_cast<int>(c.vocabulary), losses_.as<float>() + first);
    }
    std::vector<float> found(static_cast<size_t>(m));
    stream_.wait();
    gpu::check(cudaMemcpy(found.data(), losses_.get(), found.size() * sizeof(float), cudaMemcpyDeviceToHost),
               "losses");
    std::copy(found.begin(), found.end(), losses);
  }

  void step_greedily(int64_t sequences, int64_t position) override {
    if (position >= capacity().context || sequences != sequences_) throw error("a step that does not fit");
    if (device_position_ + 1 != position) set_position(position - 1);
    graph_of(step_graphs_, sequences, [&] {
      run_head(sequences);
      gpu::argmax_and_advance(on(), logits_.as<half_bits>(), static_cast<int>(sequences),
                              static_cast<int>(config().vocabulary), tokens_.as<int>(), position_.as<int>());
      forward(sequences, 1);
    }).launch();
    device_position_ = position;
    count_ = 1;
  }

  void wait() override { stream_.wait(); }

  size_t block_bytes() const override {
    size_t bytes = 0;
    for (const block_weights& b : blocks_) {
      bytes += b.query_key_value.bytes() + b.attention_out.bytes() + b.gate_up.bytes() + b.down.bytes();
    }
    return bytes;
  }
  size_t weight_bytes() const override {
    return block_bytes() + head_->bytes() +
           static_cast<size_t>((2 * config().layers + 1) * config().hidden) * sizeof(float);
  }
  size_t model_bytes() const override {
    return weight_bytes() + (config().tied_embeddings && head_->dense() != nullptr ? 0 : embedding_->bytes());
  }
  size_t cache_bytes(int64_t position) const override {
    return static_cast<size_t>(config().layers * 2 * config().key_value_size() * position) *
           sizeof(half_bits);
  }

  double read_bandwidth() override {
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
  std::string device_name() const override { return gpu::device_name(); }

 private:
  launch_on on() const { return {stream_.get(), context_.programmatic}; }

  void load(weight_source& source, const quantization& scheme) {
    const model_config& c = config();
    const auto vector = [&](const std::string& name) {
      const std::vector<float> values = source.vector(name, c.hidden);
      return memory::copy(values.data(), values.size() * sizeof(float));
    };
    const auto with = [&](std::vector<matrix> parts) { return gpu::linear(parts, scheme, context_); };
    for (int64_t layer = 0; layer < c.layers; ++layer) {
      const auto name = [&](const char* part) { return names::block(layer, part); };
      const auto get = [&](const char* part, int64_t n, int64_t k) {
        return source.linear(name(part), n, k);
      };
      blocks_.push_back(
          {vector(name("input_layernorm")),
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
    embedding_ =
        std::make_unique<gpu::linear>(std::vector<matrix>{dense(embedding)}, quantization{}, context_);
    const matrix head = c.tied_embeddings ? embedding : source.linear(names::head, c.vocabulary, c.hidden);
    head_ = std::make_unique<gpu::linear>(std::vector<matrix>{head}, scheme.head ? scheme : quantization{},
                                          context_);
  }

  // Rows of the embedding are looked up, so a quantized one is unpacked.
  static matrix dense(const matrix& source) {
    if (source.values != nullptr) return source;
    matrix unpacked = source;
    auto values = std::make_shared<buffer>(static_cast<size_t>(source.n * source.k) * sizeof(float));
    check(floatx_unpack(&source.canonical, FLOATX_TYPE_F32, values->get(), source.k, nullptr), source.where);
    unpacked.type = FLOATX_TYPE_F32;
    unpacked.values = values->get();
    unpacked.owner = values;
    return unpacked;
  }

  void allocate() {
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
    // Two blocks for each processor, as far as the sequence is worth cutting.
    const int64_t heads = size.sequences * c.heads;
    splits_ = static_cast<int>(std::clamp<int64_t>((2 * gpu::processor_count() + heads - 1) / heads, 1,
                                                   std::max<int64_t>(1, size.context / 32)));
    partials_ = memory(words(m * c.heads * splits_ * (c.head_size + 2)));
    arrivals_ = memory::zeros(words(m * c.heads));
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
  void tune() {
    if (!context_.blas) return;
    const auto tune_all = [&](gpu::linear block_weights::*which, int64_t m, const memory& x,
                              const memory& y) {
      std::vector<const void*> weights;
      for (const block_weights& b : blocks_) {
        if ((b.*which).dense() != nullptr) weights.push_back((b.*which).dense());
      }
      const gpu::linear& first = blocks_.front().*which;
      if (!weights.empty()) {
        context_.blas->tune(stream_, m, first.n(), first.k(), weights, x.get(), y.get());
      }
    };
    for (const int64_t m : {int64_t{1}, capacity().sequences, capacity().tokens_per_feed}) {
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

  void upload(const memory& to, int64_t count) {
    gpu::check(cudaMemcpyAsync(to.get(), staging_.as<int32_t>(), static_cast<size_t>(count) * sizeof(int32_t),
                               cudaMemcpyHostToDevice, stream_.get()),
               "tokens");
  }
  void set_position(int64_t position) {
    stream_.wait();
    *position_staging_.as<int>() = static_cast<int>(position);
    gpu::check(cudaMemcpyAsync(position_.get(), position_staging_.as<int>(), sizeof(int),
                               cudaMemcpyHostToDevice, stream_.get()),
               "position");
    device_position_ = position;
  }

  // Before a capture everything has run once, so that cuBLASLt has chosen and floatx has looked at the
  // device.
  template <class Enqueue>
  const gpu::graph& graph_of(std::map<int64_t, std::unique_ptr<gpu::graph>>& graphs, int64_t sequences,
                             const Enqueue& enqueue) {
    std::unique_ptr<gpu::graph>& found = graphs[sequences];
    if (found == nullptr) found = std::make_unique<gpu::graph>(stream_, enqueue);
    return *found;
  }

  void run_head(int64_t sequences) { head_->run(sequences, last_.get(), logits_.get()); }

  // tokens_[sequences, count] at *position_, to last_[sequences, hidden], and for count > 1 to normed_ too.
  void forward(int64_t sequences, int64_t count) {
    const model_config& c = config();
    const auto m = static_cast<int>(sequences * count);
    const auto hidden = static_cast<int>(c.hidden);
    const gpu::attention_shape shape = {static_cast<int>(sequences),   static_cast<int>(count),
                                        static_cast<int>(c.heads),     static_cast<int>(c.key_value_heads),
                                        static_cast<int>(c.head_size), static_cast<int>(capacity().context)};
    auto* residual = residual_.as<float>();
    auto* normed = normed_.as<half_bits>();
    auto* delta = delta_.as<half_bits>();
    auto* wide = wide_.as<half_bits>();
    auto* narrow = narrow_.as<half_bits>();
    const auto* turns = turns_.as<float2>();
    const auto* position = position_.as<int>();
    const auto norm = [&](const half_bits* added, const memory& weight, half_bits* out) {
      gpu::add_and_norm(on(), residual, added, weight.as<float>(), c.norm_epsilon, m, hidden, out);
    };
    gpu::embed(on(), tokens_.as<int>(), static_cast<const half_bits*>(embedding_->dense()), m, hidden,
               residual);
    const half_bits* added = nullptr;
    for (size_t layer = 0; layer < blocks_.size(); ++layer) {
      const block_weights& block = blocks_[layer];
      const gpu::layer_cache cache = cache_of(layer);
      norm(added, block.attention_norm, normed);
      block.query_key_value.run(m, normed, wide);
      if (count == 1) {
        gpu::attend(on(), shape, true, wide, turns, position, cache, splits_, partials_.as<float>(),
                    arrivals_.as<unsigned>(), narrow);
      } else {
        gpu::turn_and_store(on(), shape, wide, turns, position, cache);
        if (gpu::can_attend_by_tiles(shape)) {
          gpu::attend_by_tiles(on(), shape, wide, position, cache, narrow);
        } else {
          gpu::attend(on(), shape, false, wide, turns, position, cache, 1, nullptr, nullptr, narrow);
        }
      }
      block.attention_out.run(m, narrow, delta);
      norm(delta, block.feed_forward_norm, normed);
      block.gate_up.run(m, normed, wide);
      gpu::swiglu(on(), wide, m, c.inner, narrow);
      block.down.run(m, narrow, delta);
      added = delta;
    }
    norm(added, final_norm_, count == 1 ? last_.as<half_bits>() : normed);
    if (count > 1) {
      gpu::take_last(on(), normed, static_cast<int>(sequences), static_cast<int>(count), hidden,
                     last_.as<half_bits>());
    }
  }

  gpu::layer_cache cache_of(size_t layer) const {
    const int64_t each = capacity().sequences * config().key_value_size() * capacity().context;
    auto* begin = cache_.as<half_bits>() + static_cast<int64_t>(layer) * 2 * each;
    return {begin, begin + each};
  }

  gpu::stream stream_;
  gpu::linear_context context_;
  std::vector<block_weights> blocks_;
  memory final_norm_;
  std::unique_ptr<gpu::linear> embedding_, head_;
  memory residual_, normed_, delta_, last_, wide_, narrow_, logits_, losses_;
  memory tokens_, targets_, position_, cache_, partials_, arrivals_, turns_;
  gpu::pinned staging_, position_staging_;
  std::vector<float> host_logits_;
  std::map<int64_t, std::unique_ptr<gpu::graph>> forward_graphs_, step_graphs_;
  int64_t sequences_ = 0;
  int64_t count_ = 0;
  int64_t device_position_ = -1;
  int splits_ = 1;
};

}  // namespace

std::unique_ptr<runtime> make_cuda_runtime(weight_source& source, const quantization& scheme,
                                           const capacity& size, thread_pool&) {
  const floatx_status usable = floatx_layout_usable(FLOATX_LAYOUT_CUDA);
  if (usable != FLOATX_STATUS_OK) throw error(fmt::format("--device cuda: {}", floatx_last_error()));
  return std::make_unique<cuda_model>(source, scheme, size);
}

}  // namespace llama
