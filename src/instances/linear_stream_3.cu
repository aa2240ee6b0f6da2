#include "instances/linear_stream_instances.cuh"
template const void* floatx::instances::find_linear_stream_of<3>(const dispatch::linear_kernel&);
