// The command line: options, their help and their checks.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>

namespace floatx::cli {

// What the command line asks for. Help and version are printed here; nothing is left to do after them.
// Throws usage_error.
std::function<void()> parse_command_line(int argc, char** argv);

}  // namespace floatx::cli
