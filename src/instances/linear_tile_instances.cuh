// template x table: every combination of arguments that plan_linear can ask for.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <iterator>
#include <type_traits>
#include <utility>

#include "instances/linear_tile.hpp"
#include "instances/odd_formats.hpp"
#include "linear_tile.cuh"
#include "tuning/linear_tile.hpp"

namespace floatx::instances {

// Those of the tuning table for kernels that are apart in k blocks, or not.
constexpr const auto& rows_of(std::false_type) { return tuning::tile_rows; }
constexpr const auto& rows_of(std::true_type) { return tuning::apart_rows; }

// The instance of a row of a tuning table, if it is the one that is looked for.
template <int Bits, class Activation, kernels::scaling Scaling, int Interval, bool Odd, size_t Row>
const void* tile_of_row(const dispatch::linear_kernel& kernel) {
  constexpr dispatch::linear_scaling scaling = {Scaling, Interval};
  constexpr bool is_apart = dispatch::is_apart_in_block(scaling);
  constexpr tuning::tile_row row = rows_of(std::bool_constant<is_apart>())[Row];
  if constexpr (is_apart || dispatch::has_kernels(row, scaling)) {
    if (kernel.token_tiles == row.token_tiles && kernel.strips == row.warps) {
      return reinterpret_cast<const void*>(
          kernels::linear_tile<Bits, Activation, Scaling, Interval, row.token_tiles, Odd, row.warps>);
    }
  }
  return nullptr;
}

template <int Bits, class Activation, kernels::scaling Scaling, int Interval, bool Odd, size_t... Rows>
const void* tile_of_rows(const dispatch::linear_kernel& kernel, std::index_sequence<Rows...>) {
  const void* found = nullptr;
  ((found = found ? found : tile_of_row<Bits, Activation, Scaling, Interval, Odd, Rows>(kernel)), ...);
  return found;
}

template <int Bits, class Activation, kernels::scaling Scaling, int Interval, bool Odd>
const void* tile_with_scaling(const dispatch::linear_kernel& kernel) {
  if (kernel.scaling.way != Scaling || kernel.scaling.interval != Interval) return nullptr;
  constexpr bool is_apart = dispatch::is_apart_in_block({Scaling, Interval});
  constexpr size_t rows = std::size(rows_of(std::bool_constant<is_apart>()));
  return tile_of_rows<Bits, Activation, Scaling, Interval, Odd>(kernel, std::make_index_sequence<rows>());
}

template <int Bits, class Activation, bool Odd>
const void* tile_with_oddity(const dispatch::linear_kernel& kernel) {
  using kernels::scaling;
  switch (kernel.scaling.way) {
    case scaling::rows:
      return tile_with_scaling<Bits, Activation, scaling::rows, 0, Odd>(kernel);
    case scaling::folded:
      return kernel.scaling.interval == 1
                 ? tile_with_scaling<Bits, Activation, scaling::folded, 1, Odd>(kernel)
             : kernel.scaling.interval == 2
                 ? tile_with_scaling<Bits, Activation, scaling::folded, 2, Odd>(kernel)
                 : tile_with_scaling<Bits, Activation, scaling::folded, kernels::steps, Odd>(kernel);
    case scaling::apart:
      return kernel.scaling.interval == 1
                 ? tile_with_scaling<Bits, Activation, scaling::apart, 1, Odd>(kernel)
             : kernel.scaling.interval == 2
                 ? tile_with_scaling<Bits, Activation, scaling::apart, 2, Odd>(kernel)
                 : tile_with_scaling<Bits, Activation, scaling::apart, kernels::steps, Odd>(kernel);
  }
  return nullptr;
}

template <int Bits, class Activation>
const void* tile_with_activation(const dispatch::linear_kernel& kernel) {
  if (!kernel.odd) return tile_with_oddity<Bits, Activation, false>(kernel);
  if constexpr (has_odd_formats(Bits, std::is_same_v<Activation, __nv_bfloat16>)) {
    return tile_with_oddity<Bits, Activation, true>(kernel);
  }
  return nullptr;
}

template <int Bits>
const void* find_linear_tile_of(const dispatch::linear_kernel& kernel) {
  return kernel.bf16 ? tile_with_activation<Bits, __nv_bfloat16>(kernel)
                     : tile_with_activation<Bits, __half>(kernel);
}

}  // namespace floatx::instances
