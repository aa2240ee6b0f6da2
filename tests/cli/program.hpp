// Runs the floatx program, and makes and reads files for it. The reader here is not the program's: it knows
// just enough of the format to look at what was written.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace cli_test {

struct outcome {
  int status = -1;  // exit status, or 128 + the signal
  std::string out;
  std::string err;
  long peak_kib = 0;  // of resident memory
};

// Runs the program with these arguments.
//   before_exec  called in the child, to set limits.
outcome run(const std::vector<std::string>& arguments, const std::function<void()>& before_exec = {});

// The same in pieces, for a program that is to be disturbed.
struct running {
  pid_t process;
  std::string folder;  // of what it prints
};
running start(const std::vector<std::string>& arguments, const std::function<void()>& before_exec = {});
outcome finish(const running& program);

class temporary_folder {
 public:
  temporary_folder();
  ~temporary_folder();
  temporary_folder(const temporary_folder&) = delete;
  temporary_folder& operator=(const temporary_folder&) = delete;
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }
  std::string path() const { return path_.string(); }
  // Names of all entries, hidden ones too, sorted.
  std::vector<std::string> entries(const std::string& below = "") const;

 private:
  std::filesystem::path path_;
};

struct tensor {
  std::string dtype;
  std::vector<uint64_t> shape;
  std::string data;
};

struct contents {
  std::map<std::string, tensor> tensors;
  std::map<std::string, std::string> metadata;
  nlohmann::json quantization() const { return nlohmann::json::parse(metadata.at("floatx")); }
};

template <class Value>
std::string bytes_of(const std::vector<Value>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(Value)};
}

template <class Value>
std::vector<Value> values_of(const tensor& t) {
  std::vector<Value> values(t.data.size() / sizeof(Value));
  std::memcpy(values.data(), t.data.data(), values.size() * sizeof(Value));
  return values;
}

// A tensor of pseudo-random values in about -1 .. 1; dtype F32, F16, BF16 or F64.
tensor random_tensor(const std::string& dtype, uint64_t n, uint64_t k, uint32_t seed);

// The values as FP32, from F32, F16, BF16 or F64.
std::vector<float> as_f32(const tensor& t);

//   padding  spaces after the header, which move the data to another alignment.
void write_safetensors(const std::string& path, const contents& c, size_t padding = 0);
contents read_safetensors(const std::string& path);

void write_file(const std::string& path, const std::string& text);
std::string read_file(const std::string& path);

inline bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// An error as the program promises it: the status, and one line on standard error that holds `part`.
bool failed_with(const outcome& result, int status, const std::string& part);

// All of what the program said, for INFO().
std::string describe(const outcome& result);

}  // namespace cli_test
