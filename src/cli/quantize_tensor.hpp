// One tensor: from a dense tensor of the input to codes and scales in the output, in blocks of rows.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cli/error_statistics.hpp"
#include "cli/terminal.hpp"
#include "cli/weights.hpp"
#include "cli/workers.hpp"
#include "io/output_file.hpp"

namespace floatx::cli {

// Quantizes and writes; returns how far the result is from the input. Throws std::runtime_error that names
// tensor, row and column where a weight is not finite or a scale does not fit its type.
error_statistics quantize_tensor(const dense_tensor& source, const quantization& scheme,
                                 const quantized_entry& entry, io::safetensors_writer& output,
                                 const workers& threads, progress_bar& progress);

// Whether a scale overflows or underflows F16 somewhere in the tensor, scheme.scale_type being F16. Other
// faults in the values are left for quantize_tensor() to find.
bool needs_wider_scales(const dense_tensor& source, const quantization& scheme, const workers& threads);

}  // namespace floatx::cli
