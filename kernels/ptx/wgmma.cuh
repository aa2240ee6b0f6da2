// wgmma (sm_90a): the product of a warpgroup, A in registers, B in shared memory.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace floatx::ptx {

// B[N][64 k] of 16-bit elements in shared memory, rows of 128 bytes swizzled as tensor_copy.cuh does it:
// eight rows are 1024 bytes, to which the address is aligned. Sixteen k further on add `descriptor_step`.
__device__ __forceinline__ uint64_t matrix_descriptor(uint32_t rows_smem) {
  constexpr uint64_t swizzle_of_128_bytes = uint64_t{1} << 62, eight_rows = uint64_t{1024 >> 4} << 32;
  return swizzle_of_128_bytes | eight_rows | uint64_t{1} << 16 | (rows_smem & 0x3ffffu) >> 4;
}
constexpr int descriptor_step = 32 >> 4;

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

// Before a product whose registers have been written otherwise than by products.
__device__ __forceinline__ void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

// What has been asked for since the last one is a group.
__device__ __forceinline__ void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

// Waits until at most Pending groups are under way.
template <int Pending>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Pending) : "memory");
}

// Keeps the compiler from reading sums before the wait, or writing them after the fence, that stands here.
template <int Count>
__device__ __forceinline__ void settle(float (&sums)[Count]) {
#pragma unroll
  for (int i = 0; i < Count; ++i) asm volatile("" : "+f"(sums[i])::"memory");
}

// d[64, N] += a[64, 16] b[16, N], N = Count * 2; without `add` d starts from 0. Warp w of the warpgroup has
// the rows 16 w ..; of these a lane holds a as for mma.m16n8k16, and d as that holds c, eight columns after
// eight.
template <class Activation, int Count>
__device__ __forceinline__ void wgmma(float (&d)[Count], const uint32_t (&a)[4], uint64_t b, bool add);

#define FLOATX_D0 "%0, %1, %2, %3, %4, %5, %6, %7"
#define FLOATX_D1 FLOATX_D0 ", %8, %9, %10, %11, %12, %13, %14, %15"
#define FLOATX_D2 FLOATX_D1 ", %16, %17, %18, %19, %20, %21, %22, %23"
#define FLOATX_D3 FLOATX_D2 ", %24, %25, %26, %27, %28, %29, %30, %31"
#define FLOATX_D4 FLOATX_D3 ", %32, %33, %34, %35, %36, %37, %38, %39"
#define FLOATX_D5 FLOATX_D4 ", %40, %41, %42, %43, %44, %45, %46, %47"
#define FLOATX_D6 FLOATX_D5 ", %48, %49, %50, %51, %52, %53, %54, %55"
#define FLOATX_D7 FLOATX_D6 ", %56, %57, %58, %59, %60, %61, %62, %63"
#define FLOATX_D8 FLOATX_D7 ", %64, %65, %66, %67, %68, %69, %70, %71"
#define FLOATX_D9 FLOATX_D8 ", %72, %73, %74, %75, %76, %77, %78, %79"
#define FLOATX_D10 FLOATX_D9 ", %80, %81, %82, %83, %84, %85, %86, %87"
#define FLOATX_D11 FLOATX_D10 ", %88, %89, %90, %91, %92, %93, %94, %95"
#define FLOATX_D12 FLOATX_D11 ", %96, %97, %98, %99, %100, %101, %102, %103"
#define FLOATX_D13 FLOATX_D12 ", %104, %105, %106, %107, %108, %109, %110, %111"
#define FLOATX_D14 FLOATX_D13 ", %112, %113, %114, %115, %116, %117, %118, %119"
#define FLOATX_D15 FLOATX_D14 ", %120, %121, %122, %123, %124, %125, %126, %127"
#define FLOATX_S0(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define FLOATX_S1(i) FLOATX_S0(i), FLOATX_S0(i + 4)
#define FLOATX_S2(i) FLOATX_S1(i), FLOATX_S1(i + 8)
#define FLOATX_S3(i) FLOATX_S2(i), FLOATX_S2(i + 16)
#define FLOATX_S4(i) FLOATX_S3(i), FLOATX_S3(i + 32)
#define FLOATX_S5(i) FLOATX_S4(i), FLOATX_S4(i + 64)
#define FLOATX_WGMMA(N, Class, Type, D, A, B, Add, ...)                                                    \
  template <>                                                                                              \
  __device__ __forceinline__ void wgmma<Class, N / 2>(float(&d)[N / 2], const uint32_t(&a)[4], uint64_t b, \
                                                      bool add) {                                          \
    asm volatile(                                                                                          \
        "{.reg .pred add;\n"                                                                               \
        "setp.ne.b32 add, " Add                                                                            \
        ", 0;\n"                                                                                           \
        "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." Type "." Type " {" D "}, {" A "}, " B            \
        ", add, 1, 1, 0;}"                                                                                 \
        : __VA_ARGS__                                                                                      \
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(add)));                 \
  }
#define FLOATX_WGMMA_TYPES(N, ...)            \
  FLOATX_WGMMA(N, __half, "f16", __VA_ARGS__) \
  FLOATX_WGMMA(N, __nv_bfloat16, "bf16", __VA_ARGS__)

FLOATX_WGMMA_TYPES(16, FLOATX_D0, "%8, %9, %10, %11", "%12", "%13", FLOATX_S1(0))
FLOATX_WGMMA_TYPES(32, FLOATX_D1, "%16, %17, %18, %19", "%20", "%21", FLOATX_S2(0))
FLOATX_WGMMA_TYPES(64, FLOATX_D3, "%32, %33, %34, %35", "%36", "%37", FLOATX_S3(0))
FLOATX_WGMMA_TYPES(80, FLOATX_D4, "%40, %41, %42, %43", "%44", "%45", FLOATX_S3(0), FLOATX_S1(32))
FLOATX_WGMMA_TYPES(96, FLOATX_D5, "%48, %49, %50, %51", "%52", "%53", FLOATX_S3(0), FLOATX_S2(32))
FLOATX_WGMMA_TYPES(128, FLOATX_D7, "%64, %65, %66, %67", "%68", "%69", FLOATX_S4(0))
FLOATX_WGMMA_TYPES(160, FLOATX_D9, "%80, %81, %82, %83", "%84", "%85", FLOATX_S4(0), FLOATX_S2(64))
FLOATX_WGMMA_TYPES(176, FLOATX_D10, "%88, %89, %90, %91", "%92", "%93", FLOATX_S4(0), FLOATX_S2(64),
                   FLOATX_S1(80))
FLOATX_WGMMA_TYPES(192, FLOATX_D11, "%96, %97, %98, %99", "%100", "%101", FLOATX_S4(0), FLOATX_S3(64))
FLOATX_WGMMA_TYPES(256, FLOATX_D15, "%128, %129, %130, %131", "%132", "%133", FLOATX_S5(0))

#undef FLOATX_D0
#undef FLOATX_D1
#undef FLOATX_D2
#undef FLOATX_D3
#undef FLOATX_D4
#undef FLOATX_D5
#undef FLOATX_D6
#undef FLOATX_D7
#undef FLOATX_D8
#undef FLOATX_D9
#undef FLOATX_D10
#undef FLOATX_D11
#undef FLOATX_D12
#undef FLOATX_D13
#undef FLOATX_D14
#undef FLOATX_D15
#undef FLOATX_S0
#undef FLOATX_S1
#undef FLOATX_S2
#undef FLOATX_S3
#undef FLOATX_S4
#undef FLOATX_S5
#undef FLOATX_WGMMA
#undef FLOATX_WGMMA_TYPES

#endif

}  // namespace floatx::ptx
