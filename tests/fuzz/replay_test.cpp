// The fuzz target without a fuzzer: for compilers that have none, and for every sanitizer that the other
// tests run under.
//
// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <vector>

#include "support/catch.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size);

TEST_CASE("fuzz: the corpus and small damages to it") {
  // Risk: a file that once broke the reader breaks it again. The target aborts where something is wrong.
  std::mt19937 random(1);
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(FLOATX_FUZZ_CORPUS)) {
    std::ifstream file(entry.path(), std::ios::binary);
    const std::vector<uint8_t> original{std::istreambuf_iterator<char>(file), {}};
    CHECK(LLVMFuzzerTestOneInput(original.data(), original.size()) == 0);
    for (int i = 0; i < 2000 && !original.empty(); ++i) {
      std::vector<uint8_t> damaged = original;
      for (int edits = 1 + static_cast<int>(random() % 3); edits > 0; --edits) {
        const size_t at = random() % damaged.size();
        switch (random() % 4) {
          case 0:
            damaged[at] = static_cast<uint8_t>(damaged[at] ^ (1u << random() % 8));
            break;
          case 1:
            damaged[at] = static_cast<uint8_t>("{}[]\",:0189-.e\\ \xff"[random() % 17]);
            break;
          case 2:
            damaged.insert(damaged.begin() + static_cast<std::ptrdiff_t>(at),
                           damaged[random() % damaged.size()]);
            break;
          default:
            damaged.resize(at + 1);
            break;
        }
      }
      LLVMFuzzerTestOneInput(damaged.data(), damaged.size());
    }
    ++files;
  }
  CHECK(files >= 5);
}
