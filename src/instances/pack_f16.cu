#include "instances/pack_instances.cuh"
template const void* floatx::instances::find_pack_of<floatx::instances::value_type::f16>(int);
template const void* floatx::instances::find_tensor_absmax_of<floatx::instances::value_type::f16>();
