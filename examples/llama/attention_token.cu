// RoPE, and attention of single tokens.
//
// SPDX-License-Identifier: Apache-2.0
#include <cooperative_groups.h>
#include <cuda_fp16.h>

#include <utility>

#include "gpu.hpp"
#include "kernels.hpp"
#include "launch.cuh"

namespace llama::gpu {
namespace {

// RoPE: dimension d turns with dimension d + size / 2. The result for one d of row[size].
__device__ __forceinline__ float turned(const half* row, const float2* turn, int d, int size) {
  const int pairs = size / 2;
  const float2 angle = turn[d < pairs ? d : d - pairs];
  const float own = __half2float(row[d]);
  return d < pairs ? own * angle.x - __half2float(row[d + pairs]) * angle.y
                   : own * angle.x + __half2float(row[d - pairs]) * angle.y;
}

// A block for each token; threads share its heads' pairs of dimensions.
__global__ void turn_and_store_kernel(attention_shape shape, half* qkv, const float2* turns,
                                      const int* position, half* keys, half* values) {
  wait_for_previous();
  allow_next();
  const int sequence = blockIdx.x / shape.count;
  const int at = *position + blockIdx.x % shape.count;
  const int size = shape.head_size;
  const int pairs = size / 2;
  half* row = qkv + static_cast<size_t>(blockIdx.x) * shape.width();
  const float2* turn = turns + static_cast<size_t>(at) * pairs;
  const auto cached = [&](half* cache, int head) {
    return cache +
           ((static_cast<size_t>(sequence) * shape.key_value_heads + head) * shape.context + at) * size;
  };
  for (int i = threadIdx.x; i < (shape.heads + shape.key_value_heads) * pairs; i += blockDim.x) {
    const int head = i / pairs;
    const int pair = i % pairs;
    half* from = row + head * size + pair;
    const float a = __half2float(from[0]);
    const float b = __half2float(from[pairs]);
    const float2 angle = turn[pair];
    half* to = head < shape.heads ? from : cached(keys, head - shape.heads) + pair;
    to[0] = __float2half(a * angle.x - b * angle.y);
    to[pairs] = __float2half(b * angle.x + a * angle.y);
  }
  const half* value = row + (shape.heads + shape.key_value_heads) * size;
  for (int i = threadIdx.x; i < shape.key_value_heads * size; i += blockDim.x) {
    cached(values, i / size)[i % size] = value[i];
  }
}

constexpr int dims = 8;  // of a lane: 16 bytes of a row of the cache
constexpr int warps = 8;
constexpr int at_once = 4;      // rows whose loads a lane has in flight together
constexpr int most_splits = 8;  // blocks of a cluster

// A softmax that has seen a part of the positions: their largest score, the sum of the exponentials, and the
// weighted sum of the values.
template <int Size>
struct part {
  float largest;
  float sum;
  float values[Size];
};

// Dimension d of the softmax over all parts. Those that saw nothing have -INFINITY as their largest score.
template <int Size>
__device__ __forceinline__ part<1> join(const part<Size>* parts, int count, int d) {
  part<1> all = {-INFINITY, 0, {}};
#pragma unroll 8
  for (int i = 0; i < count; ++i) all.largest = fmaxf(all.largest, parts[i].largest);
#pragma unroll 8
  for (int i = 0; i < count; ++i) {
    const float weight = parts[i].largest == -INFINITY ? 0 : __expf(parts[i].largest - all.largest);
    all.sum += parts[i].sum * weight;
    all.values[0] += parts[i].values[d] * weight;
  }
  return all;
}

// blockIdx: (split, head, token); the splits of a head are a cluster. Lanes of them share a position, so a
// warp has 32 / Lanes positions side by side.
//
// With OneToken the token's key and value are not in the cache yet. What is there, and *position, was written
// by earlier steps, which have ended (see embed_kernel), so keys and values are fetched while the layer that
// makes the query still runs.
//
// Tried: the next kernel only when this one has ended, 405 instead of 416 tokens a second of Llama-2-7B in
// e3m2 on an H100; and that one as soon as the wait is over, 2545 microseconds a step instead of 2502 on an
// H200; half the loads in flight and 80 registers, so that all blocks fit beside the linear layer before, 420
// instead of 427 (h100-tests.json, stream_tried_again).
template <int Lanes, bool OneToken>
__global__ void __launch_bounds__(32 * warps, 2)
    attend_kernel(attention_shape shape, const half* qkv, const float2* turns, const int* position,
                  half* keys, half* values, half* out) {
  constexpr int groups = 32 / Lanes;
  constexpr int padded = Lanes * dims;  // head_size
  __shared__ alignas(16) float query[padded];
  __shared__ alignas(16) half own_key[padded], own_value[padded];
  __shared__ part<padded> of_warp[warps], of_split[most_splits];

  if (OneToken) {
    allow_next();
  } else {
    wait_for_previous();
  }
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  auto cluster = cooperative_groups::this_cluster();
  auto all_began = cluster.barrier_arrive();
#endif
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32;
  const int own_dim = lane % Lanes * dims;  // the first of this lane's
  const int head = blockIdx.y;
  const int token = blockIdx.z;
  const int size = shape.head_size;
  const int own = __ldcg(position) + token % shape.count;
  const int heads_of_key = shape.heads / shape.key_value_heads;
  const int kv = head / heads_of_key;
  const size_t cache_at =
      (static_cast<size_t>(token / shape.count) * shape.key_value_heads + kv) * shape.context * size;
  keys += cache_at;
  values += cache_at;

  const int chunk = (own + gridDim.x) / gridDim.x;
  const int begin = blockIdx.x * chunk;
  const int end = min(own + 1, begin + chunk);
  const int cached = OneToken ? min(own, end) : end;
  const auto at = [&](int first, int p) { return first + p * groups + lane / Lanes; };
  const auto fetch = [&](const half* rows, int first, neighbours<half, dims>(&to)[at_once]) {
#pragma unroll
    for (int p = 0; p < at_once; ++p) {
      to[p] = {};
      if (at(first, p) < cached) {
        to[p] = load<dims>(rows + static_cast<size_t>(at(first, p)) * size, own_dim, size);
      }
    }
  };
  // What the registers do not hold waits in the L2 cache.
  constexpr int line = 64;  // halves
  for (int i = begin * size + line * threadIdx.x; i < cached * size; i += line * blockDim.x) {
    asm volatile("prefetch.global.L2 [%0];" ::"l"(keys + i));
    asm volatile("prefetch.global.L2 [%0];" ::"l"(values + i));
  }
  int first = begin + warp * groups * at_once;
  neighbours<half, dims> key[at_once], value[at_once];
  fetch(keys, first, key);
  fetch(values, first, value);
  if (OneToken) wait_for_previous();

  // The query, and with OneToken the key and the value that go into the cache.
  const half* row = qkv + static_cast<size_t>(token) * shape.width();
  const float2* turn = turns + static_cast<size_t>(own) * (size / 2);
  for (int i = threadIdx.x; i < (OneToken ? 3 : 1) * padded; i += blockDim.x) {
    const int d = i % padded;
    const bool inside = d < size;
    const half* from = row + (i < padded       ? head
                              : i < 2 * padded ? shape.heads + kv
                                               : shape.heads + shape.key_value_heads + kv) *
                                 size;
    if (i < padded) {
      const float scale = rsqrtf(static_cast<float>(size));
      query[d] = inside ? (OneToken ? turned(from, turn, d, size) : __half2float(from[d])) * scale : 0;
    } else {
      const bool is_key = i < 2 * padded;
      // Rounded as it will be read from the cache.
      const half made = !inside ? half{} : is_key ? __float2half(turned(from, turn, d, size)) : from[d];
      (is_key ? own_key : own_value)[d] = made;
      if (inside && blockIdx.x == 0 && head % heads_of_key == 0) {
        (is_key ? keys : values)[static_cast<size_t>(own) * size + d] = made;
      }
    }
  }
  __syncthreads();
  float asked[dims];
#pragma unroll
  for (int i = 0; i < dims; ++i) asked[i] = query[own_dim + i];

  part<dims> mine = {-INFINITY, 0, {}};
  for (; first < end; first += warps * groups * at_once) {
    float score[at_once];
    float largest = mine.largest;
#pragma unroll
    for (int p = 0; p < at_once; ++p) {
      if (OneToken && at(first, p) == own) {
        key[p] = load<dims>(own_key, own_dim, padded);
        value[p] = load<dims>(own_value, own_dim, padded);
      }
      score[p] = 0;
#pragma unroll
      for (int i = 0; i < dims; ++i) score[p] += asked[i] * __half2float(key[p].values[i]);
    }
    const int next = first + warps * groups * at_once;
    if (next < end) fetch(keys, next, key);
#pragma unroll
    for (int p = 0; p < at_once; ++p) {
#pragma unroll
      for (int lanes = Lanes / 2; lanes > 0; lanes /= 2) score[p] += __shfl_xor_sync(~0u, score[p], lanes);
      if (at(first, p) >= end) score[p] = -INFINITY;
      largest = fmaxf(largest, score[p]);
    }
#pragma unroll
    for (int lanes = Lanes; lanes < 32; lanes *= 2) {
      largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, lanes));
    }
    const float before = __expf(mine.largest - largest);
    mine.largest = largest;
    mine.sum *= before;
#pragma unroll
    for (int i = 0; i < dims; ++i) mine.values[i] *= before;
#pragma unroll
    for (int p = 0; p < at_once; ++p) {
      const float weight = __expf(score[p] - largest);
      mine.sum += weight;
#pragma unroll
      for (int i = 0; i < dims; ++i) mine.values[i] += weight * __half2float(value[p].values[i]);
    }
    if (next < end) fetch(values, next, value);
  }

  // The positions side by side, the warps of the block, then the blocks of the head.
#pragma unroll
  for (int lanes = Lanes; lanes < 32; lanes *= 2) {
    mine.sum += __shfl_xor_sync(~0u, mine.sum, lanes);
#pragma unroll
    for (int i = 0; i < dims; ++i) mine.values[i] += __shfl_xor_sync(~0u, mine.values[i], lanes);
  }
  if (lane < Lanes) {
#pragma unroll
    for (int i = 0; i < dims; ++i) of_warp[warp].values[own_dim + i] = mine.values[i];
  }
  if (lane == 0) {
    of_warp[warp].largest = mine.largest;
    of_warp[warp].sum = mine.sum;
  }
  __syncthreads();
  const int d = threadIdx.x;
  part<1> all = {};
  if (d < size) all = join(of_warp, warps, d);
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  cluster.barrier_wait(std::move(all_began));
  if (gridDim.x > 1) {
    if (d < size) {
      part<padded>* to = cluster.map_shared_rank(of_split + blockIdx.x, 0);
      to->values[d] = all.values[0];
      if (d == 0) {
        to->largest = all.largest;
        to->sum = all.sum;
      }
    }
    auto all_sent = cluster.barrier_arrive();
    if (blockIdx.x > 0) return;
    cluster.barrier_wait(std::move(all_sent));
    if (d < size) all = join(of_split, gridDim.x, d);
  }
#endif
  if (d < size) {
    out[(static_cast<size_t>(token) * shape.heads + head) * size + d] = __float2half(all.values[0] / all.sum);
  }
}

}  // namespace

void turn_and_store(const launch_on& on, const attention_shape& shape, half_bits* qkv, const float2* turns,
                    const int* position, layer_cache cache) {
  launch(on, dim3(shape.sequences * shape.count), 256, 0, turn_and_store_kernel, shape, as_halves(qkv), turns,
         position, as_halves(cache.keys), as_halves(cache.values));
}

void attend(const launch_on& on, const attention_shape& shape, bool one_token, const half_bits* qkv,
            const float2* turns, const int* position, layer_cache cache, half_bits* out) {
  // Sequences are cut until there is a thread block for each processor; without clusters they are not. Tried,
  // for 320 positions of one sequence and 32 heads on an H200: twice and half as many, 8.2 and 7.1 instead
  // of 5.6 microseconds a layer.
  const int blocks = shape.heads * shape.sequences * shape.count;
  int splits = 1;
  if (one_token && has_clusters()) {
    while (splits < most_splits && 2 * splits * blocks <= processor_count()) splits *= 2;
  }
  const auto run = [&](auto kernel) {
    launch_clusters(on, splits, dim3(splits, shape.heads, shape.sequences * shape.count), 32 * warps, 0,
                    kernel, shape, as_halves(qkv), turns, position, as_halves(cache.keys),
                    as_halves(cache.values), as_halves(out));
  };
  if (shape.head_size <= 64) {
    one_token ? run(attend_kernel<8, true>) : run(attend_kernel<8, false>);
  } else if (shape.head_size <= 128) {
    one_token ? run(attend_kernel<16, true>) : run(attend_kernel<16, false>);
  } else {
    one_token ? run(attend_kernel<32, true>) : run(attend_kernel<32, false>);
  }
}

}  // namespace llama::gpu
