// Risk: the table of formats in README.md tells something else than the library does.
//
// SPDX-License-Identifier: Apache-2.0
#include <floatx.h>

#include <cmath>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "support/catch.hpp"

namespace {

// The cells of "| a | b |", without the blanks around them; empty unless the first one is `code`.
std::vector<std::string> format_row(const std::string& line) {
  if (line.rfind("| `", 0) != 0) return {};
  std::vector<std::string> cells;
  std::istringstream rest(line.substr(1));
  for (std::string cell; std::getline(rest, cell, '|');) {
    const size_t begin = cell.find_first_not_of(" `");
    const size_t end = cell.find_last_not_of(" `");
    cells.push_back(begin == std::string::npos ? "" : cell.substr(begin, end - begin + 1));
  }
  return cells;
}

// "28", "3.5" or "2^-4"; the whole cell has to be one.
double number(const std::string& cell) {
  const bool power = cell.rfind("2^", 0) == 0;
  size_t used = 0;
  const std::string digits = power ? cell.substr(2) : cell;
  const double value = std::stod(digits, &used);
  REQUIRE(used == digits.size());
  return power ? std::exp2(value) : value;
}

}  // namespace

TEST_CASE("README.md lists every format with the library's figures, in the library's order") {
  std::ifstream readme(FLOATX_README);
  REQUIRE(readme.is_open());
  size_t index = 0;
  for (std::string line; std::getline(readme, line);) {
    const std::vector<std::string> cells = format_row(line);
    if (cells.empty()) continue;
    CAPTURE(line);
    REQUIRE(index < floatx_format_count());
    REQUIRE(cells.size() == 7);
    floatx_format_info info = {};
    info.struct_size = sizeof info;
    REQUIRE(floatx_format_describe(floatx_format_list()[index++], &info) == FLOATX_STATUS_OK);
    CHECK(cells[0] == info.name);
    CHECK(number(cells[1]) == info.bits);
    CHECK(number(cells[2]) == info.bias);
    CHECK(number(cells[3]) == info.max);
    CHECK(number(cells[4]) == info.smallest_normal);
    CHECK(number(cells[5]) == info.smallest_subnormal);
    // The OCP formats alone have special values, and the last column names them.
    CHECK((cells[6].find("NaN") != std::string::npos) == (info.has_nan != 0));
    CHECK((cells[6].find("Inf and NaN") != std::string::npos) == (info.has_infinity != 0));
  }
  CHECK(index == floatx_format_count());
}
