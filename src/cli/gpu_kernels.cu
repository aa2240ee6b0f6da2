// SPDX-License-Identifier: Apache-2.0
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "cli/gpu_kernels.hpp"

namespace floatx::cli {
namespace {

constexpr int read_threads = 512;
constexpr int read_loads = 8;
static_assert(read_tile_bytes == sizeof(uint4) * read_threads * read_loads, "a tile is one batch of loads");

// "lowbias32", a bijection whose output bits are all near enough to fair coins.
__device__ uint32_t mix(uint32_t x) {
  x = (x ^ (x >> 16)) * 0x7feb352du;
  x = (x ^ (x >> 15)) * 0x846ca68bu;
  return x ^ (x >> 16);
}

__global__ void fill_kernel(uint16_t* values_gmem, size_t count, bool is_bf16, float deviation,
                            uint32_t seed) {
  const size_t stride = size_t{gridDim.x} * blockDim.x;
  for (size_t i = size_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += stride) {
    const uint32_t low = mix(static_cast<uint32_t>(i) ^ mix(static_cast<uint32_t>(i >> 32) ^ seed));
    // In (0, 1]: the logarithm of 0 must not be asked for.
    const float u = (static_cast<float>(low >> 8) + 1.0f) * 0x1p-24f;
    const float v = static_cast<float>(mix(low + 0x9e3779b9u) >> 8) * 0x1p-24f;
    const float value = deviation * sqrtf(-2.0f * logf(u)) * cospif(2.0f * v);
    values_gmem[i] =
        is_bf16 ? __bfloat16_as_ushort(__float2bfloat16(value)) : __half_as_ushort(__float2half(value));
  }
}

// Six of eight loads of 16 bytes are in flight a thread, in three blocks an SM: 144 KiB, where some 25 KiB
// hide the latency.
__global__ void __launch_bounds__(read_threads)
    read_kernel(const uint4* __restrict__ data_gmem, size_t tiles, unsigned* sink_gmem) {
  unsigned sum = 0;
  for (size_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const uint4* from = data_gmem + tile * (read_threads * read_loads) + threadIdx.x;
    uint4 loaded[read_loads];
#pragma unroll
    for (int i = 0; i < read_loads; ++i) loaded[i] = __ldcs(from + i * read_threads);
#pragma unroll
    for (int i = 0; i < read_loads; ++i) sum += loaded[i].x ^ loaded[i].y ^ loaded[i].z ^ loaded[i].w;
  }
  // The loads must be done for this to be known; hardly a thread writes.
  if (sum == 0x8badf00du) *sink_gmem = sum;
}

__global__ void stamp_kernel(clock_stamp* stamp_gmem) {
  unsigned multiprocessor;
  asm("mov.u32 %0, %%smid;" : "=r"(multiprocessor));
  if (multiprocessor != 0) return;
  asm volatile("mov.u64 %0, %%clock64;" : "=l"(stamp_gmem->cycles));
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(stamp_gmem->ns));
}

}  // namespace

void fill_random(uint16_t* values_gmem, size_t count, bool is_bf16, float deviation, uint32_t seed,
                 cudaStream_t stream) {
  fill_kernel<<<4096, 256, 0, stream>>>(values_gmem, count, is_bf16, deviation, seed * 0x9e3779b9u);
}

void read_all(const void* data_gmem, size_t bytes, unsigned blocks, unsigned* sink_gmem,
              cudaStream_t stream) {
  const size_t tiles = bytes / read_tile_bytes;
  read_kernel<<<blocks == 0 ? static_cast<unsigned>(tiles) : blocks, read_threads, 0, stream>>>(
      static_cast<const uint4*>(data_gmem), tiles, sink_gmem);
}

void stamp_clock(clock_stamp* stamp_gmem, unsigned multiprocessors, cudaStream_t stream) {
  stamp_kernel<<<4 * multiprocessors, 1, 0, stream>>>(stamp_gmem);  // so many that each has one
}

}  // namespace floatx::cli
