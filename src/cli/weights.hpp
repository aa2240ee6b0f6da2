// Weights in files: the dense ones that are quantized, and the quantized ones with what the file says of
// them.
//
// A quantized STEM.weight is stored as STEM.weight_packed (U8, the canonical bitstream, [n, ceil(k*bits/8)]),
// STEM.weight_scale ([n] or [n, ceil(k/G)]) and, for E4M3FN scales, STEM.weight_scale_2 (F32, [1]). The
// "floatx" entry of __metadata__ is a JSON object:
//
//     {"version": 1, "producer": "floatx 0.1.0", "format": "e3m2", "group_size": 0, "scale_type": "f32",
//      "scale_rule": "stored", "tensors": {"STEM.weight": {"shape": [n, k], "dtype": "BF16"}, ...}}
//
// with "exponent_rule" for E8M0 scales, and "scale_type" in a tensor whose scales are of another type. dtype
// is what the tensor was before.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cli/names.hpp"
#include "cli/support.hpp"
#include "floatx.h"
#include "io/model.hpp"

namespace floatx::cli {

constexpr const char* metadata_key = "floatx";

// ---- Dense -------------------------------------------------------------------------------------------

// A 2-D floating tensor [n, k] of a file, read in blocks of rows.
class dense_tensor {
 public:
  // The tensor must be 2-D with an element type that library_type() knows.
  dense_tensor(const io::shard& shard, const io::tensor_info& info);

  const io::tensor_info& info() const { return *info_; }
  int64_t n() const { return n_; }
  int64_t k() const { return k_; }
  floatx_type type() const { return type_; }

  // Rows [first, first + count), [count, k] of type(), aligned: in the file where that is possible, else
  // copied (or converted from F64) to the buffer.
  const void* rows(int64_t first, int64_t count, aligned_buffer& buffer) const;

  // The same as FP32.
  const float* rows_f32(int64_t first, int64_t count, aligned_buffer& raw, aligned_buffer& converted) const;

  // These rows are not needed any more (io::mapped_file::forget).
  void forget(int64_t first, int64_t count) const;

 private:
  size_t row_file_bytes() const { return static_cast<size_t>(k_) * io::bits(info_->dtype) / 8; }

  const io::shard* shard_;
  const io::tensor_info* info_;
  int64_t n_;
  int64_t k_;
  floatx_type type_;
};

// Rows that are worked on at once: enough for the calls not to matter, few enough for the cache.
int64_t rows_per_block(int64_t k);

// ---- Quantized ---------------------------------------------------------------------------------------

// What was asked for, as the metadata record it.
struct quantization {
  floatx_format format = FLOATX_FORMAT_E3M2;
  int64_t group_size = 0;
  floatx_scale_type scale_type = FLOATX_SCALE_F32;
  floatx_scale_rule scale_rule = FLOATX_SCALE_RULE_STORED;
  floatx_exponent_rule exponent_rule = FLOATX_EXPONENT_RULE_FLOOR;
};

// {"format": "e3m2", "group_size": 0, ...}: the scheme as files and reports tell it.
nlohmann::ordered_json describe(const quantization& scheme);

struct quantized_entry {
  std::string name;  // "STEM.weight"
  int64_t n = 0;
  int64_t k = 0;
  io::dtype original = io::dtype::f32;
  floatx_scale_type scale_type = FLOATX_SCALE_F32;
};

std::string serialize(const quantization& scheme, const std::vector<quantized_entry>& entries);

// "STEM.weight" + "_packed" and so on.
std::string codes_name(const std::string& weight);
std::string scales_name(const std::string& weight);
std::string tensor_scale_name(const std::string& weight);

// The tensors that hold a weight in a file: two, or three with E4M3FN scales. Offsets are not set.
std::vector<io::tensor_info> stored_tensors(const quantization& scheme, const quantized_entry& entry);

// Canonical description, without pointers.
floatx_weight canonical(const quantization& scheme, const quantized_entry& entry);

struct canonical_row {
  size_t codes_bytes;
  size_t scales_bytes;
};
canonical_row row_bytes(const floatx_weight& weight);

// Rows [first, first + count) of a canonical weight, as a weight of its own.
floatx_weight rows_of(const floatx_weight& weight, int64_t first, int64_t count);

double bits_per_weight(const std::vector<io::tensor_info>& stored, int64_t n, int64_t k);

// A quantized weight in a file.
class stored_weight {
 public:
  stored_weight(const io::model& model, size_t shard, const quantization& scheme,
                const quantized_entry& entry);

  const quantization& scheme() const { return scheme_; }
  const quantized_entry& entry() const { return entry_; }
  size_t shard() const { return shard_index_; }
  const std::vector<std::string>& tensor_names() const { return names_; }
  double bits_per_weight() const { return bits_per_weight_; }

  // Canonical, pointing into the file (never written through). Valid as long as this object and the model.
  floatx_weight weight() const;

  void forget(int64_t first, int64_t count) const;

 private:
  const io::shard* shard_;
  size_t shard_index_;
  quantization scheme_;
  quantized_entry entry_;
  std::vector<std::string> names_;
  double bits_per_weight_ = 0;
  aligned_buffer scales_copy_;  // used when the file does not align them
  float tensor_scale_ = 0;
  floatx_weight weight_ = {};
};

// Whether a file says that it was quantized by floatx.
bool has_quantization(const io::shard& shard);

// All quantized weights of a model, each checked against the tensors that are there. Throws io::error.
std::vector<stored_weight> find_stored_weights(const io::model& model);

}  // namespace floatx::cli
