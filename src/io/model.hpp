// A model on disk: one safetensors file, several shards, or a folder that holds either.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "io/mapped_file.hpp"
#include "io/output_file.hpp"
#include "io/safetensors.hpp"

namespace floatx::io {

constexpr const char* single_file_name = "model.safetensors";
constexpr const char* index_file_name = "model.safetensors.index.json";

struct shard {
  mapped_file file;
  safetensors_header header;

  const uint8_t* data(const tensor_info& tensor) const {
    return file.data() + header.data_begin + tensor.begin;
  }
};

struct tensor_place {
  size_t shard;
  size_t tensor;  // index into the shard's header.tensors
};

class model {
 public:
  // paths: one folder, or one or more files. Throws io::error for anything that does not fit together: a
  // tensor in two shards, an index that names what is not there.
  explicit model(const std::vector<std::string>& paths);

  const std::vector<shard>& shards() const { return shards_; }
  const shard& shard_of(const tensor_place& place) const { return shards_[place.shard]; }
  const tensor_info& info(const tensor_place& place) const {
    return shards_[place.shard].header.tensors[place.tensor];
  }
  std::optional<tensor_place> find(const std::string& name) const;
  uint64_t file_bytes() const;

  bool is_folder() const { return !folder_.empty(); }
  const std::string& folder() const { return folder_; }
  // The "metadata" object of the index as JSON text, "{}" when it has none; no value when there is no index.
  const std::optional<std::string>& index_metadata() const { return index_metadata_; }

 private:
  void add_shard(const std::string& path);
  void read_index(const std::string& path);

  std::string folder_;
  std::vector<shard> shards_;
  std::unordered_map<std::string, tensor_place> places_;
  std::optional<std::string> index_metadata_;
};

// Throws io::error when `path` is one of the model's files, by whatever name.
void require_not_input(const model& source, const std::string& path);

// Where a model made from `source` goes, and all of its files until they are complete. OUT that ends in
// .safetensors is one file; anything else is a folder, with one file for each shard of the source, an index
// if there are several, and a copy of the folder's other small files (configuration, tokenizer).
//
// Nothing that exists is touched before commit(). The source is never overwritten.
class model_output {
 public:
  // Throws io::error where writing would overwrite the source, or would leave files of another model beside
  // the new ones.
  model_output(const model& source, const std::string& out);
  ~model_output();
  model_output(const model_output&) = delete;
  model_output& operator=(const model_output&) = delete;

  // Files to write, and which one takes the tensors of a shard.
  size_t part_count() const { return part_paths_.size(); }
  size_t part_of(size_t shard) const { return part_paths_.size() == 1 ? 0 : shard; }
  // Throws io::error when `path` is one of the files to write.
  void require_not_output(const std::string& path) const;

  // The __metadata__ of the shards that go into a part, without the entry named `without`. Throws io::error
  // where they disagree.
  metadata_map source_metadata(size_t part, const std::string& without = {}) const;

  // Once for each part, in order.
  void add_part(std::vector<tensor_info> tensors, const metadata_map& metadata);
  safetensors_writer& part(size_t index) { return parts_[index]; }
  uint64_t file_bytes() const;

  // Writes the index, copies the small files, waits for the disk and gives every file its name.
  void commit();

 private:
  void check_folder_is_ours() const;
  void add_index();
  void add_companions();

  const model& source_;
  std::string folder_;  // empty when OUT is a file
  bool made_folder_ = false;
  bool committed_ = false;
  std::vector<std::string> part_paths_;
  std::vector<safetensors_writer> parts_;
  std::vector<output_file> others_;
};

}  // namespace floatx::io
