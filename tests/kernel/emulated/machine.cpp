#include "kernel/emulated/machine.hpp"

#include <ucontext.h>

#include <cstring>
#include <exception>
#include <map>
#include <utility>

namespace floatx::emulated {
namespace {

constexpr size_t stack_bytes = 96 << 10;

// No test needs nearly as many turns.
constexpr int64_t most_turns = 3000000;

struct fiber {
  thread state;
  ucontext_t context = {};
  std::unique_ptr<char[]> stack{new char[stack_bytes]};
  bool is_done = false;
};

struct machine {
  ucontext_t scheduler = {};
  fiber* running = nullptr;
  const std::function<void()>* kernel = nullptr;
  std::exception_ptr failure;
  int blocks = 0, row = 0;
  std::vector<std::unique_ptr<fiber>> fibers;  // kept from launch to launch
  int late_every = 0, copies = 0;
  int64_t late_turns = 0, turn = 0, previous_ends = 0;
  int late_warp_index = -1;
  int64_t late_warp_turns = 0;
  std::multimap<int64_t, std::function<void()>> late;  // by the turn that they end in
} the;

void run_fiber() {
  try {
    (*the.kernel)();
  } catch (...) {
    the.failure = std::current_exception();
  }
  the.running->is_done = true;
  yield();
}

void prepare(fiber& one, const thread& state) {
  one.state = state;
  one.is_done = false;
  getcontext(&one.context);
  one.context.uc_stack.ss_sp = one.stack.get();
  one.context.uc_stack.ss_size = stack_bytes;
  makecontext(&one.context, run_fiber, 0);
}

void end_thread(const thread& one) {
  block& in = *one.in;
  cluster& of = *in.in;
  if (--in.threads == 0) std::memset(in.shared, 0xff, shared_bytes);
  --of.threads;
  if (one.has_arrived && one.cluster_generation == of.all.generation) --of.all.arrived;
  of.complete_if_all_arrived();
}

void run_cluster(cluster& together, int threads) {
  std::vector<fiber*> waiting;
  for (block& one : together.blocks) {
    for (int i = 0; i < threads; ++i) {
      if (the.fibers.size() == waiting.size()) the.fibers.push_back(std::make_unique<fiber>());
      fiber& next = *the.fibers[waiting.size()];
      prepare(next, {&one, i, threads, 0, false});
      waiting.push_back(&next);
    }
  }
  size_t left = waiting.size();
  the.late.clear();
  for (the.turn = 0; left > 0; ++the.turn) {
    if (the.turn == most_turns) throw fault{"the threads wait for each other for ever"};
    while (!the.late.empty() && the.late.begin()->first <= the.turn) {
      the.late.begin()->second();
      the.late.erase(the.late.begin());
    }
    left = 0;
    for (fiber* one : waiting) {
      if (one->is_done) continue;
      the.running = one;
      swapcontext(&the.scheduler, &one->context);
      if (the.failure) std::rethrow_exception(std::exchange(the.failure, nullptr));
      if (one->is_done) {
        end_thread(one->state);
      } else {
        ++left;
      }
    }
  }
}

}  // namespace

thread& self() { return the.running->state; }

void yield() { swapcontext(&the.running->context, &the.scheduler); }

void arrive(meeting& where, int threads) {
  if (++where.arrived == threads) {
    where.arrived = 0;
    ++where.generation;
  }
}

void meet(meeting& where, int threads) {
  const uint64_t generation = where.generation;
  arrive(where, threads);
  while (where.generation == generation) yield();
}

void end_copy(std::function<void()> end) {
  if (the.late_every != 0 && ++the.copies % the.late_every == 0) {
    the.late.emplace(the.turn + the.late_turns, std::move(end));
  } else {
    end();
  }
}

late_copies::late_copies(int every, int64_t turns) {
  the.late_every = every;
  the.late_turns = turns;
  the.copies = 0;
}

late_copies::~late_copies() { the.late_every = 0; }

late_warp::late_warp(int warp, int64_t turns) {
  the.late_warp_index = warp;
  the.late_warp_turns = turns;
}

late_warp::~late_warp() { the.late_warp_index = -1; }

void wait_if_late() {
  if (self().index / warp_threads != the.late_warp_index) return;
  for (const int64_t end = the.turn + the.late_warp_turns; the.turn < end;) yield();
}

late_kernel::late_kernel(int64_t turns) { the.previous_ends = turns; }

late_kernel::~late_kernel() { the.previous_ends = 0; }

void wait_for_previous_kernel() {
  while (the.turn < the.previous_ends) yield();
}

int64_t turn() { return the.turn; }

int grid_blocks() { return the.blocks; }

int grid_row() { return the.row; }

void launch(int blocks, int threads, int split, const std::function<void()>& kernel, int row) {
  the.kernel = &kernel;
  the.row = row;
  the.blocks = blocks;
  for (int first = 0; first < blocks; first += split) {
    cluster together;
    together.blocks.resize(static_cast<size_t>(split));
    for (int i = 0; i < split; ++i) {
      block& one = together.blocks[static_cast<size_t>(i)];
      one.index = first + i;
      one.in = &together;
      one.storage.reset(new unsigned char[shared_bytes + 1024]);
      one.shared = one.storage.get() + (1024 - reinterpret_cast<uintptr_t>(one.storage.get()) % 1024);
      std::memset(one.shared, 0xff, shared_bytes);
      one.warps.resize(static_cast<size_t>(threads / warp_threads));
      one.registers.resize(static_cast<size_t>(threads) * 4);
      one.threads = threads;
    }
    together.threads = threads * split;
    run_cluster(together, threads);
  }
}

}  // namespace floatx::emulated
