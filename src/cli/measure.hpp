// How the benchmarks measure: read bandwidth, and linear layers over weights that no cache holds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace floatx::cli {

// Bytes of the last-level cache, as the system tells; 32 MiB where it does not.
size_t last_level_cache_bytes();

// Bytes a second that `threads` threads read from memory: each sums its own part of a buffer of at least
// four times the last-level cache. The median of nine passes, as the times it is compared with are medians.
double read_bandwidth(int threads);

// Copies of a weight to rotate among, so that the weight is never found in a cache: together more than
// four times the last-level cache, and never fewer than two.
int rotation_count(size_t weight_bytes);

// Of at least one value.
double median(std::vector<double> values);

struct timing {
  double median_us;
  double minimum_us;
  int calls;
};

// The median of samples taken until both `seconds` have passed and there are `minimum` of them.
timing time_samples(const std::function<double()>& sample_us, double seconds, int minimum);

// Times call(i), i = 0, 1, 2, ...; the caller maps i to one of its rotating weights. Two calls to warm
// up, then as time_samples.
timing time_calls(const std::function<void(int)>& call, double seconds = 0.5, int minimum_calls = 7);

}  // namespace floatx::cli
