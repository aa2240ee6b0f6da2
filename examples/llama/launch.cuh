// Launching kernels so that they may begin while the one before them ends (programmatic dependent launch,
// from compute capability 9.0 on; on older processors an ordinary launch), and what they load and store.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_fp16.h>

#include "gpu.hpp"
#include "kernels.hpp"

namespace llama::gpu {

inline const half* as_halves(const half_bits* bits) { return reinterpret_cast<const half*>(bits); }
inline half* as_halves(half_bits* bits) { return reinterpret_cast<half*>(bits); }

// Until the kernels before this one have ended and their writes can be read. Every block must come by here:
// that a kernel has ended shall mean that those before it have, too.
__device__ __forceinline__ void wait_for_previous() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// From here on the next kernel may be started as soon as there is room for it. Before the wait where there is
// no reason against it: a linear layer then fetches its weights while the one before the small kernel ends.
// Tried: after the wait in the norm and in SwiGLU, 387 instead of 405 tokens a second of Llama-2-7B in e3m2
// on an H100.
__device__ __forceinline__ void allow_next() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// Neighbours in a row that are one load or store.
template <class Value, int Count>
struct alignas(Count * sizeof(Value)) neighbours {
  Value values[Count];
};

// Those that begin at row[at], a multiple of Count.
template <int Count, class Value>
__device__ __forceinline__ neighbours<Value, Count> load(const Value* row, int at) {
  return *reinterpret_cast<const neighbours<Value, Count>*>(row + at);
}
template <int Count, class Value>
__device__ __forceinline__ void store(const neighbours<Value, Count>& stored, Value* row, int at) {
  *reinterpret_cast<neighbours<Value, Count>*>(row + at) = stored;
}

// `cluster` blocks that follow each other along x see each other's shared memory, from compute capability 9.0
// on.
template <class... Parameters, class... Arguments>
void launch_clusters(const launch_on& on, int cluster, dim3 blocks, int threads, size_t shared_bytes,
                     void (*kernel)(Parameters...), Arguments... arguments) {
  cudaLaunchAttribute attributes[2] = {};
  unsigned count = 0;
  if (on.programmatic) {
    attributes[count].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[count++].val.programmaticStreamSerializationAllowed = 1;
  }
  if (cluster > 1) {
    attributes[count].id = cudaLaunchAttributeClusterDimension;
    attributes[count++].val.clusterDim = {static_cast<unsigned>(cluster), 1, 1};
  }
  // A multiprocessor divides its memory into cache and shared memory as the first of its thread blocks
  // prefers, and one of a linear layer, which wants nearly all of it, would wait there until these have
  // ended: some 5 microseconds longer than the others, worth 0.2 % of a step (h100-tests.json,
  // llama_timeline).
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                             cudaSharedmemCarveoutMaxShared),
        "shared memory");
  cudaLaunchConfig_t config = {};
  config.gridDim = blocks;
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = shared_bytes;
  config.stream = on.stream;
  config.attrs = attributes;
  config.numAttrs = count;
  check(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...), "kernel");
}

template <class... Parameters, class... Arguments>
void launch(const launch_on& on, dim3 blocks, int threads, size_t shared_bytes, void (*kernel)(Parameters...),
            Arguments... arguments) {
  launch_clusters(on, 1, blocks, threads, shared_bytes, kernel, arguments...);
}

}  // namespace llama::gpu
