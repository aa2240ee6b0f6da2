#include "instances/pack.hpp"

namespace floatx::instances {

const void* find_pack(value_type values, int bits) {
  return values == value_type::f32   ? find_pack_of<value_type::f32>(bits)
         : values == value_type::f16 ? find_pack_of<value_type::f16>(bits)
                                     : find_pack_of<value_type::bf16>(bits);
}

const void* find_tensor_absmax(value_type values) {
  return values == value_type::f32   ? find_tensor_absmax_of<value_type::f32>()
         : values == value_type::f16 ? find_tensor_absmax_of<value_type::f16>()
                                     : find_tensor_absmax_of<value_type::bf16>();
}

}  // namespace floatx::instances
