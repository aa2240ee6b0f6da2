// SPDX-License-Identifier: Apache-2.0
#include "tensors.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>

namespace llama {
namespace {

using json = nlohmann::json;
namespace fs = std::filesystem;

constexpr size_t length_bytes = 8;

// The header as JSON, with where the data begin.
std::pair<json, size_t> read_header(const mapped_file& file) {
  uint64_t length = 0;
  if (file.size() < length_bytes) {
    throw error(fmt::format("{}: {} bytes are too few for a safetensors file", file.path(), file.size()));
  }
  for (size_t i = length_bytes; i-- > 0;) length = length << 8 | file.data()[i];
  if (length > file.size() - length_bytes) {
    throw error(
        fmt::format("{}: a header of {} bytes does not fit the file's {}: truncated, or no safetensors",
                    file.path(), length, file.size()));
  }
  json header = json::parse(file.text().substr(length_bytes, length), nullptr, false);
  if (!header.is_object()) throw error(fmt::format("{}: the header is not a JSON object", file.path()));
  return {std::move(header), length_bytes + length};
}

// Whether the value is a list of `count` non-negative integers (any number of them for count < 0).
bool is_sizes(const json& value, int count) {
  return value.is_array() && (count < 0 || value.size() == static_cast<size_t>(count)) &&
         std::all_of(value.begin(), value.end(), [](const json& v) {
           return v.is_number_unsigned() && v.get<uint64_t>() <= uint64_t{1} << 62;
         });
}

tensor read_tensor(const json& entry, const mapped_file& file, size_t data_begin, const std::string& where) {
  if (!entry.is_object() || !entry.contains("dtype") || !entry["dtype"].is_string() ||
      !entry.contains("shape") || !is_sizes(entry["shape"], -1) || !entry.contains("data_offsets") ||
      !is_sizes(entry["data_offsets"], 2)) {
    throw error(fmt::format("{}: dtype, shape and data_offsets must be there and well-formed", where));
  }
  tensor found;
  found.dtype = entry["dtype"].get<std::string>();
  found.shape = entry["shape"].get<std::vector<int64_t>>();
  const auto begin = entry["data_offsets"][0].get<uint64_t>();
  const auto end = entry["data_offsets"][1].get<uint64_t>();
  if (begin > end || end > file.size() - data_begin) {
    throw error(fmt::format("{}: data_offsets [{}, {}] leave the file's {} bytes of data: is it truncated?",
                            where, begin, end, file.size() - data_begin));
  }
  found.data = file.data() + data_begin + begin;
  found.bytes = end - begin;
  if (const int bits = dtype_bits(found.dtype); bits != 0) {
    uint64_t total = static_cast<uint64_t>(bits);
    bool overflow = false;
    for (const int64_t extent : found.shape) {
      overflow = overflow || __builtin_mul_overflow(total, static_cast<uint64_t>(extent), &total);
    }
    if (overflow || total != found.bytes * 8) {
      throw error(fmt::format("{}: data_offsets span {} bytes, which {} {} does not take", where, found.bytes,
                              found.dtype, entry["shape"].dump()));
    }
  }
  return found;
}

}  // namespace

int dtype_bits(const std::string& dtype) {
  static const std::map<std::string, int> known = {{"F64", 64}, {"F32", 32},    {"F16", 16},   {"BF16", 16},
                                                   {"U8", 8},   {"I8", 8},      {"I32", 32},   {"I64", 64},
                                                   {"BOOL", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}};
  const auto found = known.find(dtype);
  return found == known.end() ? 0 : found->second;
}

tensor_folder::tensor_folder(const std::string& folder) : folder_(folder) {
  if (!fs::is_directory(folder)) throw error(fmt::format("{}: is not a folder", folder));
  const fs::path single = fs::path(folder) / "model.safetensors";
  const fs::path index = fs::path(folder) / "model.safetensors.index.json";
  if (fs::exists(index)) {
    read_index(index.string());
  } else if (fs::exists(single)) {
    add_file(single.string());
  } else {
    throw error(fmt::format("{}: holds neither {} nor {}", folder, single.filename().string(),
                            index.filename().string()));
  }
}

void tensor_folder::add_file(const std::string& path) {
  const size_t number = files_.size();
  const mapped_file& file = files_.emplace_back(path);
  const auto [header, data_begin] = read_header(file);
  metadata_.emplace_back();
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") {
      for (const auto& [key, value] : entry.items()) {
        if (value.is_string()) metadata_[number][key] = value.get<std::string>();
      }
      continue;
    }
    const std::string where = fmt::format("{}: tensor {}", path, show(name));
    tensor found = read_tensor(entry, file, data_begin, where);
    found.file = number;
    if (!tensors_.emplace(name, std::move(found)).second) {
      throw error(fmt::format("{}: is in another file of the folder, too", where));
    }
  }
}

void tensor_folder::read_index(const std::string& path) {
  const mapped_file file(path);
  const json index = json::parse(file.text(), nullptr, false);
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object()) {
    throw error(fmt::format("{}: weight_map, an object from tensors to files, is missing", path));
  }
  std::set<std::string> names;
  for (const auto& [name, shard] : index["weight_map"].items()) {
    // The index is data from elsewhere: it must not lead out of its folder.
    if (!shard.is_string() || shard.get<std::string>().find('/') != std::string::npos) {
      throw error(fmt::format("{}: weight_map: tensor {}: {} is not a file name", path, show(name),
                              show(shard.dump())));
    }
    names.insert(shard.get<std::string>());
  }
  for (const std::string& shard : names) add_file((fs::path(folder_) / shard).string());
  for (const auto& [name, shard] : index["weight_map"].items()) {
    const tensor* found = find(name);
    if (found == nullptr || fs::path(files_[found->file].path()).filename() != shard.get<std::string>()) {
      throw error(fmt::format("{}: weight_map: tensor {} is not in {}", path, show(name), shard.dump()));
    }
  }
}

const tensor* tensor_folder::find(const std::string& name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

const tensor& tensor_folder::get(const std::string& name) const {
  const tensor* found = find(name);
  if (found == nullptr) throw error(fmt::format("{}: tensor {} is missing", folder_, show(name)));
  return *found;
}

std::string tensor_folder::where(const std::string& name) const {
  const tensor* found = find(name);
  return fmt::format("{}: tensor {}", found == nullptr ? folder_ : files_[found->file].path(), show(name));
}

std::vector<std::pair<std::string, std::string>> tensor_folder::metadata(const std::string& key) const {
  std::vector<std::pair<std::string, std::string>> found;
  for (size_t i = 0; i < files_.size(); ++i) {
    const auto entry = metadata_[i].find(key);
    if (entry != metadata_[i].end()) found.emplace_back(files_[i].path(), entry->second);
  }
  return found;
}

void write_tensors(const std::string& path, std::vector<tensor_to_write> tensors,
                   const std::map<std::string, std::string>& metadata) {
  std::sort(tensors.begin(), tensors.end(), [](const tensor_to_write& a, const tensor_to_write& b) {
    return std::make_tuple(-dtype_bits(a.dtype), std::cref(a.name)) <
           std::make_tuple(-dtype_bits(b.dtype), std::cref(b.name));
  });
  nlohmann::ordered_json header = {{"__metadata__", metadata}};
  size_t offset = 0;
  for (const tensor_to_write& t : tensors) {
    header[t.name] = {{"dtype", t.dtype}, {"shape", t.shape}, {"data_offsets", {offset, offset + t.bytes}}};
    offset += t.bytes;
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');
  std::string length;
  for (uint64_t rest = text.size(), i = 0; i < length_bytes; ++i, rest >>= 8) {
    length += static_cast<char>(rest & 0xff);
  }
  output_file file(path);
  file.write(length);
  file.write(text);
  for (const tensor_to_write& t : tensors) file.write(t.data, t.bytes);
  file.commit();
}

}  // namespace llama
