// The commands of the program. Each adds itself, with its options and examples, to the command line.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

namespace floatx::cli {

// What to do once the whole command line has been read.
using action = std::function<void()>;

void add_quantize(CLI::App& app, action& chosen);
void add_dequantize(CLI::App& app, action& chosen);
void add_inspect(CLI::App& app, action& chosen);
void add_compare(CLI::App& app, action& chosen);
void add_formats(CLI::App& app, action& chosen);
void add_bench(CLI::App& app, action& chosen);

}  // namespace floatx::cli
