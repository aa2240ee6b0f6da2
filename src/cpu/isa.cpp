#include "cpu/kernels.hpp"

namespace floatx::cpu {
namespace {

std::vector<const kernels*> find_supported() {
  std::vector<const kernels*> found{portable_kernels()};
#if defined(__x86_64__)
  // __builtin_cpu_supports also asks whether the operating system saves the registers.
  __builtin_cpu_init();
  const auto add = [&](bool runs, const kernels* implementation) {
    if (runs && implementation) found.push_back(implementation);
  };
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("f16c");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  const bool vbmi = avx512 && __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512bf16");
  add(avx2, avx2_kernels());
  add(avx512, avx512_kernels());
  add(vbmi, avx512_vbmi_kernels());
#endif
  return found;
}

}  // namespace

const std::vector<const kernels*>& supported_kernels() {
  static const std::vector<const kernels*> supported = find_supported();
  return supported;
}

const char* name(const kernels& implementation) { return implementation.name; }
const char* isa() { return supported_kernels().back()->name; }

}  // namespace floatx::cpu
