#include <array>

#include "cpu/kernels.hpp"
#include "floatx/codec.hpp"
#include "floatx/format.hpp"

namespace floatx::cpu {
namespace {

// The width of a format divides 256 codes evenly, so repeating the table makes lookups blind to what
// lies above a code.
template <class Format>
constexpr std::array<uint16_t, 256> make_values() {
  std::array<uint16_t, 256> values{};
  for (unsigned code = 0; code < 256; ++code) {
    values[code] = f32_to_bf16(decode<Format>(static_cast<uint8_t>(code & ((1u << Format::bits) - 1))));
  }
  return values;
}

template <class Format>
struct values_table {
  alignas(64) static constexpr std::array<uint16_t, 256> values = make_values<Format>();
};

}  // namespace

const uint16_t* values_of(floatx_format format) {
  return visit_format(format, [](auto f) { return values_table<decltype(f)>::values.data(); });
}

}  // namespace floatx::cpu
