// SPDX-License-Identifier: Apache-2.0
#include "io/mapped_file.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "io/error.hpp"

namespace floatx::io {
namespace {

struct descriptor {
  int value;
  ~descriptor() { close(value); }
};

}  // namespace

mapped_file::mapped_file(const std::string& path) : path_(path) {
  // O_NONBLOCK: opening a pipe must not wait for its writer; it is refused below.
  const descriptor file{open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (file.value < 0) {
    throw_errno(path, "cannot open", errno);
  }
  struct stat status = {};
  if (fstat(file.value, &status) != 0) {
    throw_errno(path, "cannot read its size", errno);
  }
  if (!S_ISREG(status.st_mode)) {
    throw error(fmt::format("{}: not a regular file", path));
  }
  identity_ = {status.st_dev, status.st_ino};
  size_ = static_cast<size_t>(status.st_size);
  if (size_ == 0) {
    return;  // an empty range cannot be mapped
  }
  void* mapping = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.value, 0);
  if (mapping == MAP_FAILED) {
    throw_errno(path, "cannot map into memory", errno);
  }
  data_ = static_cast<const uint8_t*>(mapping);
  // Only advice: tensors are read from front to back.
  madvise(mapping, size_, MADV_SEQUENTIAL);
}

mapped_file::~mapped_file() {
  if (data_ != nullptr) {
    munmap(const_cast<uint8_t*>(data_), size_);
  }
}

mapped_file::mapped_file(mapped_file&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      identity_(other.identity_) {}

void mapped_file::forget(const uint8_t* begin, size_t bytes) const {
  // Outwards to whole pages: the mapping begins at one, and a neighbour that loses a page it still needs
  // only reads it again.
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t offset = static_cast<size_t>(begin - data_);
  const size_t first = offset / page * page;
  madvise(const_cast<uint8_t*>(data_) + first, offset - first + bytes, MADV_DONTNEED);
}

}  // namespace floatx::io
