#include "instances/pack.hpp"

#include <algorithm>
#include <cstddef>

#include "cuda/cuda.hpp"
#include "cuda/device.hpp"
#include "pack_arguments.hpp"
#include "status.hpp"

namespace floatx::cuda {
namespace {

static_assert(sizeof(kernels::data_report) == sizeof(floatx_report) &&
              offsetof(kernels::data_report, row) == offsetof(floatx_report, row) &&
              offsetof(kernels::data_report, column) == offsetof(floatx_report, column));

kernels::data_report* report_of(const execution& how) {
  return reinterpret_cast<kernels::data_report*>(how.report);
}

instances::value_type value_type_of(floatx_type type) { return static_cast<instances::value_type>(type); }

int value_bytes(floatx_type type) { return type == FLOATX_TYPE_F32 ? 4 : 2; }

bool rows_are_aligned(const void* values, int64_t stride_bytes, uintptr_t alignment) {
  return (reinterpret_cast<uintptr_t>(values) | static_cast<uintptr_t>(stride_bytes)) % alignment == 0;
}

// What the kernels take besides, which counts towards the same limit.
constexpr int static_shared_bytes = 1024;

template <class Arguments>
void launch(const void* kernel, int64_t blocks, int threads, int shared_bytes, int cluster,
            const execution& how, Arguments& arguments) {
  if (blocks > 0x7fffffff) {
    fail(FLOATX_STATUS_UNSUPPORTED, "the weight needs %lld thread blocks: a grid holds 2^31 - 1",
         static_cast<long long>(blocks));
  }
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim = {static_cast<unsigned>(cluster), 1, 1};
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = static_cast<size_t>(shared_bytes);
  config.stream = how.stream;
  config.attrs = &attribute;
  config.numAttrs = cluster > 1 ? 1 : 0;
  void* parameters[] = {&arguments};
  cuda::launch(kernel, static_shared_bytes, config, parameters);
}

// What comes before the kernels that do the work and after them, where the caller wants a report or a tensor
// scale is on its way.
void begin_work(const execution& how, kernels::begin_arguments begin) {
  begin.report = report_of(how);
  if (begin.report || begin.absmax || begin.tensor_scale) {
    launch(instances::find_begin_work(), 1, 1, 0, 1, how, begin);
  }
}

void end_work(const execution& how, float* tensor_scale = nullptr, format_range range = {}) {
  kernels::end_arguments end = {report_of(how), FLOATX_STATUS_INVALID_DATA, tensor_scale, range};
  if (end.report || end.tensor_scale) launch(instances::find_end_work(), 1, 1, 0, 1, how, end);
}

kernels::weight_view view_of(const stored_weight& weight) {
  kernels::weight_view view = {};
  view.codes = weight.codes;
  view.scales = weight.scales;
  view.tensor_scale = weight.tensor_scale;
  view.row_bytes = canonical::row_bytes(find_format(weight.shape.format)->bits, weight.shape.k);
  view.n = static_cast<int>(weight.shape.n);
  view.k = static_cast<int>(weight.shape.k);
  view.k_blocks = static_cast<int>((weight.shape.k + kernels::unit_k - 1) / kernels::unit_k);
  view.canonical = weight.layout == FLOATX_LAYOUT_CANONICAL;
  return view;
}

// Strips that are written: the gpu arrangement has padding.
int64_t strips_of(const kernels::weight_view& weight) {
  const int64_t rows = weight.canonical ? weight.n : gpu::round_up(weight.n, gpu::block_rows);
  return (rows + kernels::unit_rows - 1) / kernels::unit_rows;
}

kernels::code_rule code_rule_of(const format_traits& format) {
  return {kernels::lift_of(format), kernels::make_unit_rule(format)};
}

scale_storage storage_of(const weight_shape& shape) { return static_cast<scale_storage>(shape.scale_type); }

// What else the gpu arrangement holds once it has the scales of groups.
void add_largest_scales(const kernels::weight_view& weight, const weight_shape& shape, const execution& how) {
  if (weight.canonical || shape.group_size == 0) return;
  kernels::largest_arguments args = {weight, static_cast<int>(shape.group_size), storage_of(shape)};
  launch(instances::find_largest_scales(), strips_of(weight), kernels::largest_threads, 0, 1, how, args);
}

// Warps take units in turn, so that more thread blocks than fit the chip would only be started in vain.
int64_t move_blocks(int64_t units, const dispatch::device_limits& device) {
  return std::min<int64_t>((units + kernels::move_warps - 1) / kernels::move_warps,
                           int64_t{8} * device.multiprocessors);
}

}  // namespace

void pack(const stored_weight& target, floatx_type values_type, const void* values, int64_t values_stride,
          quantize_rules rules, const execution& how) {
  const dispatch::device_limits device = current_device();
  const weight_shape& shape = target.shape;
  const format_traits& format = *find_format(shape.format);
  const int size = value_bytes(values_type);
  kernels::pack_arguments args = {};
  args.target = view_of(target);
  args.values = values;
  args.values_stride = values_stride;
  args.report = report_of(how);
  args.group_size = static_cast<int>(shape.group_size);
  args.row_groups = group_count(shape.k, shape.group_size);
  args.group_shift = shape.group_size == 0 ? 31 : 0;
  while (shape.group_size > int64_t{16} << args.group_shift) ++args.group_shift;
  args.values_are_aligned = rows_are_aligned(values, values_stride * size, 16);
  args.scale_type = storage_of(shape);
  args.rules = rules;
  args.range = visit_format(shape.format, [](auto f) { return range_of<decltype(f)>(); });
  args.encoding = kernels::make_encode_rule(format);
  args.codes = code_rule_of(format);
  args.lift_factor = 1u << args.codes.lift;

  // A strip whose scales are those of its rows fits the shared memory of a cluster, if it may; else part of
  // it is read twice. Small thread blocks, six on a multiprocessor of compute capability 9.0, so that some
  // read while others write; twice as large where small ones would read more than a third of a strip twice.
  // H200, FP16 to E3M2, 67 M values, microseconds of small and large: k = 8192 66 and 69, k = 12288 70 and
  // 74, k = 16384 77 and 72, k = 28672 82 and 78.
  const int slots = size == 2 ? 2 : 1, max_parts = 8, small = kernels::max_pack_warps / 2;
  const bool by_row = shape.group_size == 0, may_cluster = by_row && device.arch >= 90;
  const bool is_short = may_cluster && 2 * args.target.k_blocks <= 3 * max_parts * small * slots;
  int warps = !by_row || is_short ? small : kernels::max_pack_warps;  // a power of two
  const int wanted = (args.target.k_blocks + warps * slots - 1) / (warps * slots);
  args.parts = by_row ? 1 : wanted;
  while (may_cluster && args.parts < wanted && args.parts < max_parts) args.parts *= 2;
  args.clustered = may_cluster && args.parts > 1;
  args.part_blocks = (args.target.k_blocks + args.parts - 1) / args.parts;
  args.slots = std::min(slots, (args.part_blocks + warps - 1) / warps);
  const int groups = by_row ? 0 : kernels::unit_k / static_cast<int>(shape.group_size);
  args.tile_offset = args.slots * kernels::value_slot_bytes(size) +
                     groups * kernels::unit_rows * static_cast<int>(sizeof(kernels::divider));
  args.warp_bytes = args.tile_offset + (args.target.canonical ? kernels::tile_bytes : 0);
  const int row_bytes = kernels::unit_rows * static_cast<int>(sizeof(kernels::divider));
  while (warps * args.warp_bytes + row_bytes > device.block_shared_bytes - static_shared_bytes) warps /= 2;

  kernels::begin_arguments begin = {};
  begin.absmax = target.tensor_scale;
  begin_work(how, begin);
  if (target.tensor_scale) {
    kernels::absmax_arguments absmax = {};
    absmax.values = values;
    absmax.values_stride = values_stride;
    absmax.n = args.target.n;
    absmax.k = args.target.k;
    const int segment = 2048 / size;
    absmax.row_segments = (absmax.k + segment - 1) / segment;
    absmax.segments = static_cast<int64_t>(absmax.n) * absmax.row_segments;
    absmax.values_are_aligned = args.values_are_aligned;
    absmax.absmax = target.tensor_scale;
    launch(instances::find_tensor_absmax(value_type_of(values_type)),
           std::min<int64_t>((absmax.segments + 7) / 8, int64_t{8} * device.multiprocessors), 256, 0, 1, how,
           absmax);
  }
  launch(instances::find_pack(value_type_of(values_type), format.bits), strips_of(args.target) * args.parts,
         warps * 32, warps * args.warp_bytes + row_bytes, args.clustered ? args.parts : 1, how, args);
  add_largest_scales(args.target, shape, how);
  end_work(how, target.tensor_scale, args.range);
}

void unpack(const stored_weight& source, floatx_type values_type, void* values, int64_t values_stride,
            const execution& how) {
  const dispatch::device_limits device = current_device();
  const weight_shape& shape = source.shape;
  const format_traits& format = *find_format(shape.format);
  const int size = value_bytes(values_type);
  kernels::unpack_arguments args = {};
  args.source = view_of(source);
  args.values = values;
  args.values_stride = values_stride;
  args.group_size = static_cast<int>(shape.group_size);
  args.scale_type = storage_of(shape);
  args.values_type = static_cast<int>(values_type);
  args.values_are_aligned = rows_are_aligned(values, values_stride * size, static_cast<uintptr_t>(4 * size));
  args.codes = code_rule_of(format);
  visit_format(shape.format, [&](auto f) {
    using Format = decltype(f);
    for (int code = 0; code < Format::sign_mask; ++code) {
      args.magnitudes[code] = decode<Format>(static_cast<uint8_t>(code));
    }
  });
  begin_work(how, {});  // nothing is looked for: every weight has values
  const int64_t strips = (shape.n + kernels::unit_rows - 1) / kernels::unit_rows;
  launch(instances::find_unpack(format.bits), move_blocks(strips * args.source.k_blocks, device),
         kernels::move_warps * 32, 0, 1, how, args);
  end_work(how);
}

void slice(const stored_weight& source, int64_t row_begin, int64_t k_begin, const stored_weight& target,
           const execution& how) {
  const dispatch::device_limits device = current_device();
  const weight_shape& shape = target.shape;
  const format_traits& format = *find_format(shape.format);
  const bool comes_from_outside = source.layout == FLOATX_LAYOUT_CANONICAL;
  kernels::move_arguments args = {};
  args.source = view_of(source);
  args.target = view_of(target);
  args.row_begin = row_begin;
  args.k_begin = k_begin;
  args.report = comes_from_outside ? report_of(how) : nullptr;
  args.group_size = static_cast<int>(shape.group_size);
  args.scale_type = storage_of(shape);
  args.largest_magnitude =
      visit_format(shape.format, [](auto f) { return static_cast<int>(decltype(f)::max_code); });
  args.codes = code_rule_of(format);
  kernels::begin_arguments begin = {};
  begin.tensor_scale = source.tensor_scale;
  begin.tensor_scale_to = target.tensor_scale;
  begin.tensor_scale_must_be_finite = comes_from_outside;
  begin_work(how, begin);
  launch(instances::find_move(format.bits),
         move_blocks(strips_of(args.target) * args.target.k_blocks, device), kernels::move_warps * 32, 0, 1,
         how, args);
  add_largest_scales(args.target, shape, how);
  end_work(how);
}

}  // namespace floatx::cuda
