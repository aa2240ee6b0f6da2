#include "instances/pack.hpp"
#include "move.cuh"

namespace floatx::instances {

const void* find_move(int bits) {
  switch (bits) {
    case 3:
      return reinterpret_cast<const void*>(kernels::move<3>);
    case 4:
      return reinterpret_cast<const void*>(kernels::move<4>);
    case 5:
      return reinterpret_cast<const void*>(kernels::move<5>);
    case 6:
      return reinterpret_cast<const void*>(kernels::move<6>);
    case 7:
      return reinterpret_cast<const void*>(kernels::move<7>);
    case 8:
      return reinterpret_cast<const void*>(kernels::move<8>);
    default:
      return nullptr;
  }
}

const void* find_unpack(int bits) {
  switch (bits) {
    case 3:
      return reinterpret_cast<const void*>(kernels::unpack<3>);
    case 4:
      return reinterpret_cast<const void*>(kernels::unpack<4>);
    case 5:
      return reinterpret_cast<const void*>(kernels::unpack<5>);
    case 6:
      return reinterpret_cast<const void*>(kernels::unpack<6>);
    case 7:
      return reinterpret_cast<const void*>(kernels::unpack<7>);
    case 8:
      return reinterpret_cast<const void*>(kernels::unpack<8>);
    default:
      return nullptr;
  }
}

const void* find_largest_scales() { return reinterpret_cast<const void*>(kernels::largest_scales); }
const void* find_begin_work() { return reinterpret_cast<const void*>(kernels::begin_work); }
const void* find_end_work() { return reinterpret_cast<const void*>(kernels::end_work); }

}  // namespace floatx::instances
