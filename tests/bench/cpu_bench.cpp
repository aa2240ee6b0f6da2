// Measures the CPU linear layer and writes the figures as JSON.
//
//   cpu_bench [--threads N] [--n N] [--k K] [--m 1,4,16] [--formats e3m2,e2m1] [--x f32,bf16,f16]
//             [--seconds S] [--no-blas] [--commit TEXT] [--date TEXT] [--output FILE]
//
// Method. Each weight is random and exists in so many copies that together they are more than four times
// the last-level cache; calls rotate among them, so a weight always comes from memory. Times are medians.
// The read bandwidth (a median too) is measured before and after each row, because neighbours on a shared
// machine change it: floor_us is (packed codes + scales) / that bandwidth, and ratio is median_us / floor_us.
// resident_us is the same work on rows that fit in the last-level cache, scaled to the whole weight: the time
// that computing alone takes. OpenBLAS multiplies an FP32 weight of the same shape in the same run.
#include <cblas.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "cli/measure.hpp"
#include "cpu/cpu.hpp"
#include "cpu/threads.hpp"
#include "floatx/format.hpp"

extern "C" void openblas_set_num_threads(int);
extern "C" char* openblas_get_corename(void);

namespace {

using nlohmann::json;
using namespace floatx;

struct options {
  int threads = cpu::processor_count();
  int64_t n = 4096, k = 14336;
  std::vector<std::string> m = {"1", "4", "16", "64", "512"};
  std::vector<std::string> formats = {"e3m2", "e2m3", "e2m2", "e2m1", "e3m0", "e2m0", "e4m3fn"};
  std::vector<std::string> x = {"f32", "bf16"};
  double seconds = 0.4;
  bool blas = true;
  std::string commit, date, output;
};

std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> parts;
  std::stringstream stream(list);
  for (std::string part; std::getline(stream, part, ',');) parts.push_back(part);
  return parts;
}

options parse(int argc, char** argv) {
  options o;
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--no-blas") {
      o.blas = false;
      continue;
    }
    const std::string value = i + 1 < argc ? argv[++i] : "";
    if (name == "--threads")
      o.threads = std::stoi(value);
    else if (name == "--n")
      o.n = std::stoll(value);
    else if (name == "--k")
      o.k = std::stoll(value);
    else if (name == "--m")
      o.m = split(value);
    else if (name == "--formats")
      o.formats = split(value);
    else if (name == "--x")
      o.x = split(value);
    else if (name == "--seconds")
      o.seconds = std::stod(value);
    else if (name == "--commit")
      o.commit = value;
    else if (name == "--date")
      o.date = value;
    else if (name == "--output")
      o.output = value;
    else {
      std::fprintf(stderr, "cpu_bench: unknown option %s\n", name.c_str());
      std::exit(2);
    }
  }
  return o;
}

floatx_format format_of(const std::string& name) {
  for (int value = 0; value < 0x200; ++value) {
    const format_traits* traits = find_format(value);
    if (traits && name == traits->name) return static_cast<floatx_format>(value);
  }
  std::fprintf(stderr, "cpu_bench: unknown format %s\n", name.c_str());
  std::exit(2);
}

floatx_type type_of(const std::string& name) {
  return name == "f16" ? FLOATX_TYPE_F16 : name == "bf16" ? FLOATX_TYPE_BF16 : FLOATX_TYPE_F32;
}

struct freer {
  void operator()(void* p) const { std::free(p); }
};
using memory = std::unique_ptr<uint8_t, freer>;

memory allocate(size_t bytes) {
  memory m(static_cast<uint8_t*>(std::aligned_alloc(64, (bytes + 63) / 64 * 64)));
  if (!m) throw std::bad_alloc();
  return m;
}

// Copies of one random weight.
struct weights {
  weight_shape shape;
  size_t bytes;
  std::vector<memory> codes, scales;

  explicit weights(const weight_shape& s) : shape(s), bytes(cpu::codes_bytes(s) + cpu::scales_bytes(s)) {
    std::mt19937_64 random(1);
    const size_t code_bytes = cpu::codes_bytes(s), scale_bytes = cpu::scales_bytes(s);
    memory c = allocate(code_bytes), sc = allocate(scale_bytes);
    for (size_t i = 0; i < code_bytes; i += 8) {
      // e4m3fn: without the top exponent, where its NaN is.
      const uint64_t bits =
          random() & (s.format == FLOATX_FORMAT_E4M3FN ? 0xbfbfbfbfbfbfbfbfu : ~uint64_t{0});
      std::memcpy(c.get() + i, &bits, 8);
    }
    const uint16_t half = 0x2000;  // 2^-7 as FP16
    for (size_t i = 0; i < scale_bytes; i += 2) std::memcpy(sc.get() + i, &half, 2);
    const int copies = cli::rotation_count(bytes);
    for (int i = 0; i < copies; ++i) {
      codes.push_back(allocate(code_bytes));
      scales.push_back(allocate(scale_bytes));
      std::memcpy(codes.back().get(), c.get(), code_bytes);
      std::memcpy(scales.back().get(), sc.get(), scale_bytes);
    }
  }
  int copies() const { return static_cast<int>(codes.size()); }
};

struct bench {
  options o;
  floatx_threads* threads;
  std::map<int64_t, double> sgemm;  // GFLOP/s for each m

  bench(const options& given) : o(given), threads(cpu::threads_create(o.threads, nullptr, nullptr)) {}
  ~bench() { cpu::threads_destroy(threads); }

  json row(const std::string& format, const weights& w, const std::string& x_name, int64_t m) {
    const floatx_type x_type = type_of(x_name);
    const weight_shape& s = w.shape;
    std::mt19937 random(2);
    std::normal_distribution<float> normal;
    std::vector<uint16_t> half(static_cast<size_t>(m * s.k));
    std::vector<float> single(half.size());
    for (size_t i = 0; i < half.size(); ++i) {
      single[i] = normal(random);
      // Any bits of ordinary size will do.
      half[i] = static_cast<uint16_t>((x_type == FLOATX_TYPE_F16 ? 0x3800 : 0x3f00) | (random() & 0x80ff));
    }
    const void* x = x_type == FLOATX_TYPE_F32 ? static_cast<const void*>(single.data()) : half.data();
    std::vector<float> y(static_cast<size_t>(m * s.n));
    const size_t workspace_bytes = cpu::linear_workspace_bytes(s, m, x_type);
    const memory workspace = allocate(workspace_bytes);
    const auto call = [&](const weight_shape& shape, int copy) {
      const auto i = static_cast<size_t>(copy);
      cpu::linear(shape, w.codes[i].get(), w.scales[i].get(), 1, m, x_type, x, shape.k, nullptr,
                  FLOATX_TYPE_F32, y.data(), shape.n, threads, workspace.get(), workspace_bytes);
    };

    // Of the moments before and after, because neighbours on a shared machine change it.
    double bandwidth = cli::read_bandwidth(o.threads);
    const cli::timing t =
        cli::time_calls([&](int i) { call(s, i % w.copies()); }, o.seconds, m < 64 ? 15 : 5);
    bandwidth = 0.5 * (bandwidth + cli::read_bandwidth(o.threads));
    weight_shape part = s;
    const size_t row_bytes = w.bytes / static_cast<size_t>(s.n);
    part.n = std::clamp<int64_t>(
        static_cast<int64_t>(cli::last_level_cache_bytes() / 4 / row_bytes) / 64 * 64, 64, s.n);
    const cli::timing resident = cli::time_calls([&](int) { call(part, 0); }, 0.1, 5);

    const double floor_us = static_cast<double>(w.bytes) / bandwidth * 1e6;
    const double gflops =
        2e-3 * static_cast<double>(m) * static_cast<double>(s.n) * static_cast<double>(s.k) / t.median_us;
    json j = {{"format", format},
              {"group_size", s.group_size},
              {"scale_type", s.scale_type == FLOATX_SCALE_F16 ? "f16" : "f32"},
              {"x", x_name},
              {"y", "f32"},
              {"n", s.n},
              {"k", s.k},
              {"m", m},
              {"packed_bytes", w.bytes},
              {"copies", w.copies()},
              {"calls", t.calls},
              {"median_us", t.median_us},
              {"minimum_us", t.minimum_us},
              {"resident_us", resident.median_us * static_cast<double>(s.n) / static_cast<double>(part.n)},
              {"bandwidth_gb_s", bandwidth * 1e-9},
              {"floor_us", floor_us},
              {"ratio", t.median_us / floor_us},
              {"gflop_s", gflops}};
    if (o.blas && m >= 64) j["openblas_sgemm_gflop_s"] = sgemm_gflops(m, single);
    std::fprintf(stderr,
                 "%-6s g%-3d %-4s m %-4d %9.0f us  min %9.0f  resident %9.0f  floor %6.0f  ratio %6.2f  "
                 "%4.0f GFLOP/s\n",
                 format.c_str(), static_cast<int>(s.group_size), x_name.c_str(), static_cast<int>(m),
                 t.median_us, t.minimum_us, j["resident_us"].get<double>(), floor_us, t.median_us / floor_us,
                 gflops);
    return j;
  }

  // The weight's values do not matter to the time.
  double sgemm_gflops(int64_t m, const std::vector<float>& x) {
    if (const auto known = sgemm.find(m); known != sgemm.end()) return known->second;
    const std::vector<float> w(static_cast<size_t>(o.n * o.k), 0.5f);
    std::vector<float> y(static_cast<size_t>(m * o.n));
    openblas_set_num_threads(o.threads);
    const auto mi = static_cast<int>(m), ni = static_cast<int>(o.n), ki = static_cast<int>(o.k);
    const cli::timing t = cli::time_calls(
        [&](int) {
          cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, mi, ni, ki, 1, x.data(), ki, w.data(), ki, 0,
                      y.data(), ni);
        },
        o.seconds, 5);
    return sgemm[m] = 2e-3 * static_cast<double>(m) * static_cast<double>(o.n) * static_cast<double>(o.k) /
                      t.median_us;
  }
};

std::string processor_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
  }
  return "unknown";
}

}  // namespace

int main(int argc, char** argv) {
  const options o = parse(argc, argv);
  bench b(o);
  json result;
  result["machine"] = {
      {"processor", processor_name()},
      {"threads", o.threads},
      {"isa", cpu::isa()},
      {"last_level_cache_bytes", cli::last_level_cache_bytes()},
      {"openblas_core", openblas_get_corename()},
      {"compiler", __VERSION__},
      {"commit", o.commit},
      {"date", o.date},
      {"method",
       "random weights in rotating copies of more than four times the last-level cache, medians, read "
       "bandwidth measured before and after each row; see tests/bench/cpu_bench.cpp"}};
  for (const std::string& format : o.formats) {
    for (const int64_t group_size : {0, 32}) {
      const weights w(
          {format_of(format), o.n, o.k, group_size, group_size ? FLOATX_SCALE_F16 : FLOATX_SCALE_F32});
      for (const std::string& m : o.m) {
        for (const std::string& x : o.x) result["rows"].push_back(b.row(format, w, x, std::stoll(m)));
      }
    }
  }
  if (o.output.empty()) {
    std::printf("%s\n", result.dump(2).c_str());
  } else {
    std::ofstream(o.output) << result.dump(2) << "\n";
  }
  return 0;
}
