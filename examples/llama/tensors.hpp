// The tensors of a model folder: model.safetensors, or shards with an index.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "support.hpp"

namespace llama {

struct tensor {
  std::string dtype;  // as the file spells it, "BF16"
  std::vector<int64_t> shape;
  const uint8_t* data = nullptr;
  size_t bytes = 0;
  size_t file = 0;
};

class tensor_folder {
 public:
  // Throws error where a file breaks the format or does not fit the index.
  explicit tensor_folder(const std::string& folder);

  const std::string& folder() const { return folder_; }
  const std::map<std::string, tensor>& tensors() const { return tensors_; }
  const tensor* find(const std::string& name) const;
  // Throws error that names the tensor.
  const tensor& get(const std::string& name) const;
  // "FILE: tensor NAME", for messages.
  std::string where(const std::string& name) const;

  // An entry of the files' __metadata__, for each file that has it: {file, text}.
  std::vector<std::pair<std::string, std::string>> metadata(const std::string& key) const;

 private:
  void add_file(const std::string& path);
  void read_index(const std::string& path);

  std::string folder_;
  std::vector<mapped_file> files_;
  std::vector<std::map<std::string, std::string>> metadata_;
  std::map<std::string, tensor> tensors_;
};

// Bits of an element; 0 for a type that is not known here.
int dtype_bits(const std::string& dtype);

// Writes a safetensors file. Tensors are placed by falling size of their elements, so that each is aligned.
struct tensor_to_write {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;
  const void* data = nullptr;
  size_t bytes = 0;
};
void write_tensors(const std::string& path, std::vector<tensor_to_write> tensors,
                   const std::map<std::string, std::string>& metadata);

}  // namespace llama
