// SPDX-License-Identifier: Apache-2.0
#include "io/header_parser.hpp"

#include <fmt/format.h>

#include <cstring>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "io/error.hpp"

namespace floatx::io {
namespace {

constexpr const char* metadata_name = "__metadata__";

// A state machine over the parser's events. A document tree would have lost what must be refused: it keeps
// one of two equal keys, and it turns 1e1 and 18446744073709551616 into numbers that look harmless.
class header_handler : public nlohmann::json_sax<nlohmann::json> {
 public:
  header_handler(const std::string& file, safetensors_header& header) : file_(file), header_(header) {}

  bool null() override { unexpected("null"); }
  bool boolean(bool value) override { unexpected(value ? "true" : "false"); }
  bool number_integer(number_integer_t value) override {
    unexpected(fmt::format("the negative number {}", value));
  }
  bool number_float(number_float_t, const string_t& text) override {
    unexpected(fmt::format("{}, which is not an integer from 0 to 2^64 - 1", show(text)));
  }
  bool binary(binary_t&) override { unexpected("binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (state_ != state::shape && state_ != state::offsets) {
      unexpected(fmt::format("the number {}", value));
    }
    if (state_ == state::shape) {
      tensor().shape.push_back(value);
    } else if (offset_count_ < 2) {
      (offset_count_ == 0 ? tensor().begin : tensor().end) = value;
      ++offset_count_;
    } else {
      unexpected("a third number");
    }
    return true;
  }

  bool string(string_t& value) override {
    if (state_ == state::metadata) {
      header_.metadata[key_] = value;
    } else if (state_ == state::dtype) {
      const std::optional<io::dtype> type = parse_dtype(value);
      if (!type) {
        fail(fmt::format("unknown dtype {}", show(value)));
      }
      tensor().dtype = *type;
      state_ = state::tensor;
    } else {
      unexpected(fmt::format("the string {}", show(value)));
    }
    return true;
  }

  bool start_object(size_t) override {
    if (state_ == state::before) {
      state_ = state::file;
    } else if (state_ == state::file_value) {
      seen_in_entry_.clear();
      if (key_ == metadata_name) {
        state_ = state::metadata;
      } else {
        header_.tensors.emplace_back();
        tensor().name = key_;
        state_ = state::tensor;
      }
    } else {
      unexpected("an object");
    }
    return true;
  }

  bool key(string_t& value) override {
    std::unordered_set<std::string>& seen = state_ == state::file ? seen_in_file_ : seen_in_entry_;
    if (!seen.insert(value).second) {
      fail(fmt::format("{} appears twice", show(value)));
    }
    key_ = value;
    if (state_ == state::file) {
      state_ = state::file_value;
    } else if (state_ == state::tensor) {
      if (value == "dtype") {
        state_ = state::dtype;
      } else if (value == "shape") {
        state_ = state::shape_value;
      } else if (value == "data_offsets") {
        state_ = state::offsets_value;
      } else {
        fail(fmt::format("unknown key {}", show(value)));
      }
    }
    return true;
  }

  bool end_object() override {
    if (state_ == state::tensor) {
      for (const char* required : {"dtype", "shape", "data_offsets"}) {
        if (seen_in_entry_.count(required) == 0) {
          fail(fmt::format("{} is missing", required));
        }
      }
    }
    state_ = state_ == state::file ? state::after : state::file;
    return true;
  }

  bool start_array(size_t) override {
    if (state_ == state::shape_value) {
      state_ = state::shape;
    } else if (state_ == state::offsets_value) {
      state_ = state::offsets;
      offset_count_ = 0;
    } else {
      unexpected("an array");
    }
    return true;
  }

  bool end_array() override {
    if (state_ == state::offsets && offset_count_ != 2) {
      fail(fmt::format("data_offsets holds {} numbers, not 2", offset_count_));
    }
    state_ = state::tensor;
    return true;
  }

  bool parse_error(size_t position, const std::string&, const nlohmann::json::exception& cause) override {
    // The parser's own text begins with its class in brackets and may quote raw bytes of the file.
    const std::string_view text = cause.what();
    const size_t colon = text.find(": ");
    throw error(fmt::format("{}: the header is not valid JSON at its byte {}: {}", file_, position,
                            show(colon == std::string_view::npos ? text : text.substr(colon + 2))));
  }

 private:
  enum class state {
    before,         // the object that is the header
    file,           // a key: a tensor's name or __metadata__
    file_value,     // the object that belongs to it
    metadata,       // strings under keys
    tensor,         // one of the three keys
    dtype,          // the value of dtype
    shape_value,    // the array of shape
    shape,          // its numbers
    offsets_value,  // the array of data_offsets
    offsets,        // its numbers
    after,
  };

  tensor_info& tensor() { return header_.tensors.back(); }

  // Where in the header we are, for messages.
  std::string place() const {
    switch (state_) {
      case state::before:
      case state::file:
      case state::after:
        return "the header";
      case state::file_value:
        return show(key_);
      case state::metadata:
        return metadata_name;
      default:
        return fmt::format("tensor {}", show(header_.tensors.back().name));
    }
  }

  const char* expected() const {
    switch (state_) {
      case state::metadata:
        return "a string";
      case state::dtype:
        return "the name of a dtype";
      case state::shape_value:
      case state::offsets_value:
        return "an array";
      case state::shape:
      case state::offsets:
        return "an integer that is not negative";
      default:
        return "an object";
    }
  }

  [[noreturn]] void fail(const std::string& what) const {
    throw error(fmt::format("{}: {}: {}", file_, place(), what));
  }

  [[noreturn]] void unexpected(const std::string& found) const {
    const bool under_key = state_ != state::before && state_ != state::file_value;
    fail(fmt::format("{}{} where {} belongs", under_key ? show(key_) + " has " : "", found, expected()));
  }

  const std::string& file_;
  safetensors_header& header_;
  state state_ = state::before;
  std::string key_;
  int offset_count_ = 0;
  std::unordered_set<std::string> seen_in_file_;
  std::unordered_set<std::string> seen_in_entry_;
};

}  // namespace

void parse_header_json(const uint8_t* text, size_t size, const std::string& file,
                       safetensors_header& header) {
  // The format wants the brace as the first byte; the parser alone would also skip spaces or a byte order
  // mark.
  if (size == 0 || text[0] != '{') {
    throw error(fmt::format("{}: the header does not begin with '{{'", file));
  }
  // The parser takes a zero byte for the end of the text and would ignore what follows it. JSON has none.
  if (const void* zero = std::memchr(text, 0, size)) {
    throw error(fmt::format("{}: the header is not valid JSON at its byte {}: a zero byte", file,
                            static_cast<const uint8_t*>(zero) - text + 1));
  }
  header_handler handler(file, header);
  nlohmann::json::sax_parse(text, text + size, &handler);
}

}  // namespace floatx::io
