// The compiled instances of the kernels that pack, unpack and move weights, as cudaLaunchKernelExC takes
// them.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace floatx::instances {

enum class value_type { f32 = 0, f16 = 1, bf16 = 2 };  // floatx_type

// kernels::pack and kernels::tensor_absmax; in files of their own for each type, so that they compile side by
// side. bits: 3 .. 8.
const void* find_pack(value_type values, int bits);
const void* find_tensor_absmax(value_type values);

template <value_type Type>
const void* find_pack_of(int bits);
template <value_type Type>
const void* find_tensor_absmax_of();

// kernels::move, unpack, largest_scales, begin_work and end_work.
const void* find_move(int bits);
const void* find_unpack(int bits);
const void* find_largest_scales();
const void* find_begin_work();
const void* find_end_work();

}  // namespace floatx::instances
