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

constexpr int warps = 8;
constexpr int dims = 8;     // of a lane: 16 bytes of a row of the cache
constexpr int at_once = 4;  // rows whose loads a lane has in flight together

// A softmax that has seen a part of the positions: their largest score, the sum of the exponentials, and the
// weighted values of this lane's dimensions.
struct part {
  float largest = -INFINITY;
  float sum = 0;
  float values[dims] = {};

  // Count others at once: first the largest of all, so that their exponentials do not wait for each other.
  template <int Count>
  __device__ void join(const float (&other_largest)[Count], const float (&other_sum)[Count],
                       const float (&other)[Count][dims]) {
    float now = largest;
#pragma unroll
    for (int p = 0; p < Count; ++p) now = fmaxf(now, other_largest[p]);
    if (now == -INFINITY) return;
    const float mine = __expf(largest - now);
    largest = now;
    sum *= mine;
#pragma unroll
    for (int i = 0; i < dims; ++i) values[i] *= mine;
#pragma unroll
    for (int p = 0; p < Count; ++p) {
      const float weight = __expf(other_largest[p] - now);
      sum += other_sum[p] * weight;
#pragma unroll
      for (int i = 0; i < dims; ++i) values[i] += other[p][i] * weight;
    }
  }
};

struct alignas(16) row_part {
  half values[dims];
};

// The dimensions [first, first + dims) of a row of the cache: one load where rows are aligned to it.
__device__ __forceinline__ row_part load_part(const half* row, int first, int size) {
  row_part loaded = {};
  if (size % dims == 0) {
    if (first < size) loaded = *reinterpret_cast<const row_part*>(row + first);
  } else {
#pragma unroll
    for (int i = 0; i < dims; ++i) {
      if (first + i < size) loaded.values[i] = row[first + i];
    }
  }
  return loaded;
}

// blockIdx: (split, head, token). Lanes of them share a position, so a warp has 32 / Lanes positions side by
// side.
template <int Lanes, bool OneToken>
__global__ void __launch_bounds__(32 * warps)
    attend_kernel(attention_shape shape, const half* qkv, const float2* turns, const int* position,
                  half* keys, half* values, float* partials, unsigned* arrivals, half* out) {
  constexpr int groups = 32 / Lanes;
  allow_next();
  wait_for_previous();
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32;
  const int own_dim = lane % Lanes * dims;  // the first of this lane's
  const int head = blockIdx.y;
  const int token = blockIdx.z;
  const int size = shape.head_size;
  const int own = *position + token % shape.count;
  const int heads_of_key = shape.heads / shape.key_value_heads;
  const int kv = head / heads_of_key;
  const half* row = qkv + static_cast<size_t>(token) * shape.width();
  const size_t cache_at =
      (static_cast<size_t>(token / shape.count) * shape.key_value_heads + kv) * shape.context * size;
  keys += cache_at;
  values += cache_at;
  const auto sum_over_lanes = [](float value) {
#pragma unroll
    for (int lanes = Lanes / 2; lanes > 0; lanes /= 2) value += __shfl_xor_sync(~0u, value, lanes);
    return value;
  };

  // With OneToken the own key is not in the cache yet: the first split takes it from qkv.
  const int cached = OneToken ? own : own + 1;
  const int chunk = (cached + gridDim.x - 1) / gridDim.x;
  const int begin = blockIdx.x * chunk;
  const int end = min(cached, begin + chunk);
  constexpr int step = groups * at_once;  // positions of a warp
  row_part key[at_once], value[at_once];
  const auto at = [&](int first, int p) { return first + p * groups + lane / Lanes; };
  const auto fetch = [&](int first) {
#pragma unroll
    for (int p = 0; p < at_once; ++p) {
      // Behind the end the last position again, which then has no weight.
      const size_t from = static_cast<size_t>(min(at(first, p), end - 1)) * size;
      key[p] = load_part(keys + from, own_dim, size);
      value[p] = load_part(values + from, own_dim, size);
    }
  };
  int first = begin + warp * step;
  if (first < end) fetch(first);

  const float scale = rsqrtf(static_cast<float>(size));
  const float2* turn = turns + static_cast<size_t>(own) * (size / 2);
  const half* query_from = row + head * size;
  float query[dims];
#pragma unroll
  for (int i = 0; i < dims; ++i) {
    const int d = own_dim + i;
    query[i] =
        d < size ? (OneToken ? turned(query_from, turn, d, size) : __half2float(query_from[d])) * scale : 0;
  }

  part mine;
  while (first < end) {
    float score[at_once], ones[at_once], weighted[at_once][dims];
#pragma unroll
    for (int p = 0; p < at_once; ++p) {
      float sum = 0;
#pragma unroll
      for (int i = 0; i < dims; ++i) {
        sum += query[i] * __half2float(key[p].values[i]);
        weighted[p][i] = __half2float(value[p].values[i]);
      }
      sum = sum_over_lanes(sum);
      score[p] = at(first, p) < end ? sum : -INFINITY;
      ones[p] = 1;
    }
    first += warps * step;
    if (first < end) fetch(first);
    mine.join(score, ones, weighted);
  }
  if (OneToken && blockIdx.x == 0 && warp == 0) {
    const half* key_from = row + (shape.heads + kv) * size;
    const half* value_from = row + (shape.heads + shape.key_value_heads + kv) * size;
    float score[1] = {};
    const float one[1] = {1};
    float weighted[1][dims] = {};
#pragma unroll
    for (int i = 0; i < dims; ++i) {
      const int d = own_dim + i;
      if (d < size) {
        // Rounded as it will be read from the cache.
        const half turned_key = __float2half(turned(key_from, turn, d, size));
        score[0] += query[i] * __half2float(turned_key);
        weighted[0][i] = __half2float(value_from[d]);
        if (head % heads_of_key == 0 && lane < Lanes) {
          keys[static_cast<size_t>(own) * size + d] = turned_key;
          values[static_cast<size_t>(own) * size + d] = value_from[d];
        }
      }
    }
    score[0] = sum_over_lanes(score[0]);
    // Once, not once for each group of lanes.
    if (lane >= Lanes) score[0] = -INFINITY;
    mine.join(score, one, weighted);
  }

  // The groups of the warp, the warps of the block, then the blocks of the head.
#pragma unroll
  for (int lanes = Lanes; lanes < 32; lanes *= 2) {
    float other_largest[1] = {__shfl_xor_sync(~0u, mine.largest, lanes)};
    float other_sum[1] = {__shfl_xor_sync(~0u, mine.sum, lanes)};
    float other[1][dims];
#pragma unroll
    for (int i = 0; i < dims; ++i) other[0][i] = __shfl_xor_sync(~0u, mine.values[i], lanes);
    mine.join(other_largest, other_sum, other);
  }
  constexpr int stride = Lanes * dims + 2;
  __shared__ float of_warp[warps][stride];
  if (lane < Lanes) {
#pragma unroll
    for (int i = 0; i < dims; ++i) of_warp[warp][2 + own_dim + i] = mine.values[i];
  }
  if (lane == 0) {
    of_warp[warp][0] = mine.largest;
    of_warp[warp][1] = mine.sum;
  }
  __syncthreads();
  if (threadIdx.x >= Lanes) return;
  // Up to Count results, `apart` floats from one to the next; all loads come before the first use.
  const auto join_from = [&](const float* from, int apart, int there, auto count) {
    constexpr int most = decltype(count)::value;
    float other_largest[most], other_sum[most], other[most][dims];
#pragma unroll
    for (int p = 0; p < most; ++p) {
      const float* result = from + min(p, there - 1) * apart;
      other_largest[p] = p < there ? result[0] : -INFINITY;
      other_sum[p] = result[1];
#pragma unroll
      for (int i = 0; i < dims; ++i) other[p][i] = own_dim + i < size ? result[2 + own_dim + i] : 0;
    }
    mine.join(other_largest, other_sum, other);
  };
  join_from(of_warp[1], stride, warps - 1, std::integral_constant<int, warps - 1>());
  const size_t of_head = static_cast<size_t>(token) * shape.heads + head;
  if (gridDim.x > 1) {
    const unsigned lanes_here = Lanes == 32 ? ~0u : (1u << Lanes) - 1;
    float* of_splits = partials + of_head * gridDim.x * (size + 2);
    float* to = of_splits + blockIdx.x * (size + 2);
#pragma unroll
    for (int i = 0; i < dims; ++i) {
      if (own_dim + i < size) to[2 + own_dim + i] = mine.values[i];
    }
    if (lane == 0) {
      to[0] = mine.largest;
      to[1] = mine.sum;
    }
    __threadfence();
    __syncwarp(lanes_here);
    unsigned before = 0;
    if (lane == 0) before = atomicAdd(arrivals + of_head, 1);
    if (__shfl_sync(lanes_here, before, 0) != gridDim.x - 1) return;
    __threadfence();
    // In the order of the splits, so that the same bits come out whoever is last.
    mine = part();
    for (int split = 0; split < gridDim.x; split += at_once) {
      join_from(of_splits + split * (size + 2), size + 2, gridDim.x - split,
                std::integral_constant<int, at_once>());
    }
    if (lane == 0) arrivals[of_head] = 0;
  }
#pragma unroll
  for (int i = 0; i < dims; ++i) {
    if (own_dim + i < size) out[of_head * size + own_dim + i] = __float2half(mine.values[i] / mine.sum);
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
    one_token ? run(attend_kernel<8, true>) : run(attend_kernel<8, false>);
  } else if (shape.head_size <= 128) {
    one_token ? run(attend_kernel<16, true>) : run(attend_kernel<16, false>);
  } else {
    one_token ? run(attend_kernel<32, true>) : run(attend_kernel<32, false>);
  }
}

}  // namespace llama::gpu
