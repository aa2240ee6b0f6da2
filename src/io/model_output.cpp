// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "io/error.hpp"
#include "io/model.hpp"

namespace floatx::io {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t largest_companion_bytes = 64 << 20;

bool ends_with(const std::string& text, std::string_view end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

// The weights themselves, or the same weights in other clothes.
bool holds_weights(const std::string& file_name) {
  for (const char* end : {".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json", ".pt", ".pth",
                          ".ckpt", ".gguf", ".h5", ".msgpack", ".onnx", ".onnx_data"}) {
    if (ends_with(file_name, end)) {
      return true;
    }
  }
  return false;
}

}  // namespace

model_output::model_output(const model& source, const std::string& out) : source_(source) {
  std::error_code failure;
  const bool exists_as_folder = fs::is_directory(out, failure);
  if (!exists_as_folder && ends_with(out, ".safetensors")) {
    part_paths_.push_back(out);
  } else {
    if (fs::exists(out, failure) && !exists_as_folder) {
      throw error(fmt::format("{}: exists and is not a folder; a file's name must end in .safetensors", out));
    }
    folder_ = out;
    std::set<std::string> names;
    for (const shard& s : source.shards()) {
      const std::string name = fs::path(s.file.path()).filename().string();
      if (!names.insert(name).second) {
        throw error(
            fmt::format("{}: two inputs are named {}, which cannot both lie in this folder", out, name));
      }
      part_paths_.push_back((fs::path(out) / name).string());
    }
    if (exists_as_folder) {
      check_folder_is_ours();
    }
  }
  for (const std::string& path : part_paths_) {
    require_not_input(source, path);
  }
  if (!folder_.empty() && !exists_as_folder) {
    if (!fs::create_directory(folder_, failure)) {
      throw error(fmt::format("{}: cannot make the folder: {}", folder_, failure.message()));
    }
    made_folder_ = true;
  }
}

model_output::~model_output() {
  if (made_folder_ && !committed_) {
    // The folder can only go when the temporary files have gone.
    parts_.clear();
    others_.clear();
    std::error_code ignored;
    fs::remove(folder_, ignored);
  }
}

void require_not_input(const model& source, const std::string& path) {
  struct stat status = {};
  if (stat(path.c_str(), &status) != 0) {
    return;
  }
  for (const shard& s : source.shards()) {
    if (s.file.identity() == file_identity{status.st_dev, status.st_ino}) {
      throw error(fmt::format("{}: is the input {} itself, which would be lost; choose another name", path,
                              s.file.path()));
    }
  }
}

void model_output::check_folder_is_ours() const {
  std::error_code failure;
  if (source_.is_folder() && fs::equivalent(folder_, source_.folder(), failure)) {
    throw error(fmt::format(
        "{}: is the input folder itself, whose weights would be lost; choose another folder", folder_));
  }
  const bool writes_index = part_paths_.size() > 1 || source_.index_metadata();
  for (const fs::directory_entry& entry : fs::directory_iterator(folder_, failure)) {
    const std::string path = entry.path().string();
    const std::string name = entry.path().filename().string();
    const bool is_part = std::any_of(part_paths_.begin(), part_paths_.end(), [&](const std::string& part) {
      return fs::path(part).filename() == name;
    });
    const bool is_index = name == index_file_name;
    if ((ends_with(name, ".safetensors") && !is_part) || (is_index && !writes_index)) {
      throw error(
          fmt::format("{}: belongs to another model, and would be mixed up with the new files; choose an "
                      "empty folder",
                      path));
    }
  }
  if (failure) {
    throw error(fmt::format("{}: cannot read the folder: {}", folder_, failure.message()));
  }
}

void model_output::require_not_output(const std::string& path) const {
  std::error_code failure;
  const fs::path wanted = fs::weakly_canonical(path, failure);
  for (const std::string& part : part_paths_) {
    if (fs::weakly_canonical(part, failure) == wanted) {
      throw error(fmt::format("{}: is also the name of the output", path));
    }
  }
}

metadata_map model_output::source_metadata(size_t part, const std::string& without) const {
  metadata_map merged;
  for (size_t i = 0; i < source_.shards().size(); ++i) {
    if (part_of(i) != part) {
      continue;
    }
    for (const auto& [key, value] : source_.shards()[i].header.metadata) {
      if (!without.empty() && key == without) {
        continue;
      }
      const auto [existing, is_new] = merged.emplace(key, value);
      if (!is_new && existing->second != value) {
        throw error(
            fmt::format("{}: __metadata__ {} differs from the other shards'; write to a folder to keep both",
                        source_.shards()[i].file.path(), show(key)));
      }
    }
  }
  return merged;
}

void model_output::add_part(std::vector<tensor_info> tensors, const metadata_map& metadata) {
  parts_.emplace_back(part_paths_.at(parts_.size()), std::move(tensors), metadata);
}

uint64_t model_output::file_bytes() const {
  uint64_t bytes = 0;
  for (const safetensors_writer& part : parts_) {
    bytes += part.file_bytes();
  }
  return bytes;
}

void model_output::add_index() {
  nlohmann::json map = nlohmann::json::object();
  uint64_t total = 0;
  for (safetensors_writer& part : parts_) {
    const std::string file_name = fs::path(part.file().path()).filename().string();
    for (const tensor_info& tensor : part.tensors()) {
      map[tensor.name] = file_name;
      total += tensor.bytes();
    }
  }
  nlohmann::json metadata = nlohmann::json::parse(source_.index_metadata().value_or("{}"));
  metadata["total_size"] = total;
  const std::string text = nlohmann::json{{"metadata", metadata}, {"weight_map", map}}.dump(2) + "\n";
  others_.emplace_back((fs::path(folder_) / index_file_name).string());
  others_.back().write(0, text.data(), text.size());
}

void model_output::add_companions() {
  std::error_code failure;
  for (const fs::directory_entry& entry : fs::directory_iterator(source_.folder(), failure)) {
    const std::string name = entry.path().filename().string();
    if (name[0] == '.' || holds_weights(name) || !entry.is_regular_file(failure) ||
        entry.file_size(failure) > largest_companion_bytes) {
      continue;
    }
    const mapped_file file(entry.path().string());
    others_.emplace_back((fs::path(folder_) / name).string());
    others_.back().write(0, file.data(), file.size());
  }
  if (failure) {
    throw error(fmt::format("{}: cannot read the folder: {}", source_.folder(), failure.message()));
  }
}

void model_output::commit() {
  if (!folder_.empty()) {
    if (source_.is_folder()) {
      add_companions();
    }
    // Last, because it is what makes the other files one model.
    if (parts_.size() > 1 || source_.index_metadata()) {
      add_index();
    }
  }
  for (safetensors_writer& part : parts_) {
    part.file().sync();
  }
  for (output_file& other : others_) {
    other.sync();
  }
  for (safetensors_writer& part : parts_) {
    part.file().commit();
  }
  for (output_file& other : others_) {
    other.commit();
  }
  committed_ = true;
}

}  // namespace floatx::io
