// SPDX-License-Identifier: Apache-2.0
#include "cuda_model.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <floatx/codec.hpp>

namespace llama {

using gpu::half_bits;
using gpu::memory;

void cuda_model::feed(const int32_t* tokens, int64_t sequences, int64_t count, int64_t position) {
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

const float* cuda_model::last_logits() {
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

void cuda_model::score(const int32_t* targets, double* losses) {
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

void cuda_model::step_greedily(int64_t sequences, int64_t position) {
  if (position >= capacity().context || sequences != sequences_) throw error("a step that does not fit");
  if (device_position_ + 1 != position) set_position(position - 1);
  graph_of(step_graphs_, sequences, [&] {
    run_head(sequences);
    choose_and_advance(sequences);
    forward(sequences, 1);
  }).launch();
  device_position_ = position;
  count_ = 1;
}

void cuda_model::upload(const memory& to, int64_t count) {
  gpu::check(cudaMemcpyAsync(to.get(), staging_.as<int32_t>(), static_cast<size_t>(count) * sizeof(int32_t),
                             cudaMemcpyHostToDevice, stream_.get()),
             "tokens");
}

void cuda_model::set_position(int64_t position) {
  stream_.wait();
  *position_staging_.as<int>() = static_cast<int>(position);
  gpu::check(cudaMemcpyAsync(position_.get(), position_staging_.as<int>(), sizeof(int),
                             cudaMemcpyHostToDevice, stream_.get()),
             "position");
  device_position_ = position;
}

// Everything has run once before, when it was tuned or fed, so a capture finds nothing to be chosen.
const gpu::graph& cuda_model::graph_of(graphs& known, int64_t sequences,
                                       const std::function<void()>& enqueue) {
  std::unique_ptr<gpu::graph>& found = known[sequences];
  if (found == nullptr) found = std::make_unique<gpu::graph>(stream_, enqueue);
  return *found;
}

gpu::attention_shape cuda_model::shape(int64_t sequences, int64_t count) const {
  const model_config& c = config();
  return {static_cast<int>(sequences),   static_cast<int>(count),
          static_cast<int>(c.heads),     static_cast<int>(c.key_value_heads),
          static_cast<int>(c.head_size), static_cast<int>(capacity().context)};
}

gpu::layer_cache cuda_model::cache_of(size_t layer) const {
  const int64_t each = capacity().sequences * config().key_value_size() * capacity().context;
  auto* begin = cache_.as<half_bits>() + static_cast<int64_t>(layer) * 2 * each;
  return {begin, begin + each};
}

void cuda_model::norm(int64_t m, const half_bits* added, const memory& weight, half_bits* out) {
  gpu::add_and_norm(on(), residual_.as<float>(), added, weight.as<float>(), config().norm_epsilon,
                    static_cast<int>(m), static_cast<int>(config().hidden), out);
}

void cuda_model::attend(int64_t sequences, int64_t count, size_t layer) {
  const gpu::attention_shape how = shape(sequences, count);
  const gpu::layer_cache cache = cache_of(layer);
  auto* qkv = wide_.as<half_bits>();
  auto* out = narrow_.as<half_bits>();
  const auto* turns = turns_.as<float2>();
  const auto* position = position_.as<int>();
  if (count == 1) {
    gpu::attend(on(), how, true, qkv, turns, position, cache, out);
    return;
  }
  gpu::turn_and_store(on(), how, qkv, turns, position, cache);
  if (gpu::can_attend_by_tiles(how)) {
    gpu::attend_by_tiles(on(), how, qkv, position, cache, out);
  } else {
    gpu::attend(on(), how, false, qkv, turns, position, cache, out);
  }
}

void cuda_model::choose_and_advance(int64_t sequences) {
  gpu::argmax_and_advance(on(), logits_.as<half_bits>(), static_cast<int>(sequences),
                          static_cast<int>(config().vocabulary), tokens_.as<int>(), position_.as<int>());
}

void cuda_model::forward(int64_t sequences, int64_t count) {
  const model_config& c = config();
  const int64_t m = sequences * count;
  auto* normed = normed_.as<half_bits>();
  auto* delta = delta_.as<half_bits>();
  auto* narrow = narrow_.as<half_bits>();
  gpu::embed(on(), tokens_.as<int>(), static_cast<const half_bits*>(embedding_->dense()), static_cast<int>(m),
             static_cast<int>(c.hidden), residual_.as<float>());
  const half_bits* added = nullptr;
  for (size_t layer = 0; layer < blocks_.size(); ++layer) {
    const block_weights& block = blocks_[layer];
    norm(m, added, block.attention_norm, normed);
    block.query_key_value.run(m, normed, wide_.get());
    attend(sequences, count, layer);
    block.attention_out.run(m, narrow, delta);
    norm(m, delta, block.feed_forward_norm, normed);
    block.gate_up.run(m, normed, wide_.get());
    gpu::swiglu(on(), wide_.as<half_bits>(), static_cast<int>(m), static_cast<int>(c.inner), narrow);
    block.down.run(m, narrow, delta);
    added = delta;
  }
  norm(m, added, final_norm_, count == 1 ? last_.as<half_bits>() : normed);
  if (count > 1) {
    gpu::take_last(on(), normed, static_cast<int>(sequences), static_cast<int>(count),
                   static_cast<int>(c.hidden), last_.as<half_bits>());
  }
}

std::unique_ptr<runtime> make_cuda_runtime(weight_source& source, const quantization& scheme,
                                           const capacity& size, thread_pool&) {
  const floatx_status usable = floatx_layout_usable(FLOATX_LAYOUT_CUDA);
  if (usable != FLOATX_STATUS_OK) throw error(fmt::format("--device cuda: {}", floatx_last_error()));
  return std::make_unique<cuda_model>(source, scheme, size);
}

}  // namespace llama
