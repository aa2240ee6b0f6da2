// The program's own device code: random values, and reading for reading's sake.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

namespace floatx::cli {

// Normal values of this deviation, count of them, F16 or BF16.
void fill_random(uint16_t* values_gmem, size_t count, bool is_bf16, float deviation, uint32_t seed,
                 cudaStream_t stream);

// What a block reads at once; a buffer to read is a multiple of it.
constexpr size_t read_tile_bytes = size_t{512} * 8 * 16;

// Reads the buffer once. blocks: 0 = one for each tile, else so many that stay.
//   sink  4 bytes, never written with data that is not made for it.
void read_all(const void* data_gmem, size_t bytes, unsigned blocks, unsigned* sink_gmem, cudaStream_t stream);

// The clock of a multiprocessor, the same each time, and the GPU's time.
struct clock_stamp {
  uint64_t cycles;
  uint64_t ns;
};

// multiprocessors: of the GPU.
void stamp_clock(clock_stamp* stamp_gmem, unsigned multiprocessors, cudaStream_t stream);

}  // namespace floatx::cli
