// template x table: every combination of arguments that plan_linear can ask for.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <type_traits>
#include <utility>

#include "instances/linear_tile.hpp"
#include "instances/odd_formats.hpp"
#include "linear_tile.cuh"
#include "tuning/linear_tile.hpp"

namespace floatx::instances {

// The instance of a row of the tuning table, if it is the one that is looked for.
template <int Bits, class Activation, int Promote, bool Odd, size_t Row>
const void* tile_of_row(const dispatch::linear_kernel& kernel) {
  constexpr tuning::tile_row row = tuning::tile_rows[Row];
  if constexpr (tuning::serves(row, Promote)) {
    if (kernel.token_tiles == row.token_tiles && kernel.strips == row.warps) {
      return reinterpret_cast<const void*>(
          kernels::linear_tile<Bits, Activation, Promote, row.token_tiles, Odd, row.warps>);
    }
  }
  return nullptr;
}

template <int Bits, class Activation, int Promote, bool Odd, size_t... Rows>
const void* tile_of_rows(const dispatch::linear_kernel& kernel, std::index_sequence<Rows...>) {
  const void* found = nullptr;
  ((found = found ? found : tile_of_row<Bits, Activation, Promote, Odd, Rows>(kernel)), ...);
  return found;
}

template <int Bits, class Activation, int Promote, bool Odd>
const void* tile_with_tiles(const dispatch::linear_kernel& kernel) {
  return tile_of_rows<Bits, Activation, Promote, Odd>(
      kernel, std::make_index_sequence<sizeof tuning::tile_rows / sizeof *tuning::tile_rows>());
}

template <int Bits, class Activation, bool Odd>
const void* tile_with_promote(const dispatch::linear_kernel& kernel) {
  switch (kernel.promote) {
    case 0:
      return tile_with_tiles<Bits, Activation, 0, Odd>(kernel);
    case 1:
      return tile_with_tiles<Bits, Activation, 1, Odd>(kernel);
    case 2:
      return tile_with_tiles<Bits, Activation, 2, Odd>(kernel);
    case 4:
      return tile_with_tiles<Bits, Activation, 4, Odd>(kernel);
    case 8:
      return tile_with_tiles<Bits, Activation, 8, Odd>(kernel);
    default:
      return nullptr;
  }
}

template <int Bits, class Activation>
const void* tile_with_activation(const dispatch::linear_kernel& kernel) {
  if (!kernel.odd) return tile_with_promote<Bits, Activation, false>(kernel);
  if constexpr (has_odd_formats(Bits, std::is_same_v<Activation, __nv_bfloat16>)) {
    return tile_with_promote<Bits, Activation, true>(kernel);
  }
  return nullptr;
}

template <int Bits>
const void* find_linear_tile_of(const dispatch::linear_kernel& kernel) {
  return kernel.bf16 ? tile_with_activation<Bits, __nv_bfloat16>(kernel)
                     : tile_with_activation<Bits, __half>(kernel);
}

}  // namespace floatx::instances
