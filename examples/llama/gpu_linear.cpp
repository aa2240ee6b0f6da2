// SPDX-License-Identifier: Apache-2.0
#include "gpu_linear.hpp"

#include <fmt/format.h>

#include "kernels.hpp"

namespace llama::gpu {
namespace {

// From so many tokens on, unpacking the weights and multiplying by cuBLASLt is faster than the library's
// kernels for few tokens, the only ones that it has for GPUs other than Hopper; measured on an H200 with
// these. Tried: there, too, 2048 tokens of Llama-2-7B in e3m2 in 79.1 instead of 65.4 ms, and 128 in 18.8
// instead of 5.9.
constexpr int64_t tokens_to_unpack = 128;

bool unpacks(const linear_context& context, int64_t m) {
  return context.blas && !context.is_hopper && m >= tokens_to_unpack;
}

floatx_execution execution_on(const linear_context& context) {
  floatx_execution execution = {};
  execution.struct_size = sizeof execution;
  execution.memory = FLOATX_MEMORY_DEVICE;
  execution.stream = context.on.get();
  execution.workspace = context.workspace.get();
  execution.workspace_bytes = context.workspace.size();
  return execution;
}

// Device calls report what is wrong with the data when the stream has got there.
class checked_execution {
 public:
  checked_execution(const linear_context& context, const std::string& where)
      : context_(context), where_(where), report_(memory::zeros(sizeof(floatx_report))) {
    how_ = execution_on(context);
    how_.report = report_.as<floatx_report>();
  }
  const floatx_execution* get() const { return &how_; }
  void finish() {
    context_.on.wait();
    floatx_report found = {};
    check(cudaMemcpy(&found, report_.get(), sizeof found, cudaMemcpyDeviceToHost), "report");
    if (found.status != FLOATX_STATUS_OK) {
      throw error(fmt::format("{}: invalid data at row {}, column {}", where_, found.row, found.column));
    }
  }

 private:
  const linear_context& context_;
  std::string where_;
  memory report_;
  floatx_execution how_ = {};
};

size_t total_bytes(const std::vector<matrix>& parts) {
  size_t bytes = 0;
  for (const matrix& p : parts) bytes += static_cast<size_t>(p.n) * p.row_bytes();
  return bytes;
}

// Dense values of all parts, one below the other, as they are in the file.
memory upload(const std::vector<matrix>& parts) {
  memory values(total_bytes(parts));
  size_t at = 0;
  for (const matrix& p : parts) {
    const size_t bytes = static_cast<size_t>(p.n) * p.row_bytes();
    copy_to(values.as<char>() + at, p.values, bytes);
    at += bytes;
  }
  return values;
}

floatx_sizes sizes_of(const floatx_weight& weight, const std::string& where) {
  floatx_sizes sizes = {};
  sizes.struct_size = sizeof sizes;
  llama::check(floatx_weight_sizes(&weight, &sizes), where);
  return sizes;
}

}  // namespace

linear::linear(const std::vector<matrix>& parts, const quantization& scheme, linear_context& context)
    : context_(&context), k_(parts.front().k) {
  bool all_dense = true;
  bool same_type = true;
  int64_t rows = 0;
  for (const matrix& p : parts) {
    all_dense = all_dense && p.values != nullptr;
    same_type = same_type && p.type == parts.front().type;
    rows += p.n;
  }
  if (all_dense && !scheme.format) {
    n_ = rows;
    add_dense(parts);
  } else if (all_dense && same_type && scheme.scale_type != FLOATX_SCALE_E4M3FN) {
    // As one matrix: fewer and larger launches. With a scale for the whole tensor each part keeps its own.
    pack(parts, scheme);
  } else {
    for (const matrix& p : parts) {
      if (p.values == nullptr) {
        repack(p);
      } else if (scheme.format) {
        pack({p}, scheme);
      } else {
        throw error(fmt::format("{}: is dense, but others that share its input are not", p.where));
      }
    }
  }
}

void linear::add_dense(const std::vector<matrix>& parts) {
  dense_ = memory(static_cast<size_t>(n_ * k_) * sizeof(half_bits));
  memory overflow = memory::zeros(sizeof(int));
  size_t at = 0;
  for (const matrix& p : parts) {
    const size_t count = static_cast<size_t>(p.n * p.k);
    half_bits* to = dense_.as<half_bits>() + at;
    if (p.type == FLOATX_TYPE_F16) {
      copy_to(to, p.values, count * sizeof *to);
    } else {
      const memory values = upload({p});
      to_half(context_->on.get(), values.get(), p.type == FLOATX_TYPE_BF16, count, to, overflow.as<int>());
      context_->on.wait();
    }
    at += count;
  }
  int overflowed = 0;
  check(cudaMemcpy(&overflowed, overflow.get(), sizeof overflowed, cudaMemcpyDeviceToHost), "weights");
  if (overflowed != 0) throw error(fmt::format("{}: a weight does not fit FP16", parts.front().where));
  bytes_ = dense_.size();
}

linear::part linear::make_part(floatx_weight description) {
  part made = {description, n_, {}, {}, {}};
  floatx_weight& weight = made.weight;
  weight.struct_size = sizeof weight;
  weight.layout = FLOATX_LAYOUT_CUDA;
  weight.layout_version = 0;
  const floatx_sizes sizes = sizes_of(weight, "weight");
  made.codes = memory(sizes.codes_bytes);
  made.scales = memory(sizes.scales_bytes);
  weight.codes = made.codes.get();
  weight.codes_bytes = sizes.codes_bytes;
  weight.scales = made.scales.get();
  weight.scales_bytes = sizes.scales_bytes;
  weight.tensor_scale = nullptr;
  if (weight.scale_type == FLOATX_SCALE_E4M3FN) {
    made.tensor_scale = memory(sizeof(float));
    weight.tensor_scale = made.tensor_scale.as<float>();
  }
  // What the formats and scales take; the packed form rounds up to whole tiles.
  floatx_weight canonical = weight;
  canonical.layout = FLOATX_LAYOUT_CANONICAL;
  const floatx_sizes stored = sizes_of(canonical, "weight");
  bytes_ += stored.codes_bytes + stored.scales_bytes;
  n_ += weight.n;
  return made;
}

void linear::pack(const std::vector<matrix>& parts, const quantization& scheme) {
  floatx_weight description = {};
  description.format = *scheme.format;
  for (const matrix& p : parts) description.n += p.n;
  description.k = k_;
  description.group_size = scheme.group_size;
  description.scale_type = scheme.scale_type;
  part made = make_part(description);
  const memory values = upload(parts);
  checked_execution how(*context_, parts.front().where);
  llama::check(floatx_pack(&made.weight, parts.front().type, values.get(), k_, nullptr, how.get()),
               parts.front().where);
  how.finish();
  parts_.push_back(std::move(made));
}

void linear::repack(const matrix& source) {
  part made = make_part(source.canonical);
  floatx_weight canonical = source.canonical;
  const memory codes = memory::copy(canonical.codes, canonical.codes_bytes);
  const memory scales = memory::copy(canonical.scales, canonical.scales_bytes);
  memory tensor_scale;
  canonical.codes = codes.get();
  canonical.scales = scales.get();
  if (canonical.tensor_scale != nullptr) {
    tensor_scale = memory::copy(canonical.tensor_scale, sizeof(float));
    canonical.tensor_scale = tensor_scale.as<float>();
  }
  checked_execution how(*context_, source.where);
  llama::check(floatx_repack(&canonical, &made.weight, how.get()), source.where);
  how.finish();
  parts_.push_back(std::move(made));
}

void linear::prepare(int64_t m) {
  size_t wanted = 0;
  for (const part& p : parts_) {
    size_t bytes = 0;
    llama::check(floatx_workspace_bytes(&p.weight, FLOATX_OPERATION_LINEAR, FLOATX_MEMORY_DEVICE, m,
                                        FLOATX_TYPE_F16, &bytes),
                 "workspace");
    wanted = std::max(wanted, bytes);
    if (unpacks(*context_, m) && parts_.size() == 1) {
      context_->unpacked.ensure(static_cast<size_t>(p.weight.n * k_) * sizeof(half_bits));
    }
  }
  if (wanted > context_->workspace.size()) context_->workspace = memory::zeros(wanted);
}

void linear::run(int64_t m, const void* x, void* y) const {
  const launch_on on = {context_->on.get(), context_->programmatic};
  if (dense_.get() != nullptr) {
    if (context_->blas && !(begins_early_ && m == 1)) {
      context_->blas->multiply(context_->on, m, n_, k_, x, dense_.get(), y);
    } else {
      dense_product(on, static_cast<const half_bits*>(x), dense_.as<half_bits>(), static_cast<int>(m),
                    static_cast<int>(n_), static_cast<int>(k_), static_cast<half_bits*>(y));
    }
    return;
  }
  for (const part& p : parts_) {
    floatx_execution how = execution_on(*context_);
    // Parts lie apart in y, where cuBLASLt would need another layout; they are rare.
    if (unpacks(*context_, m) && parts_.size() == 1) {
      llama::check(floatx_unpack(&p.weight, FLOATX_TYPE_F16, context_->unpacked.get(), k_, &how), "unpack");
      context_->blas->multiply(context_->on, m, n_, k_, x, context_->unpacked.get(), y);
    } else {
      // It fetches weights while the kernel before it ends. Tried: an ordinary launch, 2556 instead of 2502
      // microseconds for a step of Llama-2-7B in e3m2 on an H200.
      how.flags = context_->programmatic ? FLOATX_EXECUTION_PROGRAMMATIC_LAUNCH : 0;
      llama::check(floatx_linear(&p.weight, m, FLOATX_TYPE_F16, x, k_, nullptr, FLOATX_TYPE_F16,
                                 static_cast<half_bits*>(y) + p.row, n_, &how),
                   "linear");
    }
  }
}

}  // namespace llama::gpu
