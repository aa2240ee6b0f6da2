// The main function of every test. Version 2 of Catch2 is compiled here, once; version 3 is a library.
//
// SPDX-License-Identifier: Apache-2.0
#define CATCH_CONFIG_RUNNER
#include "support/catch.hpp"

int main(int argc, char** argv) { return Catch::Session().run(argc, argv); }
