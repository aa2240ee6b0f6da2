// The GPU arrangement as the instructions need it.
#include "floatx/layout.hpp"

#include <cstdint>
#include <set>
#include <vector>

#include "floatx/codec.hpp"
#include "support/catch.hpp"

namespace gpu = floatx::gpu;

namespace {

uint32_t turned(uint32_t word, uint32_t by) { return by == 0 ? word : word << by | word >> (32 - by); }

// The word that holds a pair. Of every few words some are not there: they are what others lend, each turned
// in its own way.
uint32_t word_of(const std::vector<uint32_t>& unit, const gpu::arrangement& in, gpu::fragment_place at) {
  const auto load = [&](int word) {
    return unit[static_cast<size_t>(gpu::place_of_word(in.bits, at.lane, word))];
  };
  const int index = at.pair / (in.bits <= 4 ? 4 : 2);
  if (in.bits % 4 == 0) return load(index);
  const int group = in.bits % 3 == 0 ? 4 : 8, stored = in.bits % 3 == 0 ? 3 : in.bits;
  const int first = index / group * stored, number = index % group - stored;
  if (number < 0) return load(first + index % group);
  const std::vector<int> lenders = in.bits == 5   ? std::vector<int>{2 * number, 1, 3}
                                   : in.bits == 7 ? std::vector<int>{0, 1, 2, 3, 4, 5, 6}
                                                  : std::vector<int>{0, 1, 2};
  uint32_t word = 0;
  for (size_t i = 0; i < lenders.size(); ++i) {
    const uint32_t turn = in.lent.turn[static_cast<size_t>(number) * lenders.size() + i];
    word |= turned(load(first + lenders[i]), turn) & in.lent.mask[i];
  }
  return word;
}

}  // namespace

TEST_CASE("gpu layout: a strip comes back as it was, and its padding is zero") {
  // Risk: two codes in one place, a code outside its unit, padding that multiplies x.
  for (const floatx::format_traits& format : floatx::formats) {
    if (format.exponent_bits > 5) continue;
    const int bits = format.bits, mantissa = format.mantissa_bits;
    for (const int64_t k : {1, 15, 16, 127, 128, 129, 300}) {
      for (const int64_t n : {1, 16, 17, 64, 65}) {
        INFO(format.name << " n " << n << " k " << k);
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
          gpu::store_strip(bits, mantissa, k, row, rows, rows ? codes.data() + row * k : nullptr, base);
        }
        CHECK(packed.front() == 0xa5);
        CHECK(packed.back() == 0xa5);
        // Every bit of the codes is there once and nothing else is: padding has none.
        size_t packed_ones = 0;
        for (size_t i = 0; i < size; ++i) packed_ones += static_cast<size_t>(__builtin_popcount(base[i]));
        CHECK(packed_ones == ones);
        for (int64_t row = 0; row < n; row += gpu::strip_rows) {
          gpu::load_strip(bits, mantissa, k, row, n - row < 16 ? n - row : 16, base, back.data() + row * k);
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

TEST_CASE("gpu layout: one turn and one mask put a code where FP16 has it") {
  // Risk: an arrangement that the kernels would have to move bits about in. Each format's value is that of
  // the FP16 times 2^(15 - bias), exactly; E5M0 and E5M1 reach the exponent that FP16 keeps for Inf.
  for (const floatx::format_traits& format : floatx::formats) {
    if (format.exponent_bits > 5) continue;
    const gpu::arrangement in = gpu::arrangement_of(format.bits, format.mantissa_bits);
    const int special = format.special_codes == floatx::specials::none ? 0
                        : format.special_codes == floatx::specials::fn ? 1
                                                                       : 4;
    for (int code = 0; code < 1 << format.bits; ++code) {
      const int magnitude = code & ((1 << (format.bits - 1)) - 1);
      if (magnitude >= (1 << (format.bits - 1)) - special) continue;
      for (int pair = 0; pair < gpu::lane_pairs; ++pair) {
        std::vector<uint32_t> unit(16 * 128 / 4);
        const gpu::fragment_place at = {5, pair, code & 1};
        gpu::for_each_bit(in, at, [&](int word, int bit, int of_code) {
          unit[static_cast<size_t>(word)] |= static_cast<uint32_t>((code >> of_code) & 1) << bit;
        });
        const uint32_t turn = in.turn[pair % (format.bits <= 4 ? 4 : 2)];
        const uint32_t both = turned(word_of(unit, in, at), turn) & in.mask();
        uint32_t half = (both >> (16 * at.half)) & 0xffffu;
        REQUIRE((both >> (16 * (1 - at.half)) & 0xffffu) == 0);
        // More than two mantissa bits lie below the byte that a code has.
        if (format.bits > 4 && format.mantissa_bits > 2)
          half = (half & 0x8000u) | (half & 0x7fffu) >> (format.mantissa_bits - 2);
        if (format.bits == 4)
          half = (half & 0x7fffu & ~(1u << (13 - format.mantissa_bits))) |
                 ((half >> (13 - format.mantissa_bits)) & 1) << 15;
        const float value = floatx::visit_format(
            format.id, [&](auto f) { return floatx::decode<decltype(f)>(static_cast<uint8_t>(code)); });
        if ((half & 0x7c00u) == 0x7c00u) {
          REQUIRE(format.exponent_bits == 5);
          continue;
        }
        const float factor = floatx::detail::power_of_two(15 - format.bias);
        REQUIRE(floatx::f16_to_f32(static_cast<uint16_t>(half)) * factor == value);
        REQUIRE((half >> 15) == static_cast<uint32_t>(code >> (format.bits - 1)));
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
      if (group_size == 0) continue;
      const int64_t largest = gpu::largest_scale_index(n, k, group_size, row);
      CHECK(largest < gpu::scale_count(n, k, group_size));
      CHECK(seen.insert(largest).second);
      if (row % 16 < 8) CHECK(gpu::largest_scale_index(n, k, group_size, row + 8) == largest + 1);
    }
  }
}
