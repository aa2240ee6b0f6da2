// Risk: the codec means something else on the device than on the host, because nvcc fuses, flushes subnormals
// or orders the arithmetic differently. Every code of every format is decoded there, and a few million FP32
// bit patterns are encoded; the results must be the host's, bit for bit.
//
// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "floatx/codec.hpp"
#include "floatx/format.hpp"
#include "floatx/layout.hpp"
#include "floatx/quantize.hpp"

namespace {

constexpr int skipped = 77;  // ctest's SKIP_RETURN_CODE
constexpr uint32_t pattern_count = 1u << 22;

void check(cudaError_t error) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "CUDA: %s\n", cudaGetErrorString(error));
  std::exit(EXIT_FAILURE);
}

// An odd stride visits distinct patterns across all signs and exponents, with changing low mantissa bits.
__host__ __device__ uint32_t pattern(uint32_t i) { return i * 1025u; }

// The midpoints between codes, where the rounding is decided, and both neighbours: three for each code.
// The last code has no next one, and beyond a special code the mean is NaN or Inf: still patterns worth a
// try.
template <class Format>
uint32_t midpoint(uint32_t i) {
  const uint8_t code = static_cast<uint8_t>(i / 3);
  const uint8_t next = static_cast<uint8_t>((code + 1) & Format::code_mask);
  const float middle = 0.5f * (floatx::decode<Format>(code) + floatx::decode<Format>(next));
  return floatx::detail::float_bits(middle) + i % 3 - 1;
}

template <class Format>
constexpr uint32_t midpoint_count = 3u << Format::bits;

// decoded[1 << bits]; encoded[pattern_count + midpoint_count], from the host's midpoints.
template <class Format>
__global__ void run(const uint32_t* midpoints, uint32_t* decoded, uint8_t* encoded) {
  const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < (1u << Format::bits)) {
    decoded[i] = floatx::detail::float_bits(floatx::decode<Format>(static_cast<uint8_t>(i)));
  }
  if (i < pattern_count) {
    encoded[i] = floatx::encode<Format>(floatx::detail::bits_float(pattern(i)));
  } else if (i < pattern_count + midpoint_count<Format>) {
    encoded[i] = floatx::encode<Format>(floatx::detail::bits_float(midpoints[i - pattern_count]));
  }
}

template <class T>
std::vector<T> from_device(const T* device, size_t count) {
  std::vector<T> host(count);
  check(cudaMemcpy(host.data(), device, count * sizeof(T), cudaMemcpyDeviceToHost));
  return host;
}

template <class Format>
int mismatches(const char* name) {
  constexpr uint32_t code_count = 1u << Format::bits;
  constexpr uint32_t encoded_count = pattern_count + midpoint_count<Format>;
  std::vector<uint32_t> inputs(midpoint_count<Format>);
  for (uint32_t i = 0; i < inputs.size(); ++i) inputs[i] = midpoint<Format>(i);

  uint32_t* midpoints_gmem = nullptr;
  uint32_t* decoded_gmem = nullptr;
  uint8_t* encoded_gmem = nullptr;
  check(cudaMalloc(&midpoints_gmem, inputs.size() * sizeof(uint32_t)));
  check(cudaMalloc(&decoded_gmem, code_count * sizeof(uint32_t)));
  check(cudaMalloc(&encoded_gmem, encoded_count));
  check(cudaMemcpy(midpoints_gmem, inputs.data(), inputs.size() * sizeof(uint32_t), cudaMemcpyHostToDevice));
  constexpr uint32_t threads = 256;
  run<Format>
      <<<(encoded_count + threads - 1) / threads, threads>>>(midpoints_gmem, decoded_gmem, encoded_gmem);
  check(cudaGetLastError());
  const auto decoded = from_device(decoded_gmem, code_count);
  const auto encoded = from_device(encoded_gmem, encoded_count);
  check(cudaFree(midpoints_gmem));
  check(cudaFree(decoded_gmem));
  check(cudaFree(encoded_gmem));

  int count = 0;
  for (uint32_t code = 0; code < code_count; ++code) {
    const uint32_t expected = floatx::detail::float_bits(floatx::decode<Format>(static_cast<uint8_t>(code)));
    if (decoded[code] != expected && count++ < 5) {
      std::printf("%s: code 0x%02x is 0x%08x on the device, 0x%08x on the host\n", name, code, decoded[code],
                  expected);
    }
  }
  for (uint32_t i = 0; i < encoded_count; ++i) {
    const uint32_t bits = i < pattern_count ? pattern(i) : inputs[i - pattern_count];
    const uint8_t expected = floatx::encode<Format>(floatx::detail::bits_float(bits));
    if (encoded[i] != expected && count++ < 5) {
      std::printf("%s: 0x%08x becomes 0x%02x on the device, 0x%02x on the host\n", name, bits, encoded[i],
                  expected);
    }
  }
  return count;
}

}  // namespace

int main() {
  int device_count = 0;
  if (cudaGetDeviceCount(&device_count) != cudaSuccess || device_count == 0) {
    std::puts("skipped: there is no GPU here");
    return skipped;
  }
  int count = 0;
#define FLOATX_CHECK(id, E, M, S, name) count += mismatches<floatx::format<E, M, floatx::specials::S>>(name);
  FLOATX_FORMATS(FLOATX_CHECK)
#undef FLOATX_CHECK
  std::printf("%d formats, %d mismatches\n", floatx::format_count, count);
  return count == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
