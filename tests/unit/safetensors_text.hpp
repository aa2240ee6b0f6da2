// Safetensors files from text, for the tests of their reader and writer.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

namespace floatx::test {

inline std::string with_length(const std::string& header, uint64_t length, const std::string& data) {
  std::string file;
  for (int i = 0; i < 8; ++i, length >>= 8) {
    file += static_cast<char>(length & 0xff);
  }
  return file + header + data;
}

inline std::string file_of(const std::string& header, size_t data_bytes) {
  return with_length(header, header.size(), std::string(data_bytes, 'd'));
}

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

const std::string tensor_a = R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]})";

}  // namespace floatx::test
