// Quantizing, unpacking and moving weights between layouts, on the host.
//
// Arguments arrive validated (src/capi.cpp). Throws failure (INVALID_DATA) and std::bad_alloc, both before
// anything is written.
#pragma once

#include <cstdint>

#include "cpu/cpu.hpp"
#include "floatx.h"
#include "floatx/quantize.hpp"

namespace floatx::cpu {

void pack(const stored_weight& target, floatx_type values_type, const void* values, int64_t values_stride,
          quantize_rules rules, floatx_threads* threads);

void unpack(const stored_weight& source, floatx_type values_type, void* values, int64_t values_stride,
            floatx_threads* threads);

// target[i, j] = source[row_begin + i, k_begin + j]; k_begin is a multiple of the group size.
void slice(const stored_weight& source, int64_t row_begin, int64_t k_begin, const stored_weight& target,
           floatx_threads* threads);

}  // namespace floatx::cpu
