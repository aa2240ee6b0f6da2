// The GPU arrangement as the instructions need it.
#include "floatx/layout.hpp"

#include <cstdint>
#include <set>
#include <vector>

#include "support/catch.hpp"

namespace gpu = floatx::gpu;

TEST_CASE("gpu layout: a strip comes back as it was, and its padding is zero") {
  // Risk: two codes in one place, a code outside its unit, padding that multiplies x.
  for (int bits = 3; bits <= 8; ++bits) {
    for (const int64_t k : {1, 15, 16, 127, 128, 129, 300}) {
      for (const int64_t n : {1, 16, 17, 64, 65}) {
        INFO("bits " << bits << " n " << n << " k " << k);
        const auto size = static_cast<size_t>(gpu::codes_bytes(bits, n, k));
        std::vector<uint8_t> packed(size + 2, 0xa5), codes(static_cast<size_t>(n * k)), back(codes.size());
        uint32_t state = 1;
        size_t ones = 0;
        for (uint8_t& code : codes) {
          state = state * 1664525u + 1013904223u;
          code = static_cast<uint8_t>((state >> 16) & ((1u << bits) - 1));
          ones += static_cast<size_t>(__builtin_popcount(code));
        }
        uint8_t* base = packed.data() + 1;
        for (int64_t row = 0; row < gpu::round_up(n, gpu::block_rows); row += gpu::strip_rows) {
          const int64_t rows = row >= n ? 0 : n - row < 16 ? n - row : 16;
          gpu::store_strip(bits, k, row, rows, rows ? codes.data() + row * k : nullptr, base);
        }
        CHECK(packed.front() == 0xa5);
        CHECK(packed.back() == 0xa5);
        // Every bit of the codes is there once and nothing else is: padding has none.
        size_t packed_ones = 0;
        for (size_t i = 0; i < size; ++i) packed_ones += static_cast<size_t>(__builtin_popcount(base[i]));
        CHECK(packed_ones == ones);
        for (int64_t row = 0; row < n; row += gpu::strip_rows) {
          gpu::load_strip(bits, k, row, n - row < 16 ? n - row : 16, base, back.data() + row * k);
        }
        CHECK(back == codes);
      }
    }
  }
}

TEST_CASE("gpu layout: a lane's codes are those of its A fragment") {
  // Risk: a permutation that the tensor core does not share. From the PTX manual for mma.m16n8k16 with 16-bit
  // A: element i of lane l is row l/4 (+ 8 for i in 2, 3, 6, 7), column (l%4)*2 + i%2 (+ 8 for i >= 4).
  for (int step = 0; step < 8; ++step) {
    for (int lane = 0; lane < 32; ++lane) {
      for (int i = 0; i < 8; ++i) {
        const int row = lane / 4 + (i % 4 >= 2 ? 8 : 0);
        const int column = 16 * step + lane % 4 * 2 + i % 2 + (i >= 4 ? 8 : 0);
        const gpu::fragment_place at = gpu::place(row, column);
        CHECK(at.lane == lane);
        CHECK(at.pair == 4 * step + i / 2);
        CHECK(at.half == i % 2);
      }
    }
  }
}

TEST_CASE("gpu layout: scales have a place each, and those of a lane are neighbours") {
  // Risk: scales of two groups in one place.
  for (const int64_t group_size : {0, 16, 32, 64, 128}) {
    const int64_t n = 65, k = 300;
    std::set<int64_t> seen;
    for (int64_t row = 0; row < gpu::round_up(n, gpu::block_rows); ++row) {
      for (int64_t group = 0; group < gpu::padded_groups(k, group_size); ++group) {
        const int64_t index = gpu::scale_index(k, group_size, row, group);
        CHECK(index >= 0);
        CHECK(index < gpu::scale_count(n, k, group_size));
        CHECK(seen.insert(index).second);
        if (row % 16 < 8) CHECK(gpu::scale_index(k, group_size, row + 8, group) == index + 1);
      }
    }
  }
}
