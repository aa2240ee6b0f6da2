// The end of a tile in kernels::linear_stream: the sums of a thread block's warps come together, then those
// of thread blocks that share the tile, and become y.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <type_traits>

#include "linear_parts.cuh"
#include "ptx/arrivals.cuh"
#include "ptx/async_copy.cuh"
#include "ptx/barrier.cuh"
#include "ptx/warpgroup.cuh"

namespace floatx::kernels {

// The sums of a tile of each warp, [warp][sum], in the order of registers, so that a warp's stores are
// contiguous.
template <int Tiles, int Strips>
struct warp_sums {
  static constexpr int count = Strips * 16 * Tiles * 8;
  float* memory;
  int warps;

  // Of all warps, added in their order.
  __device__ __forceinline__ float total(unsigned row, unsigned token) const {
    const unsigned reg = token / 8 * Strips * 4 + row / 16 * 4 + row % 16 / 8 * 2 + token % 2;
    const float* of_warp = memory + reg * 32 + row % 8 * 4 + token % 8 / 2;
    float sum = 0;
    int w = 0;
#pragma unroll 1
    for (; w + 4 <= warps; w += 4) {
      float four[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) four[i] = of_warp[(w + i) * count];
#pragma unroll
      for (int i = 0; i < 4; ++i) sum += four[i];
    }
#pragma unroll 1
    for (; w < warps; ++w) sum += of_warp[w * count];
    return sum;
  }
};

// Named barriers: of all warps, once what the helpers set up is; of the warps that multiply; and of these and
// a helper, who waits until all have left their sums.
constexpr int start_barrier = 0, end_barrier = 1, first_helper_barrier = 2;

// Where the warps of a thread block leave these. Helpers read them in turn, and each has a barrier that says
// when it has.
template <int Tiles, int Strips>
class sums_board {
 public:
  // With the helpers' barriers in shared memory.
  __device__ __forceinline__ sums_board(void* memory, uint64_t (&barriers)[stream_helpers], int warps)
      : sums_{static_cast<float*>(memory), warps}, barriers_(ptx::shared_address(barriers)) {}

  // By one thread of each helper.
  __device__ __forceinline__ void set_up(int helper) const { ptx::init_barrier(read(helper), 32); }

  // A warp's, which are zeros then, once those of the tile before have been read.
  __device__ __forceinline__ void leave(int warp, int lane, float (&sums)[Strips][Tiles][4]) const {
    const bool is_first = helper_ == 0;
    ptx::wait_for_phase(read(is_first ? stream_helpers - 1 : helper_ - 1), is_first ? parity_ ^ 1u : parity_);
    float* to = sums_.memory + warp * sums_.count + lane;
#pragma unroll
    for (int t = 0; t < Tiles; ++t) {
#pragma unroll
      for (int strip = 0; strip < Strips; ++strip) {
#pragma unroll
        for (int reg = 0; reg < 4; ++reg) {
          to[((t * Strips + strip) * 4 + reg) * 32] = sums[strip][t][reg];
          sums[strip][t][reg] = 0;
        }
      }
    }
  }

  // And then: to the helper whose turn it is, which waits for those of all, and says when it has read them.
  __device__ __forceinline__ int helper() const { return helper_; }
  __device__ __forceinline__ void hand_over() const {
    ptx::barrier_arrive(first_helper_barrier + helper_, (sums_.warps + 1) * 32);
  }
  __device__ __forceinline__ void wait() const {
    ptx::barrier(first_helper_barrier + helper_, (sums_.warps + 1) * 32);
  }
  __device__ __forceinline__ const warp_sums<Tiles, Strips>& sums() const { return sums_; }
  __device__ __forceinline__ void have_read() const { ptx::arrive(read(helper_)); }

  // To the sums of the next tile.
  __device__ __forceinline__ void next() {
    if (++helper_ == stream_helpers) {
      helper_ = 0;
      parity_ ^= 1u;
    }
  }

 private:
  warp_sums<Tiles, Strips> sums_;
  uint32_t barriers_;
  int helper_ = 0;
  uint32_t parity_ = 0;

  __device__ __forceinline__ uint32_t read(int helper) const { return barriers_ + helper * 8; }
};

// What threads do at the end of a tile: those of one warp, or all of the warps that multiply. A thread has a
// row of some of the tokens; those of one warp have several rows, 32 apart, of each.
template <class Activation, int Tiles, int Strips, bool IsWarp>
class tile_end {
 public:
  // Thread `thread` of `threads`.
  __device__ __forceinline__ tile_end(const linear_arguments& args, unsigned thread, unsigned threads,
                                      int tokens, int first_token)
      : args_(args), thread_(thread), threads_(threads), tokens_(tokens), first_token_(first_token) {}

  // What all of them have done is done.
  __device__ __forceinline__ void meet() const {
    if constexpr (IsWarp) {
      __syncwarp();
    } else {
      ptx::barrier(end_barrier, static_cast<int>(threads_));
    }
  }

  // What is stored of the terms of a tile's rows, early, because whatever is computed from it waits. First
  // what is of the weight, then what the kernel before this one may have written.
  __device__ __forceinline__ void load_scales(int tile) {
#pragma unroll
    for (int i = 0; i < count; ++i) stored_[i].load_scale(args_, row_of(tile, i));
  }
  __device__ __forceinline__ void load_bias(int tile) {
#pragma unroll
    for (int i = 0; i < count; ++i) stored_[i].load_bias(args_, row_of(tile, i));
  }
  // And when they should be there.
  __device__ __forceinline__ void use_terms() {
#pragma unroll
    for (int i = 0; i < count; ++i) terms_[i] = stored_[i].values(args_);
  }

  // y of a whole tile.
  __device__ __forceinline__ void store(const warp_sums<Tiles, Strips>& sums, int tile) const {
    for_each_sum(sums, [&](unsigned token, int i, float sum) { store(token, tile, i, sum); });
  }

  // This thread block's share.
  __device__ __forceinline__ void store_partial(const warp_sums<Tiles, Strips>& sums, int tile) const {
    float* partial = partial_sums(tile, blockIdx.x) + row();
    for_each_sum(sums, [&](unsigned token, int i, float sum) { partial[token * rows + 32 * i] = sum; });
  }

  // And then, in the thread block that arrives last, y of all shares, added in the order of the thread
  // blocks. With a word of shared memory if the threads are more than a warp.
  __device__ __forceinline__ void combine(int tile, volatile unsigned* word) {
    const int first = args_.shares.owner(tile * args_.k_blocks);
    const int last = args_.shares.owner((tile + 1) * args_.k_blocks - 1);
    const auto others = static_cast<unsigned>(last - first);
    meet();
    unsigned before = 0;
    if (thread_ == 0) {
      unsigned* arrivals = args_.arrivals + blockIdx.y * gridDim.x + first;
      before = ptx::count_arrival(arrivals);
      if (before == others) *arrivals = 0;
    }
    if (of_first_thread(before, word) != others) return;
    use_terms();
    // While the memory is busy a load takes microseconds, so many are under way at a time.
    constexpr int batch = IsWarp ? 4 : 2;
    for (unsigned token = begin(); token < tokens_; token += batch * side_by_side()) {
      float sums[batch][count] = {};
#pragma unroll 2
      for (int block = first; block <= last; ++block) {
        const float* partial = partial_sums(tile, block) + row();
        for_each_of(sums, token,
                    [&](unsigned at, int i, float& sum) { sum += __ldcg(partial + at * rows + 32 * i); });
      }
      for_each_of(sums, token, [&](unsigned at, int i, float sum) { store(at, tile, i, sum); });
    }
  }

 private:
  static constexpr unsigned rows = Strips * 16;
  static constexpr int count = IsWarp ? Strips / 2 : 1;
  const linear_arguments& args_;
  unsigned thread_, threads_, tokens_;
  int first_token_;
  stored_row_terms<Activation> stored_[count];
  row_terms terms_[count];

  // Computed where they are needed, lest they take registers meanwhile.
  __device__ __forceinline__ unsigned row() const { return thread_ % rows; }
  __device__ __forceinline__ unsigned side_by_side() const { return IsWarp ? 1 : threads_ / rows; }
  // Threads beyond the last whole set of rows have no tokens.
  __device__ __forceinline__ unsigned begin() const {
    return thread_ / rows < side_by_side() ? thread_ / rows : tokens_;
  }

  __device__ __forceinline__ int row_of(int tile, int i) const {
    return tile * static_cast<int>(rows) + static_cast<int>(row()) + 32 * i;
  }

  __device__ __forceinline__ void store(unsigned token, int tile, int i, float sum) const {
    const int row = row_of(tile, i);
    if (row >= args_.n) return;
    static_cast<Activation*>(args_.y)[(first_token_ + token) * args_.y_stride + row] =
        from_float<Activation>(finished(args_, sum, terms_[i]));
  }

  __device__ __forceinline__ unsigned of_first_thread(unsigned value, volatile unsigned* word) const {
    if constexpr (IsWarp) {
      value = __shfl_sync(0xffffffffu, value, 0);
    } else {
      if (thread_ == 0) *word = value;
      meet();
      value = *word;
    }
    meet();
    return value;
  }

  template <class Function>
  __device__ __forceinline__ void for_each_sum(const warp_sums<Tiles, Strips>& sums,
                                               Function&& function) const {
    for (unsigned token = begin(); token < tokens_; token += side_by_side()) {
#pragma unroll
      for (int i = 0; i < count; ++i) function(token, i, sums.total(row() + 32 * i, token));
    }
  }

  // Of so many of this thread's tokens, from one on.
  template <int Batch, class Function>
  __device__ __forceinline__ void for_each_of(float (&sums)[Batch][count], unsigned token,
                                              Function&& function) const {
#pragma unroll
    for (int t = 0; t < Batch; ++t, token += side_by_side()) {
#pragma unroll
      for (int i = 0; i < count; ++i) {
        if (token < tokens_) function(token, i, sums[t][i]);
      }
    }
  }

  // Where a thread block leaves its share of a tile, [tokens][rows]. The tile may be the last of those that
  // it shares, or the first; it keeps these apart in slots 1 and 0.
  __device__ __forceinline__ float* partial_sums(int tile, int block) const {
    const int slot = args_.shares.begin(block) < tile * args_.k_blocks ? 1 : 0;
    const int64_t index = (static_cast<int64_t>(blockIdx.y) * gridDim.x + block) * 2 + slot;
    return args_.partials + index * (Tiles * 8 * rows);
  }
};

}  // namespace floatx::kernels
