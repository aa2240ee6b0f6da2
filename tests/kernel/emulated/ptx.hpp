// What kernels/ptx/ has for the linear layer's kernels, and what CUDA has built in, on the emulated machine.
// Of the stream family that is what Hopper runs, or with FLOATX_EMULATED_BULK_COPIES = 0 what processors
// before it do.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstring>
#include <type_traits>
#include <utility>

#include "floatx/codec.hpp"
#include "kernel/emulated/machine.hpp"
#include "ptx/tensor_map.hpp"

// ---- CUDA's own ---------------------------------------------------------------------------------------

#define __launch_bounds__(...)
#define __noinline__
#if !defined(__grid_constant__)
#define __grid_constant__
#endif

// Of thread blocks that run one after the other; all fibers are one thread. What is declared `extern`, a test
// defines.
#undef __shared__
#define __shared__ thread_local

struct emulated_index {
  int x, y;
};
#define threadIdx (emulated_index{floatx::emulated::self().index, 0})
#define blockIdx (emulated_index{floatx::emulated::self().in->index, floatx::emulated::grid_row()})
#define blockDim (emulated_index{floatx::emulated::self().threads, 1})
#define gridDim (emulated_index{floatx::emulated::grid_blocks(), 0})

using std::max;
using std::min;

inline void __syncwarp() { floatx::emulated::meet_warp(); }
template <class T>
T __shfl_sync(unsigned, T value, int lane) {
  static_assert(sizeof(T) == 4);
  std::memcpy(floatx::emulated::self().registers_of(floatx::emulated::self().lane()), &value, 4);
  __syncwarp();
  std::memcpy(&value, floatx::emulated::self().registers_of(lane), 4);
  __syncwarp();
  return value;
}
inline bool __all_sync(unsigned mask, bool value) {
  bool all = true;
  for (int lane = 0; lane < 32; ++lane) all &= __shfl_sync(mask, static_cast<int>(value), lane) != 0;
  return all;
}
template <class T>
T __ldcg(const T* from) {
  return *from;
}
template <class T>
void __stcg(T* to, T value) {
  *to = value;
}
inline int __clz(int value) { return __builtin_clz(static_cast<unsigned>(value)); }
inline float __uint_as_float(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
inline uint32_t __float_as_uint(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}
inline uint32_t __funnelshift_l(uint32_t low, uint32_t high, uint32_t by) {
  by &= 31u;
  return by == 0 ? high : high << by | low >> (32 - by);
}
inline uint32_t __funnelshift_r(uint32_t low, uint32_t high, uint32_t by) {
  by &= 31u;
  return by == 0 ? low : low >> by | high << (32 - by);
}
inline uint32_t __viaddmax_s16x2(uint32_t a, uint32_t b, uint32_t c) {
  const auto of_half = [](uint32_t a, uint32_t b, uint32_t c) {
    return static_cast<uint16_t>(std::max(static_cast<int16_t>(a + b), static_cast<int16_t>(c)));
  };
  return uint32_t{of_half(a >> 16, b >> 16, c >> 16)} << 16 | of_half(a & 0xffffu, b & 0xffffu, c & 0xffffu);
}
inline uint32_t __byte_perm(uint32_t low, uint32_t high, uint32_t select) {
  const uint64_t bytes = uint64_t{high} << 32 | low;
  uint32_t result = 0;
  for (int i = 0; i < 4; ++i) {
    result |= static_cast<uint32_t>(bytes >> (select >> 4 * i & 7u) * 8 & 0xffu) << 8 * i;
  }
  return result;
}

namespace floatx::ptx {

using emulated::fault;
using emulated::self;

// ---- Shared memory ------------------------------------------------------------------------------------

inline unsigned char* dynamic_shared_memory() { return self().in->shared; }

inline uint32_t shared_address(const void* pointer) {
  return emulated::shared_begin +
         static_cast<uint32_t>(static_cast<const unsigned char*>(pointer) - self().in->shared);
}

inline unsigned char* at(uint32_t address, const emulated::block& of) {
  if (address < emulated::shared_begin || address >= emulated::shared_begin + emulated::shared_bytes) {
    throw fault{"an address outside of shared memory"};
  }
  return of.shared + (address - emulated::shared_begin);
}

inline uint32_t swizzled(uint32_t address) { return address ^ (address >> 7 & 7u) << 4; }

// ---- Barriers -----------------------------------------------------------------------------------------

inline emulated::transaction_barrier& barrier_at(uint32_t address, emulated::block& of) {
  const auto found = of.barriers.find(address);
  if (found == of.barriers.end()) throw fault{"a barrier that was not set up"};
  return found->second;
}
inline emulated::transaction_barrier& barrier_at(uint32_t address) { return barrier_at(address, *self().in); }

constexpr uint32_t most_arrivals = (1u << 20) - 1;

inline void init_barrier(uint32_t address, uint32_t arrivals) {
  const int count = static_cast<int>(arrivals);
  self().in->barriers[address] = {count, count, 0, 0};
}

inline void fence_barrier_init() {}
inline void fence_async_proxy() {}
inline void fence_async_proxy_of_global() {}

inline void arrive_and_expect(uint32_t address, uint32_t bytes) {
  emulated::transaction_barrier& barrier = barrier_at(address);
  barrier.bytes += bytes;
  --barrier.pending;
  barrier.complete_if_done();
}

inline void arrive(uint32_t address) { arrive_and_expect(address, 0); }
inline void arrive_after_copies(uint32_t address) { arrive(address); }

inline void copied(emulated::block& to, uint32_t barrier_address, int64_t bytes) {
  emulated::transaction_barrier& barrier = barrier_at(barrier_address, to);
  barrier.bytes -= bytes;
  barrier.complete_if_done();
}

inline void wait_for_phase(uint32_t address, uint32_t parity) {
  const emulated::transaction_barrier& barrier = barrier_at(address);
  while (barrier.phase == parity) emulated::yield();
}

inline uint32_t clock_now() { return static_cast<uint32_t>(emulated::turn() * 500); }

inline bool wait_for_first_phase(uint32_t address, uint32_t begin, uint32_t clocks) {
  const emulated::transaction_barrier& barrier = barrier_at(address);
  while (barrier.phase == 0 && clock_now() - begin < clocks) emulated::yield();
  return barrier.phase != 0;
}

inline unsigned count_arrival(unsigned* counter) { return std::exchange(*counter, *counter + 1); }
inline void add_arrival(unsigned* counter) { ++*counter; }
// Of thread blocks that ran before: here one after the other.
inline void wait_for_arrivals(const unsigned* counter, unsigned count) {
  while (*counter < count) emulated::yield();
}

inline void barrier(int number, int threads) {
  emulated::meet(self().in->named[number], threads);
  emulated::wait_if_late();
}
inline void barrier_arrive(int number, int threads) { emulated::arrive(self().in->named[number], threads); }

// ---- Copies -------------------------------------------------------------------------------------------

constexpr bool has_bulk_copies = FLOATX_EMULATED_BULK_COPIES;

inline uint64_t read_once_policy() { return 0; }

inline void copy_bulk(uint32_t to, const void* from, uint32_t bytes, uint32_t barrier_address,
                      uint64_t /*policy*/ = 0) {
  if (bytes % 16 != 0 || to % 16 != 0 || reinterpret_cast<uintptr_t>(from) % 16 != 0) {
    throw fault{"a bulk copy that is not aligned"};
  }
  emulated::block& here = *self().in;
  at(to + bytes - 1, here);
  emulated::end_copy([=, &here] {
    std::memcpy(at(to, here), from, bytes);
    copied(here, barrier_address, bytes);
  });
}

inline void copy_async(uint32_t to, const void* from, int bytes = 16) {
  if (to % 16 != 0 || reinterpret_cast<uintptr_t>(from) % 16 != 0) throw fault{"a copy that is not aligned"};
  at(to + 15, *self().in);
  std::memset(at(to, *self().in), 0, 16);
  std::memcpy(at(to, *self().in), from, static_cast<size_t>(bytes));
}

inline void prefetch_bulk(const void*, uint32_t, uint64_t /*policy*/) {}
inline void prefetch(const tensor_map&) {}

// The emulated map: {address, rows, columns, stride, rows of a box}, boxes of 64 columns of 16 bits.
inline void copy_box(uint32_t to, const tensor_map& map, int row, int column, uint32_t barrier_address) {
  if (to % 1024 != 0) throw fault{"a box whose place is not aligned"};
  const auto* matrix = reinterpret_cast<const uint16_t*>(map.words[0]);
  const auto rows = static_cast<int64_t>(map.words[1]), columns = static_cast<int64_t>(map.words[2]);
  const auto stride = static_cast<int64_t>(map.words[3]), box_rows = static_cast<int64_t>(map.words[4]);
  emulated::block& here = *self().in;
  emulated::end_copy([=, &here] {
    for (int64_t r = 0; r < box_rows; ++r) {
      for (int64_t c = 0; c < 64; ++c) {
        const bool is_inside = row + r < rows && column + c < columns;
        const uint16_t value = is_inside ? matrix[(row + r) * stride + column + c] : uint16_t{0};
        std::memcpy(at(swizzled(to + static_cast<uint32_t>(r * 128 + c * 2)), here), &value, 2);
      }
    }
    copied(here, barrier_address, box_rows * 128);
  });
}

// ---- Clusters and launches ----------------------------------------------------------------------------

inline void cluster_arrive() {
  emulated::cluster& of = *self().in->in;
  if (self().has_arrived && self().cluster_generation == of.all.generation) {
    throw fault{"a thread that arrives twice"};
  }
  self().cluster_generation = of.all.generation;
  self().has_arrived = true;
  ++of.all.arrived;
  of.complete_if_all_arrived();
}

inline void cluster_wait() {
  while (self().in->in->all.generation == self().cluster_generation) emulated::yield();
}

inline void cluster_arrive_relaxed() { cluster_arrive(); }

inline emulated::block& block_of(int rank) {
  std::vector<emulated::block>& blocks = self().in->in->blocks;
  if (rank < 0 || rank >= static_cast<int>(blocks.size()))
    throw fault{"a thread block outside of the cluster"};
  return blocks[static_cast<size_t>(rank)];
}

inline void send_four_to(uint32_t address, uint32_t barrier_address, int rank, float4 value) {
  emulated::block& there = block_of(rank);
  at(address + sizeof value - 1, there);
  emulated::end_copy([=, &there] {
    std::memcpy(at(address, there), &value, sizeof value);
    copied(there, barrier_address, sizeof value);
  });
}

// Read where the copy ends: what it is copied from may not change before.
inline void send_bulk_to(uint32_t to, uint32_t from, uint32_t bytes, uint32_t barrier_address, int rank) {
  if (bytes % 16 != 0 || to % 16 != 0 || from % 16 != 0) throw fault{"a bulk copy that is not aligned"};
  emulated::block &here = *self().in, &there = block_of(rank);
  at(from + bytes - 1, here);
  at(to + bytes - 1, there);
  emulated::end_copy([=, &here, &there] {
    std::memcpy(at(to, there), at(from, here), bytes);
    copied(there, barrier_address, bytes);
  });
}

template <class T>
void keep(T&) {}

template <class Activation>
uint32_t product(uint32_t a, uint32_t b) {
  std::conditional_t<std::is_same_v<Activation, __half>, __half2, __nv_bfloat162> pairs[2];
  std::memcpy(static_cast<void*>(&pairs[0]), &a, 4);
  std::memcpy(static_cast<void*>(&pairs[1]), &b, 4);
  const auto result = __hmul2(pairs[0], pairs[1]);
  std::memcpy(&a, &result, 4);
  return a;
}

template <class Activation, bool High>
uint32_t product_with(uint32_t a, uint32_t two) {
  return product<Activation>(a, High ? two >> 16 | (two & 0xffff0000u) : two << 16 | (two & 0xffffu));
}
constexpr bool has_e4m3fn = FLOATX_EMULATED_BULK_COPIES;
inline uint32_t halves_of_e4m3fn(uint16_t two) {
  uint32_t halves = 0;
  for (int i = 0; i < 2; ++i) {
    const __half half = __float2half_rn(decode<float8_e4m3fn>(static_cast<uint8_t>(two >> 8 * i)));
    halves |= uint32_t{reinterpret_cast<const uint16_t&>(half)} << 16 * i;
  }
  return halves;
}

inline uint32_t halves_of_bytes(uint32_t two) { return (two & 0xffu) | (two & 0xff00u) << 8; }

inline void allow_next_kernel() {}
inline void wait_for_previous_kernel() { emulated::wait_for_previous_kernel(); }

inline uint32_t uniform(uint32_t value) { return value; }

template <int>
void give_registers() {}
template <int>
void take_registers() {}

// ---- Matrices -----------------------------------------------------------------------------------------

inline void show(const uint32_t (&values)[4]) {
  std::copy_n(values, 4, self().registers_of(self().lane()));
  emulated::meet_warp();
}

template <class Activation>
float value_of(uint16_t bits) {
  Activation value;
  std::memcpy(static_cast<void*>(&value), &bits, sizeof value);
  return static_cast<float>(value);
}

inline uint16_t half_of(uint32_t pair, int which) { return static_cast<uint16_t>(pair >> 16 * which); }

inline uint64_t matrix_descriptor(uint32_t rows) {
  if (rows % 1024 != 0) throw fault{"a matrix that is not aligned"};
  return rows >> 4;
}
constexpr int descriptor_step = 32 >> 4;

inline void wgmma_fence() {}
inline void wgmma_commit() {}
template <int>
void wgmma_wait() {}
template <int Count>
void settle(float (&)[Count]) {}

template <class Activation, int Count>
void wgmma(float (&d)[Count], const uint32_t (&a)[4], uint64_t b, bool add) {
  show(a);
  const int lane = self().lane();
  float weights[2][16];  // of rows lane / 4 and lane / 4 + 8
  for (int half = 0; half < 2; ++half) {
    for (int k = 0; k < 16; ++k) {
      const uint32_t pair = self().registers_of(lane / 4 * 4 + k % 8 / 2)[half + k / 8 * 2];
      weights[half][k] = value_of<Activation>(half_of(pair, k % 2));
    }
  }
  for (int i = 0; i < Count; ++i) {
    const int token = i / 4 * 8 + lane % 4 * 2 + i % 2;
    float sum = add ? d[i] : 0.0f;
    for (int k = 0; k < 16; ++k) {
      uint16_t bits;
      const uint32_t address = static_cast<uint32_t>(b << 4) + static_cast<uint32_t>(token * 128 + k * 2);
      std::memcpy(&bits, at(swizzled(address), *self().in), 2);
      sum += weights[i % 4 / 2][k] * value_of<Activation>(bits);
    }
    d[i] = sum;
  }
  emulated::meet_warp();
}

template <class Activation>
void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  const int lane = self().lane();
  float weights[2][16], x[2][16];  // rows lane / 4 and + 8, tokens lane % 4 * 2 and + 1
  show(a);
  for (int half = 0; half < 2; ++half) {
    for (int k = 0; k < 16; ++k) {
      const uint32_t pair = self().registers_of(lane / 4 * 4 + k % 8 / 2)[half + k / 8 * 2];
      weights[half][k] = value_of<Activation>(half_of(pair, k % 2));
    }
  }
  emulated::meet_warp();
  show({b0, b1, 0, 0});
  for (int token = 0; token < 2; ++token) {
    for (int k = 0; k < 16; ++k) {
      const uint32_t pair = self().registers_of((lane % 4 * 2 + token) * 4 + k % 8 / 2)[k / 8];
      x[token][k] = value_of<Activation>(half_of(pair, k % 2));
    }
  }
  for (int i = 0; i < 4; ++i) {
    for (int k = 0; k < 16; ++k) c[i] += weights[i / 2][k] * x[i % 2][k];
  }
  emulated::meet_warp();
}

inline void load_matrices(uint32_t (&to)[4], uint32_t row) {
  show({row, 0, 0, 0});
  for (int matrix = 0; matrix < 4; ++matrix) {
    const uint32_t from = *self().registers_of(matrix * 8 + self().lane() / 4);
    if (from % 16 != 0) throw fault{"a row of a matrix that is not aligned"};
    std::memcpy(&to[matrix], at(from + static_cast<uint32_t>(self().lane() % 4 * 4), *self().in), 4);
  }
  emulated::meet_warp();
}

inline void store_transposed(uint32_t row, const uint32_t (&from)[4]) {
  show(from);
  const int matrix = self().lane() / 8, in_row = self().lane() % 8;
  for (int i = 0; i < 8; ++i) {
    const uint16_t bits = half_of(self().registers_of(i * 4 + in_row / 2)[matrix], in_row % 2);
    std::memcpy(at(row + static_cast<uint32_t>(i) * 2, *self().in), &bits, 2);
  }
  emulated::meet_warp();
}

}  // namespace floatx::ptx
