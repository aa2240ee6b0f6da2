// SPDX-License-Identifier: Apache-2.0
#include "io/model.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "io/error.hpp"

namespace floatx::io {
namespace {

namespace fs = std::filesystem;

// Builds a document and refuses keys that appear twice, of which the library would keep the last.
nlohmann::json parse_index(const mapped_file& file) {
  std::vector<std::set<std::string>> open_objects;
  const auto callback = [&](int, nlohmann::json::parse_event_t event, nlohmann::json& parsed) {
    if (event == nlohmann::json::parse_event_t::object_start) {
      open_objects.emplace_back();
    } else if (event == nlohmann::json::parse_event_t::object_end) {
      open_objects.pop_back();
    } else if (event == nlohmann::json::parse_event_t::key &&
               !open_objects.back().insert(parsed.get<std::string>()).second) {
      throw error(fmt::format("{}: {} appears twice", file.path(), show(parsed.get<std::string>())));
    }
    return true;
  };
  try {
    return nlohmann::json::parse(file.data(), file.data() + file.size(), callback);
  } catch (const nlohmann::json::exception& cause) {
    throw error(fmt::format("{}: not valid JSON: {}", file.path(), show(cause.what())));
  }
}

// The index is data from elsewhere: it must not lead out of its folder.
bool is_plain_file_name(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == std::string::npos &&
         name.find('\0') == std::string::npos;
}

}  // namespace

model::model(const std::vector<std::string>& paths) {
  std::error_code ignored;
  if (paths.size() == 1 && fs::is_directory(paths[0], ignored)) {
    folder_ = paths[0];
    const fs::path index = fs::path(folder_) / index_file_name;
    const fs::path single = fs::path(folder_) / single_file_name;
    if (fs::exists(index, ignored)) {
      read_index(index.string());
    } else if (fs::exists(single, ignored)) {
      add_shard(single.string());
    } else {
      throw error(
          fmt::format("{}: the folder holds neither {} nor {}", folder_, index_file_name, single_file_name));
    }
    return;
  }
  for (const std::string& path : paths) {
    add_shard(path);
  }
}

void model::add_shard(const std::string& path) {
  mapped_file file(path);
  for (const shard& other : shards_) {
    if (other.file.identity() == file.identity()) {
      throw error(fmt::format("{}: given twice (it is the same file as {})", path, other.file.path()));
    }
  }
  safetensors_header header = parse_safetensors(file.data(), file.size(), path);
  for (size_t i = 0; i < header.tensors.size(); ++i) {
    const auto [existing, is_new] = places_.emplace(header.tensors[i].name, tensor_place{shards_.size(), i});
    if (!is_new) {
      throw error(fmt::format("{}: tensor {} is also in {}", path, show(header.tensors[i].name),
                              shards_[existing->second.shard].file.path()));
    }
  }
  shards_.push_back({std::move(file), std::move(header)});
}

void model::read_index(const std::string& path) {
  const mapped_file file(path);
  const nlohmann::json index = parse_index(file);
  const auto map = index.is_object() ? index.find("weight_map") : index.end();
  if (!index.is_object() || map == index.end() || !map->is_object()) {
    throw error(fmt::format("{}: weight_map, an object from tensor names to file names, is missing", path));
  }
  index_metadata_ = "{}";
  if (const auto metadata = index.find("metadata"); metadata != index.end() && metadata->is_object()) {
    index_metadata_ = metadata->dump();
  }
  std::map<std::string, size_t> shard_of_file;
  for (const auto& [tensor, shard_name] : map->items()) {
    if (!shard_name.is_string() || !is_plain_file_name(shard_name.get<std::string>())) {
      throw error(fmt::format("{}: weight_map: tensor {} must lie in a file of the same folder, not in {}",
                              path, show(tensor), show(shard_name.dump())));
    }
    shard_of_file.emplace(shard_name.get<std::string>(), 0);
  }
  for (auto& [name, number] : shard_of_file) {
    number = shards_.size();
    add_shard((fs::path(folder_) / name).string());
  }
  for (const auto& [tensor, shard_name] : map->items()) {
    const std::optional<tensor_place> place = find(tensor);
    if (!place || place->shard != shard_of_file.at(shard_name.get<std::string>())) {
      throw error(fmt::format("{}: weight_map: tensor {} is not in {}", path, show(tensor),
                              show(shard_name.get<std::string>())));
    }
  }
}

std::optional<tensor_place> model::find(const std::string& name) const {
  const auto found = places_.find(name);
  return found == places_.end() ? std::nullopt : std::optional<tensor_place>(found->second);
}

uint64_t model::file_bytes() const {
  uint64_t bytes = 0;
  for (const shard& s : shards_) {
    bytes += s.file.size();
  }
  return bytes;
}

}  // namespace floatx::io
