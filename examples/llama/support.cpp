// SPDX-License-Identifier: Apache-2.0
#include "support.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <new>
#include <utility>

namespace llama {
namespace {

[[noreturn]] void fail(const std::string& path, const char* action, int number) {
  throw error(fmt::format("{}: {}: {}", path, action, std::strerror(number)));
}

}  // namespace

std::string show(std::string_view text) {
  constexpr size_t longest = 160;
  std::string out = "\"";
  for (const char c : text.substr(0, longest)) {
    const auto byte = static_cast<unsigned char>(c);
    out += byte < 0x20 || byte == 0x7f ? fmt::format("\\x{:02x}", byte) : std::string(1, c);
  }
  return out + (text.size() > longest ? "...\"" : "\"");
}

std::string show_bytes(double bytes) {
  const char* unit = "B";
  for (const char* larger : {"kB", "MB", "GB", "TB"}) {
    if (bytes < 999.95) break;
    bytes /= 1000;
    unit = larger;
  }
  return *unit == 'B' ? fmt::format("{:.0f} B", bytes) : fmt::format("{:.1f} {}", bytes, unit);
}

buffer::buffer(size_t bytes) { ensure(bytes); }

void* buffer::ensure(size_t bytes) {
  // Weights are read once a token: with small pages the processor spends a part of that time on finding them.
  constexpr size_t huge_page = size_t{2} << 20;
  const size_t alignment = bytes >= huge_page ? huge_page : 64;
  if (bytes > bytes_ || !memory_) {
    memory_.reset();
    bytes_ = 0;
    const size_t rounded = (bytes + alignment) / alignment * alignment;
    memory_.reset(std::aligned_alloc(alignment, rounded));
    if (!memory_) throw std::bad_alloc();
    if (alignment == huge_page) madvise(memory_.get(), rounded, MADV_HUGEPAGE);
    bytes_ = bytes;
  }
  return memory_.get();
}

mapped_file::mapped_file(const std::string& path) : path_(path) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) fail(path, "cannot be opened", errno);
  struct stat about = {};
  if (fstat(descriptor, &about) != 0 || !S_ISREG(about.st_mode)) {
    close(descriptor);
    throw error(fmt::format("{}: is not a regular file", path));
  }
  size_ = static_cast<size_t>(about.st_size);
  if (size_ > 0) {
    void* memory = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, descriptor, 0);
    const int number = errno;
    close(descriptor);
    if (memory == MAP_FAILED) fail(path, "cannot be mapped", number);
    data_ = static_cast<const uint8_t*>(memory);
  } else {
    close(descriptor);
  }
}

mapped_file::~mapped_file() {
  if (data_ != nullptr) munmap(const_cast<uint8_t*>(data_), size_);
}

mapped_file::mapped_file(mapped_file&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

output_file::output_file(const std::string& path) : path_(path), temporary_(path + ".XXXXXX") {
  descriptor_ = mkostemp(temporary_.data(), O_CLOEXEC);
  if (descriptor_ < 0) fail(path, "cannot be written", errno);
  // mkostemp makes files private; this one shall be like any other.
  const mode_t mask = umask(0);
  umask(mask);
  fchmod(descriptor_, 0666 & ~mask);
}

output_file::~output_file() {
  if (descriptor_ >= 0) {
    close(descriptor_);
    unlink(temporary_.c_str());
  }
}

void output_file::write(const void* data, size_t bytes) {
  const auto* from = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t written = ::write(descriptor_, from, bytes);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) fail(path_, "cannot be written", errno);
    from += written;
    bytes -= static_cast<size_t>(written);
  }
}

void output_file::commit() {
  if (fsync(descriptor_) != 0) fail(path_, "cannot be written", errno);
  if (rename(temporary_.c_str(), path_.c_str()) != 0) fail(path_, "cannot be named", errno);
  close(std::exchange(descriptor_, -1));
}

}  // namespace llama
