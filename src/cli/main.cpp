// floatx: quantizes the linear layers of a model, and looks at the result.
//
// Exit status: 0 success, 1 something failed, 2 a wrong command line, 130 interrupted. An error is one line
// on standard error.
//
// SPDX-License-Identifier: Apache-2.0
#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <new>

#include "cli/command_line.hpp"
#include "cli/support.hpp"

namespace {

int fail(int status, std::string message) {
  std::replace_if(
      message.begin(), message.end(), [](char c) { return c == '\n' || c == '\r'; }, ' ');
  fmt::print(stderr, "floatx: error: {}\n", message);
  return status;
}

}  // namespace

int main(int argc, char** argv) {
  floatx::cli::catch_signals();
  try {
    floatx::cli::parse_command_line(argc, argv)();
    // What was printed counts only when it has arrived: standard output may be a file on a full disk.
    if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
      throw std::runtime_error("cannot write to standard output");
    }
    return 0;
  } catch (const floatx::cli::usage_error& error) {
    return fail(2, error.what());
  } catch (const floatx::cli::interrupted& error) {
    return fail(130, error.what());
  } catch (const std::bad_alloc&) {
    return fail(1, "out of memory");
  } catch (const std::exception& error) {
    return fail(1, error.what());
  }
}
