// What floatx_linear leaves to an engine on the GPU. The residual stream is FP32, what goes into and comes
// out of the linear layers FP16. Every kernel can be launched programmatically, and waits for the one before
// it. The norms, SwiGLU and attention let the next one begin before that, as the linear layers do; the first
// of a step, embed, does not, so what ran before a step has ended for sure once its second kernel begins.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

namespace llama::gpu {

using half_bits = uint16_t;

struct launch_on {
  cudaStream_t stream;
  bool programmatic;
};

// What attention needs to know, apart from the data.
struct attention_shape {
  int sequences;
  int count;  // tokens of each sequence in this feed
  int heads;
  int key_value_heads;
  int head_size;
  int context;  // of the cache
  __host__ __device__ int width() const { return (heads + 2 * key_value_heads) * head_size; }
};

// The cache of one layer: keys and values, each [sequences, key_value_heads, context, head_size].
struct layer_cache {
  half_bits* keys;
  half_bits* values;
};

// x[m, hidden] = table[tokens[m], hidden]
void embed(const launch_on& on, const int* tokens, const half_bits* table, int m, int hidden, float* x);

// x += delta (where there is one); out = x * weight / rms(x). All [m, hidden]; one block a token.
void add_and_norm(const launch_on& on, float* x, const half_bits* delta, const float* weight, float epsilon,
                  int m, int hidden, half_bits* out);

// Queries of qkv[m, width] are turned where they lie; keys and values go to the cache, from *position on.
//   turns  [context, head_size / 2] cosines and sines
void turn_and_store(const launch_on& on, const attention_shape& shape, half_bits* qkv, const float2* turns,
                    const int* position, layer_cache cache);

// out[m, heads * head_size] for tokens that have been turned and stored.
//   one_token  count is 1, and the token is turned and stored on the way instead. *position and the cache
//              before it are read without waiting: neither the linear layer before this nor the kernel
//              before that may write them.
void attend(const launch_on& on, const attention_shape& shape, bool one_token, const half_bits* qkv,
            const float2* turns, const int* position, layer_cache cache, half_bits* out);

// The same for prompts, on the tensor cores, where the head size allows: 64 or 128.
//   qkv  has room for 63 more rows, which are read but do not matter.
bool can_attend_by_tiles(const attention_shape& shape);
void attend_by_tiles(const launch_on& on, const attention_shape& shape, const half_bits* qkv,
                     const int* position, layer_cache cache, half_bits* out);

// out[m, inner] = silu(gate) * up of gate_up[m, 2 * inner]
void swiglu(const launch_on& on, const half_bits* gate_up, int m, int inner, half_bits* out);

// y[m, n] = x[m, k] . w[n, k]^T where there is no cuBLASLt, and for one token of the output layer.
void dense_product(const launch_on& on, const half_bits* x, const half_bits* w, int m, int n, int k,
                   half_bits* y);

// out[sequences, hidden]: the last of count rows of each.
void take_last(const launch_on& on, const half_bits* rows, int sequences, int count, int hidden,
               half_bits* out);

// tokens[s] = index of the largest of logits[s, vocabulary]; *position goes one on.
void argmax_and_advance(const launch_on& on, const half_bits* logits, int sequences, int vocabulary,
                        int* tokens, int* position);

// losses[m] = log(sum of exp(logits[m])) - logits[m, targets[m]]
void loss(const launch_on& on, const half_bits* logits, const int* targets, int m, int vocabulary,
          float* losses);

// FP16 from F32 or BF16; *overflow becomes 1 where a value does not fit.
void to_half(cudaStream_t stream, const void* values, bool is_bf16, size_t count, half_bits* out,
             int* overflow);

// Reads all of it; for measuring.
void read_all(cudaStream_t stream, const void* data, size_t bytes, int blocks, unsigned* sink);

}  // namespace llama::gpu
