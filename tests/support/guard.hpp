// A buffer that notices when a byte outside it, or one that should have been left alone, is written.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace floatx::test {

// `bytes` bytes aligned to 64, with guard bytes on both sides, filled with poison.
class guarded_buffer {
 public:
  static constexpr size_t guard_bytes = 64;
  static constexpr uint8_t guard = 0xa7, poison = 0xc5;

  explicit guarded_buffer(size_t bytes) : bytes_(bytes), memory_(bytes + 2 * guard_bytes + 63, guard) {
    std::fill_n(begin(), bytes_, poison);
  }
  // The place of the data in memory_ depends on its address, which only a move keeps.
  guarded_buffer(guarded_buffer&&) = default;
  guarded_buffer(const guarded_buffer&) = delete;

  uint8_t* data() { return begin(); }
  const uint8_t* data() const { return const_cast<guarded_buffer*>(this)->begin(); }
  template <class T>
  T* as() {
    return reinterpret_cast<T*>(data());
  }
  size_t size() const { return bytes_; }

  // No byte outside has changed.
  bool check() const {
    const auto is_guard = [](uint8_t byte) { return byte == guard; };
    const uint8_t* first = memory_.data();
    return std::all_of(first, data(), is_guard) &&
           std::all_of(data() + bytes_, first + memory_.size(), is_guard);
  }

  // No byte at all has changed since the buffer was made.
  bool untouched() const {
    return check() && std::all_of(data(), data() + bytes_, [](uint8_t byte) { return byte == poison; });
  }

 private:
  uint8_t* begin() {
    const auto address = reinterpret_cast<uintptr_t>(memory_.data()) + guard_bytes;
    return memory_.data() + guard_bytes + (64 - address % 64) % 64;
  }

  size_t bytes_;
  std::vector<uint8_t> memory_;
};

}  // namespace floatx::test
