// SPDX-License-Identifier: Apache-2.0
#include "io/error.hpp"

#include <fmt/core.h>

#include <system_error>

namespace floatx::io {

std::string printable(std::string_view text) {
  constexpr size_t most_shown = 200;
  constexpr size_t head = 120;
  constexpr size_t tail = 60;
  const auto append_escaped = [](std::string& out, std::string_view part) {
    for (size_t i = 0; i < part.size(); ++i) {
      const auto byte = static_cast<unsigned char>(part[i]);
      // U+0080 .. U+009F are control characters too, in UTF-8 C2 80 .. C2 9F.
      const bool is_c1 =
          byte == 0xc2 && i + 1 < part.size() && static_cast<unsigned char>(part[i + 1]) < 0xa0;
      if (byte < 0x20 || byte == 0x7f || is_c1) {
        out += fmt::format("\\x{:02x}", byte);
      } else {
        out += byte == '\'' || byte == '\\' ? "\\" : "";
        out += part[i];
      }
    }
  };
  std::string out;
  if (text.size() <= most_shown) {
    append_escaped(out, text);
  } else {
    append_escaped(out, text.substr(0, head));
    out += "...";
    append_escaped(out, text.substr(text.size() - tail));
  }
  return out;
}

std::string show(std::string_view text) { return "'" + printable(text) + "'"; }

void throw_errno(const std::string& path, const char* action, int errno_value) {
  throw error(fmt::format("{}: {}: {}", path, action, std::generic_category().message(errno_value)));
}

}  // namespace floatx::io
