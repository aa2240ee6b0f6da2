// The CPU backend: the packed form of a weight and the linear layer over it.
//
// Arguments arrive validated (src/capi.cpp): n, k and m are in 1 .. 2^31 - 1, buffers are big enough,
// aligned and do not overlap. Nothing here reports an error other than by std::bad_alloc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "floatx.h"
#include "weight.hpp"

namespace floatx::cpu {

// ---- The packed form (packed.cpp tells its arrangement) --------------------------------------------

// Rows that share bytes. A weight may be cut between strips: strip i begins at
// i * strip_codes_bytes() and at i * strip_scales_bytes().
constexpr int64_t strip_rows = 16;

// Both buffers are aligned to this; so is every strip of codes.
constexpr size_t packed_alignment = 64;

// Changes whenever the same codes would be arranged in another way.
constexpr int32_t packed_version = 1;

size_t strip_codes_bytes(const weight_shape& shape);
size_t strip_scales_bytes(const weight_shape& shape);
size_t codes_bytes(const weight_shape& shape);
size_t scales_bytes(const weight_shape& shape);

// Writes or reads the strip that begins at first_row, a multiple of strip_rows.
//   packed_codes  of the whole weight.
//   codes         [rows of this strip that exist][k], one code a byte.
// store_strip writes the whole strip: its padding becomes zero codes.
void store_strip(const weight_shape& shape, uint8_t* packed_codes, int64_t first_row, const uint8_t* codes);
void load_strip(const weight_shape& shape, const uint8_t* packed_codes, int64_t first_row, uint8_t* codes);

// Moves all scales. canonical is [n][groups], elements of scale_type. The padding becomes zero bytes.
void store_scales(const weight_shape& shape, void* packed, const void* canonical);
void load_scales(const weight_shape& shape, const void* packed, void* canonical);

// ---- The linear layer ------------------------------------------------------------------------------

// With this much workspace a call allocates nothing, unless it is given more threads than there are
// processors. Covers every smaller m.
size_t linear_workspace_bytes(const weight_shape& shape, int64_t m, floatx_type x_type);

// y[m,n] = x[m,k] . W[n,k]^T (+ bias[n]); tensor_scale is 1 unless the scales are E4M3FN.
void linear(const weight_shape& shape, const void* codes, const void* scales, float tensor_scale, int64_t m,
            floatx_type x_type, const void* x, int64_t x_stride, const void* bias, floatx_type y_type,
            void* y, int64_t y_stride, floatx_threads* threads, void* workspace, size_t workspace_bytes);

// The instruction set in use: "portable", "avx2", "avx512" or "avx512_vbmi".
const char* isa();

// ---- For tests and the benchmark -------------------------------------------------------------------

struct kernels;

// Every implementation that this machine can run, the best one last. Their names are those of isa().
const std::vector<const kernels*>& supported_kernels();
const char* name(const kernels& implementation);

// linear() with a given implementation instead of the best one.
void linear_with(const kernels& implementation, const weight_shape& shape, const void* codes,
                 const void* scales, float tensor_scale, int64_t m, floatx_type x_type, const void* x,
                 int64_t x_stride, const void* bias, floatx_type y_type, void* y, int64_t y_stride,
                 floatx_threads* threads, void* workspace, size_t workspace_bytes);

}  // namespace floatx::cpu
