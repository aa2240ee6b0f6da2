// Small things that every part needs: errors, memory, files that appear complete or not at all.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>

namespace llama {

// What went wrong, in one line that names the file, the key and the rule.
class error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A command line that asks for something impossible.
class usage_error : public error {
 public:
  using error::error;
};

// Text from a file in quotes, on one line, safe to show on a terminal; long text is cut.
std::string show(std::string_view text);

// "12.3 MB": decimal units.
std::string show_bytes(double bytes);

// Uninitialised host memory, aligned for every layout of floatx and for vectors; huge pages where it is
// large.
class buffer {
 public:
  buffer() = default;
  explicit buffer(size_t bytes);
  // At least this large; the contents are lost when it has to grow.
  void* ensure(size_t bytes);
  template <class T>
  T* ensure_for(int64_t count) {
    return static_cast<T*>(ensure(static_cast<size_t>(count) * sizeof(T)));
  }
  void* get() const { return memory_.get(); }
  size_t size() const { return bytes_; }

 private:
  struct release {
    void operator()(void* memory) const { std::free(memory); }
  };
  std::unique_ptr<void, release> memory_;
  size_t bytes_ = 0;
};

// A file, read-only, as it lies on the disk.
class mapped_file {
 public:
  explicit mapped_file(const std::string& path);
  ~mapped_file();
  mapped_file(mapped_file&& other) noexcept;
  mapped_file(const mapped_file&) = delete;
  mapped_file& operator=(const mapped_file&) = delete;
  mapped_file& operator=(mapped_file&&) = delete;
  const std::string& path() const { return path_; }
  const uint8_t* data() const { return data_; }
  size_t size() const { return size_; }
  std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }

 private:
  std::string path_;
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

// Written under a temporary name beside `path` and renamed by commit(); without it nothing is left.
class output_file {
 public:
  explicit output_file(const std::string& path);
  ~output_file();
  output_file(const output_file&) = delete;
  output_file& operator=(const output_file&) = delete;
  void write(const void* data, size_t bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }
  void commit();

 private:
  std::string path_;
  std::string temporary_;
  int descriptor_ = -1;
};

}  // namespace llama
