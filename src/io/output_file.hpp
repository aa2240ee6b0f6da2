// Files that appear complete or not at all.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "io/safetensors.hpp"

namespace floatx::io {

// Writes under a temporary name in the folder of the file, so that the last step is a rename on one file
// system. Until commit() the file that may already bear the name is untouched; without it, the temporary
// file goes with the object.
class output_file {
 public:
  // Throws io::error when the folder cannot be written or `path` is something other than a regular file.
  explicit output_file(const std::string& path);
  ~output_file();
  output_file(output_file&& other) noexcept;
  output_file(const output_file&) = delete;
  output_file& operator=(const output_file&) = delete;
  output_file& operator=(output_file&&) = delete;

  const std::string& path() const { return path_; }

  // Claims the space, so that a full disk is known before the work and not after it. A file system that
  // cannot do this is no error: the writes will tell.
  void reserve(uint64_t bytes);

  // From several threads at once, if the ranges are disjoint.
  void write(uint64_t offset, const void* data, size_t bytes);

  // Everything is on the disk after this; the last place where a full disk shows.
  void sync();

  // Gives the file its name. After sync().
  void commit();

 private:
  std::string path_;
  std::string temporary_path_;  // empty when there is nothing to remove
  int descriptor_ = -1;
};

// A safetensors file whose tensors are all known before the first byte of data.
class safetensors_writer {
 public:
  // Places the tensors (place_tensors) and writes the header. Offsets in `tensors` are ignored.
  safetensors_writer(const std::string& path, std::vector<tensor_info> tensors, const metadata_map& metadata);

  const std::vector<tensor_info>& tensors() const { return tensors_; }
  uint64_t file_bytes() const { return file_bytes_; }

  // The tensor's index in tensors(). Throws std::out_of_range.
  size_t find(const std::string& name) const;

  // Part of a tensor, from `offset` bytes into it. From several threads at once, if the ranges are disjoint.
  void write(size_t tensor, uint64_t offset, const void* data, size_t bytes);

  output_file& file() { return file_; }

 private:
  output_file file_;
  std::vector<tensor_info> tensors_;
  std::vector<size_t> by_name_;  // indices into tensors_
  uint64_t data_begin_ = 0;
  uint64_t file_bytes_ = 0;
};

}  // namespace floatx::io
