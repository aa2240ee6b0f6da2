// "avx512": F, BW, DQ and VL, which every processor with AVX-512 has but the first Xeon Phi. The best on
// Intel's.
#include "cpu/kernels.hpp"

#if defined(__x86_64__)

#define FLOATX_AVX512_TARGET "avx2,fma,bmi2,f16c,avx512f,avx512bw,avx512dq,avx512vl"
#define FLOATX_AVX512_BF16 0
#include "cpu/kernels_avx512-inl.hpp"

namespace floatx::cpu {
const kernels* avx512_kernels() {
  static const kernels all = [] {
    kernels k = *avx2_kernels();
    k.name = "avx512";
    k.fp32 = fp32_path;
    return k;
  }();
  return &all;
}
}  // namespace floatx::cpu

#else

namespace floatx::cpu {
const kernels* avx512_kernels() { return nullptr; }
}  // namespace floatx::cpu

#endif
