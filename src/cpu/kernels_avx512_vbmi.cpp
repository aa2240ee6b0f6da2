// "avx512_vbmi": VBMI and BF16 as well, from Zen 4 and Sapphire Rapids on.
#include "cpu/kernels.hpp"

#if defined(__x86_64__)

#define FLOATX_AVX512_TARGET "avx2,fma,bmi2,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512bf16"
#define FLOATX_AVX512_BF16 1
#include "cpu/kernels_avx512-inl.hpp"

namespace floatx::cpu {
const kernels* avx512_vbmi_kernels() {
  static const kernels all = [] {
    kernels k = *avx2_kernels();
    k.name = "avx512_vbmi";
    k.fp32 = fp32_path;
    k.bf16 = &bf16_path;
    return k;
  }();
  return &all;
}
}  // namespace floatx::cpu

#else

namespace floatx::cpu {
const kernels* avx512_vbmi_kernels() { return nullptr; }
}  // namespace floatx::cpu

#endif
