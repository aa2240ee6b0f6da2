// SPDX-License-Identifier: Apache-2.0
#include "weights.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <floatx/codec.hpp>
#include <nlohmann/json.hpp>
#include <random>
#include <regex>

namespace llama {
namespace {

using json = nlohmann::json;

struct scale_names {
  floatx_scale_type type;
  const char* name;   // in the metadata
  const char* dtype;  // of the tensor
};
constexpr scale_names scales[] = {{FLOATX_SCALE_F32, "f32", "F32"},
                                  {FLOATX_SCALE_F16, "f16", "F16"},
                                  {FLOATX_SCALE_BF16, "bf16", "BF16"},
                                  {FLOATX_SCALE_E8M0, "e8m0", "F8_E8M0"},
                                  {FLOATX_SCALE_E4M3FN, "e4m3fn", "F8_E4M3"}};

const scale_names* find_scale(const std::string& name) {
  for (const scale_names& s : scales) {
    if (name == s.name) return &s;
  }
  return nullptr;
}

std::optional<floatx_type> dense_type(const std::string& dtype) {
  if (dtype == "F32") return FLOATX_TYPE_F32;
  if (dtype == "F16") return FLOATX_TYPE_F16;
  if (dtype == "BF16") return FLOATX_TYPE_BF16;
  return std::nullopt;
}

// The data where they lie, or a copy where a file does not align them.
const void* aligned(const tensor& t, size_t alignment, std::shared_ptr<const void>& owner) {
  if (reinterpret_cast<uintptr_t>(t.data) % alignment == 0) return t.data;
  auto copy = std::make_shared<buffer>(t.bytes);
  const void* data = std::memcpy(copy->get(), t.data, t.bytes);
  owner = std::shared_ptr<const void>(copy, data);
  return data;
}

}  // namespace

void check(floatx_status status, const std::string& where) {
  if (status != FLOATX_STATUS_OK) throw error(fmt::format("{}: {}", where, floatx_last_error()));
}

std::string format_name(floatx_format format) {
  floatx_format_info info = {};
  info.struct_size = sizeof info;
  check(floatx_format_describe(format, &info), "format");
  return info.name;
}

std::optional<floatx_format> parse_format(const std::string& name) {
  if (name == "none") return std::nullopt;
  floatx_format format;
  if (floatx_format_parse(name.c_str(), &format) != FLOATX_STATUS_OK) {
    throw usage_error(fmt::format("--format {}: is neither none nor a format such as e3m2", show(name)));
  }
  return format;
}

std::string quantization::name() const {
  if (!format) return "none";
  std::string text = format_name(*format);
  if (group_size != 0) text += fmt::format(", groups of {}", group_size);
  return text;
}

namespace names {
std::string block(int64_t layer, const char* part) {
  return fmt::format("model.layers.{}.{}.weight", layer, part);
}
}  // namespace names

bool is_block_linear(const std::string& name) {
  static const std::regex pattern(
      R"(model\.layers\.\d+\.(self_attn\.[qkvo]|mlp\.(gate|up|down))_proj\.weight)");
  return std::regex_match(name, pattern);
}

// ---- Folders ---------------------------------------------------------------------------------------------

model_folder::model_folder(const std::string& folder) : config_(read_config(folder)), tensors_(folder) {
  for (const auto& [file, text] : tensors_.metadata("floatx")) read_quantization(file, text);
}

void model_folder::read_quantization(const std::string& file, const std::string& text) {
  const auto fail = [&](const std::string& what) {
    throw error(fmt::format("{}: __metadata__ \"floatx\": {}", file, what));
  };
  const json meta = json::parse(text, nullptr, false);
  if (!meta.is_object() || meta.value("version", json()) != 1) fail("version is not 1");
  quantization scheme;
  floatx_format format = {};
  const json format_value = meta.value("format", json());
  if (!format_value.is_string() ||
      floatx_format_parse(format_value.get<std::string>().c_str(), &format) != FLOATX_STATUS_OK) {
    fail(fmt::format("format is {}, which is none", show(format_value.dump())));
  }
  const json group = meta.value("group_size", json());
  if (!group.is_number_unsigned() || group > 128) fail(fmt::format("group_size is {}", show(group.dump())));
  const auto scale_of = [&](const json& object) {
    const json value = object.value("scale_type", json());
    const scale_names* found = value.is_string() ? find_scale(value.get<std::string>()) : nullptr;
    if (found == nullptr) fail(fmt::format("scale_type is {}", show(value.dump())));
    return found->type;
  };
  scheme.format = format;
  scheme.group_size = group.get<int64_t>();
  scheme.scale_type = scale_of(meta);
  const json tensors = meta.value("tensors", json());
  if (!tensors.is_object()) fail("tensors is not an object");
  for (const auto& [name, about] : tensors.items()) {
    const json shape = about.is_object() ? about.value("shape", json()) : json();
    if (!shape.is_array() || shape.size() != 2 || !shape[0].is_number_unsigned() ||
        !shape[1].is_number_unsigned()) {
      fail(fmt::format("tensor {}: shape is not [n, k]", show(name)));
    }
    const auto scale_type = about.contains("scale_type") ? scale_of(about) : scheme.scale_type;
    entries_[name] = {format, scheme.group_size, scale_type, shape[0].get<int64_t>(),
                      shape[1].get<int64_t>()};
  }
  quantized_ = scheme;
}

matrix model_folder::stored(const std::string& name, const entry& stored) const {
  matrix found;
  found.where = tensors_.where(name + "_packed");
  found.n = stored.n;
  found.k = stored.k;
  floatx_weight& weight = found.canonical;
  weight.struct_size = sizeof weight;
  weight.format = stored.format;
  weight.layout = FLOATX_LAYOUT_CANONICAL;
  weight.n = stored.n;
  weight.k = stored.k;
  weight.group_size = stored.group_size;
  weight.scale_type = stored.scale_type;
  floatx_sizes sizes = {};
  sizes.struct_size = sizeof sizes;
  check(floatx_weight_sizes(&weight, &sizes), found.where);
  const auto part = [&](const char* suffix, const std::string& dtype, size_t bytes) -> const tensor& {
    const tensor& t = tensors_.get(name + suffix);
    if (t.dtype != dtype || t.bytes != bytes) {
      throw error(fmt::format("{}: {} bytes of {}, but {} bytes of {} belong there",
                              tensors_.where(name + suffix), t.bytes, t.dtype, bytes, dtype));
    }
    return t;
  };
  // floatx never writes to a source; its structs serve both directions.
  const auto writable = [](const void* data) { return const_cast<void*>(data); };
  weight.codes = writable(part("_packed", "U8", sizes.codes_bytes).data);
  weight.codes_bytes = sizes.codes_bytes;
  const char* scale_dtype = nullptr;
  for (const scale_names& s : scales) {
    if (s.type == stored.scale_type) scale_dtype = s.dtype;
  }
  std::shared_ptr<const void> scales_owner;
  weight.scales = writable(aligned(part("_scale", scale_dtype, sizes.scales_bytes), 4, scales_owner));
  weight.scales_bytes = sizes.scales_bytes;
  std::shared_ptr<const void> tensor_scale_owner;
  if (stored.scale_type == FLOATX_SCALE_E4M3FN) {
    const void* scale = aligned(part("_scale_2", "F32", sizeof(float)), alignof(float), tensor_scale_owner);
    weight.tensor_scale = static_cast<float*>(writable(scale));
  }
  using owners = std::pair<std::shared_ptr<const void>, std::shared_ptr<const void>>;
  found.owner = std::make_shared<owners>(scales_owner, tensor_scale_owner);
  return found;
}

matrix model_folder::linear(const std::string& name, int64_t n, int64_t k) {
  matrix found;
  const auto entry = entries_.find(name);
  if (entry != entries_.end()) {
    found = stored(name, entry->second);
  } else {
    const tensor& t = tensors_.get(name);
    found.where = tensors_.where(name);
    const std::optional<floatx_type> type = dense_type(t.dtype);
    if (!type || t.shape.size() != 2) {
      throw error(fmt::format("{}: is {} with {} dimensions; F32, F16 or BF16 with 2 belongs there",
                              found.where, t.dtype, t.shape.size()));
    }
    found.type = *type;
    found.n = t.shape[0];
    found.k = t.shape[1];
    found.values = aligned(t, *type == FLOATX_TYPE_F32 ? 4 : 2, found.owner);
  }
  if (found.n != n || found.k != k) {
    throw error(fmt::format("{}: shape is [{}, {}], but config.json asks for [{}, {}]", found.where, found.n,
                            found.k, n, k));
  }
  return found;
}

std::vector<float> model_folder::vector(const std::string& name, int64_t n) {
  const tensor& t = tensors_.get(name);
  const std::optional<floatx_type> type = dense_type(t.dtype);
  if (!type || t.shape != std::vector<int64_t>{n}) {
    throw error(fmt::format("{}: is not {} values of F32, F16 or BF16, as config.json asks for",
                            tensors_.where(name), n));
  }
  std::vector<float> values(static_cast<size_t>(n));
  std::shared_ptr<const void> owner;
  to_float(*type, aligned(t, 4, owner), n, values.data());
  return values;
}

// ---- Chance ----------------------------------------------------------------------------------------------

random_source::random_source(const model_config& config) : config_(config) {}

// Drawing billions of numbers would take longer than measuring with them: a matrix is a window into a pool in
// which a few million repeat, each a little further on.
matrix random_source::linear(const std::string& name, int64_t n, int64_t k) {
  constexpr size_t period = (1 << 22) + 31;
  std::vector<uint16_t>& pool = pools_[k];
  if (const size_t wanted = static_cast<size_t>(n * k) + period; pool.size() < wanted) {
    std::mt19937 generator(1);
    std::normal_distribution<float> normal(0, 1 / std::sqrt(static_cast<float>(k)));
    pool.resize(wanted);
    for (size_t i = 0; i < period; ++i) pool[i] = floatx::f32_to_bf16(normal(generator));
    for (size_t i = period; i < wanted; i += period) {
      std::copy_n(pool.begin(), std::min(period, wanted - i), pool.begin() + static_cast<std::ptrdiff_t>(i));
    }
  }
  // Aligned to 64 bytes, and another place each time.
  next_ = (next_ + 32 * 8191) % (period - 31);
  matrix made;
  made.where = name;
  made.n = n;
  made.k = k;
  made.values = pool.data() + next_ / 32 * 32;
  made.shared = true;
  return made;
}

std::vector<float> random_source::vector(const std::string&, int64_t n) {
  return std::vector<float>(static_cast<size_t>(n), 1.0F);
}

// ---- Rows ------------------------------------------------------------------------------------------------

void to_float(floatx_type type, const void* values, int64_t count, float* out) {
  const auto* halves = static_cast<const uint16_t*>(values);
  if (type == FLOATX_TYPE_F32) {
    std::memcpy(out, values, static_cast<size_t>(count) * sizeof(float));
  } else if (type == FLOATX_TYPE_F16) {
    for (int64_t i = 0; i < count; ++i) out[i] = floatx::f16_to_f32(halves[i]);
  } else {
    for (int64_t i = 0; i < count; ++i) out[i] = floatx::bf16_to_f32(halves[i]);
  }
}

row_reader::row_reader(matrix source) : source_(std::move(source)) {
  if (source_.values == nullptr) {
    // An embedding that was quantized, too: rows are read one at a time, so it is kept dense.
    auto memory = std::make_shared<buffer>(static_cast<size_t>(source_.n * source_.k) * sizeof(float));
    check(floatx_unpack(&source_.canonical, FLOATX_TYPE_F32, memory->get(), source_.k, nullptr),
          source_.where);
    source_.type = FLOATX_TYPE_F32;
    source_.values = memory->get();
    source_.owner = memory;
  }
}

void row_reader::read(int64_t row, float* out) const {
  to_float(source_.type,
           static_cast<const char*>(source_.values) + static_cast<size_t>(row) * source_.row_bytes(),
           source_.k, out);
}

size_t row_reader::bytes() const { return static_cast<size_t>(source_.n) * source_.row_bytes(); }

}  // namespace llama
