// Tensors that go from one file to another unchanged.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cli/terminal.hpp"
#include "cli/workers.hpp"
#include "io/model.hpp"

namespace floatx::cli {

// Copies the bytes of a tensor to the tensor of the same name.
void copy_tensor(const io::shard& shard, const io::tensor_info& info, io::safetensors_writer& output,
                 const workers& threads, progress_bar& progress);

}  // namespace floatx::cli
