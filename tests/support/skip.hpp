// What cannot be tested here is told as skipped, not as passed: ctest shows the whole program so.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "support/catch.hpp"

namespace floatx::test {

// What a program returns to ctest (SKIP_RETURN_CODE) when nothing failed and something was skipped.
constexpr int skip_return_code = 77;

inline bool something_skipped = false;

// Ends no case: return after it. A program that calls this should have little else to test.
inline void skip(const std::string& reason) {
  WARN("skipped: " + reason);
  something_skipped = true;
}

}  // namespace floatx::test
