// template x table: every combination of arguments that plan_linear can ask for.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <iterator>
#include <type_traits>
#include <utility>

#include "instances/linear_tile.hpp"
#include "instances/unpackings.hpp"
#include "linear_tile.cuh"
#include "tuning/linear_tile.hpp"

namespace floatx::instances {

// Those of the tuning table for kernels that are apart in k blocks, or not.
constexpr const auto& rows_of(std::false_type) { return tuning::tile_rows; }
constexpr const auto& rows_of(std::true_type) { return tuning::apart_rows; }

// The instance of a row of a tuning table, if it is the one that is looked for.
template <int Bits, class Activation, kernels::scaling Scaling, int Interval, kernels::unpacking How,
          size_t Row>
const void* tile_of_row(const dispatch::linear_kernel& kernel) {
  constexpr dispatch::linear_scaling scaling = {Scaling, Interval};
  constexpr bool is_apart = dispatch::is_apart_in_block(scaling);
  constexpr tuning::tile_row row = rows_of(std::bool_constant<is_apart>())[Row];
  if constexpr (is_apart || dispatch::has_kernels(row, scaling)) {
    if (kernel.token_tiles == row.token_tiles && kernel.strips == row.warps) {
      return reinterpret_cast<const void*>(
          kernels::linear_tile<Bits, Activation, Scaling, Interval, row.token_tiles, How, row.warps>);
    }
  }
  return nullptr;
}

template <int Bits, class Activation, kernels::scaling Scaling, int Interval, kernels::unpacking How,
          size_t... Rows>
const void* tile_of_rows(const dispatch::linear_kernel& kernel, std::index_sequence<Rows...>) {
  const void* found = nullptr;
  ((found = found ? found : tile_of_row<Bits, Activation, Scaling, Interval, How, Rows>(kernel)), ...);
  return found;
}

template <int Bits, class Activation, kernels::scaling Scaling, int Interval, kernels::unpacking How>
const void* tile_with_scaling(const dispatch::linear_kernel& kernel) {
  if (kernel.scaling.way != Scaling || kernel.scaling.interval != Interval) return nullptr;
  constexpr bool is_apart = dispatch::is_apart_in_block({Scaling, Interval});
  constexpr size_t rows = std::size(rows_of(std::bool_constant<is_apart>()));
  return tile_of_rows<Bits, Activation, Scaling, Interval, How>(kernel, std::make_index_sequence<rows>());
}

template <int Bits, class Activation, kernels::scaling Scaling, kernels::unpacking How>
const void* tile_with_groups(const dispatch::linear_kernel& kernel) {
  switch (kernel.scaling.interval) {
    case 1:
      return tile_with_scaling<Bits, Activation, Scaling, 1, How>(kernel);
    case 2:
      return tile_with_scaling<Bits, Activation, Scaling, 2, How>(kernel);
    default:
      return tile_with_scaling<Bits, Activation, Scaling, kernels::steps, How>(kernel);
  }
}

template <int Bits, class Activation, kernels::unpacking How>
const void* tile_with_way(const dispatch::linear_kernel& kernel) {
  using kernels::scaling;
  constexpr bool bf16 = std::is_same_v<Activation, __nv_bfloat16>;
  switch (kernel.scaling.way) {
    case scaling::rows:
      return tile_with_scaling<Bits, Activation, scaling::rows, 0, How>(kernel);
    case scaling::folded:
      if constexpr (has_formats(Bits, bf16, How, true)) {
        return tile_with_groups<Bits, Activation, scaling::folded, How>(kernel);
      }
      return nullptr;
    case scaling::apart:
      return tile_with_groups<Bits, Activation, scaling::apart, How>(kernel);
  }
  return nullptr;
}

template <int Bits, class Activation>
const void* tile_with_activation(const dispatch::linear_kernel& kernel) {
  constexpr bool bf16 = std::is_same_v<Activation, __nv_bfloat16>;
  return with_unpacking<Bits, bf16>(kernel.unpacking, [&](auto how) {
    return tile_with_way<Bits, Activation, decltype(how)::value>(kernel);
  });
}

template <int Bits>
const void* find_linear_tile_of(const dispatch::linear_kernel& kernel) {
  return kernel.bf16 ? tile_with_activation<Bits, __nv_bfloat16>(kernel)
                     : tile_with_activation<Bits, __half>(kernel);
}

}  // namespace floatx::instances
