// The parameters of the kernels that pack, unpack and move weights, for the device and for those who launch
// them.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "floatx/quantize.hpp"
#include "pack_rule.hpp"

namespace floatx::kernels {

// ---- Sizes -------------------------------------------------------------------------------------------

constexpr int unit_rows = 16,
              unit_k = 128;  // a unit of the gpu arrangement; also the share of a warp at a time
constexpr int max_pack_warps = 8, move_warps = 8;
constexpr int largest_threads = 256;  // a multiple of the pairs of scales that a unit has at most

// A unit's values in shared memory, [16][128]: rows lie so far apart that the banks of the rows that are read
// together differ.
constexpr FLOATX_HOST_DEVICE int value_row_bytes(int value_bytes) { return value_bytes == 2 ? 272 : 544; }
constexpr FLOATX_HOST_DEVICE int value_slot_bytes(int value_bytes) {
  return unit_rows * value_row_bytes(value_bytes);
}

// A unit's codes in shared memory, [16][128], one a byte.
constexpr int tile_row_bytes = 136, tile_bytes = unit_rows * tile_row_bytes;

// ---- Offences ----------------------------------------------------------------------------------------

// floatx_report. While kernels look for offences, `row` holds the least key found so far, unsigned.
struct data_report {
  int32_t status, reserved;
  int64_t row, column;
};

enum class offence { value = 0, scale = 1 };

// The order of keys is that in which the host would meet the offences: row by row, and within a row values
// before scales. 0 is for what has no place.
constexpr FLOATX_HOST_DEVICE uint64_t offence_key(int64_t row, int64_t column, offence what) {
  return static_cast<uint64_t>(row + 1) << 32 | static_cast<uint64_t>(what) << 31 |
         static_cast<uint64_t>(column);
}

// ---- Arguments ---------------------------------------------------------------------------------------

// A weight in device memory, in the canonical form or in the gpu arrangement.
struct weight_view {
  unsigned char* codes;
  unsigned char* scales;
  float* tensor_scale;  // null unless E4M3FN
  int64_t row_bytes;    // canonical
  int n, k, k_blocks;
  bool canonical;
};

struct code_rule {
  int lift;  // see pack_rule.hpp; of the gpu arrangement
  unit_rule unit;
};

struct pack_arguments {
  weight_view target;
  const void* values;  // [n, k]
  int64_t values_stride;
  data_report* report;          // may be null
  int parts, part_blocks;       // thread blocks that share a strip, k blocks of each
  int slots;                    // units of values that a warp holds, 1 or 2
  int warp_bytes, tile_offset;  // shared memory of a warp; its tile, for the canonical form
  int64_t row_groups;
  int group_size, group_shift;  // a step of 16 k belongs to group step >> group_shift of its unit
  bool values_are_aligned;      // to 16 bytes, each row
  bool clustered;               // the parts of a strip are a cluster
  scale_storage scale_type;
  quantize_rules rules;
  format_range range;
  encode_rule encoding;
  uint32_t lift_factor;  // 2^lift: a product, for shifts are what the multiprocessor is short of here
  code_rule codes;
};

struct absmax_arguments {
  const void* values;
  int64_t values_stride;
  int64_t segments;  // of all rows together
  int n, k, row_segments;
  bool values_are_aligned;
  float* absmax;
};

struct move_arguments {
  weight_view source, target;
  int64_t row_begin, k_begin;
  data_report* report;  // null: not wanted, or nothing to find
  int group_size;
  scale_storage scale_type;
  int largest_magnitude;  // of the finite codes
  code_rule codes;
};

struct largest_arguments {
  weight_view weight;
  int group_size;
  scale_storage scale_type;
};

struct unpack_arguments {
  weight_view source;
  void* values;
  int64_t values_stride;
  int group_size;
  scale_storage scale_type;
  int values_type;          // floatx_type
  bool values_are_aligned;  // four elements of each row
  code_rule codes;
  float magnitudes[128];  // of the codes
};

// Before and after the kernels that do the work: one thread each.
struct begin_arguments {
  data_report* report;        // may be null
  float* absmax;              // cleared; may be null
  const float* tensor_scale;  // copied; may be null
  float* tensor_scale_to;
  bool tensor_scale_must_be_finite;
};

struct end_arguments {
  data_report* report;  // may be null
  int32_t invalid_data;
  float* tensor_scale;  // absmax becomes the tensor scale; may be null
  format_range range;
};

}  // namespace floatx::kernels
