// The main function of every test. Version 2 of Catch2 is compiled here, once; version 3 is a library.
//
// SPDX-License-Identifier: Apache-2.0
#define CATCH_CONFIG_RUNNER
#include "support/catch.hpp"
#include "support/skip.hpp"

int main(int argc, char** argv) {
  // Catch2 returns the number of failures, which could be that of a skip.
  if (Catch::Session().run(argc, argv) != 0) return 1;
  return floatx::test::something_skipped ? floatx::test::skip_return_code : 0;
}
