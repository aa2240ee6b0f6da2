// SPDX-License-Identifier: Apache-2.0
#include "cli/program.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <floatx/codec.hpp>
#include <fstream>
#include <iterator>
#include <stdexcept>

namespace cli_test {

namespace fs = std::filesystem;

namespace {

std::string make_folder() {
  std::string name = (fs::temp_directory_path() / "floatx-cli-XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) {
    throw std::runtime_error("cannot make a temporary folder");
  }
  return name;
}

}  // namespace

running start(const std::vector<std::string>& arguments, const std::function<void()>& before_exec) {
  const std::string folder = make_folder();
  const std::string out = folder + "/out";
  const std::string err = folder + "/err";
  std::vector<std::string> words = arguments;
  words.insert(words.begin(), FLOATX_PROGRAM);
  std::vector<char*> argv;
  for (std::string& word : words) {
    argv.push_back(word.data());
  }
  argv.push_back(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    dup2(open(out.c_str(), O_WRONLY | O_CREAT, 0600), STDOUT_FILENO);
    dup2(open(err.c_str(), O_WRONLY | O_CREAT, 0600), STDERR_FILENO);
    if (before_exec) {
      before_exec();
    }
    execv(argv[0], argv.data());
    _exit(127);
  }
  if (child < 0) {
    throw std::runtime_error("cannot fork");
  }
  return {child, folder};
}

outcome finish(const running& program) {
  int status = 0;
  rusage usage = {};
  if (wait4(program.process, &status, 0, &usage) != program.process) {
    throw std::runtime_error("cannot wait for the program");
  }
  outcome result;
  result.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  result.out = read_file(program.folder + "/out");
  result.err = read_file(program.folder + "/err");
  result.peak_kib = usage.ru_maxrss;
  fs::remove_all(program.folder);
  return result;
}

outcome run(const std::vector<std::string>& arguments, const std::function<void()>& before_exec) {
  return finish(start(arguments, before_exec));
}

temporary_folder::temporary_folder() : path_(make_folder()) {}

temporary_folder::~temporary_folder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

std::vector<std::string> temporary_folder::entries(const std::string& below) const {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(path_ / below)) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

tensor random_tensor(const std::string& dtype, uint64_t n, uint64_t k, uint32_t seed) {
  tensor t{dtype, {n, k}, {}};
  std::vector<float> f32(n * k);
  uint32_t state = seed;
  for (float& value : f32) {
    state = state * 1664525u + 1013904223u;
    value = static_cast<float>(static_cast<int32_t>(state)) * 0x1p-31f;
  }
  const auto convert = [&](auto zero, auto function) {
    std::vector<decltype(zero)> values(f32.size());
    std::transform(f32.begin(), f32.end(), values.begin(), function);
    t.data = bytes_of(values);
  };
  if (dtype == "F32") {
    t.data = bytes_of(f32);
  } else if (dtype == "F16") {
    convert(uint16_t{}, [](float v) { return floatx::f32_to_f16(v); });
  } else if (dtype == "BF16") {
    convert(uint16_t{}, [](float v) { return floatx::f32_to_bf16(v); });
  } else {
    convert(double{}, [](float v) { return double{v}; });
  }
  return t;
}

std::vector<float> as_f32(const tensor& t) {
  std::vector<float> out;
  if (t.dtype == "F32") {
    return values_of<float>(t);
  }
  if (t.dtype == "F64") {
    for (const double v : values_of<double>(t)) {
      out.push_back(static_cast<float>(v));
    }
    return out;
  }
  for (const uint16_t v : values_of<uint16_t>(t)) {
    out.push_back(t.dtype == "F16" ? floatx::f16_to_f32(v) : floatx::bf16_to_f32(v));
  }
  return out;
}

void write_safetensors(const std::string& path, const contents& c, size_t padding) {
  nlohmann::json header = nlohmann::json::object();
  if (!c.metadata.empty()) {
    header["__metadata__"] = c.metadata;
  }
  std::string data;
  for (const auto& [name, t] : c.tensors) {
    header[name] = {
        {"dtype", t.dtype}, {"shape", t.shape}, {"data_offsets", {data.size(), data.size() + t.data.size()}}};
    data += t.data;
  }
  const std::string text = header.dump() + std::string(padding, ' ');
  const uint64_t length = text.size();
  std::string file(reinterpret_cast<const char*>(&length), sizeof length);
  write_file(path, file + text + data);
}

contents read_safetensors(const std::string& path) {
  const std::string file = read_file(path);
  uint64_t length = 0;
  std::memcpy(&length, file.data(), sizeof length);
  const nlohmann::json header = nlohmann::json::parse(file.substr(8, length));
  contents c;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") {
      c.metadata = entry.get<std::map<std::string, std::string>>();
      continue;
    }
    const uint64_t begin = entry["data_offsets"][0];
    const uint64_t end = entry["data_offsets"][1];
    if (8 + length + end > file.size()) {
      throw std::runtime_error(path + ": " + name + " lies outside the file");
    }
    c.tensors[name] = {entry["dtype"], entry["shape"], file.substr(8 + length + begin, end - begin)};
  }
  return c;
}

void write_file(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.close();
  if (!file) {
    throw std::runtime_error("cannot write " + path);
  }
}

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    throw std::runtime_error("cannot read " + path);
  }
  return {std::istreambuf_iterator<char>(file), {}};
}

bool failed_with(const outcome& result, int status, const std::string& part) {
  return result.status == status && result.err.compare(0, 15, "floatx: error: ") == 0 &&
         std::count(result.err.begin(), result.err.end(), '\n') == 1 && result.err.back() == '\n' &&
         has(result.err, part);
}

std::string describe(const outcome& result) {
  return "exit status " + std::to_string(result.status) + "\nstandard output:\n" + result.out +
         "standard error:\n" + result.err;
}

}  // namespace cli_test
