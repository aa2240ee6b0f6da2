// SPDX-License-Identifier: Apache-2.0
#include "cli/cublas.hpp"

#include <dlfcn.h>
#include <fmt/format.h>
#include <library_types.h>

#include <stdexcept>

namespace floatx::cli {
namespace {

// From cublas_v2.h, which need not be installed.
constexpr int op_n = 0;
constexpr int op_t = 1;
constexpr int compute_32f = 68;
constexpr int default_algorithm = -1;

// What NVIDIA recommends for Hopper. Without one of its own cuBLAS would allocate, which a capture forbids.
constexpr size_t workspace_bytes = size_t{32} << 20;

void check_blas(int status, const char* what) {
  if (status != 0) {
    throw std::runtime_error(fmt::format("--cuda: {}: cuBLAS status {}", what, status));
  }
}

}  // namespace

struct cublas::functions {
  int (*create)(void**);
  int (*destroy)(void*);
  int (*set_stream)(void*, cudaStream_t);
  int (*set_workspace)(void*, void*, size_t);
  int (*get_version)(void*, int*);
  int (*gemm)(void*, int op_a, int op_b, int m, int n, int k, const void* alpha, const void* a,
              cudaDataType a_type, int lda, const void* b, cudaDataType b_type, int ldb, const void* beta,
              void* c, cudaDataType c_type, int ldc, int compute, int algorithm);
};

std::unique_ptr<cublas> cublas::load(const gpu_stream& stream) {
  void* library = nullptr;
  for (const char* name : {"libcublas.so.13", "libcublas.so.12", "libcublas.so"}) {
    if (library == nullptr) {
      library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    }
  }
  if (library == nullptr) {
    return nullptr;
  }
  auto found = std::make_unique<functions>();
  bool complete = true;
  const auto find = [&](auto& function, const char* name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
    complete = complete && function != nullptr;
  };
  find(found->create, "cublasCreate_v2");
  find(found->destroy, "cublasDestroy_v2");
  find(found->set_stream, "cublasSetStream_v2");
  find(found->set_workspace, "cublasSetWorkspace_v2");
  find(found->get_version, "cublasGetVersion_v2");
  find(found->gemm, "cublasGemmEx");
  // Never unloaded: it registers what runs at the program's end.
  return complete ? std::unique_ptr<cublas>(new cublas(std::move(found), stream)) : nullptr;
}

cublas::cublas(std::unique_ptr<functions> library, const gpu_stream& stream)
    : library_(std::move(library)), workspace_(workspace_bytes) {
  check_blas(library_->create(&handle_), "create");
  // In this order: a new stream takes the workspace away.
  check_blas(library_->set_stream(handle_, stream.get()), "stream");
  check_blas(library_->set_workspace(handle_, workspace_.get(), workspace_.size()), "workspace");
}

cublas::~cublas() { library_->destroy(handle_); }

void cublas::multiply(floatx_type type, int64_t m, int64_t n, int64_t k, const void* x, const void* w,
                      void* y) const {
  const float one = 1;
  const float zero = 0;
  const cudaDataType element = type == FLOATX_TYPE_BF16 ? CUDA_R_16BF : CUDA_R_16F;
  // By columns: y^T[n,m] = (w^T)^T . x^T, and a row-major matrix is its transpose by columns.
  check_blas(
      library_->gemm(handle_, op_t, op_n, static_cast<int>(n), static_cast<int>(m), static_cast<int>(k), &one,
                     w, element, static_cast<int>(k), x, element, static_cast<int>(k), &zero, y, element,
                     static_cast<int>(n), compute_32f, default_algorithm),
      "product");
}

int cublas::version() const {
  int version = 0;
  check_blas(library_->get_version(handle_, &version), "version");
  return version;
}

}  // namespace floatx::cli
