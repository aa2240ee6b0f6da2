// The CPU linear layer over threads and workspaces: the same bits, whoever computes them.
#include <atomic>
#include <thread>

#include "cpu/threads.hpp"
#include "kernel/linear_problem.hpp"
#include "support/backwards_pool.hpp"

using namespace floatx;
using namespace floatx::test;

namespace {

struct threads_deleter {
  void operator()(floatx_threads* threads) const { cpu::threads_destroy(threads); }
};
using threads_pointer = std::unique_ptr<floatx_threads, threads_deleter>;

bool same_bytes(const outputs& a, const outputs& b) {
  return std::memcmp(a.data.data(), b.data.data(), a.data.size()) == 0;
}

}  // namespace

TEST_CASE("the number of threads changes no bit", "[linear][threads]") {
  // Risk: sums that depend on how the work was divided, or tasks that share scratch memory.
  const packed_weight w(random_weight(FLOATX_FORMAT_E3M2, 203, 300, 32, FLOATX_SCALE_F16, 1));
  for (const floatx_type x_type : all_types) {
    for (const int64_t m : {1, 3, 40, 90}) {
      const activations x(x_type, m, w.shape.k, w.shape.k, 2);
      for (const cpu::kernels* isa : cpu::supported_kernels()) {
        INFO(describe(*isa, w, m, x_type, FLOATX_TYPE_F32));
        outputs expected(FLOATX_TYPE_F32, m, w.shape.n, w.shape.n);
        run(*isa, w, x, nullptr, expected);
        check(w, x, nullptr, expected);
        for (const int count : {1, 2, 3, 7}) {
          const threads_pointer threads(cpu::threads_create(count, nullptr, nullptr));
          for (int repeat = 0; repeat < 3; ++repeat) {
            outputs y(FLOATX_TYPE_F32, m, w.shape.n, w.shape.n);
            run(*isa, w, x, nullptr, y, threads.get());
            CHECK(same_bytes(y, expected));
          }
        }
        backwards_pool pool;
        const threads_pointer own(cpu::threads_create(3, backwards_pool::run, &pool));
        outputs y(FLOATX_TYPE_F32, m, w.shape.n, w.shape.n);
        run(*isa, w, x, nullptr, y, own.get());
        CHECK(same_bytes(y, expected));
        CHECK(pool.calls > 0);
      }
    }
  }
}

TEST_CASE("one weight and one handle, many threads", "[linear][threads]") {
  // Risk: a data race in what calls share: the weight, the tables of values, the handle.
  const packed_weight w(random_weight(FLOATX_FORMAT_E2M3, 100, 200, 0, FLOATX_SCALE_F32, 3));
  const threads_pointer shared(cpu::threads_create(2, nullptr, nullptr));
  for (const int64_t m : {1, 70}) {
    const activations x(FLOATX_TYPE_F32, m, w.shape.k, w.shape.k, 4);
    const cpu::kernels& isa = *cpu::supported_kernels().back();
    outputs expected(FLOATX_TYPE_F32, m, w.shape.n, w.shape.n);
    run(isa, w, x, nullptr, expected);
    std::atomic<int> wrong{0};
    std::vector<std::thread> callers;
    for (int i = 0; i < 8; ++i) {
      callers.emplace_back([&, i] {
        for (int repeat = 0; repeat < 10; ++repeat) {
          outputs y(FLOATX_TYPE_F32, m, w.shape.n, w.shape.n);
          run(isa, w, x, nullptr, y, i % 2 ? shared.get() : nullptr);
          if (!same_bytes(y, expected)) ++wrong;
        }
      });
    }
    for (std::thread& caller : callers) caller.join();
    CHECK(wrong == 0);
  }
}

TEST_CASE("work that is worth threads gets them", "[linear][threads]") {
  // Risk: the default, which starts threads for one call only when there is enough to do.
  cpu::team small(nullptr, 1000);
  CHECK(small.size() == 1);
  cpu::team large(nullptr, 1'000'000'000);
  CHECK(large.size() == cpu::processor_count());
  std::vector<std::atomic<int>> ran(1000);
  large.run(1000, [&](int64_t i) { ++ran[static_cast<size_t>(i)]; });
  for (const auto& times : ran) REQUIRE(times == 1);
}

TEST_CASE("a workspace changes no bit and is not overrun", "[linear]") {
  // Risk: linear_workspace_bytes() tells too little, or a smaller m needs more than a larger one.
  const packed_weight w(random_weight(FLOATX_FORMAT_E4M3FN, 70, 333, 64, FLOATX_SCALE_E8M0, 5));
  for (const floatx_type x_type : all_types) {
    buffer workspace(cpu::linear_workspace_bytes(w.shape, 90, x_type));
    for (const int64_t m : {1, 2, 4, 5, 13, 60, 90}) {
      const activations x(x_type, m, w.shape.k, w.shape.k, 6);
      CHECK(cpu::linear_workspace_bytes(w.shape, m, x_type) <= workspace.size());
      for (const cpu::kernels* isa : cpu::supported_kernels()) {
        INFO(describe(*isa, w, m, x_type, FLOATX_TYPE_BF16));
        outputs expected(FLOATX_TYPE_BF16, m, w.shape.n, w.shape.n);
        run(*isa, w, x, nullptr, expected);
        for (const size_t bytes : {workspace.size(), workspace.size() / 2, size_t{1}}) {
          outputs y(FLOATX_TYPE_BF16, m, w.shape.n, w.shape.n);
          run(*isa, w, x, nullptr, y, nullptr, workspace.data(), bytes);
          CHECK(same_bytes(y, expected));
        }
        CHECK(workspace.guards_intact());
      }
    }
  }
}
