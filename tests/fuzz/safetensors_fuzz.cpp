// Feeds the safetensors reader with whatever a fuzzer thinks of, and checks what it lets through.
//
// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "io/error.hpp"
#include "io/safetensors.hpp"

namespace {

namespace io = floatx::io;

void require(bool holds) {
  if (!holds) {
    std::abort();
  }
}

void check_file(const uint8_t* bytes, size_t size) {
  io::safetensors_header header;
  try {
    header = io::parse_safetensors(bytes, size, "input");
  } catch (const io::error&) {
    return;
  }
  // Whoever maps the file uses these numbers without looking at them again.
  uint64_t covered = 0;
  for (const io::tensor_info& tensor : header.tensors) {
    require(tensor.begin == covered && tensor.end >= tensor.begin);
    require(tensor.bytes() == io::tensor_bytes(tensor.dtype, tensor.shape, "input"));
    covered = tensor.end;
  }
  require(header.data_begin + covered == size);

  // What was read can be written, and is then read as the same.
  std::vector<io::tensor_info> tensors = header.tensors;
  io::place_tensors(tensors, "output");
  const std::string text = io::serialize_header(tensors, header.metadata, "output");
  std::vector<uint8_t> copy(text.begin(), text.end());
  copy.resize(text.size() + covered);
  const io::safetensors_header again = io::parse_safetensors(copy.data(), copy.size(), "output");
  require(again.metadata == header.metadata && again.tensors.size() == tensors.size());
  for (const io::tensor_info& tensor : again.tensors) {
    bool found = false;
    for (const io::tensor_info& original : header.tensors) {
      found = found || (original.name == tensor.name && original.dtype == tensor.dtype &&
                        original.shape == tensor.shape && original.bytes() == tensor.bytes());
    }
    require(found);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  check_file(bytes, size);
  // A mutation of the text seldom keeps the length before it right: once more with a length that reaches to
  // the last brace, so that the text itself is read.
  size_t header_end = size;
  while (header_end > io::length_field_bytes && bytes[header_end - 1] != '}') {
    --header_end;
  }
  if (header_end > io::length_field_bytes) {
    std::vector<uint8_t> repaired(bytes, bytes + size);
    uint64_t length = header_end - io::length_field_bytes;
    for (size_t i = 0; i < io::length_field_bytes; ++i, length >>= 8) {
      repaired[i] = static_cast<uint8_t>(length);
    }
    check_file(repaired.data(), repaired.size());
  }
  return 0;
}
