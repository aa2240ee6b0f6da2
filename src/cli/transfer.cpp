// SPDX-License-Identifier: Apache-2.0
#include "cli/transfer.hpp"

#include <algorithm>

namespace floatx::cli {

void copy_tensor(const io::shard& shard, const io::tensor_info& info, io::safetensors_writer& output,
                 const workers& threads, progress_bar& progress) {
  constexpr uint64_t block_bytes = 4 << 20;
  const size_t target = output.find(info.name);
  const uint8_t* data = shard.data(info);
  const auto blocks = static_cast<int64_t>((info.bytes() + block_bytes - 1) / block_bytes);
  threads.run(blocks, [&](int64_t index, int) {
    const uint64_t offset = static_cast<uint64_t>(index) * block_bytes;
    const auto bytes = static_cast<size_t>(std::min(block_bytes, info.bytes() - offset));
    output.write(target, offset, data + offset, bytes);
    shard.file.forget(data + offset, bytes);
    progress.advance(bytes);
  });
}

}  // namespace floatx::cli
