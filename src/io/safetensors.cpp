// SPDX-License-Identifier: Apache-2.0
#include "io/safetensors.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <tuple>

#include "io/error.hpp"
#include "io/header_parser.hpp"

namespace floatx::io {
namespace {

uint64_t read_length(const uint8_t* bytes) {
  uint64_t value = 0;
  for (size_t i = length_field_bytes; i-- > 0;) {
    value = value << 8 | bytes[i];
  }
  return value;
}

// Sizes first: only then is end - begin meaningful. Then the tensors must tile the data exactly.
void check_places(safetensors_header& header, uint64_t data_bytes, const std::string& file) {
  for (const tensor_info& tensor : header.tensors) {
    const std::string where = fmt::format("{}: tensor {}", file, show(tensor.name));
    if (tensor.begin > tensor.end || tensor.end > data_bytes) {
      throw error(fmt::format("{}: data_offsets [{}, {}] do not lie in order within the {} bytes of data",
                              where, tensor.begin, tensor.end, data_bytes));
    }
    const uint64_t expected = tensor_bytes(tensor.dtype, tensor.shape, where);
    if (tensor.bytes() != expected) {
      throw error(fmt::format("{}: data_offsets [{}, {}] span {} bytes, but {} [{}] takes {}", where,
                              tensor.begin, tensor.end, tensor.bytes(), name(tensor.dtype),
                              fmt::join(tensor.shape, ", "), expected));
    }
  }
  std::sort(header.tensors.begin(), header.tensors.end(), [](const tensor_info& a, const tensor_info& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  uint64_t covered = 0;
  for (const tensor_info& tensor : header.tensors) {
    if (tensor.begin != covered) {
      throw error(fmt::format("{}: tensor {}: data begin at {}, but the data before end at {}: {}", file,
                              show(tensor.name), tensor.begin, covered,
                              tensor.begin < covered ? "tensors must not overlap" : "gaps are not allowed"));
    }
    covered = tensor.end;
  }
  if (covered != data_bytes) {
    throw error(fmt::format("{}: the tensors cover {} of {} bytes of data; the rest belongs to none", file,
                            covered, data_bytes));
  }
}

}  // namespace

safetensors_header parse_safetensors(const uint8_t* bytes, size_t size, const std::string& file) {
  if (size < length_field_bytes) {
    throw error(
        fmt::format("{}: {} bytes: a safetensors file has at least {}", file, size, length_field_bytes));
  }
  const uint64_t header_bytes = read_length(bytes);
  if (header_bytes > max_header_bytes) {
    throw error(fmt::format("{}: header length {} is above the limit of {}: not a safetensors file?", file,
                            header_bytes, max_header_bytes));
  }
  if (header_bytes > size - length_field_bytes) {
    throw error(
        fmt::format("{}: header length {} is more than the {} bytes that follow it: the file is truncated",
                    file, header_bytes, size - length_field_bytes));
  }
  safetensors_header header;
  header.data_begin = length_field_bytes + header_bytes;
  parse_header_json(bytes + length_field_bytes, static_cast<size_t>(header_bytes), file, header);
  check_places(header, size - header.data_begin, file);
  return header;
}

uint64_t tensor_bytes(dtype type, const std::vector<uint64_t>& shape, const std::string& where) {
  uint64_t total_bits = bits(type);
  for (const uint64_t extent : shape) {
    if (__builtin_mul_overflow(total_bits, extent, &total_bits)) {
      throw error(fmt::format("{}: the size of {} [{}] overflows 64 bits", where, name(type),
                              fmt::join(shape, ", ")));
    }
  }
  if (total_bits % 8 != 0) {
    throw error(
        fmt::format("{}: {} [{}] is not a whole number of bytes", where, name(type), fmt::join(shape, ", ")));
  }
  return total_bits / 8;
}

void place_tensors(std::vector<tensor_info>& tensors, const std::string& file) {
  std::sort(tensors.begin(), tensors.end(), [](const tensor_info& a, const tensor_info& b) {
    const uint32_t a_bits = bits(a.dtype);
    const uint32_t b_bits = bits(b.dtype);
    return std::tie(b_bits, a.name) < std::tie(a_bits, b.name);
  });
  std::vector<std::string_view> names;
  names.reserve(tensors.size());
  uint64_t offset = 0;
  for (tensor_info& tensor : tensors) {
    const std::string where = fmt::format("{}: tensor {}", file, show(tensor.name));
    tensor.begin = offset;
    if (__builtin_add_overflow(offset, tensor_bytes(tensor.dtype, tensor.shape, where), &offset)) {
      throw error(fmt::format("{}: the size of the file overflows 64 bits", where));
    }
    tensor.end = offset;
    names.push_back(tensor.name);
  }
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end()) {
    throw error(fmt::format("{}: two tensors would be named {}", file, show(*twice)));
  }
}

std::string serialize_header(const std::vector<tensor_info>& tensors, const metadata_map& metadata,
                             const std::string& file) {
  // Written by hand, so that the header lists the tensors as their data lie; the library's dump() escapes.
  std::string text = "{";
  const char* separator = "";
  if (!metadata.empty()) {
    text += "\"__metadata__\":" + nlohmann::json(metadata).dump();
    separator = ",";
  }
  for (const tensor_info& tensor : tensors) {
    text += fmt::format(R"({}{}:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})", separator,
                        nlohmann::json(tensor.name).dump(), name(tensor.dtype), fmt::join(tensor.shape, ","),
                        tensor.begin, tensor.end);
    separator = ",";
  }
  text += "}";
  text.append((8 - text.size() % 8) % 8, ' ');
  if (text.size() > max_header_bytes) {
    throw error(fmt::format("{}: a header of {} bytes would be above the limit of {}", file, text.size(),
                            max_header_bytes));
  }
  std::string out;
  uint64_t length = text.size();
  for (size_t i = 0; i < length_field_bytes; ++i, length >>= 8) {
    out += static_cast<char>(length & 0xff);
  }
  return out + text;
}

}  // namespace floatx::io
