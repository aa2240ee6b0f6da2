#include "cli/measure.hpp"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <thread>

namespace floatx::cli {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Eight independent sums keep more loads in flight than one does.
uint64_t sum(const uint64_t* begin, const uint64_t* end) {
  uint64_t s[8] = {};
  for (; begin != end; begin += 8) {
    for (int i = 0; i < 8; ++i) s[i] += begin[i];
  }
  return s[0] + s[1] + s[2] + s[3] + s[4] + s[5] + s[6] + s[7];
}

}  // namespace

size_t last_level_cache_bytes() {
#if defined(_SC_LEVEL3_CACHE_SIZE)
  const long bytes = sysconf(_SC_LEVEL3_CACHE_SIZE);
  if (bytes > 0) return static_cast<size_t>(bytes);
#endif
  return size_t{32} << 20;
}

double read_bandwidth(int threads) {
  const auto parts = static_cast<size_t>(std::max(threads, 1));
  const size_t words_each = std::max(4 * last_level_cache_bytes(), size_t{256} << 20) / 64 / parts * 8;
  const std::unique_ptr<uint64_t[]> data(new uint64_t[words_each * parts]);
  // Each page is touched for the first time by the thread that will read it, which places it near that
  // thread on a machine with several memory nodes.
  std::vector<uint64_t> sums(parts);
  const auto on_all = [&](auto&& work) {
    std::vector<std::thread> others;
    for (size_t i = 1; i < parts; ++i) others.emplace_back(work, i);
    work(size_t{0});
    for (std::thread& other : others) other.join();
  };
  on_all([&](size_t i) { std::fill_n(&data[i * words_each], words_each, uint64_t{i + 1}); });
  std::vector<double> seconds;
  for (int pass = 0; pass < 9; ++pass) {
    const auto start = std::chrono::steady_clock::now();
    on_all([&](size_t i) { sums[i] = sum(&data[i * words_each], &data[i * words_each] + words_each); });
    seconds.push_back(seconds_since(start));
  }
  volatile uint64_t keep = sums[0];  // the sums must be computed
  (void)keep;
  return static_cast<double>(words_each * parts * sizeof(uint64_t)) / median(seconds);
}

int rotation_count(size_t weight_bytes) {
  const size_t copies = 4 * last_level_cache_bytes() / std::max<size_t>(weight_bytes, 1) + 1;
  return static_cast<int>(std::clamp<size_t>(copies, 2, 4096));
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 ? values[half] : 0.5 * (values[half - 1] + values[half]);
}

timing time_samples(const std::function<double()>& sample_us, double seconds, int minimum) {
  std::vector<double> us;
  const auto begin = std::chrono::steady_clock::now();
  do {
    us.push_back(sample_us());
  } while (static_cast<int>(us.size()) < minimum || seconds_since(begin) < seconds);
  return {median(us), *std::min_element(us.begin(), us.end()), static_cast<int>(us.size())};
}

timing time_calls(const std::function<void(int)>& call, double seconds, int minimum_calls) {
  int index = 0;
  for (; index < 2; ++index) call(index);
  const auto sample_us = [&] {
    const auto start = std::chrono::steady_clock::now();
    call(index++);
    return seconds_since(start) * 1e6;
  };
  return time_samples(sample_us, seconds, minimum_calls);
}

}  // namespace floatx::cli
