#include "cpu/packed.hpp"

#include <cstring>

namespace floatx::cpu {
namespace {

// The words of one lane from its 16 codes.
template <int Bits>
void join(const uint8_t (&slots)[unit_slots], uint16_t (&words)[Bits]) {
  constexpr int whole = 16 / Bits, rest = 16 - whole * Bits;
  for (int w = 0; w < Bits; ++w) {
    unsigned word = 0;
    for (int i = 0; i < whole; ++i) word |= static_cast<unsigned>(slots[w * whole + i]) << (i * Bits);
    words[w] = static_cast<uint16_t>(word);
  }
  if constexpr (rest > 0) {
    uint32_t string = 0;
    for (int s = whole * Bits; s < unit_slots; ++s) {
      string |= static_cast<uint32_t>(slots[s]) << ((s - whole * Bits) * Bits);
    }
    for (int w = 0; w < Bits; ++w) {
      const uint32_t piece = string >> (w * rest) & ((1u << rest) - 1);
      words[w] = static_cast<uint16_t>(words[w] | piece << (16 - rest));
    }
  }
}

template <int Bits>
void split(const uint16_t (&words)[Bits], uint8_t (&slots)[unit_slots]) {
  constexpr int whole = 16 / Bits, rest = 16 - whole * Bits;
  constexpr unsigned mask = (1u << Bits) - 1;
  uint32_t string = 0;
  for (int w = 0; w < Bits; ++w) {
    for (int i = 0; i < whole; ++i) {
      slots[w * whole + i] = static_cast<uint8_t>(words[w] >> (i * Bits) & mask);
    }
    if constexpr (rest > 0) string |= static_cast<uint32_t>(words[w] >> (16 - rest)) << (w * rest);
  }
  for (int s = whole * Bits; s < unit_slots; ++s) {
    slots[s] = static_cast<uint8_t>(string >> ((s - whole * Bits) * Bits) & mask);
  }
}

template <int Bits>
void store_units(const weight_shape& shape, int64_t rows, const uint8_t* codes, uint8_t* packed) {
  for (int64_t unit = 0; unit < units_of(shape.k); ++unit, packed += unit_bytes(Bits)) {
    for (int lane = 0; lane < unit_lanes; ++lane) {
      const int64_t row = lane / 2, first_k = unit * unit_k + lane % 2;
      uint8_t slots[unit_slots] = {};
      if (row < rows) {
        const uint8_t* from = codes + row * shape.k + first_k;
        const auto count = static_cast<int>(std::clamp<int64_t>((shape.k - first_k + 1) / 2, 0, unit_slots));
        for (int s = 0; s < count; ++s) slots[s] = from[2 * s];
      }
      uint16_t words[Bits];
      join<Bits>(slots, words);
      for (int w = 0; w < Bits; ++w) std::memcpy(packed + (w * unit_lanes + lane) * 2, &words[w], 2);
    }
  }
}

template <int Bits>
void unpack_lanes(const uint8_t* unit, uint8_t (*codes)[strip_rows]) {
  for (int lane = 0; lane < unit_lanes; ++lane) {
    uint16_t words[Bits];
    for (int w = 0; w < Bits; ++w) std::memcpy(&words[w], unit + (w * unit_lanes + lane) * 2, 2);
    uint8_t slots[unit_slots];
    split<Bits>(words, slots);
    for (int s = 0; s < unit_slots; ++s) codes[2 * s + lane % 2][lane / 2] = slots[s];
  }
}

}  // namespace

size_t strip_codes_bytes(const weight_shape& shape) {
  return unit_bytes(bits_of(shape.format)) * static_cast<size_t>(units_of(shape.k));
}

size_t strip_scales_bytes(const weight_shape& shape) {
  return scale_bytes(shape.scale_type) * static_cast<size_t>(strip_rows * padded_groups_of(shape));
}

size_t codes_bytes(const weight_shape& shape) {
  return strip_codes_bytes(shape) * static_cast<size_t>(strips_of(shape.n));
}

size_t scales_bytes(const weight_shape& shape) {
  return strip_scales_bytes(shape) * static_cast<size_t>(strips_of(shape.n));
}

void store_strip(const weight_shape& shape, uint8_t* packed_codes, int64_t first_row, const uint8_t* codes) {
  uint8_t* packed = packed_codes + static_cast<size_t>(first_row / strip_rows) * strip_codes_bytes(shape);
  const int64_t rows = std::min(strip_rows, shape.n - first_row);
  with_constant_bits(bits_of(shape.format),
                     [&](auto bits) { store_units<bits>(shape, rows, codes, packed); });
}

void unpack_unit(int bits, const uint8_t* unit, uint8_t (*codes)[strip_rows]) {
  with_constant_bits(bits, [&](auto constant) { unpack_lanes<constant>(unit, codes); });
}

void load_strip(const weight_shape& shape, const uint8_t* packed_codes, int64_t first_row, uint8_t* codes) {
  const int bits = bits_of(shape.format);
  const uint8_t* packed =
      packed_codes + static_cast<size_t>(first_row / strip_rows) * strip_codes_bytes(shape);
  const int64_t rows = std::min(strip_rows, shape.n - first_row);
  for (int64_t first_k = 0; first_k < shape.k; first_k += unit_k, packed += unit_bytes(bits)) {
    uint8_t unit[unit_k][strip_rows];
    unpack_unit(bits, packed, unit);
    const auto count = static_cast<int>(std::min<int64_t>(unit_k, shape.k - first_k));
    for (int64_t row = 0; row < rows; ++row) {
      for (int i = 0; i < count; ++i) codes[row * shape.k + first_k + i] = unit[i][row];
    }
  }
}

namespace {

template <class Move>
void for_each_scale(const weight_shape& shape, Move move) {
  const size_t bytes = scale_bytes(shape.scale_type);
  const int64_t groups = groups_of(shape), padded = padded_groups_of(shape);
  for (int64_t row = 0; row < shape.n; ++row) {
    for (int64_t group = 0; group < groups; ++group) {
      const int64_t packed = (row / strip_rows * padded + group) * strip_rows + row % strip_rows;
      move(static_cast<size_t>(packed) * bytes, static_cast<size_t>(row * groups + group) * bytes, bytes);
    }
  }
}

}  // namespace

void store_scales(const weight_shape& shape, void* packed, const void* canonical) {
  std::memset(packed, 0, scales_bytes(shape));
  for_each_scale(shape, [&](size_t to, size_t from, size_t bytes) {
    std::memcpy(static_cast<char*>(packed) + to, static_cast<const char*>(canonical) + from, bytes);
  });
}

void load_scales(const weight_shape& shape, const void* packed, void* canonical) {
  for_each_scale(shape, [&](size_t from, size_t to, size_t bytes) {
    std::memcpy(static_cast<char*>(canonical) + to, static_cast<const char*>(packed) + from, bytes);
  });
}

}  // namespace floatx::cpu
