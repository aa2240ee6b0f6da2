// A GPU's thread blocks on the CPU: each thread is a fiber, which runs until it has to wait for others.
// Products are done when they are asked for, and copies, too, unless a test makes some late. So what is
// tested is who touches what, and in which order as far as barriers decide it; not whether a wait for a
// product is missing.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

namespace floatx::emulated {

constexpr int shared_bytes = 232448, warp_threads = 32;

// Addresses in shared memory begin here, lest 0 be one.
constexpr uint32_t shared_begin = 4096;

// What a mistake that would hang or crash a GPU becomes.
struct fault {
  const char* what;
};

struct meeting {
  int arrived = 0;
  uint64_t generation = 0;
};

struct transaction_barrier {
  int count = 0, pending = 0;
  int64_t bytes = 0;
  uint32_t phase = 0;

  void complete_if_done() {
    if (pending < 0) throw fault{"a barrier had more arrivals than it was set up for"};
    if (pending == 0 && bytes == 0) {
      phase ^= 1u;
      pending = count;
    }
  }
};

struct cluster;

struct block {
  int index = 0;
  cluster* in = nullptr;
  std::unique_ptr<unsigned char[]> storage;
  unsigned char* shared = nullptr;
  std::map<uint32_t, transaction_barrier> barriers;
  std::map<int, meeting> named;
  std::vector<meeting> warps;
  std::vector<uint32_t> registers;  // [thread][4]: what lanes of a warp show each other
  int threads = 0;                  // that have not ended; shared memory goes with the last
};

// Threads that have ended are waited for no more.
struct cluster {
  std::vector<block> blocks;
  meeting all;
  int threads = 0;  // that have not ended

  void complete_if_all_arrived() {
    if (all.arrived < threads || threads == 0) return;
    all.arrived = 0;
    ++all.generation;
  }
};

struct thread {
  block* in = nullptr;
  int index = 0, threads = 0;
  uint64_t cluster_generation = 0;
  bool has_arrived = false;  // in that generation

  int lane() const { return index % warp_threads; }
  uint32_t* registers_of(int lane_of_warp) const {
    return &in->registers[static_cast<size_t>(index / warp_threads * warp_threads + lane_of_warp) * 4];
  }
};

// The thread that runs.
thread& self();

// Lets the others run.
void yield();

void arrive(meeting& where, int threads);
void meet(meeting& where, int threads);
inline void meet_warp() {
  meet(self().in->warps[static_cast<size_t>(self().index / warp_threads)], warp_threads);
}

// Does what is the end of an asynchronous copy, now or later.
void end_copy(std::function<void()> end);

// While it lives every `every`-th copy ends so many turns of all threads later.
struct late_copies {
  late_copies(int every, int64_t turns);
  ~late_copies();
  late_copies(const late_copies&) = delete;
  late_copies& operator=(const late_copies&) = delete;
};

// While it lives the threads of that warp of each thread block go on from every named barrier so many turns
// later than others.
struct late_warp {
  late_warp(int warp, int64_t turns);
  ~late_warp();
  late_warp(const late_warp&) = delete;
  late_warp& operator=(const late_warp&) = delete;
};
void wait_if_late();

// While it lives the kernel before ends so many turns after the thread blocks that run have begun.
struct late_kernel {
  explicit late_kernel(int64_t turns);
  ~late_kernel();
  late_kernel(const late_kernel&) = delete;
  late_kernel& operator=(const late_kernel&) = delete;
};
void wait_for_previous_kernel();

// Of all threads, since the thread blocks that run have begun.
int64_t turn();

int grid_blocks();
int grid_row();

// Runs `kernel` in blocks x threads of row `row` of a grid, clusters of `split` blocks one after the other.
// Shared memory is 0xff at first. Throws fault where one occurs or no thread can go on.
void launch(int blocks, int threads, int split, const std::function<void()>& kernel, int row = 0);

}  // namespace floatx::emulated
