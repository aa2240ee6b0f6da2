// A file mapped for reading.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string>

namespace floatx::io {

// What makes two paths the same file.
struct file_identity {
  dev_t device = 0;
  ino_t inode = 0;
};
inline bool operator==(const file_identity& a, const file_identity& b) {
  return a.device == b.device && a.inode == b.inode;
}

class mapped_file {
 public:
  // Throws io::error when the file cannot be opened, is no regular file or cannot be mapped.
  explicit mapped_file(const std::string& path);
  ~mapped_file();
  mapped_file(mapped_file&& other) noexcept;
  mapped_file(const mapped_file&) = delete;
  mapped_file& operator=(const mapped_file&) = delete;
  mapped_file& operator=(mapped_file&&) = delete;

  const std::string& path() const { return path_; }
  const uint8_t* data() const { return data_; }
  size_t size() const { return size_; }
  file_identity identity() const { return identity_; }

  // Gives the pages that hold [begin, begin + bytes) back: they count to this process's memory until then.
  // Reading them again is right, and reads the file again.
  void forget(const uint8_t* begin, size_t bytes) const;

 private:
  std::string path_;
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
  file_identity identity_;
};

}  // namespace floatx::io
