// Peak memory on a file of more than 1 GB.
//
// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <unistd.h>

#include "cli/program.hpp"
#include "support/catch.hpp"
#include "support/skip.hpp"

using namespace cli_test;

#if defined(__has_feature)
#define FLOATX_HAS_FEATURE(name) __has_feature(name)
#else
#define FLOATX_HAS_FEATURE(name) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || \
    FLOATX_HAS_FEATURE(address_sanitizer) || FLOATX_HAS_FEATURE(thread_sanitizer)
constexpr bool sanitized = true;
#else
constexpr bool sanitized = false;
#endif

namespace {

constexpr uint64_t tensor_count = 9;
constexpr uint64_t rows = 8192;
constexpr uint64_t columns = 8192;
constexpr uint64_t tensor_bytes = rows * columns * 2;  // BF16: 134 MB, 1.2 GB in all

// Each tensor begins with rows of real values; the rest are zeros that take no place on the disk, but as much
// in memory as any others when they are read.
void make_large_file(const std::string& path) {
  nlohmann::json header;
  for (uint64_t i = 0; i < tensor_count; ++i) {
    header["layers." + std::to_string(i) + ".weight"] = {
        {"dtype", "BF16"},
        {"shape", {rows, columns}},
        {"data_offsets", {i * tensor_bytes, (i + 1) * tensor_bytes}}};
  }
  const std::string text = header.dump();
  const uint64_t length = text.size();
  write_file(path, std::string(reinterpret_cast<const char*>(&length), 8) + text);
  const tensor values = random_tensor("BF16", 64, columns, 1);
  const int file = open(path.c_str(), O_WRONLY);
  REQUIRE(file >= 0);
  REQUIRE(ftruncate(file, static_cast<off_t>(8 + length + tensor_count * tensor_bytes)) == 0);
  for (uint64_t i = 0; i < tensor_count; ++i) {
    REQUIRE(pwrite(file, values.data.data(), values.data.size(),
                   static_cast<off_t>(8 + length + i * tensor_bytes)) ==
            static_cast<ssize_t>(values.data.size()));
  }
  close(file);
}

}  // namespace

TEST_CASE("a file of more than 1 GB: peak memory stays under the largest tensor") {
  // Risk: the whole model, or several copies of a tensor, in memory at once.
  if (sanitized) {
    floatx::test::skip("a sanitizer's own memory would be measured");
    return;
  }
  const temporary_folder folder;
  if (std::filesystem::space(folder.path()).available < uint64_t{2} << 30) {
    floatx::test::skip("less than 2 GiB free in " + folder.path());
    return;
  }
  make_large_file(folder / "in.safetensors");
  REQUIRE(std::filesystem::file_size(folder / "in.safetensors") > 1000000000);

  const long largest_kib = static_cast<long>(tensor_bytes / 1024);
  outcome result =
      run({"quantize", folder / "in.safetensors", folder / "e3m2.safetensors", "--format", "e3m2"});
  INFO(describe(result));
  INFO("peak " << result.peak_kib << " KiB, largest tensor " << largest_kib << " KiB");
  REQUIRE(result.status == 0);
  CHECK(result.peak_kib < largest_kib);

  result = run({"dequantize", folder / "e3m2.safetensors", folder / "back.safetensors"});
  INFO(describe(result));
  REQUIRE(result.status == 0);
  CHECK(result.peak_kib < largest_kib);
  std::filesystem::remove(folder / "back.safetensors");
  std::filesystem::remove(folder / "e3m2.safetensors");

  // With one scale for the tensor, all of it is looked at before the first code is written: the input, and
  // codes and scales of 4.5 bits where it has 16.
  result = run({"quantize", folder / "in.safetensors", folder / "nvfp4.safetensors", "--format", "nvfp4",
                "--include", "layers\\.[01]\\."});
  INFO(describe(result));
  REQUIRE(result.status == 0);
  CHECK(result.peak_kib < 2 * largest_kib);
}
