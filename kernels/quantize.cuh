// From values to packed weights.
//
// A warp quantizes a unit of 16 rows x 128 k at a time, from shared memory into which the values are copied
// ahead. The *parts* of a strip of 16 rows are shared out among thread blocks. Where a scale is that of a
// row, all values of a strip must have been seen before the first is quantized: the thread blocks of a strip
// are then a cluster, which compares its largest values, and what fits stays in shared memory, so that it is
// read once. What does not is read again, backwards.
//
// Arithmetic: pack_rule.hpp, whose codes are those of quantize.hpp and codec.hpp, bit by bit. Instructions
// decide the speed: of some 17 for each value of FP16, 13 quantize it.
//
// Measured on an H200 (2026-11-25) with 8192 x 8192 FP16 to E3M2, a scale for each row, median of 28 replays
// of a graph of 8 launches: 66 to 68 us, where a copy of as many bytes takes 44. Tried, in the order in which
// this came about, from 95 us: quotients by a product and registers that turn by steps (81), values inside
// the weight loaded without tests (74), a cluster's barrier that one warp releases (70), thread blocks of 4
// warps instead of 8 and addresses computed once (67). Lost: prefetching the values of the thread block that
// comes next to the second-level cache (74 in place of 70), thread blocks of 8 warps with half as many values
// (83 in place of 70), thread blocks that stay, whose warps load, look and quantize at once (120 in place of
// 96), a loop over quarters of a unit (107 in place of 96). A third of the thread blocks waiting at the
// start, lest all load at the same time, won 1 us of 70.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "code_tile.cuh"
#include "ptx/async_copy.cuh"
#include "ptx/cluster.cuh"
#include "ptx/mma.cuh"

namespace floatx::kernels {

// ---- Types of values ---------------------------------------------------------------------------------

// A pair of neighbouring values, as a fragment of the unit has them; the pairs of a step are those of an
// MMA's A.
template <class Half>
struct halves {
  using element = uint16_t;
  using pair = uint32_t;
  using divider = short_divider;

  __device__ static void load_step(pair (&x)[4], const unsigned char* slot, int step, int lane) {
    ptx::load_matrices(
        x, ptx::shared_address(slot + lane % 16 * value_row_bytes(2) + step * 32 + lane / 16 * 16));
  }
  __device__ static uint32_t signs(pair x) { return x; }
};

struct f16_values : halves<__half> {
  // Every divisor of FP16 values is within the range where division needs no care.
  __device__ static pair prescaled(pair x, const divider&) { return x; }
  __device__ static __half2 as_half2(pair x) { return *reinterpret_cast<const __half2*>(&x); }
  __device__ static float low(pair x) { return __low2float(as_half2(x)); }
  __device__ static float high(pair x) { return __high2float(as_half2(x)); }
  // NaN stays, so that the largest tells whether all are finite.
  __device__ static pair larger(pair most, pair x) {
    const __half2 result = __hmax2_nan(as_half2(most), __habs2(as_half2(x)));
    return *reinterpret_cast<const pair*>(&result);
  }
};

struct bf16_values : halves<__nv_bfloat16> {
  __device__ static __nv_bfloat162 as_bf162(pair x) { return *reinterpret_cast<const __nv_bfloat162*>(&x); }
  __device__ static pair prescaled(pair x, const divider& by) {
    const __nv_bfloat162 result = __hmul2(as_bf162(x), as_bf162(by.prescale));
    return *reinterpret_cast<const pair*>(&result);
  }
  __device__ static float low(pair x) { return __uint_as_float(x << 16); }
  __device__ static float high(pair x) { return __uint_as_float(x & 0xffff0000u); }
  __device__ static pair larger(pair most, pair x) {
    const __nv_bfloat162 result = __hmax2_nan(as_bf162(most), __habs2(as_bf162(x)));
    return *reinterpret_cast<const pair*>(&result);
  }
};

struct f32_values {
  using element = float;
  using pair = float2;
  using divider = kernels::divider;

  __device__ static void load_step(pair (&x)[4], const unsigned char* slot, int step, int lane) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + i % 2 * 8, column = step * 16 + i / 2 * 8 + lane % 4 * 2;
      x[i] = *reinterpret_cast<const float2*>(slot + row * value_row_bytes(4) + column * 4);
    }
  }
  __device__ static pair prescaled(pair x, const divider& by) {
    return {x.x * by.prescale, x.y * by.prescale};
  }
  __device__ static float low(pair x) { return x.x; }
  __device__ static float high(pair x) { return x.y; }
  __device__ static uint32_t signs(pair x) {
    return __byte_perm(__float_as_uint(x.x), __float_as_uint(x.y), 0x7632);
  }
  // As integers, for which NaN is larger than Inf.
  __device__ static pair larger(pair most, pair x) {
    return {__uint_as_float(max(__float_as_uint(most.x), __float_as_uint(x.x) & 0x7fffffffu)),
            __uint_as_float(max(__float_as_uint(most.y), __float_as_uint(x.y) & 0x7fffffffu))};
  }
};

// The larger of a pair of magnitudes, as the bits of an FP32: these order like the magnitudes, NaN last.
template <class Values>
__device__ __forceinline__ uint32_t largest_bits(typename Values::pair most) {
  return max(__float_as_uint(Values::low(most)), __float_as_uint(Values::high(most)));
}

constexpr uint32_t infinity_bits = 0x7f800000u;

// Over the four lanes that hold a row.
__device__ __forceinline__ uint32_t largest_of_row(uint32_t bits) {
  bits = max(bits, __shfl_xor_sync(0xffffffffu, bits, 1));
  return max(bits, __shfl_xor_sync(0xffffffffu, bits, 2));
}

// ---- Values to shared memory -------------------------------------------------------------------------

// Copies units of a strip to slots of shared memory, a warp for itself.
template <class Values>
class strip_loader {
 public:
  __device__ strip_loader(const pack_arguments& args, int64_t first_row, int lane)
      : args_(args),
        first_row_(first_row),
        first_chunk_(static_cast<const unsigned char*>(args.values) +
                     (first_row + lane / row_chunks) * args.values_stride * size + lane % row_chunks * 16),
        in_slot_(lane / row_chunks * row_bytes + lane % row_chunks * 16),
        lane_(lane) {}

  __device__ __forceinline__ void load(int k_block, unsigned char* slot) const {
    const int64_t column = static_cast<int64_t>(k_block) * unit_k;
    if (!args_.values_are_aligned || first_row_ + unit_rows > args_.target.n ||
        column + unit_k > args_.target.k) {
      load_with_care(column, slot);
      return;
    }
    const unsigned char* from = first_chunk_ + column * size;
    const uint32_t to = ptx::shared_address(slot) + in_slot_;
#pragma unroll
    for (int row = 0; row < unit_rows; row += chunk_rows, from += chunk_rows * size * args_.values_stride) {
      ptx::copy_async(to + row * row_bytes, from);
    }
  }

 private:
  using element = typename Values::element;
  static constexpr int size = sizeof(element), row_bytes = value_row_bytes(size);
  // A lane copies chunks of 16 bytes, of which a warp takes chunk_rows rows at a time.
  static constexpr int row_chunks = unit_k * size / 16, chunk_rows = 32 / row_chunks;

  // A unit at an edge of the weight, or whose rows are not aligned. Beyond the edges there are zeros, which
  // become zero codes.
  __device__ __forceinline__ void load_with_care(int64_t column, unsigned char* slot) const {
    const int64_t rows = args_.target.n - first_row_, columns = args_.target.k - column;
    const auto* values = static_cast<const element*>(args_.values);
    const int64_t stride = args_.values_stride, first = first_row_ * stride + column;
    if (args_.values_are_aligned) {
#pragma unroll 1
      for (int i = lane_; i < unit_rows * row_chunks; i += 32) {
        const int row = i / row_chunks, chunk = i % row_chunks;
        const int64_t bytes_left = row < rows ? columns * size - chunk * 16 : 0;
        const int bytes = bytes_left >= 16 ? 16 : bytes_left > 0 ? static_cast<int>(bytes_left) : 0;
        ptx::copy_async(ptx::shared_address(slot) + row * row_bytes + chunk * 16,
                        bytes > 0 ? values + first + row * stride + chunk * (16 / size) : values, bytes);
      }
      return;
    }
#pragma unroll 4
    for (int i = lane_; i < unit_rows * unit_k; i += 32) {
      const int row = i / unit_k, c = i % unit_k;
      *reinterpret_cast<element*>(slot + row * row_bytes + c * size) =
          row < rows && c < columns ? __ldg(values + first + row * stride + c) : element(0);
    }
  }

  const pack_arguments& args_;
  int64_t first_row_;
  const unsigned char* first_chunk_;
  int in_slot_, lane_;
};

__device__ __forceinline__ void wait_for_slot(int slots) {
  if (slots == 1) {
    ptx::wait_copies<0>();
  } else {
    ptx::wait_copies<1>();
  }
}

// ---- Scales ------------------------------------------------------------------------------------------

// From the bits of the largest magnitude to what divides the values; the scale is stored, and an offence
// told.
template <class Divider>
__device__ inline Divider finish_scale(const pack_arguments& args, uint32_t absmax_bits, int64_t row,
                                       int64_t group, int64_t index, bool is_stored, float tensor,
                                       uint64_t& offence_found) {
  const bool inside = row < args.target.n && group < args.row_groups;
  const float absmax = __uint_as_float(absmax_bits);
  const group_scale scale = make_scale(args.range, absmax, args.scale_type, args.rules, tensor);
  if (is_stored && (inside || !args.target.canonical)) {
    store_scale_bits(args.target.scales, index, scale_bytes(args.scale_type), inside ? scale.bits : 0u);
  }
  // What F16 cannot hold.
  if (args.scale_type == scale_storage::f16 && inside && absmax_bits != 0 && absmax_bits < infinity_bits &&
      (scale.bits == 0 || scale.bits >= 0x7c00u)) {
    const uint64_t key = offence_key(row, group * args.group_size, offence::scale);
    offence_found = key < offence_found ? key : offence_found;
  }
  return Divider::of(scale.divisor);
}

// The scales of a unit's groups. dividers: [group][row of 16]. Returns whether a value is NaN or Inf.
template <class Values>
__device__ bool make_unit_scales(const pack_arguments& args, int64_t strip, int k_block, float tensor,
                                 const unsigned char* slot, typename Values::divider* dividers, int lane) {
  using divider = typename Values::divider;
  using pair = typename Values::pair;
  const int groups = 8 >> args.group_shift, last_step = (1 << args.group_shift) - 1;
  auto* largest = reinterpret_cast<uint32_t*>(dividers);  // [group][row], each where its divider will be
  pair most[2] = {};
#pragma unroll 2
  for (int step = 0; step < 8; ++step) {
    pair x[4];
    Values::load_step(x, slot, step, lane);
#pragma unroll
    for (int i = 0; i < 4; ++i) most[i % 2] = Values::larger(most[i % 2], x[i]);
    if ((step & last_step) != last_step) continue;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const uint32_t bits = largest_of_row(largest_bits<Values>(most[i]));
      if (lane % 4 == 0) {
        largest[((step >> args.group_shift) * unit_rows + lane / 4 + 8 * i) * (sizeof(divider) / 4)] = bits;
      }
      most[i] = {};
    }
  }
  __syncwarp();
  uint64_t found = no_offence;
  bool is_bad = false;
  const int64_t first_group = static_cast<int64_t>(k_block) * groups;
  const int64_t first_index = unit_index(strip, k_block, args.target.k_blocks) * unit_rows * groups;
  for (int i = lane; i < unit_rows * groups; i += 32) {  // in the order in which the gpu arrangement has them
    const int r = i % 2 * 8 + (i >> (4 - args.group_shift)), g = i / 2 & (groups - 1);
    const int64_t row = strip * unit_rows + r, group = first_group + g;
    const int64_t index = args.target.canonical ? row * args.row_groups + group : first_index + i;
    const int at = g * unit_rows + r;
    const uint32_t bits = largest[at * (sizeof(divider) / 4)];
    is_bad |= bits >= infinity_bits;
    dividers[at] = finish_scale<divider>(args, bits, row, group, index, true, tensor, found);
  }
  if (args.report) note(args.report, found);
  return __any_sync(0xffffffffu, is_bad);
}

// ---- Values to codes ---------------------------------------------------------------------------------

// To a register, see pack_rule.hpp.
template <int Bits, class Values>
__device__ __forceinline__ uint32_t quantize_pair(typename Values::pair x, const typename Values::divider& by,
                                                  const encode_rule& rule, uint32_t lift_factor) {
  const typename Values::pair scaled = Values::prescaled(x, by);
  const uint32_t low = encode_magnitude(rule, divide(Values::low(scaled), by));
  const uint32_t high = encode_magnitude(rule, divide(Values::high(scaled), by));
  const uint32_t magnitudes = __vminu2(__byte_perm(low, high, 0x5410), rule.largest);
  const uint32_t signs = Values::signs(x) & by.signs;
  return Bits == 4 ? (signs >> 12 | magnitudes) * lift_factor : signs | magnitudes * lift_factor;
}

// A unit in shared memory to its words, or to the tile. dividers: [group][row of 16].
template <int Bits, class Values>
__device__ __forceinline__ void quantize_unit(const pack_arguments& args, int64_t strip, int k_block,
                                              const unsigned char* slot,
                                              const typename Values::divider* dividers, unsigned char* tile,
                                              int lane) {
  uint32_t words[2 * Bits] = {};
#pragma unroll
  for (int step = 7; step >= 0; --step) {
    typename Values::pair x[4];
    Values::load_step(x, slot, step, lane);
    const typename Values::divider* group = dividers + (step >> args.group_shift) * unit_rows + lane / 4;
    const typename Values::divider by[2] = {group[0], group[8]};
#pragma unroll
    for (int i = 3; i >= 0; --i) {
      scatter<Bits>(quantize_pair<Bits, Values>(x[i], by[i % 2], args.encoding, args.lift_factor),
                    4 * step + i, args.codes.unit, words);
    }
  }
  if (!args.target.canonical) {
    store_words<Bits>(
        words, args.target.codes + unit_index(strip, k_block, args.target.k_blocks) * gpu::unit_bytes(Bits),
        lane);
    return;
  }
  words_to_tile<Bits>(words, args.codes, tile, lane);
  __syncwarp();
  const int64_t row = strip * unit_rows, column = static_cast<int64_t>(k_block) * unit_k;
  const int64_t rows = args.target.n - row, columns = args.target.k - column;
  tile_to_canonical<Bits>(tile, args.target, row, column,
                          static_cast<int>(rows < unit_rows ? rows : unit_rows),
                          static_cast<int>(columns < unit_k ? columns : unit_k), lane);
  __syncwarp();
}

// NaN and Inf in a unit: the key of the first. Rarely needed, so it may be slow.
template <class Values>
__device__ __noinline__ void note_values(const pack_arguments& args, int64_t strip, int k_block,
                                         const unsigned char* slot, int lane) {
  constexpr int size = sizeof(typename Values::element);
  uint64_t key = no_offence;
  for (int i = lane; i < unit_rows * unit_k; i += 32) {
    const unsigned char* from = slot + i / unit_k * value_row_bytes(size) + i % unit_k * size;
    const auto value = *reinterpret_cast<const typename Values::element*>(from);
    typename Values::pair x = {};
    if constexpr (size == 2) {
      x = value;
    } else {
      x.x = value;
    }
    if ((__float_as_uint(Values::low(x)) & 0x7fffffffu) < infinity_bits) continue;
    key = offence_key(strip * unit_rows + i / unit_k, static_cast<int64_t>(k_block) * unit_k + i % unit_k,
                      offence::value);
    break;
  }
  note(args.report, key);
}

// ---- The kernel --------------------------------------------------------------------------------------

// Grid: strips x parts; up to max_pack_warps warps. Bits is the width of the codes.
template <int Bits, class Values>
__global__ void __launch_bounds__(max_pack_warps * 32, 3) pack(const __grid_constant__ pack_arguments args) {
  using pair = typename Values::pair;
  using divider = typename Values::divider;
  constexpr int slot_bytes = value_slot_bytes(sizeof(typename Values::element));
  extern __shared__ __align__(128) unsigned char smem[];
  __shared__ uint32_t row_largest[unit_rows];
  __shared__ bool row_offence;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, warps = blockDim.x / 32;
  const int64_t strip = blockIdx.x / args.parts;
  const int part = blockIdx.x % args.parts;
  const int begin = part * args.part_blocks + warp;
  const int end = min((part + 1) * args.part_blocks, args.target.k_blocks);
  unsigned char* ring = smem + warp * args.warp_bytes;
  const bool by_row = args.group_size == 0;
  // [group][row], of the rows behind the rings of all warps.
  auto* dividers = reinterpret_cast<divider*>(
      smem + (by_row ? warps * args.warp_bytes : warp * args.warp_bytes + args.slots * slot_bytes));
  float tensor = 1;
  if (args.scale_type == scale_storage::e4m3fn) tensor = tensor_scale(args.range, *args.target.tensor_scale);

  // The warp's units, in order or backwards: unit u is in slot u % slots, and when it is done, the one that
  // is `slots` further on takes its place.
  const strip_loader<Values> loader(args, strip * unit_rows, lane);
  const int units = begin < end ? (end - begin + warps - 1) >> (__ffs(warps) - 1) : 0;
  const auto slot_of = [&](int unit) { return ring + (unit & (args.slots - 1)) * slot_bytes; };
  const auto load = [&](int unit) {
    if (unit >= 0 && unit < units) loader.load(begin + unit * warps, slot_of(unit));
    ptx::commit_copies();
  };
  const auto for_each_unit = [&](int first, int step, auto&& body) {
    for (int i = 0, unit = first; i < units; ++i, unit += step) {
      wait_for_slot(args.slots);
      __syncwarp();
      body(begin + unit * warps, slot_of(unit));
      __syncwarp();
      load(unit + step * args.slots);
    }
  };

  for (int unit = 0; unit < args.slots; ++unit) load(unit);
  if (by_row) {
    if (threadIdx.x < unit_rows) row_largest[threadIdx.x] = 0;
    __syncthreads();
    pair most[2] = {};
    for_each_unit(0, 1, [&](int, const unsigned char* slot) {
#pragma unroll
      for (int step = 0; step < 8; ++step) {
        pair x[4];
        Values::load_step(x, slot, step, lane);
#pragma unroll
        for (int i = 0; i < 4; ++i) most[i % 2] = Values::larger(most[i % 2], x[i]);
      }
    });
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const uint32_t bits = largest_of_row(largest_bits<Values>(most[i]));
      if (lane % 4 == 0) atomicMax(&row_largest[lane / 4 + 8 * i], bits);
    }
    __syncthreads();
    if (args.clustered) {
      // One warp speaks for all: before a release, a warp waits until all that it has under way is done.
      if (warp == 0) {
        ptx::cluster_arrive();
      } else {
        ptx::cluster_arrive_relaxed();
      }
      ptx::cluster_wait();
    }
    if (warp == 0) {
      uint64_t found = no_offence;
      bool is_bad = false;
      if (lane < unit_rows) {
        uint32_t bits = row_largest[lane];
        if (args.clustered) {
          for (int other = 0; other < args.parts; ++other) {
            bits = max(bits, ptx::load_shared_of(ptx::shared_address(&row_largest[lane]), other));
          }
        }
        is_bad = bits >= infinity_bits;
        const int64_t row = strip * unit_rows + lane;
        const int64_t index = args.target.canonical ? row : strip * unit_rows + lane % 8 * 2 + lane / 8;
        dividers[lane] = finish_scale<divider>(args, bits, row, 0, index, part == 0, tensor, found);
      }
      is_bad = __any_sync(0xffffffffu, is_bad);
      if (args.report && part == 0) note(args.report, found);
      if (lane == 0) row_offence = is_bad;
    }
    // Nobody may leave before the others have read, as this warp's vote says that it has.
    if (args.clustered) ptx::cluster_arrive_relaxed();
    __syncthreads();
  }

  unsigned char* tile = ring + args.tile_offset;
  // Backwards where all have been seen: what came last is still there, and all of it if the strip fits.
  for_each_unit(by_row ? units - 1 : 0, by_row ? -1 : 1, [&](int k_block, const unsigned char* slot) {
    bool has_offence = by_row && row_offence;
    if (!by_row) {
      has_offence = make_unit_scales<Values>(args, strip, k_block, tensor, slot, dividers, lane);
      __syncwarp();
    }
    if (args.report && has_offence) note_values<Values>(args, strip, k_block, slot, lane);
    quantize_unit<Bits, Values>(args, strip, k_block, slot, dividers, tile, lane);
  });
  if (by_row && args.clustered) ptx::cluster_wait();
}

// The largest magnitude of all values, for the tensor scale of E4M3FN scales: a warp takes 2 KB of a row at a
// time.
template <class Values>
__global__ void __launch_bounds__(256) tensor_absmax(const __grid_constant__ absmax_arguments args) {
  using element = typename Values::element;
  constexpr int size = sizeof(element), segment = 2048 / size;
  const int lane = threadIdx.x % 32;
  const int64_t warps = static_cast<int64_t>(gridDim.x) * (blockDim.x / 32);
  typename Values::pair most = {};
  const auto take = [&](element value) {
    typename Values::pair x = {};
    if constexpr (size == 2) {
      x = value;
    } else {
      x.x = value;
    }
    most = Values::larger(most, x);
  };
  for (int64_t item = static_cast<int64_t>(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32;
       item < args.segments; item += warps) {
    const int64_t row = item / args.row_segments, column = item % args.row_segments * segment;
    const int left = static_cast<int>(args.k - column < segment ? args.k - column : segment);
    const element* from = static_cast<const element*>(args.values) + row * args.values_stride + column;
    if (args.values_are_aligned && left == segment) {
      uint4 x[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) x[i] = __ldg(reinterpret_cast<const uint4*>(from) + i * 32 + lane);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if constexpr (size == 2) {
          most = Values::larger(Values::larger(most, x[i].x), x[i].y);
          most = Values::larger(Values::larger(most, x[i].z), x[i].w);
        } else {
          most = Values::larger(most, {__uint_as_float(x[i].x), __uint_as_float(x[i].y)});
          most = Values::larger(most, {__uint_as_float(x[i].z), __uint_as_float(x[i].w)});
        }
      }
    } else {
      for (int i = lane; i < left; i += 32) take(__ldg(from + i));
    }
  }
  const uint32_t bits = __reduce_max_sync(0xffffffffu, largest_bits<Values>(most));
  if (lane == 0) atomicMax(reinterpret_cast<unsigned*>(args.absmax), bits);
}

}  // namespace floatx::kernels
