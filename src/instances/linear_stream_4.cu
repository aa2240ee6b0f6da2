#include "instances/linear_stream_instances.cuh"
template const void* floatx::instances::find_linear_stream_of<4>(const dispatch::linear_kernel&);
