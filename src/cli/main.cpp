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

#include "cli/commands.hpp"
#include "cli/support.hpp"

namespace {

// Shows positional arguments as "IN... OUT" where CLI11 would show the name of the option.
class help_formatter : public CLI::Formatter {
 public:
  std::string make_option_name(const CLI::Option* option, bool is_positional) const override {
    return is_positional ? option->get_option_text()
                         : CLI::Formatter::make_option_name(option, is_positional);
  }
  std::string make_option_opts(const CLI::Option* option) const override {
    return option->get_positional() ? "" : CLI::Formatter::make_option_opts(option);
  }
  std::string make_option_usage(const CLI::Option* option) const override {
    return option->get_option_text();
  }
};

int fail(int status, std::string message) {
  std::replace_if(
      message.begin(), message.end(), [](char c) { return c == '\n' || c == '\r'; }, ' ');
  fmt::print(stderr, "floatx: error: {}\n", message);
  return status;
}

int run(int argc, char** argv) {
  CLI::App app{
      "Quantizes the linear layers of a model to floats of 3 to 8 bits.\n\n"
      "  floatx quantize model.safetensors model-e3m2.safetensors --format e3m2\n"
      "  floatx compare model.safetensors model-e3m2.safetensors\n"
      "  floatx formats\n",
      "floatx"};
  app.set_version_flag("--version", fmt::format("floatx {}", floatx_version_string()));
  app.require_subcommand(1);
  app.formatter(std::make_shared<help_formatter>());
  app.get_formatter()->column_width(34);
  app.failure_message(CLI::FailureMessage::simple);

  floatx::cli::action chosen;
  floatx::cli::add_quantize(app, chosen);
  floatx::cli::add_dequantize(app, chosen);
  floatx::cli::add_inspect(app, chosen);
  floatx::cli::add_compare(app, chosen);
  floatx::cli::add_formats(app, chosen);
  floatx::cli::add_bench(app, chosen);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& help_or_version) {
    return app.exit(help_or_version);
  } catch (const CLI::ParseError& error) {
    throw floatx::cli::usage_error(fmt::format("{} (floatx --help tells more)", error.what()));
  }
  chosen();
  // What was printed counts only when it has arrived: standard output may be a file on a full disk.
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
    throw std::runtime_error("cannot write to standard output");
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  floatx::cli::catch_signals();
  try {
    return run(argc, argv);
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
