// Where the numbers of a model come from: a folder, or chance.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <floatx.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "config.hpp"
#include "tensors.hpp"

namespace llama {

// How linear layers are to be stored. Without a format they stay as they are.
struct quantization {
  std::optional<floatx_format> format;
  int64_t group_size = 0;
  floatx_scale_type scale_type = FLOATX_SCALE_F16;
  bool head = false;  // the output layer, too

  // "none", "e3m2", "e3m2, groups of 32"
  std::string name() const;
};

// "e3m2" or "none"; throws usage_error.
std::optional<floatx_format> parse_format(const std::string& name);
std::string format_name(floatx_format format);

// W[n,k] before it is packed: dense, or quantized in the canonical layout.
struct matrix {
  std::string where;  // for messages
  int64_t n = 0;
  int64_t k = 0;
  floatx_type type = FLOATX_TYPE_BF16;
  const void* values = nullptr;  // [n, k] of type, aligned to its element; NULL for a quantized one
  floatx_weight canonical = {};
  bool shared = false;                // the values serve other matrices, too: memory is measured with a copy
  std::shared_ptr<const void> owner;  // of what the pointers point to, where that is not the source itself

  size_t row_bytes() const { return static_cast<size_t>(k) * (type == FLOATX_TYPE_F32 ? 4 : 2); }
};

// Throws error("WHERE: <what the library says>") unless the status is OK.
void check(floatx_status status, const std::string& where);

class weight_source {
 public:
  virtual ~weight_source() = default;
  virtual const model_config& config() const = 0;
  // Throws error when there is no such tensor, or of another shape.
  virtual matrix linear(const std::string& name, int64_t n, int64_t k) = 0;
  virtual std::vector<float> vector(const std::string& name, int64_t n) = 0;
};

// A folder as Hugging Face has them, or as `floatx quantize` makes them.
class model_folder : public weight_source {
 public:
  explicit model_folder(const std::string& folder);
  const model_config& config() const override { return config_; }
  matrix linear(const std::string& name, int64_t n, int64_t k) override;
  std::vector<float> vector(const std::string& name, int64_t n) override;

  const tensor_folder& tensors() const { return tensors_; }
  // What the folder was quantized to; nothing for an ordinary one.
  const std::optional<quantization>& quantized() const { return quantized_; }

 private:
  struct entry {
    floatx_format format;
    int64_t group_size;
    floatx_scale_type scale_type;
    int64_t n, k;
  };
  void read_quantization(const std::string& file, const std::string& text);
  matrix stored(const std::string& name, const entry& stored) const;

  model_config config_;
  tensor_folder tensors_;
  std::map<std::string, entry> entries_;
  std::optional<quantization> quantized_;
};

// Random BF16 weights that keep the variance of what passes through them.
class random_source : public weight_source {
 public:
  explicit random_source(const model_config& config);
  const model_config& config() const override { return config_; }
  matrix linear(const std::string& name, int64_t n, int64_t k) override;
  std::vector<float> vector(const std::string& name, int64_t n) override;

 private:
  model_config config_;
  std::map<int64_t, std::vector<uint16_t>> pools_;  // by k
  size_t next_ = 0;
};

// The names of a model's tensors.
namespace names {
constexpr const char* embedding = "model.embed_tokens.weight";
constexpr const char* final_norm = "model.norm.weight";
constexpr const char* head = "lm_head.weight";
std::string block(int64_t layer, const char* part);  // "model.layers.LAYER.PART.weight"
}  // namespace names

// Whether `floatx quantize` and this program quantize a tensor of this name by default.
bool is_block_linear(const std::string& name);

// Dense values as FP32.
void to_float(floatx_type type, const void* values, int64_t count, float* out);
// The same for a row of a matrix, dense or not.
class row_reader {
 public:
  explicit row_reader(matrix source);
  void read(int64_t row, float* out) const;  // [k]
  size_t bytes() const;

 private:
  matrix source_;
};

}  // namespace llama
