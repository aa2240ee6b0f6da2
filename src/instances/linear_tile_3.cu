#include "instances/linear_tile_instances.cuh"
template const void* floatx::instances::find_linear_tile_of<3>(const dispatch::linear_kernel&);
