// SPDX-License-Identifier: Apache-2.0
#include "io/output_file.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <numeric>
#include <stdexcept>
#include <utility>

#include "io/error.hpp"

namespace floatx::io {
namespace {

std::string folder_of(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path();
  return folder.empty() ? "." : folder;
}

}  // namespace

output_file::output_file(const std::string& path) : path_(path) {
  struct stat status = {};
  if (lstat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode) && !S_ISLNK(status.st_mode)) {
    throw error(fmt::format("{}: exists and is not a regular file", path));
  }
  const std::filesystem::path target(path);
  // open() with O_EXCL and not mkstemp(): the file shall have the rights that the umask gives.
  for (int attempt = 0; attempt < 1000 && descriptor_ < 0; ++attempt) {
    temporary_path_ = (target.parent_path() / fmt::format(".{}.{}-{}.tmp", target.filename().string(),
                                                          static_cast<long>(getpid()), attempt))
                          .string();
    descriptor_ = open(temporary_path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor_ < 0 && errno != EEXIST) {
      temporary_path_.clear();
      throw_errno(path, "cannot write to its folder", errno);
    }
  }
  if (descriptor_ < 0) {
    temporary_path_.clear();
    throw error(fmt::format("{}: its folder is full of temporary files of this name", path));
  }
}

output_file::~output_file() {
  if (descriptor_ >= 0) {
    close(descriptor_);
  }
  if (!temporary_path_.empty()) {
    unlink(temporary_path_.c_str());
  }
}

output_file::output_file(output_file&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_path_(std::exchange(other.temporary_path_, std::string())),
      descriptor_(std::exchange(other.descriptor_, -1)) {}

void output_file::reserve(uint64_t bytes) {
  if (bytes > 0 && fallocate(descriptor_, 0, 0, static_cast<off_t>(bytes)) != 0 && errno != EOPNOTSUPP &&
      errno != ENOSYS && errno != EINTR) {
    throw_errno(path_, fmt::format("cannot reserve {} bytes", bytes).c_str(), errno);
  }
}

void output_file::write(uint64_t offset, const void* data, size_t bytes) {
  const auto* next = static_cast<const uint8_t*>(data);
  while (bytes > 0) {
    const ssize_t written = pwrite(descriptor_, next, bytes, static_cast<off_t>(offset));
    if (written < 0) {
      if (errno == EINTR) {
        continue;
      }
      throw_errno(path_, "cannot write", errno);
    }
    next += written;
    offset += static_cast<uint64_t>(written);
    bytes -= static_cast<size_t>(written);
  }
}

void output_file::sync() {
  if (fsync(descriptor_) != 0) {
    throw_errno(path_, "cannot write to the disk", errno);
  }
}

void output_file::commit() {
  if (std::rename(temporary_path_.c_str(), path_.c_str()) != 0) {
    throw_errno(path_, "cannot rename the finished file to this name", errno);
  }
  temporary_path_.clear();
  // The new name is on the disk only when the folder is. A file system that refuses this cannot be helped,
  // and the file is already complete.
  const int folder = open(folder_of(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder >= 0) {
    fsync(folder);
    close(folder);
  }
}

safetensors_writer::safetensors_writer(const std::string& path, std::vector<tensor_info> tensors,
                                       const metadata_map& metadata)
    : file_(path), tensors_(std::move(tensors)), by_name_(tensors_.size()) {
  place_tensors(tensors_, path);
  std::iota(by_name_.begin(), by_name_.end(), size_t{0});
  std::sort(by_name_.begin(), by_name_.end(),
            [this](size_t a, size_t b) { return tensors_[a].name < tensors_[b].name; });
  const std::string header = serialize_header(tensors_, metadata, path);
  data_begin_ = header.size();
  if (__builtin_add_overflow(data_begin_, tensors_.empty() ? 0 : tensors_.back().end, &file_bytes_)) {
    throw error(fmt::format("{}: the size of the file overflows 64 bits", path));
  }
  file_.reserve(file_bytes_);
  file_.write(0, header.data(), header.size());
}

size_t safetensors_writer::find(const std::string& name) const {
  const auto found = std::lower_bound(
      by_name_.begin(), by_name_.end(), name,
      [this](size_t index, const std::string& wanted) { return tensors_[index].name < wanted; });
  if (found == by_name_.end() || tensors_[*found].name != name) {
    throw std::out_of_range("no tensor named " + show(name) + " in the output");
  }
  return *found;
}

void safetensors_writer::write(size_t tensor, uint64_t offset, const void* data, size_t bytes) {
  const tensor_info& info = tensors_[tensor];
  if (offset > info.bytes() || bytes > info.bytes() - offset) {
    throw std::out_of_range("a write past the end of tensor " + show(info.name));
  }
  file_.write(data_begin_ + info.begin + offset, data, bytes);
}

}  // namespace floatx::io
