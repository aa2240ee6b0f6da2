// The header of a safetensors file: what it must be, read strictly, and written canonically.
//
// A file is eight bytes with the length of the header (little endian), the header (a JSON object from
// tensor names to {"dtype", "shape", "data_offsets": [begin, end]}, and "__metadata__" from strings to
// strings), and the data. Offsets count from the first byte after the header.
//
// The reader takes bytes and touches no file, so that a fuzzer can feed it. It refuses every file that
// breaks a rule of the format or that it could not carry over without losing something: a length that
// leaves the file or is above 100 MB, text that is not a JSON object in UTF-8, a name or key twice, an
// unknown key or dtype, numbers that are negative, fractional or above 2^64 - 1, a size that is not the
// product of shape and dtype, data that overlap, leave the file or leave a gap. Files without tensors
// and tensors without elements are legal.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "io/dtype.hpp"

namespace floatx::io {

constexpr size_t length_field_bytes = 8;
constexpr uint64_t max_header_bytes = 100'000'000;  // the limit of the reference implementation

using metadata_map = std::map<std::string, std::string>;

struct tensor_info {
  std::string name;
  io::dtype dtype = dtype::u8;
  std::vector<uint64_t> shape;
  uint64_t begin = 0;  // offsets into the data, in bytes
  uint64_t end = 0;

  uint64_t bytes() const { return end - begin; }
};

struct safetensors_header {
  std::vector<tensor_info> tensors;  // in the order of their data
  metadata_map metadata;
  uint64_t data_begin = 0;  // of the first data byte in the file
};

// Reads the header from the bytes of a whole file.
//   file  names the file in messages.
// Throws io::error.
safetensors_header parse_safetensors(const uint8_t* bytes, size_t size, const std::string& file);

// The bytes of a tensor: the product of shape and dtype. Throws io::error when it overflows 64 bits or is
// not a whole number of bytes; `where` begins the message.
uint64_t tensor_bytes(dtype type, const std::vector<uint64_t>& shape, const std::string& where);

// Gives each tensor its place in a new file: sorted by falling element size, then by name, so that every
// tensor lies aligned to its element. Throws io::error for a name twice and for sizes that overflow.
void place_tensors(std::vector<tensor_info>& tensors, const std::string& file);

// The length field and the header, padded with spaces to a multiple of 8 bytes.
std::string serialize_header(const std::vector<tensor_info>& tensors, const metadata_map& metadata,
                             const std::string& file);

}  // namespace floatx::io
