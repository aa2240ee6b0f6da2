// The JSON of a safetensors header, without the rules on sizes and offsets. Internal to src/io.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "io/safetensors.hpp"

namespace floatx::io {

// Fills header.tensors (in the order of the text) and header.metadata. Throws io::error.
void parse_header_json(const uint8_t* text, size_t size, const std::string& file, safetensors_header& header);

}  // namespace floatx::io
