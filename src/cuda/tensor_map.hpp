// Maps of matrices for Hopper's tensor copies.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "floatx.h"
#include "ptx/tensor_map.hpp"

namespace floatx::cuda {

// Of matrix [rows][columns] of F16 or BF16, at a multiple of 16 bytes as is its stride of so many elements,
// in boxes of box_rows x 64 columns, swizzled over 128 bytes; zero beyond the edges.
ptx::tensor_map make_tensor_map(floatx_type type, const void* matrix, int64_t rows, int64_t columns,
                                int64_t stride, int box_rows);

}  // namespace floatx::cuda
