// SPDX-License-Identifier: Apache-2.0
#include "cublas_lt.hpp"

#include <dlfcn.h>
#include <fmt/format.h>
#include <library_types.h>

#include <limits>

#include "support.hpp"

namespace llama::gpu {
namespace {

// From cublasLt.h, which need not be installed.
constexpr int compute_32f = 68;
constexpr int desc_transpose_a = 3;
constexpr int op_transpose = 1;
constexpr int preference_workspace_bytes = 1;
constexpr int most_algorithms = 8;
// What NVIDIA recommends for Hopper.
constexpr size_t workspace_bytes = size_t{32} << 20;

struct algorithm {
  uint64_t data[8];
};
struct offer {
  algorithm how;
  size_t workspace_bytes;
  int state;
  float waves;
  int reserved[4];
};

void check_blas(int status, const char* what) {
  if (status != 0) throw error(fmt::format("--device cuda: cuBLASLt: {}: status {}", what, status));
}

}  // namespace

struct cublas_lt::functions {
  int (*create)(void**);
  int (*destroy)(void*);
  int (*desc_create)(void**, int compute, int scale);
  int (*desc_destroy)(void*);
  int (*desc_set)(void*, int attribute, const void*, size_t);
  int (*layout_create)(void**, int type, uint64_t rows, uint64_t columns, int64_t leading);
  int (*layout_destroy)(void*);
  int (*preference_create)(void**);
  int (*preference_destroy)(void*);
  int (*preference_set)(void*, int attribute, const void*, size_t);
  int (*heuristic)(void*, void*, void*, void*, void*, void*, void*, int, offer*, int*);
  int (*matmul)(void*, void*, const void*, const void*, void*, const void*, void*, const void*, const void*,
                void*, void*, void*, const algorithm*, void*, size_t, cudaStream_t);
};

// By columns: y^T[n,m] = (W^T)^T . x^T, and a row-major matrix is its transpose by columns.
struct cublas_lt::plan {
  plan(const functions& library, int64_t m, int64_t n, int64_t k) : library_(library) {
    check_blas(library.desc_create(&operation, compute_32f, CUDA_R_32F), "operation");
    check_blas(library.desc_set(operation, desc_transpose_a, &op_transpose, sizeof op_transpose),
               "operation");
    const auto layout = [&](void*& made, int64_t rows, int64_t columns) {
      check_blas(library.layout_create(&made, CUDA_R_16F, static_cast<uint64_t>(rows),
                                       static_cast<uint64_t>(columns), rows),
                 "layout");
    };
    layout(w, k, n);
    layout(x, k, m);
    layout(y, n, m);
  }
  ~plan() {
    for (void* made : {w, x, y}) {
      if (made != nullptr) library_.layout_destroy(made);
    }
    if (operation != nullptr) library_.desc_destroy(operation);
  }
  plan(const plan&) = delete;
  plan& operator=(const plan&) = delete;

  const functions& library_;
  void* operation = nullptr;
  void* w = nullptr;
  void* x = nullptr;
  void* y = nullptr;
  std::vector<offer> offers;
  size_t chosen = 0;
};

std::unique_ptr<cublas_lt> cublas_lt::load() {
  void* library = nullptr;
  for (const char* name : {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"}) {
    if (library == nullptr) library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  }
  if (library == nullptr) return nullptr;
  auto found = std::make_unique<functions>();
  bool complete = true;
  const auto find = [&](auto& function, const char* name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
    complete = complete && function != nullptr;
  };
  find(found->create, "cublasLtCreate");
  find(found->destroy, "cublasLtDestroy");
  find(found->desc_create, "cublasLtMatmulDescCreate");
  find(found->desc_destroy, "cublasLtMatmulDescDestroy");
  find(found->desc_set, "cublasLtMatmulDescSetAttribute");
  find(found->layout_create, "cublasLtMatrixLayoutCreate");
  find(found->layout_destroy, "cublasLtMatrixLayoutDestroy");
  find(found->preference_create, "cublasLtMatmulPreferenceCreate");
  find(found->preference_destroy, "cublasLtMatmulPreferenceDestroy");
  find(found->preference_set, "cublasLtMatmulPreferenceSetAttribute");
  find(found->heuristic, "cublasLtMatmulAlgoGetHeuristic");
  find(found->matmul, "cublasLtMatmul");
  // Never unloaded: it registers what runs at the program's end.
  return complete ? std::unique_ptr<cublas_lt>(new cublas_lt(std::move(found))) : nullptr;
}

cublas_lt::cublas_lt(std::unique_ptr<functions> library)
    : library_(std::move(library)), workspace_(workspace_bytes) {
  check_blas(library_->create(&handle_), "create");
}

cublas_lt::~cublas_lt() {
  plans_.clear();
  library_->destroy(handle_);
}

cublas_lt::plan& cublas_lt::plan_for(int64_t m, int64_t n, int64_t k) {
  std::unique_ptr<plan>& found = plans_[{m, n, k}];
  if (found == nullptr) {
    auto made = std::make_unique<plan>(*library_, m, n, k);
    void* preference = nullptr;
    check_blas(library_->preference_create(&preference), "preference");
    check_blas(library_->preference_set(preference, preference_workspace_bytes, &workspace_bytes,
                                        sizeof workspace_bytes),
               "preference");
    made->offers.resize(most_algorithms);
    int count = 0;
    const int status = library_->heuristic(handle_, made->operation, made->w, made->x, made->y, made->y,
                                           preference, most_algorithms, made->offers.data(), &count);
    library_->preference_destroy(preference);
    check_blas(status, "heuristic");
    made->offers.resize(static_cast<size_t>(count));
    if (count == 0) throw error(fmt::format("--device cuda: cuBLASLt: nothing for {} x {} x {}", m, n, k));
    found = std::move(made);
  }
  return *found;
}

void cublas_lt::run(const stream& on, const plan& how, size_t algorithm, const void* x, const void* w,
                    void* y) {
  const float one = 1;
  const float zero = 0;
  check_blas(library_->matmul(handle_, how.operation, &one, w, how.w, x, how.x, &zero, y, how.y, y, how.y,
                              &how.offers[algorithm].how, workspace_.get(), workspace_bytes, on.get()),
             "product");
}

void cublas_lt::multiply(const stream& on, int64_t m, int64_t n, int64_t k, const void* x, const void* w,
                         void* y) {
  const plan& how = plan_for(m, n, k);
  run(on, how, how.chosen, x, w, y);
}

void cublas_lt::tune(const stream& on, int64_t m, int64_t n, int64_t k,
                     const std::vector<const void*>& weights, const void* x, void* y) {
  plan& how = plan_for(m, n, k);
  double best = std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < how.offers.size(); ++i) {
    const auto all = [&] {
      for (const void* w : weights) run(on, how, i, x, w, y);
    };
    all();
    const double taken = time_ms(on, all);
    if (taken < best) {
      best = taken;
      how.chosen = i;
    }
  }
}

}  // namespace llama::gpu
