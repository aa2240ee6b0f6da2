// What an instruction set has to provide; linear.cpp is written over it.
//
// A linear layer runs in one of two ways.
//   skinny  few tokens: the packed codes are decoded in registers and multiplied at once.
//   tiles   more tokens: a panel of rows and `panel_k` of k is decoded into the first-level cache, then
//           multiplied by one tile of tokens after the other.
// Both take x packed as tiles: the tokens of a tile lie side by side for each k, so that a kernel
// broadcasts from one stream. In an FP32 path an element is one float of x[token][k]; in a BF16 path it is
// 32 bits that hold k (low half) and k + 1. k is padded with zeros to whole units.
#pragma once

#include <cstdint>

#include "cpu/cpu.hpp"
#include "cpu/packed.hpp"

// Before a loop of a few iterations over registers: an array that is indexed in a loop that stays a loop
// lives in memory.
#if defined(__clang__)
#define FLOATX_UNROLL _Pragma("unroll")
#else
#define FLOATX_UNROLL _Pragma("GCC unroll 32")
#endif

namespace floatx::cpu {

// A packed weight, ready to be read.
struct weight_view {
  weight_shape shape;
  int bits;
  int64_t units;   // of 32 k
  int64_t groups;  // of a row, with padding
  const uint8_t* codes;
  const uint8_t* scales;
  float tensor_scale;
  const uint16_t*
      values;  // [256]: code, bits above its width ignored -> value as BF16, which holds it exactly

  const uint8_t* unit(int64_t strip, int64_t index) const {
    return codes + (strip * units + index) * static_cast<int64_t>(unit_bytes(bits));
  }
  // The 16 scales of a strip's group.
  const uint8_t* group_scales(int64_t strip, int64_t group) const {
    return scales +
           (strip * groups + group) * strip_rows * static_cast<int64_t>(scale_bytes(shape.scale_type));
  }
};

// The values of a format as weight_view::values wants them.
const uint16_t* values_of(floatx_format format);

constexpr int panel_k = 128;  // a multiple of every group size
constexpr int panel_units = panel_k / unit_k;
constexpr int max_panel_rows = 32;
constexpr int max_tile_tokens = 12;
constexpr int max_skinny_m = 64;
constexpr size_t max_panel_bytes = size_t{panel_k} * max_panel_rows * 4;

struct path {
  bool bf16;          // the element of x, see above
  int skinny_m;       // up to this m skinny is used, in as many tiles as it takes
  int skinny_tokens;  // the most tokens that one call of skinny takes
  int tile_tokens;    // the most tokens of a tile
  int panel_strips;   // strips side by side in a panel

  // sums[token][16 rows] = sum over k of x * code value, with the scales of groups, without those of rows.
  void (*skinny)(const weight_view& w, int64_t strip, int tokens, const void* x, float* sums);

  // Decodes `units` units of a strip into column `column` of a panel. FP32: [k][panel rows], multiplied by
  // the scales of groups. BF16: [k / 2][panel rows] pairs, not multiplied.
  void (*decode)(const weight_view& w, int64_t strip, int64_t first_unit, int units, int column, void* panel);

  // sums[token][panel rows] (+)= the product of a panel and a tile over k, in FP32; `first` overwrites.
  //   group_scales  BF16 with groups: [group of the panel][panel rows]; else null.
  //   group_k       k of a group, or of the panel without groups.
  void (*tile)(int tokens, int k, const void* panel, const void* x, bool first, const float* group_scales,
               int group_k, float* sums);
};

struct kernels {
  const char* name;
  path fp32;
  const path* bf16;  // null without such instructions

  // Scales as FP32, times the tensor scale: out[i * stride + row] for `count` groups from first_group.
  void (*scales)(const weight_view& w, int64_t strip, int64_t first_group, int count, int stride, float* out);

  void (*to_f32)(floatx_type type, const void* x, int64_t count, float* out);

  // The largest finite magnitude among x, 0 if there is none.
  float (*largest_finite)(floatx_type type, const void* x, int64_t count);

  // y[i] = sums[i] * scales[i] + bias[i], rounded once to type. scales and bias may be null.
  void (*finish)(const float* sums, const float* scales, const void* bias, floatx_type type, int count,
                 void* y);
};

// Those of one file each. Null when the build has no such code; whether the processor can run them is
// found out in isa.cpp.
const kernels* portable_kernels();
const kernels* avx2_kernels();
const kernels* avx512_kernels();
const kernels* avx512_vbmi_kernels();

}  // namespace floatx::cpu
