// What goes wrong with files. The message names the file, the tensor where there is one, the value and
// the rule it breaks, in one line.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace floatx::io {

class error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Text from a file on one line, safe to show on a terminal: names may hold anything that JSON can spell,
// escape sequences included. Long text is shortened in the middle.
std::string printable(std::string_view text);

// The same in quotes, for messages.
std::string show(std::string_view text);

// Throws error("PATH: ACTION: <the meaning of errno>").
[[noreturn]] void throw_errno(const std::string& path, const char* action, int errno_value);

}  // namespace floatx::io
