#include "instances/linear_stream.hpp"

namespace floatx::instances {

const void* find_linear_stream(const dispatch::linear_kernel& kernel) {
  switch (kernel.bits) {
    case 3:
      return find_linear_stream_of<3>(kernel);
    case 4:
      return find_linear_stream_of<4>(kernel);
    case 5:
      return find_linear_stream_of<5>(kernel);
    case 6:
      return find_linear_stream_of<6>(kernel);
    case 7:
      return find_linear_stream_of<7>(kernel);
    case 8:
      return find_linear_stream_of<8>(kernel);
    default:
      return nullptr;
  }
}

}  // namespace floatx::instances
