// RoPE, and attention of single tokens.
//
// SPDX-License-Identifier: Apache-2.0
#include <cuda_fp16.h>

#include "cluster.cuh"
#include "gpu.hpp"
#include "kernels.hpp"
#include "launch.cuh"

namespace llama::gpu {
namespace {

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

// What a lane has of a row: dimensions [d, d + dims). In words, which the compiler does not take apart as
// soon as they are loaded, and would have to wait for.
struct lane_dims {
  uint4 words = {};
  __device__ __forceinline__ float operator[](int i) const {
    const uint32_t word = i < 2 ? words.x : i < 4 ? words.y : i < 6 ? words.z : words.w;
    return __half2float(__ushort_as_half(static_cast<unsigned short>(word >> (16 * (i % 2)))));
  }
};

__device__ __forceinline__ lane_dims rounded(const float (&of)[dims]) {
  const auto word = [&](int i) {
    return static_cast<uint32_t>(__half_as_ushort(__float2half(of[i]))) |
           static_cast<uint32_t>(__half_as_ushort(__float2half(of[i + 1]))) << 16;
  };
  return {{word(0), word(2), word(4), word(6)}};
}

// Rows of Size values; with 0 of any size.
template <int Size>
__device__ __forceinline__ lane_dims load_dims(const half* row, int d, int size) {
  if constexpr (Size != 0) {
    return {*reinterpret_cast<const uint4*>(row + d)};
  } else {
    float loaded[dims];
#pragma unroll
    for (int i = 0; i < dims; ++i) loaded[i] = d + i < size ? __half2float(row[d + i]) : 0;
    return rounded(loaded);
  }
}
template <int Size>
__device__ __forceinline__ void store_dims(const lane_dims& stored, half* row, int d, int size) {
  if constexpr (Size != 0) {
    *reinterpret_cast<uint4*>(row + d) = stored.words;
  } else {
#pragma unroll
    for (int i = 0; i < dims; ++i) {
      if (d + i < size) row[d + i] = __float2half(stored[i]);
    }
  }
}

// RoPE: dimension d turns with dimension d + size / 2, by an angle that depends on the position. A lane has
// its own dimensions and those that they turn with.
struct turning_dims {
  lane_dims own = {}, other = {};
};

template <int Size>
class rotation {
 public:
  // With the angles of a position, [size / 2].
  __device__ __forceinline__ rotation(const float2* angles, int d, int size)
      : d_(d), size_(Size != 0 ? Size : size) {
    if constexpr (Size != 0) {
      const auto* from = reinterpret_cast<const float4*>(angles + d % (Size / 2));
#pragma unroll
      for (int i = 0; i < dims; i += 2) {
        const float4 two = from[i / 2];
        angles_[i] = {two.x, two.y};
        angles_[i + 1] = {two.z, two.w};
      }
    } else {
#pragma unroll
      for (int i = 0; i < dims; ++i) angles_[i] = d + i < size ? angles[(d + i) % (size / 2)] : float2{};
    }
  }

  __device__ __forceinline__ turning_dims load_from(const half* row) const {
    turning_dims loaded;
    loaded.own = load_dims<Size>(row, d_, size_);
    if constexpr (Size != 0) {
      loaded.other = load_dims<Size>(row, is_first_half(0) ? d_ + Size / 2 : d_ - Size / 2, size_);
    } else {
      float other[dims];
#pragma unroll
      for (int i = 0; i < dims; ++i) {
        const int with = is_first_half(i) ? d_ + i + size_ / 2 : d_ + i - size_ / 2;
        other[i] = d_ + i < size_ ? __half2float(row[with]) : 0;
      }
      loaded.other = rounded(other);
    }
    return loaded;
  }

  __device__ __forceinline__ float turned(const turning_dims& loaded, int i) const {
    const float sine = is_first_half(Size != 0 ? 0 : i) ? -angles_[i].y : angles_[i].y;
    return loaded.own[i] * angles_[i].x + loaded.other[i] * sine;
  }

 private:
  float2 angles_[dims];
  int d_, size_;

  __device__ __forceinline__ bool is_first_half(int i) const { return d_ + i < size_ / 2; }
};

// A softmax that has seen a part of the positions: the weighted sum of the values, their largest score, and
// the sum of the exponentials.
template <int Padded>
struct part {
  float values[Padded];
  float largest, sum;
  float not_used[2];  // so that the next begins where 16 bytes can be stored
};

struct joined_parts {
  float value, largest, sum;
};

// Dimension d of all of `count` parts, 32 at most, by whole warps; those that saw nothing have -INFINITY as
// their largest score. A function that is called twice, for then its instructions are there the second time.
template <int Padded>
__device__ __noinline__ joined_parts join(const part<Padded>* parts, int count, int d) {
  const int lane = d % 32;
  joined_parts all = {0, lane < count ? parts[lane].largest : -INFINITY, lane < count ? parts[lane].sum : 0};
  const float own_largest = all.largest;
#pragma unroll
  for (int l = 16; l > 0; l /= 2) all.largest = fmaxf(all.largest, __shfl_xor_sync(~0u, all.largest, l));
  const float weight = own_largest == -INFINITY ? 0 : __expf(own_largest - all.largest);
  all.sum *= weight;
#pragma unroll
  for (int l = 16; l > 0; l /= 2) all.sum += __shfl_xor_sync(~0u, all.sum, l);
#pragma unroll 4
  for (int i = 0; i < count; ++i) all.value += __shfl_sync(~0u, weight, i) * parts[i].values[d];
  return all;
}

// blockIdx: (token, head of keys, split; query of the head). The splits are a cluster; there are
// 2^split_bits. Lanes of them share a position, so a warp has 32 / lanes positions side by side; positions go
// round among warps, then among splits. Size is the head size, with 0 any up to 256.
//
// With OneToken the token's key and value are not in the cache yet. What is there, and *position, was written
// by earlier steps, which have ended (see embed_kernel), so keys and values are fetched while the layer that
// makes the query still runs. The warp whose turn it is at that position makes both.
//
// What a thread block does between the wait and its end is a chain that nothing else overlaps, so it is
// short: each lane turns its own dimensions, each thread block sends what it has to the first of the cluster,
// and no register spills. Tried, in tokens a second of Llama-2-7B in e3m2 on an H100 (h100-tests.json,
// llama_small):
//   12 warps, which spill: 497 in place of 504 with 10; 10, with E2M0: 741 in place of 742 with 8; 8 with 5
//   or 6 rows at once: 1 % slower and as fast
//   16 warps: 486 in place of 497 with 12. Two such thread blocks have no room on a multiprocessor, and then
//   not every cluster of four finds room; the last begins 3 microseconds after the others
//   the weights of the layer behind brought to the L2 cache meanwhile: 488 in place of 498
//   room for it beside the linear layer before: 497 in place of 504
//   the position through the L1 cache: no difference
//   with a kernel that took longer, the next kernel only when this one has ended: 405 in place of 416; and
//   that one as soon as the wait is over: 2545 microseconds a step in place of 2502 on an H200
template <int Size, bool OneToken>
__global__ void __launch_bounds__(32 * warps, 2)
    attend_kernel(attention_shape shape, int split_bits, const half* qkv, const float2* turns,
                  const int* position, half* keys, half* values, half* out) {
  constexpr int lanes = Size == 64 ? 8 : Size == 128 ? 16 : 32;
  constexpr int padded = lanes * dims;
  constexpr int side_by_side = 32 / lanes;
  constexpr int rows = warps * side_by_side;
  __shared__ alignas(16) part<padded> of_warp[warps], of_block[most_splits];
  __shared__ uint64_t barrier;

  if (OneToken) {
    allow_next();
  } else {
    wait_for_previous();
  }
  const int splits = 1 << split_bits;
  const int split = static_cast<int>(blockIdx.x) & (splits - 1);
  const parcel joined(barrier, splits, splits * (padded + 2) * sizeof(float));
  const int row = static_cast<int>(blockIdx.x >> split_bits);
  const int token = row / shape.key_value_heads;
  const int kv = row - token * shape.key_value_heads;
  const int head = kv * static_cast<int>(gridDim.y) + static_cast<int>(blockIdx.y);
  const int sequence = OneToken ? token : token / shape.count;
  const int own = __ldcg(position) + (token - sequence * shape.count);
  const int lane = threadIdx.x % 32;
  const int warp = __shfl_sync(~0u, threadIdx.x / 32, 0);
  const int own_dim = lane % lanes * dims;  // the first of this lane's
  const int size = Size != 0 ? Size : shape.head_size;
  const size_t cache_row = OneToken ? row : sequence * shape.key_value_heads + kv;
  keys += cache_row * shape.context * size;
  values += cache_row * shape.context * size;

  const int stride = splits * rows;
  const int begin = split * rows + warp * side_by_side;  // of the warp's positions
  const int beside = lane / lanes;
  const int cached = OneToken ? own : own + 1;
  const auto fetch = [&](const half* cache, int from, lane_dims(&to)[at_once]) {
#pragma unroll
    for (int p = 0; p < at_once; ++p) {
      const int at = from + beside + p * stride;
      to[p] = {};
      if (at < cached) to[p] = load_dims<Size>(cache + static_cast<size_t>(at) * size, own_dim, size);
    }
  };
  lane_dims key[at_once], value[at_once];
  fetch(keys, begin, key);
  fetch(values, begin, value);
  // What the registers do not hold waits in the L2 cache.
  constexpr int line = 64;  // halves
  for (int i = at_once * stride * size + line * static_cast<int>(threadIdx.x + split * blockDim.x);
       i < cached * size; i += line * static_cast<int>(blockDim.x * splits)) {
    asm volatile("prefetch.global.L2 [%0];" ::"l"(keys + i));
    asm volatile("prefetch.global.L2 [%0];" ::"l"(values + i));
  }
  const rotation<Size> rotate(turns + static_cast<size_t>(own) * (size / 2), own_dim, size);
  if (OneToken) wait_for_previous();

  const half* of_token = qkv + static_cast<size_t>(token) * shape.width();
  const float scale = rsqrtf(static_cast<float>(size));
  float asked[dims];
  lane_dims own_key = {}, own_value = {};
  if constexpr (OneToken) {
    const bool makes = own / side_by_side % warps == warp && (own / rows & (splits - 1)) == split;
    const turning_dims query = rotate.load_from(of_token + head * size);
    turning_dims made;
    if (makes) {
      const half* from = of_token + (shape.heads + kv) * size;
      made = rotate.load_from(from);
      own_value = load_dims<Size>(from + shape.key_value_heads * size, own_dim, size);
    }
#pragma unroll
    for (int i = 0; i < dims; ++i) asked[i] = rotate.turned(query, i) * scale;
    if (makes) {
      float turned[dims];
#pragma unroll
      for (int i = 0; i < dims; ++i) turned[i] = rotate.turned(made, i);
      own_key = rounded(turned);  // as it will be read from the cache
      if (blockIdx.y == 0 && beside == 0) {
        store_dims<Size>(own_key, keys + static_cast<size_t>(own) * size, own_dim, size);
        store_dims<Size>(own_value, values + static_cast<size_t>(own) * size, own_dim, size);
      }
    }
  } else {
    const lane_dims query = load_dims<Size>(of_token + head * size, own_dim, size);
#pragma unroll
    for (int i = 0; i < dims; ++i) asked[i] = query[i] * scale;
  }

  float seen[dims] = {}, largest = -INFINITY, sum = 0;
  for (int from = begin; from <= own;) {
    float score[at_once];
    float next_largest = largest;
#pragma unroll
    for (int p = 0; p < at_once; ++p) {
      const int at = from + beside + p * stride;
      if (OneToken && at == own) {
        key[p] = own_key;
        value[p] = own_value;
      }
      float of_dims = 0;
#pragma unroll
      for (int i = 0; i < dims; ++i) of_dims += asked[i] * key[p][i];
#pragma unroll
      for (int l = lanes / 2; l > 0; l /= 2) of_dims += __shfl_xor_sync(~0u, of_dims, l);
      score[p] = at <= own ? of_dims : -INFINITY;
      next_largest = fmaxf(next_largest, score[p]);
    }
    const int next = from + at_once * stride;
    if (__builtin_expect(next <= own, 0)) fetch(keys, next, key);
#pragma unroll
    for (int l = lanes; l < 32; l *= 2) {
      next_largest = fmaxf(next_largest, __shfl_xor_sync(~0u, next_largest, l));
    }
    const float before = __expf(largest - next_largest);
    largest = next_largest;
    sum *= before;
#pragma unroll
    for (int i = 0; i < dims; ++i) seen[i] *= before;
#pragma unroll
    for (int p = 0; p < at_once; ++p) {
      const float weight = __expf(score[p] - largest);
      sum += weight;
#pragma unroll
      for (int i = 0; i < dims; ++i) seen[i] += weight * value[p][i];
    }
    if (__builtin_expect(next <= own, 0)) fetch(values, next, value);
    from = next;
  }

  // The positions side by side, then the warps, then the thread blocks.
#pragma unroll
  for (int l = lanes; l < 32; l *= 2) {
    sum += __shfl_xor_sync(~0u, sum, l);
#pragma unroll
    for (int i = 0; i < dims; ++i) seen[i] += __shfl_xor_sync(~0u, seen[i], l);
  }
  if (beside == 0) {
    auto* to = reinterpret_cast<float4*>(&of_warp[warp].values[own_dim]);
    to[0] = {seen[0], seen[1], seen[2], seen[3]};
    to[1] = {seen[4], seen[5], seen[6], seen[7]};
  }
  if (lane == 0) {
    of_warp[warp].largest = largest;
    of_warp[warp].sum = sum;
  }
  joined.open();
  __syncthreads();
  const int d = static_cast<int>(threadIdx.x);
  if (d >= padded) return;
  joined_parts all = join(of_warp, warps, d);
  if (splits > 1) {
    part<padded>& to = of_block[split];
    joined.send(&to.values[d], all.value);
    if (d == 0) {
      joined.send(&to.largest, all.largest);
      joined.send(&to.sum, all.sum);
    }
    if (split > 0) return;
    joined.receive();
    all = join(of_block, splits, d);
  }
  if (d < size) {
    out[(static_cast<size_t>(token) * shape.heads + head) * size + d] =
        __float2half(__fdividef(all.value, all.sum));
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
  int split_bits = 0;
  if (one_token && has_clusters()) {
    while (1 << split_bits < most_splits && (2 << split_bits) * blocks <= processor_count()) ++split_bits;
  }
  const dim3 grid((shape.sequences * shape.count * shape.key_value_heads) << split_bits,
                  shape.heads / shape.key_value_heads);
  const auto run = [&](auto kernel) {
    launch_clusters(on, 1 << split_bits, grid, 32 * warps, 0, kernel, shape, split_bits, as_halves(qkv),
                    turns, position, as_halves(cache.keys), as_halves(cache.values), as_halves(out));
  };
  switch (shape.head_size) {
    case 64:
      return one_token ? run(attend_kernel<64, true>) : run(attend_kernel<64, false>);
    case 128:
      return one_token ? run(attend_kernel<128, true>) : run(attend_kernel<128, false>);
    default:
      return one_token ? run(attend_kernel<0, true>) : run(attend_kernel<0, false>);
  }
}

}  // namespace llama::gpu
