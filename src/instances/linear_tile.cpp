#include "instances/linear_tile.hpp"

namespace floatx::instances {

const void* find_linear_tile(const dispatch::linear_kernel& kernel) {
  switch (kernel.bits) {
    case 3:
      return find_linear_tile_of<3>(kernel);
    case 4:
      return find_linear_tile_of<4>(kernel);
    case 5:
      return find_linear_tile_of<5>(kernel);
    case 6:
      return find_linear_tile_of<6>(kernel);
    case 7:
      return find_linear_tile_of<7>(kernel);
    case 8:
      return find_linear_tile_of<8>(kernel);
    default:
      return nullptr;
  }
}

}  // namespace floatx::instances
