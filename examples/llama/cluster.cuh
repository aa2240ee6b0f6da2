// What the thread blocks of a cluster send each other (compute capability 9.0).
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace llama::gpu {

// A parcel that the first thread block of a cluster gets from all of them: it knows how many bytes there are,
// and waits until they have come. The barriers of a cluster would wait for everything that a thread has
// stored anywhere. Nothing of it for a thread block that is alone, as all are on older processors.
class parcel {
 public:
  // By all threads of the `blocks` thread blocks of the cluster, with a barrier in shared memory.
  __device__ __forceinline__ parcel(uint64_t& barrier, unsigned blocks, unsigned bytes)
      : barrier_(address(&barrier)), is_alone_(blocks == 1) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    if (is_alone_) return;
    if (threadIdx.x == 0) {
      asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(barrier_) : "memory");
      asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
      asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier_), "r"(bytes)
                   : "memory");
    }
    __syncwarp();
    asm volatile("barrier.cluster.arrive.relaxed;" ::: "memory");
#endif
  }

  // Once, before the first that a thread sends.
  __device__ __forceinline__ void open() const {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    if (!is_alone_) asm volatile("barrier.cluster.wait.acquire;" ::: "memory");
#endif
  }

  // To the same place in the first thread block's shared memory.
  __device__ __forceinline__ void send(float* to, float value) const {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.f32 [%0], %1, [%2];" ::"r"(
                     in_first(address(to))),
                 "f"(value), "r"(in_first(barrier_))
                 : "memory");
#endif
  }

  // By the first thread block, which then has all.
  __device__ __forceinline__ void receive() const {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile(
        "{\n"
        ".reg .pred done;\n"
        "again:\n"
        "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 done, [%0], 0;\n"
        "@!done bra again;\n"
        "}" ::"r"(barrier_)
        : "memory");
#endif
  }

 private:
  uint32_t barrier_;
  bool is_alone_;

  __device__ __forceinline__ static uint32_t address(const void* shared) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  }
  __device__ __forceinline__ static uint32_t in_first(uint32_t own) {
    uint32_t first = own;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm("mapa.shared::cluster.u32 %0, %1, 0;" : "=r"(first) : "r"(own));
#endif
    return first;
  }
};

}  // namespace llama::gpu
