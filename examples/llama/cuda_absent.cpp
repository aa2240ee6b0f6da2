// In a program that was built without CUDA.
//
// SPDX-License-Identifier: Apache-2.0
#include "runtime.hpp"

namespace llama {

std::unique_ptr<runtime> make_cuda_runtime(weight_source&, const quantization&, const capacity&,
                                           thread_pool&) {
  throw error("--device cuda: this program was built without CUDA");
}

}  // namespace llama
