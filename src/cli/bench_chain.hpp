// The linear layers of decoder blocks one after another, each reading what an earlier one wrote.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/bench_problem.hpp"
#include "cli/gpu_bench.hpp"
#include "cli/terminal.hpp"

namespace floatx::cli {

// A shape has two chains, of four fused layers and of seven, and each runs without and with programmatic
// launch: that many steps of the progress bar.
constexpr size_t chains_of_a_shape = 2;

// Those of --shape that are models. Throws usage_error where none is.
std::vector<std::string> chained_shapes(const bench_options& options);

class chain_report {
 public:
  //   us  without and with programmatic launch, for one block.
  void add(const std::string& shape, size_t linears, const named_scheme& scheme, floatx_type type, int64_t m,
           double floor_us, const double (&us)[2]);
  void print() const { table_.print(); }
  const nlohmann::ordered_json& json() const { return rows_; }

 private:
  text_table table_{{{"chain", text_table::align::left},
                     {"linears"},
                     {"format", text_table::align::left},
                     {"scales", text_table::align::left},
                     {"x, y", text_table::align::left},
                     {"m"},
                     {"µs"},
                     {"of the floor"},
                     {"programmatic µs"},
                     {"of the floor"}}};
  nlohmann::ordered_json rows_ = nlohmann::ordered_json::array();
};

void bench_chains(const std::string& shape, const std::vector<named_scheme>& schemes,
                  const std::vector<floatx_type>& types, const std::vector<int64_t>& ms,
                  const gpu_bench& bench, chain_report& report);

}  // namespace floatx::cli
