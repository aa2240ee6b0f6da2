// SPDX-License-Identifier: Apache-2.0
#include "cli/weights.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <floatx/codec.hpp>
#include <nlohmann/json.hpp>

#include "io/error.hpp"

namespace floatx::cli {

using io::show;
using json = nlohmann::json;

// ---- Dense -------------------------------------------------------------------------------------------

dense_tensor::dense_tensor(const io::shard& shard, const io::tensor_info& info)
    : shard_(&shard),
      info_(&info),
      n_(static_cast<int64_t>(info.shape.at(0))),
      k_(static_cast<int64_t>(info.shape.at(1))),
      type_(library_type(info.dtype).value()) {}

const void* dense_tensor::rows(int64_t first, int64_t count, aligned_buffer& buffer) const {
  const uint8_t* source = shard_->data(*info_) + static_cast<size_t>(first) * row_file_bytes();
  const size_t bytes = static_cast<size_t>(count) * row_file_bytes();
  if (info_->dtype == io::dtype::f64) {
    const size_t elements = bytes / sizeof(double);
    auto* values = static_cast<float*>(buffer.ensure(elements * sizeof(float)));
    for (size_t i = 0; i < elements; ++i) {
      double value;
      std::memcpy(&value, source + i * sizeof value, sizeof value);
      values[i] = static_cast<float>(value);
    }
    return values;
  }
  if (reinterpret_cast<uintptr_t>(source) % element_bytes(type_) == 0) {
    return source;
  }
  return std::memcpy(buffer.ensure(bytes), source, bytes);
}

const float* dense_tensor::rows_f32(int64_t first, int64_t count, aligned_buffer& raw,
                                    aligned_buffer& converted) const {
  const void* source = rows(first, count, raw);
  if (type_ == FLOATX_TYPE_F32) {
    return static_cast<const float*>(source);
  }
  const auto elements = static_cast<size_t>(count * k_);
  const auto* halves = static_cast<const uint16_t*>(source);
  auto* values = static_cast<float*>(converted.ensure(elements * sizeof(float)));
  if (type_ == FLOATX_TYPE_F16) {
    std::transform(halves, halves + elements, values, [](uint16_t bits) { return f16_to_f32(bits); });
  } else {
    std::transform(halves, halves + elements, values, [](uint16_t bits) { return bf16_to_f32(bits); });
  }
  return values;
}

void dense_tensor::forget(int64_t first, int64_t count) const {
  shard_->file.forget(shard_->data(*info_) + static_cast<size_t>(first) * row_file_bytes(),
                      static_cast<size_t>(count) * row_file_bytes());
}

int64_t rows_per_block(int64_t k) {
  constexpr int64_t values_per_block = 1 << 20;
  return std::max<int64_t>(1, values_per_block / k);
}

// ---- Names and sizes -----------------------------------------------------------------------------------

std::string codes_name(const std::string& weight) { return weight + "_packed"; }
std::string scales_name(const std::string& weight) { return weight + "_scale"; }
std::string tensor_scale_name(const std::string& weight) { return weight + "_scale_2"; }

canonical_row row_bytes(const floatx_weight& weight) {
  const int64_t groups = weight.group_size == 0 ? 1 : (weight.k + weight.group_size - 1) / weight.group_size;
  return {static_cast<size_t>((weight.k * describe(weight.format).bits + 7) / 8),
          static_cast<size_t>(groups) * (io::bits(file_dtype(weight.scale_type)) / 8)};
}

std::vector<io::tensor_info> stored_tensors(const quantization& scheme, const quantized_entry& entry) {
  const canonical_row row = row_bytes(canonical(scheme, entry));
  const auto n = static_cast<uint64_t>(entry.n);
  const io::dtype scale_dtype = file_dtype(entry.scale_type);
  std::vector<io::tensor_info> tensors(2);
  tensors[0] = {codes_name(entry.name), io::dtype::u8, {n, row.codes_bytes}};
  tensors[1] = {scales_name(entry.name), scale_dtype, {n}};
  if (scheme.group_size != 0) {
    tensors[1].shape.push_back(row.scales_bytes / (io::bits(scale_dtype) / 8));
  }
  if (entry.scale_type == FLOATX_SCALE_E4M3FN) {
    tensors.push_back({tensor_scale_name(entry.name), io::dtype::f32, {1}});
  }
  return tensors;
}

floatx_weight canonical(const quantization& scheme, const quantized_entry& entry) {
  floatx_weight weight = {};
  weight.struct_size = sizeof weight;
  weight.format = scheme.format;
  weight.layout = FLOATX_LAYOUT_CANONICAL;
  weight.n = entry.n;
  weight.k = entry.k;
  weight.group_size = scheme.group_size;
  weight.scale_type = entry.scale_type;
  return weight;
}

floatx_weight rows_of(const floatx_weight& weight, int64_t first, int64_t count) {
  const canonical_row row = row_bytes(weight);
  floatx_weight part = weight;
  part.n = count;
  part.codes = static_cast<uint8_t*>(weight.codes) + static_cast<size_t>(first) * row.codes_bytes;
  part.codes_bytes = static_cast<size_t>(count) * row.codes_bytes;
  part.scales = static_cast<uint8_t*>(weight.scales) + static_cast<size_t>(first) * row.scales_bytes;
  part.scales_bytes = static_cast<size_t>(count) * row.scales_bytes;
  return part;
}

double bits_per_weight(const std::vector<io::tensor_info>& stored, int64_t n, int64_t k) {
  double bytes = 0;
  for (const io::tensor_info& tensor : stored) {
    bytes += static_cast<double>(io::tensor_bytes(tensor.dtype, tensor.shape, tensor.name));
  }
  return bytes * 8 / (static_cast<double>(n) * static_cast<double>(k));
}

// ---- Metadata ------------------------------------------------------------------------------------------

nlohmann::ordered_json describe(const quantization& scheme) {
  nlohmann::ordered_json out = {{"format", describe(scheme.format).name},
                                {"group_size", scheme.group_size},
                                {"scale_type", name(scheme.scale_type)},
                                {"scale_rule", name(scheme.scale_rule)}};
  if (scheme.scale_type == FLOATX_SCALE_E8M0) {
    out["exponent_rule"] = name(scheme.exponent_rule);
  }
  return out;
}

std::string serialize(const quantization& scheme, const std::vector<quantized_entry>& entries) {
  nlohmann::ordered_json out;
  out["version"] = 1;
  out["producer"] = fmt::format("floatx {}", floatx_version_string());
  out.update(describe(scheme));
  // Sorted by name, as the file's own parts are; and inserting into an ordered object would be quadratic.
  json tensors = json::object();
  for (const quantized_entry& entry : entries) {
    json& tensor = tensors[entry.name];
    tensor["shape"] = {entry.n, entry.k};
    tensor["dtype"] = io::name(entry.original);
    if (entry.scale_type != scheme.scale_type) {
      tensor["scale_type"] = name(entry.scale_type);
    }
  }
  out["tensors"] = tensors;
  return out.dump();
}

namespace {

// The metadata come from a file: every value is looked at before it is used.
class metadata_reader {
 public:
  explicit metadata_reader(const io::shard& shard)
      : where_(fmt::format("{}: __metadata__ {}", shard.file.path(), show(metadata_key))) {
    const std::string& text = shard.header.metadata.at(metadata_key);
    json_ = json::parse(text, nullptr, false);
    if (!json_.is_object()) {
      fail("is not a JSON object");
    }
  }

  quantization scheme() const {
    if (const json& version = member(json_, "version"); version != 1) {
      fail(fmt::format("version is {}, and this floatx knows version 1", show(version.dump())));
    }
    quantization scheme;
    const std::string format = text(json_, "format");
    if (floatx_format_parse(format.c_str(), &scheme.format) != FLOATX_STATUS_OK) {
      fail(fmt::format("unknown format {}", show(format)));
    }
    scheme.group_size = integer(member(json_, "group_size"), 0, "group_size");
    scheme.scale_type = scale_type(json_);
    if (json_.contains("scale_rule")) {
      scheme.scale_rule = value_of(parse_scale_rule(text(json_, "scale_rule")), "scale_rule");
    }
    if (json_.contains("exponent_rule")) {
      scheme.exponent_rule = value_of(parse_exponent_rule(text(json_, "exponent_rule")), "exponent_rule");
    }
    return scheme;
  }

  std::vector<quantized_entry> entries(const quantization& scheme) const {
    std::vector<quantized_entry> entries;
    const json& tensors = member(json_, "tensors");
    if (!tensors.is_object()) {
      fail("tensors is not an object");
    }
    for (const auto& [tensor_name, tensor] : tensors.items()) {
      const json& shape = member(tensor, "shape");
      if (!shape.is_array() || shape.size() != 2) {
        fail(fmt::format("tensor {}: shape is not [n, k]", show(tensor_name)));
      }
      quantized_entry entry;
      entry.name = tensor_name;
      entry.n = integer(shape[0], 1, "n");
      entry.k = integer(shape[1], 1, "k");
      entry.scale_type = tensor.contains("scale_type") ? scale_type(tensor) : scheme.scale_type;
      if (tensor.contains("dtype")) {
        entry.original = value_of(io::parse_dtype(text(tensor, "dtype")), "dtype");
      }
      entries.push_back(std::move(entry));
    }
    return entries;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw io::error(fmt::format("{}: {}", where_, what));
  }

  const json& member(const json& object, const char* key) const {
    if (!object.is_object() || !object.contains(key)) {
      fail(fmt::format("{} is missing", key));
    }
    return object.at(key);
  }

  std::string text(const json& object, const char* key) const {
    const json& value = member(object, key);
    if (!value.is_string()) {
      fail(fmt::format("{} is {}, not a string", key, show(value.dump())));
    }
    return value.get<std::string>();
  }

  int64_t integer(const json& value, int64_t smallest, const char* key) const {
    constexpr uint64_t largest = 0x7fffffff;
    if (!value.is_number_unsigned() || value.get<uint64_t>() > largest ||
        static_cast<int64_t>(value.get<uint64_t>()) < smallest) {
      fail(fmt::format("{} is {}, not an integer from {} to {}", key, show(value.dump()), smallest, largest));
    }
    return value.get<int64_t>();
  }

  template <class Value>
  Value value_of(const std::optional<Value>& value, const char* key) const {
    if (!value) {
      fail(fmt::format("unknown {}", key));
    }
    return *value;
  }

  floatx_scale_type scale_type(const json& object) const {
    return value_of(parse_scale_type(text(object, "scale_type")), "scale_type");
  }

  std::string where_;
  json json_;
};

}  // namespace

// ---- Quantized -----------------------------------------------------------------------------------------

stored_weight::stored_weight(const io::model& model, size_t shard, const quantization& scheme,
                             const quantized_entry& entry)
    : shard_(&model.shards()[shard]),
      shard_index_(shard),
      scheme_(scheme),
      entry_(entry),
      weight_(canonical(scheme, entry)) {
  const std::string where = fmt::format("{}: quantized tensor {}", shard_->file.path(), show(entry.name));
  floatx_sizes sizes = {};
  sizes.struct_size = sizeof sizes;
  check(floatx_weight_sizes(&weight_, &sizes), where);

  const std::vector<io::tensor_info> expected = stored_tensors(scheme, entry);
  bits_per_weight_ = cli::bits_per_weight(expected, entry.n, entry.k);
  std::vector<const uint8_t*> data;
  for (const io::tensor_info& tensor : expected) {
    const std::optional<io::tensor_place> place = model.find(tensor.name);
    if (!place || place->shard != shard) {
      throw io::error(fmt::format("{}: tensor {} is missing", where, show(tensor.name)));
    }
    const io::tensor_info& found = model.info(*place);
    if (found.dtype != tensor.dtype || found.shape != tensor.shape) {
      throw io::error(fmt::format("{}: {} is {} [{}], where {} [{}] belongs", where, show(tensor.name),
                                  io::name(found.dtype), fmt::join(found.shape, ", "), io::name(tensor.dtype),
                                  fmt::join(tensor.shape, ", ")));
    }
    names_.push_back(tensor.name);
    data.push_back(shard_->data(found));
  }
  weight_.codes = const_cast<uint8_t*>(data[0]);
  weight_.codes_bytes = sizes.codes_bytes;
  weight_.scales = const_cast<uint8_t*>(data[1]);
  weight_.scales_bytes = sizes.scales_bytes;
  if (reinterpret_cast<uintptr_t>(data[1]) % (io::bits(expected[1].dtype) / 8) != 0) {
    weight_.scales = std::memcpy(scales_copy_.ensure(sizes.scales_bytes), data[1], sizes.scales_bytes);
  }
  if (data.size() == 3) {
    std::memcpy(&tensor_scale_, data[2], sizeof tensor_scale_);
  }
}

floatx_weight stored_weight::weight() const {
  floatx_weight weight = weight_;
  // Set here and not once, because the object may have moved.
  weight.tensor_scale =
      entry_.scale_type == FLOATX_SCALE_E4M3FN ? const_cast<float*>(&tensor_scale_) : nullptr;
  return weight;
}

void stored_weight::forget(int64_t first, int64_t count) const {
  const floatx_weight part = rows_of(weight_, first, count);
  shard_->file.forget(static_cast<const uint8_t*>(part.codes), part.codes_bytes);
}

bool has_quantization(const io::shard& shard) { return shard.header.metadata.count(metadata_key) > 0; }

std::vector<stored_weight> find_stored_weights(const io::model& model) {
  std::vector<stored_weight> weights;
  for (size_t i = 0; i < model.shards().size(); ++i) {
    if (has_quantization(model.shards()[i])) {
      const metadata_reader reader(model.shards()[i]);
      const quantization scheme = reader.scheme();
      for (const quantized_entry& entry : reader.entries(scheme)) {
        weights.emplace_back(model, i, scheme, entry);
      }
    }
  }
  return weights;
}

}  // namespace floatx::cli
