// Threads through the C API: a pool of the caller's, and one packed weight used by many threads at once.
// Built under the thread sanitizer, too.
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <filesystem>
#include <iterator>
#include <memory>
#include <string>
#include <system_error>
#include <thread>
#include <tuple>
#include <vector>

#include "capi/weight_memory.hpp"
#include "support/backwards_pool.hpp"

using namespace floatx::test;

namespace {

// Neither is a multiple of a strip, a vector or a group.
constexpr int64_t n = 203, k = 333;
constexpr weight_description kinds[] = {{FLOATX_FORMAT_E3M2, FLOATX_SCALE_F16, n, k, 32},
                                        {FLOATX_FORMAT_E2M1, FLOATX_SCALE_E4M3FN, n, k, 16},
                                        {FLOATX_FORMAT_E2M3, FLOATX_SCALE_F32, n, k, 0}};

struct threads_deleter {
  void operator()(floatx_threads* threads) const { floatx_threads_destroy(threads); }
};
using threads_pointer = std::unique_ptr<floatx_threads, threads_deleter>;

threads_pointer make_threads(int32_t count, floatx_parallel_for run = nullptr, void* pool = nullptr) {
  floatx_threads* threads = nullptr;
  REQUIRE(floatx_threads_create(count, run, pool, &threads) == FLOATX_STATUS_OK);
  return threads_pointer(threads);
}

floatx_execution with(floatx_threads* threads) {
  floatx_execution e{};
  e.struct_size = sizeof e;
  e.threads = threads;
  return e;
}

// How many threads this process has now; 0 where the system does not tell.
std::ptrdiff_t process_threads() {
  std::error_code none;
  const std::filesystem::directory_iterator threads("/proc/self/task", none);
  return none ? 0 : std::distance(begin(threads), end(threads));
}

// A pool without threads, which is a pool as well, and sees whether there are others.
struct pool_in_place {
  int calls = 0;
  std::ptrdiff_t most_threads = 0;

  static void run(void* pool, int32_t count, void (*task)(void*, int32_t), void* argument) {
    auto& self = *static_cast<pool_in_place*>(pool);
    ++self.calls;
    self.most_threads = std::max(self.most_threads, process_threads());
    for (int32_t i = 0; i < count; ++i) task(argument, i);
  }
};

std::vector<float> random_floats(int64_t count, uint32_t seed) {
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) {
    seed = seed * 1664525u + 1013904223u;
    value = (static_cast<float>(seed >> 8) - 8388607.5f) / 8388608.0f;
  }
  return values;
}

weight_memory pack(const weight_description& d, floatx_layout layout, const std::vector<float>& values,
                   const floatx_execution* execution = nullptr) {
  weight_memory memory(d, layout);
  REQUIRE(floatx_pack(&memory.weight, FLOATX_TYPE_F32, values.data(), d.k, nullptr, execution) ==
          FLOATX_STATUS_OK);
  REQUIRE(memory.check());
  return memory;
}

guarded_buffer linear(const weight_memory& weight, int64_t m, const std::vector<float>& x,
                      const floatx_execution* execution = nullptr) {
  guarded_buffer y(static_cast<size_t>(m * n) * sizeof(float));
  REQUIRE(floatx_linear(&weight.weight, m, FLOATX_TYPE_F32, x.data(), k, nullptr, FLOATX_TYPE_F32, y.data(),
                        n, execution) == FLOATX_STATUS_OK);
  REQUIRE(y.check());
  return y;
}

// What every way to use a packed weight gives, computed with one kind of threads.
struct results {
  results(const weight_description& d, const floatx_execution* execution)
      : packed(pack(d, FLOATX_LAYOUT_CPU, random_floats(n * k, 1), execution)),
        canonical(d, FLOATX_LAYOUT_CANONICAL),
        values(n * k * sizeof(float)) {
    REQUIRE(floatx_repack(&packed.weight, &canonical.weight, execution) == FLOATX_STATUS_OK);
    REQUIRE(floatx_unpack(&packed.weight, FLOATX_TYPE_F32, values.data(), k, execution) == FLOATX_STATUS_OK);
    REQUIRE((canonical.check() && values.check()));
    for (const int64_t m : {1, 5, 70}) y.push_back(linear(packed, m, random_floats(m * k, 2), execution));
  }

  bool operator==(const results& other) const {
    for (size_t i = 0; i < y.size(); ++i) {
      if (!same_bytes(y[i], other.y[i])) return false;
    }
    return same_contents(packed, other.packed) && same_contents(canonical, other.canonical) &&
           same_bytes(values, other.values);
  }

  weight_memory packed, canonical;
  guarded_buffer values;
  std::vector<guarded_buffer> y;
};

}  // namespace

TEST_CASE("a caller's own pool gives the bits of floatx's threads", "[threads]") {
  // Risk: an index skipped, a task that needs another to run at the same time, or the pool ignored.
  for (const weight_description& d : kinds) {
    CAPTURE(d.format, d.scale_type, d.group_size);
    const threads_pointer started = make_threads(3);
    const floatx_execution on_started = with(started.get());
    const results expected(d, &on_started);
    CHECK(results(d, nullptr) == expected);

    for (const int32_t count : {1, 3, 8}) {  // fewer and more than the pool has
      CAPTURE(count);
      backwards_pool pool;
      const threads_pointer threads = make_threads(count, backwards_pool::run, &pool);
      const floatx_execution on_pool = with(threads.get());
      CHECK(results(d, &on_pool) == expected);
      CHECK(pool.calls > 0);

      pool_in_place in_place;
      const threads_pointer one_thread = make_threads(count, pool_in_place::run, &in_place);
      const floatx_execution here = with(one_thread.get());
      CHECK(results(d, &here) == expected);
      CHECK(in_place.calls > 0);
    }
  }
}

TEST_CASE("nothing is started beside a caller's own pool", "[threads]") {
  // Risk: a runtime that pins its threads to processors finds others of ours there.
  const std::ptrdiff_t before = process_threads();
  pool_in_place pool;
  const threads_pointer threads = make_threads(8, pool_in_place::run, &pool);
  CHECK(process_threads() == before);
  const floatx_execution execution = with(threads.get());
  const results made(kinds[0], &execution);
  CHECK(pool.calls > 0);
  CHECK(pool.most_threads == before);
}

TEST_CASE("a handle serves one call at a time", "[threads]") {
  // Risk: a pool that cannot take a second call, as most cannot from outside, is given one.
  const weight_memory weight = pack(kinds[0], FLOATX_LAYOUT_CPU, random_floats(n * k, 1));
  const std::vector<float> x = random_floats(5 * k, 2);
  const guarded_buffer expected = linear(weight, 5, x);
  backwards_pool pool;
  const threads_pointer threads = make_threads(3, backwards_pool::run, &pool);
  const floatx_execution execution = with(threads.get());
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (int i = 0; i < 6; ++i) {
    callers.emplace_back([&] {
      guarded_buffer y(expected.size());
      const floatx_status status = floatx_linear(&weight.weight, 5, FLOATX_TYPE_F32, x.data(), k, nullptr,
                                                 FLOATX_TYPE_F32, y.data(), n, &execution);
      if (status != FLOATX_STATUS_OK || !y.check() || !same_bytes(y, expected)) ++wrong;
    });
  }
  for (std::thread& caller : callers) caller.join();
  CHECK(wrong == 0);
  CHECK(pool.calls >= 6);
  CHECK(pool.most_inside == 1);
}

TEST_CASE("one packed weight, many threads at once", "[threads]") {
  // Risk: a data race in what calls share (the weight, tables of values, a handle), or the message of another
  // thread's failure.
  for (const weight_description& d : kinds) {
    CAPTURE(d.format, d.scale_type, d.group_size);
    const results expected(d, nullptr);
    const floatx_weight& weight = expected.packed.weight;
    const std::vector<float> x_1 = random_floats(k, 2), x_70 = random_floats(70 * k, 2);
    const threads_pointer shared = make_threads(2);
    std::atomic<int> wrong{0};

    // Catch2's macros are for one thread, so each caller only counts what was wrong.
    const auto use = [&](int caller) {
      const auto expect = [&](bool right) { wrong += !right; };
      floatx_execution execution = with(caller % 2 ? shared.get() : nullptr);
      size_t bytes = 0;
      expect(floatx_workspace_bytes(&weight, FLOATX_OPERATION_LINEAR, FLOATX_MEMORY_HOST, 70, FLOATX_TYPE_F32,
                                    &bytes) == FLOATX_STATUS_OK);
      guarded_buffer workspace(bytes);
      if (caller % 4 < 2) execution.workspace = workspace.data(), execution.workspace_bytes = bytes;
      for (const auto& [m, x, y_expected] :
           {std::tuple(1, &x_1, &expected.y.front()), std::tuple(70, &x_70, &expected.y.back())}) {
        guarded_buffer y(y_expected->size());
        expect(floatx_linear(&weight, m, FLOATX_TYPE_F32, x->data(), k, nullptr, FLOATX_TYPE_F32, y.data(), n,
                             &execution) == FLOATX_STATUS_OK);
        expect(y.check() && same_bytes(y, *y_expected));
      }
      expect(workspace.check());

      guarded_buffer values(expected.values.size()), canonical_codes(expected.canonical.codes.size()),
          canonical_scales(expected.canonical.scales.size());
      expect(floatx_unpack(&weight, FLOATX_TYPE_F32, values.data(), k, &execution) == FLOATX_STATUS_OK);
      expect(values.check() && same_bytes(values, expected.values));
      float tensor_scale = 0;
      floatx_weight canonical = expected.canonical.weight;
      canonical.codes = canonical_codes.data(), canonical.scales = canonical_scales.data();
      if (canonical.tensor_scale) canonical.tensor_scale = &tensor_scale;
      expect(floatx_repack(&weight, &canonical, &execution) == FLOATX_STATUS_OK);
      expect(canonical_codes.check() && same_bytes(canonical_codes, expected.canonical.codes));
      expect(canonical_scales.check() && same_bytes(canonical_scales, expected.canonical.scales));

      const int64_t bad_m = -1 - caller;
      expect(floatx_linear(&weight, bad_m, FLOATX_TYPE_F32, x_1.data(), k, nullptr, FLOATX_TYPE_F32,
                           values.data(), n, &execution) == FLOATX_STATUS_INVALID_ARGUMENT);
      expect(std::string(floatx_last_error()).find("m is " + std::to_string(bad_m)) == 0);
    };
    std::vector<std::thread> callers;
    for (int caller = 0; caller < 8; ++caller) {
      callers.emplace_back([&, caller] {
        for (int repeat = 0; repeat < 3; ++repeat) use(caller);
      });
    }
    for (std::thread& caller : callers) caller.join();
    CHECK(wrong == 0);
    CHECK(expected.packed.check());
  }
}
