// Small things that every command needs.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

#include "floatx.h"
#include "io/model.hpp"

namespace floatx::cli {

// A command line that asks for something impossible; exit status 2. Everything else that goes wrong is 1.
class usage_error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// SIGINT, SIGTERM or SIGHUP came; exit status 130.
class interrupted : public std::runtime_error {
 public:
  interrupted() : std::runtime_error("interrupted; nothing was written") {}
};

void catch_signals();
void throw_if_interrupted();

// Throws std::runtime_error("CONTEXT: <what the library says>") unless the status is OK.
void check(floatx_status status, const std::string& context);

// Uninitialised host memory for any layout.
class aligned_buffer {
 public:
  aligned_buffer() = default;
  explicit aligned_buffer(size_t bytes);
  void* get() const { return memory_.get(); }
  size_t size() const { return bytes_; }
  // At least this large; the contents are lost when it has to grow.
  void* ensure(size_t bytes);

 private:
  struct release {
    void operator()(void* memory) const { std::free(memory); }
  };
  std::unique_ptr<void, release> memory_;
  size_t bytes_ = 0;
};

// "12.3 MB": decimal units, as file managers and disks have them.
std::string show_bytes(uint64_t bytes);

// A machine-readable report, complete or absent like every other file.
class json_report {
 public:
  // An empty path writes nothing. Throws where the file would replace an input.
  json_report(const std::string& path, const std::vector<const io::model*>& inputs);
  void write(const nlohmann::ordered_json& content);
  void commit();

 private:
  std::optional<io::output_file> file_;
};

// JSON has no infinity: a number that is not finite becomes null.
nlohmann::ordered_json finite_or_null(double value);

}  // namespace floatx::cli
