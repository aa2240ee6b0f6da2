// RoPE, and attention of single tokens.
//
// SPDX-License-Identifier: Apache-2.0
#include <cuda_fp16.h>

#include <type_traits>

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

constexpr int warps = 16;
constexpr int at_once = 8;  // positions whose loads are in flight together, for each warp

// A softmax that has seen a part of the positions: their largest score, the sum of the exponentials, and the
// weighted values of this lane's dimensions.
template <int Dims>
struct part {
  float largest = -INFINITY;
  float sum = 0;
  float values[Dims] = {};

  // Count others at once: first the largest of all, so that their exponentials do not wait for each other.
  template <int Count>
  __device__ void join(const float (&other_largest)[Count], const float (&other_sum)[Count],
                       const float (&other)[Count][Dims]) {
    float now = largest;
#pragma unroll
    for (int p = 0; p < Count; ++p) now = fmaxf(now, other_largest[p]);
    if (now == -INFINITY) return;
    const float mine = __expf(largest - now);
    largest = now;
    sum *= mine;
#pragma unroll
    for (int i = 0; i < Dims; ++i) values[i] *= mine;
#pragma unroll
    for (int p = 0; p < Count; ++p) {
      const float weight = __expf(other_largest[p] - now);
      sum += other_sum[p] * weight;
#pragma unroll
      for (int i = 0; i < Dims; ++i) values[i] += other[p][i] * weight;
    }
  }
};

__device__ __forceinline__ float warp_sum(float value) {
  for (int lanes = 16; lanes > 0; lanes /= 2) value += __shfl_xor_sync(~0u, value, lanes);
  return value;
}

// The dimensions [first, first + Dims) of a row of the cache: one load where the rows are aligned to it.
template <int Dims>
__device__ __forceinline__ void load_dims(const half* row, int first, int size, bool aligned,
                                          float (&to)[Dims]) {
  struct alignas(Dims * sizeof(half)) words {
    half values[Dims];
  };
  if (aligned) {
    words loaded = {};
    if (first < size) loaded = *reinterpret_cast<const words*>(row + first);
#pragma unroll
    for (int i = 0; i < Dims; ++i) to[i] = __half2float(loaded.values[i]);
  } else {
#pragma unroll
    for (int i = 0; i < Dims; ++i) to[i] = first + i < size ? __half2float(row[first + i]) : 0;
  }
}

// blockIdx: (split, head, token). A lane of a warp has Dims adjacent dimensions.
template <int Dims, bool OneToken>
__global__ void __launch_bounds__(32 * warps)
    attend_kernel(attention_shape shape, const half* qkv, const float2* turns, const int* position,
                  half* keys, half* values, float* partials, unsigned* arrivals, half* out) {
  allow_next();
  wait_for_previous();
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32;
  const int head = blockIdx.y;
  const int token = blockIdx.z;
  const int size = shape.head_size;
  const int own = *position + token % shape.count;
  const int group = shape.heads / shape.key_value_heads;
  const int kv = head / group;
  const half* row = qkv + static_cast<size_t>(token) * shape.width();
  const size_t cache_at =
      (static_cast<size_t>(token / shape.count) * shape.key_value_heads + kv) * shape.context * size;
  keys += cache_at;
  values += cache_at;

  const float scale = rsqrtf(static_cast<float>(size));
  const float2* turn = turns + static_cast<size_t>(own) * (size / 2);
  float query[Dims];
#pragma unroll
  for (int i = 0; i < Dims; ++i) {
    const int d = lane * Dims + i;
    const half* from = row + head * size;
    query[i] = d < size ? (OneToken ? turned(from, turn, d, size) : __half2float(from[d])) * scale : 0;
  }

  const bool aligned = size % Dims == 0;
  part<Dims> mine;
  // With OneToken the own key is not in the cache yet: the first split takes it from qkv.
  const int cached = OneToken ? own : own + 1;
  const int chunk = (cached + gridDim.x - 1) / gridDim.x;
  const int begin = blockIdx.x * chunk;
  const int end = min(cached, begin + chunk);
  for (int first = begin + warp * at_once; first < end; first += warps * at_once) {
    float score[at_once];
    float key[at_once][Dims];
    float value[at_once][Dims];
#pragma unroll
    for (int p = 0; p < at_once; ++p) {
      // Behind the end the last position again, which then has no weight.
      const size_t at = static_cast<size_t>(min(first + p, end - 1)) * size;
      load_dims<Dims>(keys + at, lane * Dims, size, aligned, key[p]);
      load_dims<Dims>(values + at, lane * Dims, size, aligned, value[p]);
    }
#pragma unroll
    for (int p = 0; p < at_once; ++p) {
      score[p] = 0;
#pragma unroll
      for (int i = 0; i < Dims; ++i) score[p] += query[i] * key[p][i];
    }
    float ones[at_once];
#pragma unroll
    for (int p = 0; p < at_once; ++p) {
      score[p] = warp_sum(score[p]);
      if (first + p >= end) score[p] = -INFINITY;
      ones[p] = 1;
    }
    mine.join(score, ones, value);
  }
  if (OneToken && blockIdx.x == 0 && warp == 0) {
    const half* key_from = row + (shape.heads + kv) * size;
    const half* value_from = row + (shape.heads + shape.key_value_heads + kv) * size;
    float score[1] = {};
    const float one[1] = {1};
    float value[1][Dims] = {};
#pragma unroll
    for (int i = 0; i < Dims; ++i) {
      const int d = lane * Dims + i;
      if (d < size) {
        // Rounded as it will be read from the cache.
        const half key = __float2half(turned(key_from, turn, d, size));
        score[0] += query[i] * __half2float(key);
        value[0][i] = __half2float(value_from[d]);
        if (head % group == 0) {
          keys[static_cast<size_t>(own) * size + d] = key;
          values[static_cast<size_t>(own) * size + d] = value_from[d];
        }
      }
    }
    score[0] = warp_sum(score[0]);
    mine.join(score, one, value);
  }

  // The warps of the block, then the blocks of the head.
  __shared__ float of_warp[warps][32 * Dims + 2];
  __shared__ bool is_last;
#pragma unroll
  for (int i = 0; i < Dims; ++i) of_warp[warp][2 + lane * Dims + i] = mine.values[i];
  if (lane == 0) {
    of_warp[warp][0] = mine.largest;
    of_warp[warp][1] = mine.sum;
  }
  __syncthreads();
  if (warp != 0) return;
  // Count results that lie `stride` floats apart, of which the first `there` are; all loads before the first
  // use.
  const auto join_from = [&](const float* from, int stride, int there, auto count) {
    constexpr int most = decltype(count)::value;
    float other_largest[most], other_sum[most], other[most][Dims];
#pragma unroll
    for (int p = 0; p < most; ++p) {
      const float* result = from + min(p, there - 1) * stride;
      other_largest[p] = p < there ? result[0] : -INFINITY;
      other_sum[p] = result[1];
#pragma unroll
      for (int i = 0; i < Dims; ++i) other[p][i] = lane * Dims + i < size ? result[2 + lane * Dims + i] : 0;
    }
    mine.join(other_largest, other_sum, other);
  };
  join_from(of_warp[1], 32 * Dims + 2, warps - 1, std::integral_constant<int, warps - 1>());
  const size_t of_head = static_cast<size_t>(token) * shape.heads + head;
  if (gridDim.x > 1) {
    float* of_splits = partials + of_head * gridDim.x * (size + 2);
    float* to = of_splits + blockIdx.x * (size + 2);
#pragma unroll
    for (int i = 0; i < Dims; ++i) {
      if (lane * Dims + i < size) to[2 + lane * Dims + i] = mine.values[i];
    }
    if (lane == 0) {
      to[0] = mine.largest;
      to[1] = mine.sum;
    }
    __threadfence();
    __syncwarp();
    if (lane == 0) is_last = atomicAdd(arrivals + of_head, 1) == gridDim.x - 1;
    __syncwarp();
    if (!is_last) return;
    __threadfence();
    // In the order of the splits, so that the same bits come out whoever is last.
    mine = part<Dims>();
    for (int split = 0; split < gridDim.x; split += at_once) {
      join_from(of_splits + split * (size + 2), size + 2, gridDim.x - split,
                std::integral_constant<int, at_once>());
    }
    if (lane == 0) arrivals[of_head] = 0;
  }
#pragma unroll
  for (int i = 0; i < Dims; ++i) {
    if (lane * Dims + i < size)
      out[of_head * size + lane * Dims + i] = __float2half(mine.values[i] / mine.sum);
  }
}

}  // namespace

void turn_and_store(const launch_on& on, const attention_shape& shape, half_bits* qkv, const float2* turns,
                    const int* position, layer_cache cache) {
  launch(on, dim3(shape.sequences * shape.count), 256, 0, turn_and_store_kernel, shape, as_halves(qkv), turns,
         position, as_halves(cache.keys), as_halves(cache.values));
}

void attend(const launch_on& on, const attention_shape& shape, bool one_token, const half_bits* qkv,
            const float2* turns, const int* position, layer_cache cache, int splits, float* partials,
            unsigned* arrivals, half_bits* out) {
  const auto run = [&](auto kernel) {
    launch(on, dim3(splits, shape.heads, shape.sequences * shape.count), 32 * warps, 0, kernel, shape,
           as_halves(qkv), turns, position, as_halves(cache.keys), as_halves(cache.values), partials,
           arrivals, as_halves(out));
  };
  if (shape.head_size <= 64) {
    one_token ? run(attend_kernel<2, true>) : run(attend_kernel<2, false>);
  } else if (shape.head_size <= 128) {
    one_token ? run(attend_kernel<4, true>) : run(attend_kernel<4, false>);
  } else {
    one_token ? run(attend_kernel<8, true>) : run(attend_kernel<8, false>);
  }
}

}  // namespace llama::gpu
