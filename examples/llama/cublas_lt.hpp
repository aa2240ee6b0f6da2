// y[m,n] = x[m,k] . W[n,k]^T in FP16 by cuBLASLt, which is loaded when the program runs: the baseline, and
// what prompts go through once their weights are unpacked.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <tuple>
#include <vector>

#include "gpu.hpp"

namespace llama::gpu {

class cublas_lt {
 public:
  // NULL where there is no cuBLASLt.
  static std::unique_ptr<cublas_lt> load();
  ~cublas_lt();

  // Chooses the fastest of the algorithms that cuBLASLt offers for this m, n, k; the weights are taken in
  // turn, so that a cache does not decide. Without it multiply() takes the first that is offered.
  void tune(const stream& on, int64_t m, int64_t n, int64_t k, const std::vector<const void*>& weights,
            const void* x, void* y);
  void multiply(const stream& on, int64_t m, int64_t n, int64_t k, const void* x, const void* w, void* y);

 private:
  struct functions;
  struct plan;
  explicit cublas_lt(std::unique_ptr<functions> library);
  plan& plan_for(int64_t m, int64_t n, int64_t k);
  void run(const stream& on, const plan& how, size_t algorithm, const void* x, const void* w, void* y);

  std::unique_ptr<functions> library_;
  void* handle_ = nullptr;
  memory workspace_;
  std::map<std::tuple<int64_t, int64_t, int64_t>, std::unique_ptr<plan>> plans_;
};

}  // namespace llama::gpu
