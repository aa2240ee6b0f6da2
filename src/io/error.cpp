// SPDX-License-Identifier: Apache-2.0
#include "io/error.hpp"

#include <fmt/core.h>

#include <system_error>

namespace floatx::io {

std::string show(std::string_view text) {
  constexpr size_t most_shown = 200;
  constexpr size_t head = 120;
  constexpr size_t tail = 60;
  auto append_escaped = [](std::string& out, std::string_view part) {
    for (const char c : part) {
      const auto byte = static_cast<unsigned char>(c);
      if (byte < 0x20 || byte == 0x7f) {
        out += fmt::format("\\x{:02x}", byte);
      } else if (c == '\'' || c == '\\') {
        out += '\\';
        out += c;
      } else {
        out += c;
      }
    }
  };
  std::string out = "'";
  if (text.size() <= most_shown) {
    append_escaped(out, text);
  } else {
    append_escaped(out, text.substr(0, head));
    out += "...";
    append_escaped(out, text.substr(text.size() - tail));
  }
  out += '\'';
  return out;
}

void throw_errno(const std::string& path, const char* action, int errno_value) {
  throw error(fmt::format("{}: {}: {}", path, action, std::generic_category().message(errno_value)));
}

}  // namespace floatx::io
