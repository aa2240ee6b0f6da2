// RAII over the C API: weights that own their memory, threads that end with their scope, and statuses as
// exceptions. Header-only, and no more than what floatx.h offers; the manual is floatx.h.
//
//   floatx::weight weight = floatx::weight::pack({FLOATX_FORMAT_E3M2, n, k}, values);
//   weight.linear(m, x, y);
//
// Host memory only. Weights in device memory, a workspace of the caller's own, or memory from elsewhere are
// matters for the C API, which takes weight::handle() too.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <stdexcept>
#include <utility>

#include "../floatx.h"

namespace floatx {

// What a call of the C API reported: what() is the sentence from floatx_last_error().
class error : public std::runtime_error {
 public:
  error(floatx_status status, const char* message) : std::runtime_error(message), status_(status) {}
  floatx_status status() const noexcept { return status_; }

 private:
  floatx_status status_;
};

namespace detail {
inline void check(floatx_status status) {
  if (status != FLOATX_STATUS_OK) {
    throw error(status, floatx_last_error());
  }
}
}  // namespace detail

// The threads that calls may use; see floatx_threads_create. Without one, each call starts its own.
class threads {
 public:
  // count 0: one for each processor that this process may use.
  explicit threads(std::int32_t count = 0, floatx_parallel_for run = nullptr, void* pool = nullptr) {
    detail::check(floatx_threads_create(count, run, pool, &handle_));
  }
  ~threads() { floatx_threads_destroy(handle_); }
  threads(threads&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  threads& operator=(threads&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }

  floatx_threads* handle() const noexcept { return handle_; }

 private:
  floatx_threads* handle_ = nullptr;
};

// What a weight W[n,k] is, apart from its contents.
struct weight_description {
  floatx_format format;
  std::int64_t n;
  std::int64_t k;
  std::int64_t group_size = 0;
  floatx_scale_type scale_type = FLOATX_SCALE_F32;
  floatx_layout layout = FLOATX_LAYOUT_CPU;
};

// A weight and the host memory of its codes, scales and tensor scale, each aligned to 64 bytes. One that has
// been moved from owns nothing, and may only be assigned to or destroyed.
class weight {
 public:
  // Quantizes values[n,k]; see floatx_pack.
  static weight pack(const weight_description& description, floatx_type values_type, const void* values,
                     std::int64_t values_stride, const floatx_pack_options* options = nullptr,
                     const threads* pool = nullptr) {
    weight result(description);
    const floatx_execution execution = on_host(pool);
    detail::check(floatx_pack(&result.handle_, values_type, values, values_stride, options, &execution));
    return result;
  }
  // The same from dense FP32 rows.
  static weight pack(const weight_description& description, const float* values,
                     const floatx_pack_options* options = nullptr, const threads* pool = nullptr) {
    return pack(description, FLOATX_TYPE_F32, values, description.k, options, pool);
  }

  // The same codes and scales in another layout; see floatx_repack. The source may lie in memory that is not
  // this class's, such as a mapped checkpoint in the canonical layout.
  static weight repack(const floatx_weight& source, floatx_layout layout, const threads* pool = nullptr) {
    weight result({source.format, source.n, source.k, source.group_size, source.scale_type, layout});
    const floatx_execution execution = on_host(pool);
    detail::check(floatx_repack(&source, &result.handle_, &execution));
    return result;
  }
  weight repack(floatx_layout layout, const threads* pool = nullptr) const {
    return repack(handle_, layout, pool);
  }

  // The window of n rows from row_begin and k columns from k_begin, in any layout; see floatx_slice.
  static weight slice(const floatx_weight& source, std::int64_t row_begin, std::int64_t n,
                      std::int64_t k_begin, std::int64_t k, floatx_layout layout,
                      const threads* pool = nullptr) {
    weight result({source.format, n, k, source.group_size, source.scale_type, layout});
    const floatx_execution execution = on_host(pool);
    detail::check(floatx_slice(&source, row_begin, k_begin, &result.handle_, &execution));
    return result;
  }
  weight slice(std::int64_t row_begin, std::int64_t n, std::int64_t k_begin, std::int64_t k,
               const threads* pool = nullptr) const {
    return slice(handle_, row_begin, n, k_begin, k, handle_.layout, pool);
  }

  weight(weight&& other) noexcept
      : memory_(std::move(other.memory_)), handle_(std::exchange(other.handle_, floatx_weight{})) {}
  weight& operator=(weight&& other) noexcept {
    memory_ = std::move(other.memory_);
    handle_ = std::exchange(other.handle_, floatx_weight{});
    return *this;
  }

  // Writes the values [n,k]; see floatx_unpack.
  void unpack(floatx_type values_type, void* values, std::int64_t values_stride,
              const threads* pool = nullptr) const {
    const floatx_execution execution = on_host(pool);
    detail::check(floatx_unpack(&handle_, values_type, values, values_stride, &execution));
  }
  void unpack(float* values, const threads* pool = nullptr) const {
    unpack(FLOATX_TYPE_F32, values, handle_.k, pool);
  }

  // y[m,n] = x[m,k] . W[n,k]^T (+ bias[n]); see floatx_linear.
  void linear(std::int64_t m, floatx_type x_type, const void* x, std::int64_t x_stride, const void* bias,
              floatx_type y_type, void* y, std::int64_t y_stride, const threads* pool = nullptr) const {
    const floatx_execution execution = on_host(pool);
    detail::check(floatx_linear(&handle_, m, x_type, x, x_stride, bias, y_type, y, y_stride, &execution));
  }
  // The same on dense FP32 rows.
  void linear(std::int64_t m, const float* x, float* y, const float* bias = nullptr,
              const threads* pool = nullptr) const {
    linear(m, FLOATX_TYPE_F32, x, handle_.k, bias, FLOATX_TYPE_F32, y, handle_.n, pool);
  }

  // Valid until the weight is moved, assigned to or destroyed.
  const floatx_weight& handle() const noexcept { return handle_; }

 private:
  static constexpr std::size_t alignment = 64;

  struct release {
    void operator()(std::byte* memory) const noexcept {
      ::operator delete (memory, std::align_val_t{alignment});
    }
  };

  explicit weight(const weight_description& description) {
    handle_.struct_size = sizeof handle_;
    handle_.format = description.format;
    handle_.layout = description.layout;
    handle_.n = description.n;
    handle_.k = description.k;
    handle_.group_size = description.group_size;
    handle_.scale_type = description.scale_type;
    floatx_sizes sizes = {};
    sizes.struct_size = sizeof sizes;
    detail::check(floatx_weight_sizes(&handle_, &sizes));

    // One block: codes, scales, tensor scale.
    const std::size_t scales_begin = rounded_up(sizes.codes_bytes);
    const std::size_t tensor_scale_begin = sum(scales_begin, rounded_up(sizes.scales_bytes));
    const std::size_t bytes = sum(tensor_scale_begin, alignment);
    memory_.reset(static_cast<std::byte*>(::operator new (bytes, std::align_val_t{alignment})));
    handle_.layout_version = sizes.layout_version;
    handle_.codes = memory_.get();
    handle_.codes_bytes = sizes.codes_bytes;
    handle_.scales = memory_.get() + scales_begin;
    handle_.scales_bytes = sizes.scales_bytes;
    if (description.scale_type == FLOATX_SCALE_E4M3FN) {
      handle_.tensor_scale = new (memory_.get() + tensor_scale_begin) float(0);
    }
  }

  // Where size_t has 32 bits, sizes that are valid one by one may have a sum that is not.
  static std::size_t sum(std::size_t a, std::size_t b) {
    if (a + b < a) {
      throw std::bad_alloc();
    }
    return a + b;
  }
  static std::size_t rounded_up(std::size_t bytes) {
    return sum(bytes, alignment - 1) / alignment * alignment;
  }

  static floatx_execution on_host(const threads* pool) noexcept {
    floatx_execution execution = {};
    execution.struct_size = sizeof execution;
    execution.memory = FLOATX_MEMORY_HOST;
    execution.threads = pool != nullptr ? pool->handle() : nullptr;
    return execution;
  }

  std::unique_ptr<std::byte[], release> memory_;
  floatx_weight handle_ = {};
};

}  // namespace floatx
