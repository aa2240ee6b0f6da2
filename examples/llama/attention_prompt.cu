// Attention of prompts, on the tensor cores.
//
// SPDX-License-Identifier: Apache-2.0
#include <cuda_fp16.h>
#include <mma.h>

#include "gpu.hpp"
#include "kernels.hpp"
#include "launch.cuh"

namespace llama::gpu {
namespace {

constexpr int warps = 4;

using namespace nvcuda;

constexpr int tile = 64;  // queries of a block, and keys of a step
constexpr int pad = 8;    // halves: rows of shared memory begin in different banks

template <int Size>
struct tile_memory {
  half keys[tile][Size + pad];
  half values[tile][Size + pad];
  float scores[warps][16][tile + 4];
  half weights[warps][16][tile + pad];
};

// blockIdx: (queries / tile, head, sequence); a warp has 16 queries. Twice over the keys: the first time for
// the largest score and the sum of each query, the second for the values, so that no sum has to be scaled
// later.
template <int Size>
__global__ void __launch_bounds__(32 * warps)
    attend_tiles_kernel(attention_shape shape, const half* qkv, const int* position, const half* keys,
                        const half* values, half* out) {
  extern __shared__ __align__(32) unsigned char shared[];
  auto& memory = *reinterpret_cast<tile_memory<Size>*>(shared);
  wait_for_previous();
  allow_next();
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  const int head = blockIdx.y;
  const int first = (gridDim.x - 1 - blockIdx.x) * tile;  // the longest begin first
  const int begin = *position;
  const int queries = min(tile, shape.count - first);
  const int visible = begin + first + queries;  // of the last query
  const size_t cache_at = (static_cast<size_t>(blockIdx.z) * shape.key_value_heads +
                           head / (shape.heads / shape.key_value_heads)) *
                          shape.context * Size;
  const size_t token = static_cast<size_t>(blockIdx.z) * shape.count + first + warp * 16;

  wmma::fragment<wmma::matrix_a, 16, 16, 16, half, wmma::row_major> query[Size / 16];
  const half* from = qkv + token * shape.width() + head * Size;
#pragma unroll
  for (int i = 0; i < Size / 16; ++i) wmma::load_matrix_sync(query[i], from + i * 16, shape.width());

  const auto fetch = [&](half(*to)[Size + pad], const half* cache, int step) {
    constexpr int words = Size / 8;  // of 16 bytes
    for (int i = threadIdx.x; i < tile * words; i += 32 * warps) {
      const int row = step + i / words;
      const auto* word = reinterpret_cast<const uint4*>(cache + cache_at + static_cast<size_t>(row) * Size);
      *reinterpret_cast<uint4*>(&to[i / words][i % words * 8]) = row < visible ? word[i % words] : uint4{};
    }
  };
  const float scale = rsqrtf(static_cast<float>(Size));
  const int row = lane / 2;  // two lanes share a query, each has half of the keys
  const int last = begin + first + warp * 16 + row;
  // The scores of a step, masked; NULL where this query sees none of them.
  const auto score = [&](int step) {
    for (int j = 0; j < tile / 16; ++j) {
      wmma::fragment<wmma::accumulator, 16, 16, 16, float> sum;
      wmma::fill_fragment(sum, 0);
#pragma unroll
      for (int i = 0; i < Size / 16; ++i) {
        wmma::fragment<wmma::matrix_b, 16, 16, 16, half, wmma::col_major> key;
        wmma::load_matrix_sync(key, &memory.keys[j * 16][i * 16], Size + pad);
        wmma::mma_sync(sum, query[i], key, sum);
      }
      wmma::store_matrix_sync(&memory.scores[warp][0][j * 16], sum, tile + 4, wmma::mem_row_major);
    }
    __syncwarp();
    return min(tile, last + 1 - step);
  };

  float largest = -INFINITY;
  float sum = 0;
  for (int step = 0; step < visible; step += tile) {
    __syncthreads();
    fetch(memory.keys, keys, step);
    __syncthreads();
    const int count = score(step);
    const float* scores = memory.scores[warp][row];
    float now = largest;
    for (int j = lane % 2; j < count; j += 2) now = fmaxf(now, scores[j] * scale);
    now = fmaxf(now, __shfl_xor_sync(~0u, now, 1));
    float here = 0;
    for (int j = lane % 2; j < count; j += 2) here += __expf(scores[j] * scale - now);
    here += __shfl_xor_sync(~0u, here, 1);
    sum = (now == -INFINITY ? 0 : sum * __expf(largest - now)) + here;
    largest = now;
    __syncwarp();
  }

  wmma::fragment<wmma::accumulator, 16, 16, 16, float> result[Size / 16];
#pragma unroll
  for (int i = 0; i < Size / 16; ++i) wmma::fill_fragment(result[i], 0);
  for (int step = 0; step < visible; step += tile) {
    __syncthreads();
    fetch(memory.keys, keys, step);
    fetch(memory.values, values, step);
    __syncthreads();
    const int count = score(step);
    for (int j = lane % 2; j < tile; j += 2) {
      const float weight = j < count ? __expf(memory.scores[warp][row][j] * scale - largest) / sum : 0;
      memory.weights[warp][row][j] = __float2half(weight);
    }
    __syncwarp();
#pragma unroll
    for (int j = 0; j < tile / 16; ++j) {
      wmma::fragment<wmma::matrix_a, 16, 16, 16, half, wmma::row_major> weight;
      wmma::load_matrix_sync(weight, &memory.weights[warp][0][j * 16], tile + pad);
#pragma unroll
      for (int i = 0; i < Size / 16; ++i) {
        wmma::fragment<wmma::matrix_b, 16, 16, 16, half, wmma::row_major> value;
        wmma::load_matrix_sync(value, &memory.values[j * 16][i * 16], Size + pad);
        wmma::mma_sync(result[i], weight, value, result[i]);
      }
    }
    __syncwarp();
  }
#pragma unroll
  for (int i = 0; i < Size / 16; ++i) {
    wmma::store_matrix_sync(&memory.scores[warp][0][0], result[i], tile + 4, wmma::mem_row_major);
    __syncwarp();
    for (int j = lane; j < 256; j += 32) {
      if (warp * 16 + j / 16 < queries) {
        out[(token + j / 16) * (shape.heads * Size) + head * Size + i * 16 + j % 16] =
            __float2half(memory.scores[warp][j / 16][j % 16]);
      }
    }
    __syncwarp();
  }
}

}  // namespace

bool can_attend_by_tiles(const attention_shape& shape) {
  return shape.head_size == 64 || shape.head_size == 128;
}

void attend_by_tiles(const launch_on& on, const attention_shape& shape, const half_bits* qkv,
                     const int* position, layer_cache cache, half_bits* out) {
  const auto run = [&](auto kernel, size_t bytes) {
    check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                               cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
          "shared memory");
    launch(on, dim3((shape.count + tile - 1) / tile, shape.heads, shape.sequences), 32 * warps, bytes, kernel,
           shape, as_halves(qkv), position, as_halves(cache.keys), as_halves(cache.values), as_halves(out));
  };
  if (shape.head_size == 64) {
    run(attend_tiles_kernel<64>, sizeof(tile_memory<64>));
  } else {
    run(attend_tiles_kernel<128>, sizeof(tile_memory<128>));
  }
}

}  // namespace llama::gpu
