// SPDX-License-Identifier: Apache-2.0
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "gpu.hpp"
#include "kernels.hpp"
#include "launch.cuh"

namespace llama::gpu {
namespace {

// ---- Sums over a block ------------------------------------------------------------------------------------

struct sum_of {
  __device__ static float of_none() { return 0; }
  __device__ static float join(float a, float b) { return a + b; }
};
struct largest_of {
  __device__ static float of_none() { return -INFINITY; }
  __device__ static float join(float a, float b) { return fmaxf(a, b); }
};

// To every thread of the block, whose warps are whole. Between two calls the block has to meet.
template <class Operation>
__device__ float block_reduce(float value) {
  __shared__ float of_warp[32];
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    value = Operation::join(value, __shfl_xor_sync(~0u, value, lanes));
  }
  const unsigned lane = threadIdx.x % 32;
  if (lane == 0) of_warp[threadIdx.x / 32] = value;
  __syncthreads();
  value = lane < blockDim.x / 32 ? of_warp[lane] : Operation::of_none();
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    value = Operation::join(value, __shfl_xor_sync(~0u, value, lanes));
  }
  return value;
}

// ---- The small operators ----------------------------------------------------------------------------------

// The first of a step. None of those after it may start before the step before has ended: attention reads
// what that has written before it waits itself.
__global__ void embed_kernel(const int* tokens, const half* table, int hidden, float* x) {
  wait_for_previous();
  allow_next();
  const half* row = table + static_cast<size_t>(tokens[blockIdx.x]) * hidden;
  for (int i = threadIdx.x; i < hidden; i += blockDim.x) {
    x[static_cast<size_t>(blockIdx.x) * hidden + i] = __half2float(row[i]);
  }
}

// Each thread has `items` times four neighbours, and keeps them in registers between the sum and the scaling.
// The weights do not depend on the kernel before, so they are fetched before it is waited for. From then on
// nothing else runs, and what counts is how many instructions follow each other: no tails here. Tried, in
// tokens a second of Llama-2-7B in e3m2 and e2m0 on an H100: 512 threads, 484 and 697 in place of 485 and
// 692, or with the faster attention 498 and 705 in place of 499 and 709; 1024 like 512; everything twice,
// first before the wait and without stores, lest instructions come late: 487 and 687 (h100-tests.json,
// llama_small).
constexpr int items = 4;
template <bool Adds>
__global__ void __launch_bounds__(1024)
    add_and_norm_kernel(float* x, const half* delta, const float* weight, float epsilon, half* out) {
  const int hidden = 4 * items * static_cast<int>(blockDim.x);
  const auto place = [](int i) { return 4 * static_cast<int>(threadIdx.x + i * blockDim.x); };
  x += static_cast<size_t>(blockIdx.x) * hidden;
  out += static_cast<size_t>(blockIdx.x) * hidden;
  neighbours<float, 4> scale[items], kept[items];
  [[maybe_unused]] neighbours<half, 4> added[items];
#pragma unroll
  for (int i = 0; i < items; ++i) scale[i] = load<4>(weight, place(i));
  allow_next();
  wait_for_previous();
#pragma unroll
  for (int i = 0; i < items; ++i) {
    kept[i] = load<4>(x, place(i));
    if constexpr (Adds) added[i] = load<4>(delta + static_cast<size_t>(blockIdx.x) * hidden, place(i));
  }
  float squares = 0;
#pragma unroll
  for (int i = 0; i < items; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      float& value = kept[i].values[j];
      if constexpr (Adds) value += __half2float(added[i].values[j]);
      squares += value * value;
    }
  }
  const float factor =
      rsqrtf(__fdividef(block_reduce<sum_of>(squares), static_cast<float>(hidden)) + epsilon);
#pragma unroll
  for (int i = 0; i < items; ++i) {
    neighbours<half, 4> normed;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      normed.values[j] = __float2half(kept[i].values[j] * factor * scale[i].values[j]);
    }
    store(normed, out, place(i));
  }
  if constexpr (Adds) {
#pragma unroll
    for (int i = 0; i < items; ++i) store(kept[i], x, place(i));
  }
}

// The same for any size.
__global__ void add_and_norm_any_kernel(float* x, const half* delta, const float* weight, float epsilon,
                                        int hidden, half* out) {
  wait_for_previous();
  allow_next();
  const size_t row = static_cast<size_t>(blockIdx.x) * hidden;
  float squares = 0;
  for (int i = static_cast<int>(threadIdx.x); i < hidden; i += static_cast<int>(blockDim.x)) {
    const float value = x[row + i] + (delta != nullptr ? __half2float(delta[row + i]) : 0);
    squares += value * value;
    x[row + i] = value;
  }
  const float factor = rsqrtf(block_reduce<sum_of>(squares) / static_cast<float>(hidden) + epsilon);
  for (int i = static_cast<int>(threadIdx.x); i < hidden; i += static_cast<int>(blockDim.x)) {
    out[row + i] = __float2half(x[row + i] * factor * weight[i]);
  }
}

// A thread has Count neighbours.
template <int Count>
__global__ void swiglu_kernel(const half* gate_up, int inner, half* out) {
  const int at = Count * static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  gate_up += static_cast<size_t>(blockIdx.y) * 2 * inner;
  out += static_cast<size_t>(blockIdx.y) * inner;
  allow_next();
  wait_for_previous();
  if (at >= inner) return;
  const neighbours<half, Count> gate = load<Count>(gate_up, at), up = load<Count>(gate_up + inner, at);
  neighbours<half, Count> made;
#pragma unroll
  for (int i = 0; i < Count; ++i) {
    const float x = __half2float(gate.values[i]);
    made.values[i] = __float2half(__fdividef(x, 1 + __expf(-x)) * __half2float(up.values[i]));
  }
  store(made, out, at);
}

__global__ void dense_kernel(const half* x, const half* w, int n, int k, half* y) {
  wait_for_previous();
  allow_next();
  const int row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
  if (row >= n) return;
  const size_t token = blockIdx.y;
  float sum = 0;
  for (int i = threadIdx.x % 32; i < k; i += 32) {
    sum += __half2float(w[static_cast<size_t>(row) * k + i]) * __half2float(x[token * k + i]);
  }
  for (int lanes = 16; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(~0u, sum, lanes);
  if (threadIdx.x % 32 == 0) y[token * n + row] = __float2half(sum);
}

// For one token: a warp has two rows of w, and eight neighbours of each at a time, of which the first come
// before x is there. k is a multiple of eight.
constexpr int rows_of_warp = 2, loads_of_row = 4;
__global__ void __launch_bounds__(256)
    dense_token_kernel(const half* x, const half* w, int n, int k, half* y) {
  const int row = rows_of_warp * static_cast<int>(blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32);
  const int lane = threadIdx.x % 32;
  constexpr int batch = loads_of_row * 32 * 8;
  uint4 of_w[rows_of_warp][loads_of_row];
  const auto fetch = [&](int begin) {
#pragma unroll
    for (int r = 0; r < rows_of_warp; ++r) {
#pragma unroll
      for (int i = 0; i < loads_of_row; ++i) {
        const int at = begin + (i * 32 + lane) * 8;
        of_w[r][i] = {};
        if (at < k && row + r < n) {
          of_w[r][i] = __ldcs(reinterpret_cast<const uint4*>(w + static_cast<size_t>(row + r) * k + at));
        }
      }
    }
  };
  fetch(0);
  allow_next();
  wait_for_previous();
  float sums[rows_of_warp] = {};
  for (int begin = 0; begin < k; begin += batch) {
    uint4 of_x[loads_of_row], used[rows_of_warp][loads_of_row];
#pragma unroll
    for (int i = 0; i < loads_of_row; ++i) {
      const int at = begin + (i * 32 + lane) * 8;
      of_x[i] = at < k ? *reinterpret_cast<const uint4*>(x + at) : uint4{};
#pragma unroll
      for (int r = 0; r < rows_of_warp; ++r) used[r][i] = of_w[r][i];
    }
    if (begin + batch < k) fetch(begin + batch);
    const auto product = [](uint32_t a, uint32_t b, float sum) {
      const float2 p = __half22float2(*reinterpret_cast<const half2*>(&a));
      const float2 q = __half22float2(*reinterpret_cast<const half2*>(&b));
      return sum + p.x * q.x + p.y * q.y;
    };
#pragma unroll
    for (int i = 0; i < loads_of_row; ++i) {
#pragma unroll
      for (int r = 0; r < rows_of_warp; ++r) {
        sums[r] = product(used[r][i].x, of_x[i].x, sums[r]);
        sums[r] = product(used[r][i].y, of_x[i].y, sums[r]);
        sums[r] = product(used[r][i].z, of_x[i].z, sums[r]);
        sums[r] = product(used[r][i].w, of_x[i].w, sums[r]);
      }
    }
  }
#pragma unroll
  for (int r = 0; r < rows_of_warp; ++r) {
#pragma unroll
    for (int lanes = 16; lanes > 0; lanes /= 2) sums[r] += __shfl_xor_sync(~0u, sums[r], lanes);
    if (lane == 0 && row + r < n) y[row + r] = __float2half(sums[r]);
  }
}

__global__ void take_last_kernel(const half* rows, int count, int hidden, half* out) {
  wait_for_previous();
  allow_next();
  const size_t from = (static_cast<size_t>(blockIdx.x + 1) * count - 1) * hidden;
  for (int i = threadIdx.x; i < hidden; i += blockDim.x) {
    out[static_cast<size_t>(blockIdx.x) * hidden + i] = rows[from + i];
  }
}

// The vocabulary is a multiple of Count, which are loaded together. Which of equals is the first is looked
// for once the largest is known; they are in the L1 cache then.
template <int Count>
__global__ void argmax_kernel(const half* logits, int vocabulary, int* tokens, int* position) {
  __shared__ int first;
  if (threadIdx.x == 0) first = vocabulary;
  wait_for_previous();
  allow_next();
  const half* row = logits + static_cast<size_t>(blockIdx.x) * vocabulary;
  const auto for_each = [&](auto&& take) {
#pragma unroll 4
    for (int i = Count * threadIdx.x; i < vocabulary; i += Count * blockDim.x) {
      const neighbours<half, Count> loaded = load<Count>(row, i);
#pragma unroll
      for (int j = 0; j < Count; ++j) take(i + j, __half2float(loaded.values[j]));
    }
  };
  float best = -INFINITY;
  for_each([&](int, float value) { best = fmaxf(best, value); });
  const float largest = block_reduce<largest_of>(best);
  // The first of equals, as on the CPU.
  for_each([&](int at, float value) {
    if (value == largest) atomicMin(&first, at);
  });
  __syncthreads();
  if (threadIdx.x == 0) {
    tokens[blockIdx.x] = first < vocabulary ? first : 0;
    if (blockIdx.x == 0) ++*position;
  }
}

__global__ void loss_kernel(const half* logits, const int* targets, int vocabulary, float* losses) {
  wait_for_previous();
  allow_next();
  const half* row = logits + static_cast<size_t>(blockIdx.x) * vocabulary;
  float largest = -INFINITY;
  for (int i = threadIdx.x; i < vocabulary; i += blockDim.x) largest = fmaxf(largest, __half2float(row[i]));
  largest = block_reduce<largest_of>(largest);
  __syncthreads();
  float sum = 0;
  for (int i = threadIdx.x; i < vocabulary; i += blockDim.x) sum += expf(__half2float(row[i]) - largest);
  sum = block_reduce<sum_of>(sum);
  if (threadIdx.x == 0) losses[blockIdx.x] = logf(sum) + largest - __half2float(row[targets[blockIdx.x]]);
}

template <class Value>
__global__ void to_half_kernel(const Value* values, size_t count, half* out, int* overflow) {
  for (size_t i = blockIdx.x * size_t{blockDim.x} + threadIdx.x; i < count;
       i += size_t{gridDim.x} * blockDim.x) {
    const half converted = __float2half(static_cast<float>(values[i]));
    if (__hisinf(converted) || __hisnan(converted)) *overflow = 1;
    out[i] = converted;
  }
}

constexpr int read_loads = 8;
__global__ void read_kernel(const uint4* data, size_t count, unsigned* sink) {
  unsigned sum = 0;
  const size_t tile = read_loads * size_t{blockDim.x};
  for (size_t begin = blockIdx.x * tile; begin + tile <= count; begin += gridDim.x * tile) {
    uint4 loaded[read_loads];
#pragma unroll
    for (int i = 0; i < read_loads; ++i) loaded[i] = __ldcs(data + begin + threadIdx.x + i * blockDim.x);
#pragma unroll
    for (int i = 0; i < read_loads; ++i) sum += loaded[i].x ^ loaded[i].y ^ loaded[i].z ^ loaded[i].w;
  }
  // The loads must be done for this to be known; hardly a thread writes.
  if (sum == 0x8badf00du) *sink = sum;
}

}  // namespace

void embed(const launch_on& on, const int* tokens, const half_bits* table, int m, int hidden, float* x) {
  launch(on, dim3(m), 256, 0, embed_kernel, tokens, as_halves(table), hidden, x);
}

void add_and_norm(const launch_on& on, float* x, const half_bits* delta, const float* weight, float epsilon,
                  int m, int hidden, half_bits* out) {
  const int threads = hidden / (4 * items);
  if (hidden % (4 * items * 32) == 0 && threads <= 1024) {
    const auto kernel = delta != nullptr ? add_and_norm_kernel<true> : add_and_norm_kernel<false>;
    launch(on, dim3(m), threads, 0, kernel, x, as_halves(delta), weight, epsilon, as_halves(out));
  } else {
    launch(on, dim3(m), 512, 0, add_and_norm_any_kernel, x, as_halves(delta), weight, epsilon, hidden,
           as_halves(out));
  }
}

void swiglu(const launch_on& on, const half_bits* gate_up, int m, int inner, half_bits* out) {
  const auto run = [&](int count, auto kernel) {
    const int threads = 256;
    launch(on, dim3((inner / count + threads - 1) / threads, m), threads, 0, kernel, as_halves(gate_up),
           inner, as_halves(out));
  };
  inner % 2 == 0 ? run(2, swiglu_kernel<2>) : run(1, swiglu_kernel<1>);
}

void dense_product(const launch_on& on, const half_bits* x, const half_bits* w, int m, int n, int k,
                   half_bits* y) {
  if (m == 1 && k % 8 == 0) {
    const int rows = 8 * rows_of_warp;
    launch(on, dim3((n + rows - 1) / rows), 256, 0, dense_token_kernel, as_halves(x), as_halves(w), n, k,
           as_halves(y));
    return;
  }
  launch(on, dim3((n + 7) / 8, m), 256, 0, dense_kernel, as_halves(x), as_halves(w), n, k, as_halves(y));
}

void take_last(const launch_on& on, const half_bits* rows, int sequences, int count, int hidden,
               half_bits* out) {
  launch(on, dim3(sequences), 256, 0, take_last_kernel, as_halves(rows), count, hidden, as_halves(out));
}

void argmax_and_advance(const launch_on& on, const half_bits* logits, int sequences, int vocabulary,
                        int* tokens, int* position) {
  const auto kernel = vocabulary % 8 == 0 ? argmax_kernel<8> : argmax_kernel<1>;
  launch(on, dim3(sequences), 1024, 0, kernel, as_halves(logits), vocabulary, tokens, position);
}

void loss(const launch_on& on, const half_bits* logits, const int* targets, int m, int vocabulary,
          float* losses) {
  launch(on, dim3(m), 256, 0, loss_kernel, as_halves(logits), targets, vocabulary, losses);
}

void to_half(cudaStream_t stream, const void* values, bool is_bf16, size_t count, half_bits* out,
             int* overflow) {
  const launch_on on = {stream, false};
  if (is_bf16) {
    launch(on, dim3(2048), 256, 0, to_half_kernel<__nv_bfloat16>, static_cast<const __nv_bfloat16*>(values),
           count, as_halves(out), overflow);
  } else {
    launch(on, dim3(2048), 256, 0, to_half_kernel<float>, static_cast<const float*>(values), count,
           as_halves(out), overflow);
  }
}

void read_all(cudaStream_t stream, const void* data, size_t bytes, int blocks, unsigned* sink) {
  launch({stream, false}, dim3(blocks), 256, 0, read_kernel, static_cast<const uint4*>(data),
         bytes / sizeof(uint4), sink);
}

}  // namespace llama::gpu
