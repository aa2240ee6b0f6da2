// The model on the GPU: FP16 activations around an FP32 residual stream, one CUDA graph for each step of
// decoding.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "gpu_linear.hpp"
#include "kernels.hpp"
#include "runtime.hpp"

namespace llama {

class cuda_model : public runtime {
 public:
  cuda_model(weight_source& source, const quantization& scheme, const llama::capacity& size);

  void feed(const int32_t* tokens, int64_t sequences, int64_t count, int64_t position) override;
  const float* last_logits() override;
  void score(const int32_t* targets, double* losses) override;
  void step_greedily(int64_t sequences, int64_t position) override;
  void wait() override { stream_.wait(); }

  size_t block_bytes() const override;
  size_t weight_bytes() const override;
  size_t model_bytes() const override;
  size_t cache_bytes(int64_t position) const override;
  double read_bandwidth() override;
  std::string device_name() const override { return gpu::device_name(); }
  std::vector<profile_entry> profile(int64_t sequences, int64_t position) override;

 private:
  struct block_weights {
    gpu::memory attention_norm;
    gpu::linear query_key_value;
    gpu::linear attention_out;
    gpu::memory feed_forward_norm;
    gpu::linear gate_up;
    gpu::linear down;
  };
  static constexpr int64_t score_tokens = 512;                    // whose logits are there at once
  using graphs = std::map<int64_t, std::unique_ptr<gpu::graph>>;  // by the number of sequences

  gpu::launch_on on() const { return {stream_.get(), context_.programmatic}; }
  void load(weight_source& source, const quantization& scheme);
  void allocate();
  void tune();
  void upload(const gpu::memory& to, int64_t count);
  void set_position(int64_t position);
  const gpu::graph& graph_of(graphs& known, int64_t sequences, const std::function<void()>& enqueue);
  gpu::attention_shape shape(int64_t sequences, int64_t count) const;
  gpu::layer_cache cache_of(size_t layer) const;

  // The parts of a step. x and y of the linear layers are FP16 [m, ...].
  void norm(int64_t m, const gpu::half_bits* added, const gpu::memory& weight, gpu::half_bits* out);
  void attend(int64_t sequences, int64_t count, size_t layer);
  void run_head(int64_t sequences) { head_->run(sequences, last_.get(), logits_.get()); }
  void choose_and_advance(int64_t sequences);
  // tokens_[sequences, count] at *position_, to last_[sequences, hidden], and for count > 1 to normed_ too.
  void forward(int64_t sequences, int64_t count);

  gpu::stream stream_;
  gpu::linear_context context_;
  std::vector<block_weights> blocks_;
  gpu::memory final_norm_;
  std::unique_ptr<gpu::linear> embedding_, head_;
  gpu::memory residual_, normed_, delta_, last_, wide_, narrow_, logits_, losses_;
  gpu::memory tokens_, targets_, position_, cache_, turns_;
  gpu::pinned staging_, position_staging_;
  std::vector<float> host_logits_;
  graphs forward_graphs_, step_graphs_;
  int64_t sequences_ = 0;
  int64_t count_ = 0;
  int64_t device_position_ = -1;
};

}  // namespace llama
