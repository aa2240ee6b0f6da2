// The only extern "C" of the library: validate, dispatch, translate exceptions into statuses.
#include <cctype>
#include <cmath>
#include <cstring>
#include <new>
#include <string>
#include <system_error>

#include "cpu/cpu.hpp"
#include "cpu/pack.hpp"
#include "cpu/threads.hpp"
#include "cuda/cuda.hpp"
#include "floatx.h"
#include "floatx/codec.hpp"
#include "floatx/format.hpp"
#include "floatx/layout.hpp"
#include "status.hpp"

namespace floatx {
namespace {

constexpr int64_t max_size = 0x7fffffff;

template <class Body>
floatx_status guarded(Body&& body) noexcept {
  try {
    body();
    return FLOATX_STATUS_OK;
  } catch (const failure& f) {
    set_last_error(f.message.c_str());
    return f.status;
  } catch (const std::bad_alloc&) {
    set_last_error("a temporary host allocation failed");
    return FLOATX_STATUS_OUT_OF_MEMORY;
  } catch (const std::system_error&) {
    set_last_error("a thread could not be started");
    return FLOATX_STATUS_OUT_OF_MEMORY;
  } catch (...) {
    set_last_error("unexpected exception");
    return FLOATX_STATUS_INTERNAL;
  }
}

template <class... Arguments>
[[noreturn]] void invalid(const char* format, Arguments... arguments) {
  fail(FLOATX_STATUS_INVALID_ARGUMENT, format, arguments...);
}

long long wide(int64_t value) { return static_cast<long long>(value); }

// ---- Structs with a size ---------------------------------------------------------------------------

// A newer caller's struct is fine while what this library does not know is zero; an older one is never
// shorter than that of 0.1, which is what `known` is today.
void check_struct_size(const char* name, const void* data, size_t size, size_t known) {
  if (size < known) invalid("%s->struct_size is %zu: must be at least %zu", name, size, known);
  if (size > 4096) invalid("%s->struct_size is %zu: must be sizeof the struct, at most 4096", name, size);
  const auto* bytes = static_cast<const unsigned char*>(data);
  for (size_t i = known; i < size; ++i) {
    if (bytes[i] != 0) {
      fail(FLOATX_STATUS_UNSUPPORTED,
           "%s->struct_size is %zu: a field beyond this library's %zu bytes is set", name, size, known);
    }
  }
}

template <class Struct>
void check_struct(const char* name, const Struct* data) {
  if (!data) invalid("%s is NULL: must point to a %s", name, name);
  check_struct_size(name, data, data->struct_size, sizeof(Struct));
}

// ---- Single arguments ------------------------------------------------------------------------------

void check_pointer(const char* name, const void* pointer) {
  if (!pointer) invalid("%s is NULL: must point to memory", name);
}

void check_aligned(const char* name, const void* pointer, size_t alignment) {
  check_pointer(name, pointer);
  if (reinterpret_cast<uintptr_t>(pointer) % alignment != 0) {
    invalid("%s is %p: must be aligned to %zu bytes", name, pointer, alignment);
  }
}

void check_range(const char* name, int64_t value, int64_t low, int64_t high) {
  if (value < low || value > high) {
    invalid("%s is %lld: must be in %lld .. %lld", name, wide(value), wide(low), wide(high));
  }
}

size_t type_bytes(const char* name, floatx_type type) {
  if (type == FLOATX_TYPE_F32) return 4;
  if (type == FLOATX_TYPE_F16 || type == FLOATX_TYPE_BF16) return 2;
  invalid("%s is %d: must be FLOATX_TYPE_F32, _F16 or _BF16", name, static_cast<int>(type));
}

size_t scale_type_bytes(floatx_scale_type type) {
  return static_cast<size_t>(scale_bytes(static_cast<scale_storage>(type)));
}

const format_traits& check_format(const char* name, floatx_format format) {
  const format_traits* traits = find_format(format);
  if (!traits) invalid("%s is 0x%x: must be one of FLOATX_FORMAT_*", name, static_cast<unsigned>(format));
  return *traits;
}

// a * b, or INVALID_ARGUMENT naming what would not fit.
size_t product(const char* what, size_t a, size_t b) {
  size_t result;
  if (__builtin_mul_overflow(a, b, &result) || result > static_cast<size_t>(INT64_MAX)) {
    invalid("%s: %zu x %zu bytes overflow", what, a, b);
  }
  return result;
}

// ---- Memory ranges: nothing that is written may overlap anything else of the call --------------------

struct range {
  const char* name;
  const void* begin;
  size_t bytes;
};

bool overlap(const range& a, const range& b) {
  if (!a.begin || !b.begin || a.bytes == 0 || b.bytes == 0) return false;
  const auto a_begin = reinterpret_cast<uintptr_t>(a.begin), b_begin = reinterpret_cast<uintptr_t>(b.begin);
  return a_begin < b_begin + b.bytes && b_begin < a_begin + a.bytes;
}

template <size_t Written, size_t Read>
void check_disjoint(const range (&written)[Written], const range (&read)[Read]) {
  for (size_t i = 0; i < Written; ++i) {
    for (size_t j = i + 1; j < Written; ++j) {
      if (overlap(written[i], written[j]))
        invalid("%s overlaps %s: buffers must be apart", written[i].name, written[j].name);
    }
    for (const range& other : read) {
      if (overlap(written[i], other))
        invalid("%s overlaps %s: buffers must be apart", written[i].name, other.name);
    }
  }
}

// Bytes from the first element of a strided matrix to its last.
size_t check_matrix(const char* name, const char* stride_name, const void* data, int64_t rows,
                    int64_t columns, int64_t stride, size_t element) {
  check_aligned(name, data, element);
  if (stride < columns)
    invalid("%s is %lld: must be at least %lld", stride_name, wide(stride), wide(columns));
  const size_t row = product(stride_name, static_cast<size_t>(stride), element);
  return product(name, row, static_cast<size_t>(rows - 1)) + static_cast<size_t>(columns) * element;
}

// ---- Execution ---------------------------------------------------------------------------------------

const floatx_execution default_execution = {
    sizeof(floatx_execution), FLOATX_MEMORY_HOST, 0, nullptr, nullptr, nullptr, 0, nullptr};

const floatx_execution& check_execution(const floatx_execution* execution) {
  if (!execution) return default_execution;
  check_struct("execution", execution);
  if (execution->memory != FLOATX_MEMORY_HOST && execution->memory != FLOATX_MEMORY_DEVICE) {
    invalid("execution->memory is %d: must be one of FLOATX_MEMORY_*", static_cast<int>(execution->memory));
  }
  if (execution->flags & ~(FLOATX_EXECUTION_PROGRAMMATIC_LAUNCH | FLOATX_EXECUTION_EXACT_WEIGHTS)) {
    invalid("execution->flags is 0x%x: must be made of FLOATX_EXECUTION_*", execution->flags);
  }
  if (execution->workspace_bytes > 0) check_aligned("execution->workspace", execution->workspace, 64);
  if (execution->memory == FLOATX_MEMORY_DEVICE && execution->report)
    check_aligned("execution->report", execution->report, alignof(floatx_report));
  return *execution;
}

bool on_device(const floatx_execution& how) { return how.memory == FLOATX_MEMORY_DEVICE; }

cuda::execution cuda_execution(const floatx_execution& how) {
  return {how.stream,
          how.workspace,
          how.workspace_bytes,
          how.report,
          (how.flags & FLOATX_EXECUTION_PROGRAMMATIC_LAUNCH) != 0,
          (how.flags & FLOATX_EXECUTION_EXACT_WEIGHTS) != 0};
}

// The CPU's layout is of host memory; the others may be anywhere.
void check_place(const char* name, const floatx_weight& weight, const floatx_execution& how) {
  if (on_device(how) && weight.layout == FLOATX_LAYOUT_CPU) {
    invalid("%s->layout is %d: FLOATX_LAYOUT_CPU is for host memory alone", name,
            static_cast<int>(weight.layout));
  }
}

// ---- Weights -----------------------------------------------------------------------------------------

weight_shape shape_of(const floatx_weight& w) { return {w.format, w.n, w.k, w.group_size, w.scale_type}; }

struct weight_sizes {
  size_t codes, scales, codes_alignment, scales_alignment;
  int32_t version;
};

weight_sizes check_description(const floatx_weight* weight) {
  check_struct("weight", weight);
  const floatx_weight& w = *weight;
  const format_traits& traits = check_format("weight->format", w.format);
  check_range("weight->n", w.n, 1, max_size);
  check_range("weight->k", w.k, 1, max_size);
  if (w.group_size != 0 && w.group_size != 16 && w.group_size != 32 && w.group_size != 64 &&
      w.group_size != 128) {
    invalid("weight->group_size is %lld: must be 0, 16, 32, 64 or 128", wide(w.group_size));
  }
  if (w.scale_type < FLOATX_SCALE_F32 || w.scale_type > FLOATX_SCALE_E4M3FN) {
    invalid("weight->scale_type is %d: must be one of FLOATX_SCALE_*", static_cast<int>(w.scale_type));
  }

  weight_sizes sizes{};
  switch (w.layout) {
    case FLOATX_LAYOUT_CANONICAL: {
      const auto groups = static_cast<size_t>(group_count(w.k, w.group_size));
      sizes.codes = product("weight->codes", static_cast<size_t>(canonical::row_bytes(traits.bits, w.k)),
                            static_cast<size_t>(w.n));
      sizes.scales =
          product("weight->scales", groups * scale_type_bytes(w.scale_type), static_cast<size_t>(w.n));
      sizes.codes_alignment = 1;
      sizes.scales_alignment = scale_type_bytes(w.scale_type);
      sizes.version = 1;
      break;
    }
    case FLOATX_LAYOUT_CPU:
      sizes.codes = cpu::codes_bytes(shape_of(w));  // n, k < 2^31 and at most 8 bits: fits
      sizes.scales = cpu::scales_bytes(shape_of(w));
      sizes.codes_alignment = sizes.scales_alignment = cpu::packed_alignment;
      sizes.version = cpu::packed_version;
      break;
    case FLOATX_LAYOUT_CUDA: {
      if (traits.exponent_bits > 5) {
        fail(FLOATX_STATUS_UNSUPPORTED,
             "weight->format is %s: FLOATX_LAYOUT_CUDA holds exponents of up to 5 bits", traits.name);
      }
      const int64_t count = gpu::scale_count(w.n, w.k, w.group_size);
      sizes.codes =
          static_cast<size_t>(gpu::codes_bytes(traits.bits, w.n, w.k));  // below 2^62 + padding: fits
      sizes.scales = product("weight->scales", static_cast<size_t>(count), scale_type_bytes(w.scale_type));
      sizes.codes_alignment = sizes.scales_alignment = 16;
      sizes.version = gpu::version;
      break;
    }
    default:
      invalid("weight->layout is %d: must be one of FLOATX_LAYOUT_*", static_cast<int>(w.layout));
  }
  if (w.layout_version < 0) invalid("weight->layout_version is %d: must not be negative", w.layout_version);
  if (w.layout_version != 0 && w.layout_version != sizes.version) {
    fail(FLOATX_STATUS_UNSUPPORTED, "weight->layout_version is %d: this library reads version %d",
         w.layout_version, sizes.version);
  }
  return sizes;
}

// A description whose buffers are there and large enough.
weight_sizes check_weight(const floatx_weight* weight) {
  const weight_sizes sizes = check_description(weight);
  check_aligned("weight->codes", weight->codes, sizes.codes_alignment);
  if (weight->codes_bytes < sizes.codes) {
    invalid("weight->codes_bytes is %zu: the codes need %zu", weight->codes_bytes, sizes.codes);
  }
  check_aligned("weight->scales", weight->scales, sizes.scales_alignment);
  if (weight->scales_bytes < sizes.scales) {
    invalid("weight->scales_bytes is %zu: the scales need %zu", weight->scales_bytes, sizes.scales);
  }
  if (weight->scale_type == FLOATX_SCALE_E4M3FN) {
    check_aligned("weight->tensor_scale", weight->tensor_scale, alignof(float));
  } else if (weight->tensor_scale) {
    invalid("weight->tensor_scale is %p: must be NULL unless scale_type is FLOATX_SCALE_E4M3FN",
            static_cast<void*>(weight->tensor_scale));
  }
  return sizes;
}

stored_weight stored(const floatx_weight& w) {
  return {shape_of(w), w.layout, static_cast<uint8_t*>(w.codes), static_cast<uint8_t*>(w.scales),
          w.tensor_scale};
}

size_t tensor_scale_bytes(const floatx_weight& w) { return w.tensor_scale ? sizeof(float) : 0; }

quantize_rules check_options(const floatx_pack_options* options, floatx_scale_type scale_type) {
  if (!options) return {};
  check_struct("options", options);
  if (options->scale_rule != FLOATX_SCALE_RULE_STORED && options->scale_rule != FLOATX_SCALE_RULE_UNROUNDED) {
    invalid("options->scale_rule is %d: must be one of FLOATX_SCALE_RULE_*",
            static_cast<int>(options->scale_rule));
  }
  if (options->exponent_rule != FLOATX_EXPONENT_RULE_FLOOR &&
      options->exponent_rule != FLOATX_EXPONENT_RULE_CEIL) {
    invalid("options->exponent_rule is %d: must be one of FLOATX_EXPONENT_RULE_*",
            static_cast<int>(options->exponent_rule));
  }
  if (options->scale_rule == FLOATX_SCALE_RULE_UNROUNDED && scale_type == FLOATX_SCALE_E8M0) {
    invalid("options->scale_rule is %d: FLOATX_SCALE_RULE_UNROUNDED is not defined for E8M0 scales",
            static_cast<int>(options->scale_rule));
  }
  return {options->scale_rule == FLOATX_SCALE_RULE_UNROUNDED,
          options->exponent_rule == FLOATX_EXPONENT_RULE_CEIL};
}

void slice(const floatx_weight* source, int64_t row_begin, int64_t k_begin, const floatx_weight* target,
           const floatx_execution* execution) {
  const floatx_execution& how = check_execution(execution);
  const weight_sizes from = check_weight(source);
  const weight_sizes to = check_weight(target);
  if (source->format != target->format || source->group_size != target->group_size ||
      source->scale_type != target->scale_type) {
    invalid("target: format 0x%x, group_size %lld, scale_type %d must be the source's",
            static_cast<unsigned>(target->format), wide(target->group_size),
            static_cast<int>(target->scale_type));
  }
  if (target->n > source->n)
    invalid("target->n is %lld: the source has %lld rows", wide(target->n), wide(source->n));
  if (target->k > source->k)
    invalid("target->k is %lld: the source has %lld columns", wide(target->k), wide(source->k));
  check_range("row_begin", row_begin, 0, source->n - target->n);
  check_range("k_begin", k_begin, 0, source->k - target->k);
  if (const int64_t group = source->group_size; group != 0) {
    const int64_t end = k_begin + target->k;
    if (k_begin % group != 0)
      invalid("k_begin is %lld: must be a multiple of group_size %lld", wide(k_begin), wide(group));
    if (end % group != 0 && end != source->k) {
      invalid(
          "target->k is %lld: the window ends at %lld, which must be a multiple of group_size %lld or the "
          "row's end",
          wide(target->k), wide(end), wide(group));
    }
  }
  const range written[] = {{"target->codes", target->codes, to.codes},
                           {"target->scales", target->scales, to.scales},
                           {"target->tensor_scale", target->tensor_scale, tensor_scale_bytes(*target)}};
  const range read[] = {{"source->codes", source->codes, from.codes},
                        {"source->scales", source->scales, from.scales},
                        {"source->tensor_scale", source->tensor_scale, tensor_scale_bytes(*source)}};
  check_disjoint(written, read);
  check_place("source", *source, how);
  check_place("target", *target, how);
  if (on_device(how)) {
    cuda::slice(stored(*source), row_begin, k_begin, stored(*target), cuda_execution(how));
  } else {
    cpu::slice(stored(*source), row_begin, k_begin, stored(*target), how.threads);
  }
}

void check_device_linear(const floatx_weight& weight, floatx_type x_type, floatx_type y_type) {
  if (weight.layout != FLOATX_LAYOUT_CUDA) {
    invalid("weight->layout is %d: device memory takes FLOATX_LAYOUT_CUDA; floatx_repack makes it",
            static_cast<int>(weight.layout));
  }
  if (x_type == FLOATX_TYPE_F32 || y_type != x_type) {
    fail(FLOATX_STATUS_UNSUPPORTED,
         "x_type is %d and y_type is %d: on the device both are FLOATX_TYPE_F16 or both FLOATX_TYPE_BF16",
         static_cast<int>(x_type), static_cast<int>(y_type));
  }
}

std::string lower_case(const char* text) {
  std::string result;
  for (; *text && result.size() < 64; ++text)
    result += static_cast<char>(std::tolower(static_cast<unsigned char>(*text)));
  return result;
}

// Whether name spells the format: "e3m2", or as ml_dtypes does, "float6_e3m2fn" and "float8_e5m2".
bool spells(const std::string& name, const format_traits& traits) {
  if (name == traits.name) return true;
  const std::string stem = "float" + std::to_string(traits.bits) + "_" + traits.name;
  return name == stem || (traits.special_codes == specials::none && name == stem + "fn");
}

}  // namespace
}  // namespace floatx

using namespace floatx;

extern "C" {

int floatx_version(void) { return FLOATX_VERSION; }

#define FLOATX_TEXT_OF(value) #value
#define FLOATX_TEXT(value) FLOATX_TEXT_OF(value)
const char* floatx_version_string(void) {
  return FLOATX_TEXT(FLOATX_VERSION_MAJOR) "." FLOATX_TEXT(FLOATX_VERSION_MINOR) "." FLOATX_TEXT(
      FLOATX_VERSION_PATCH);
}

const char* floatx_status_string(floatx_status status) {
  switch (status) {
    case FLOATX_STATUS_OK:
      return "ok";
    case FLOATX_STATUS_INVALID_ARGUMENT:
      return "invalid argument";
    case FLOATX_STATUS_UNSUPPORTED:
      return "unsupported";
    case FLOATX_STATUS_INVALID_DATA:
      return "invalid data";
    case FLOATX_STATUS_OUT_OF_MEMORY:
      return "out of memory";
    case FLOATX_STATUS_CUDA_ERROR:
      return "CUDA error";
    case FLOATX_STATUS_INTERNAL:
      return "internal error";
    default:
      return "unknown status";
  }
}

const char* floatx_last_error(void) { return last_error(); }

size_t floatx_format_count(void) { return static_cast<size_t>(format_count); }

const floatx_format* floatx_format_list(void) {
#define FLOATX_ID(id, E, M, S, name) static_cast<floatx_format>(id),
  static const floatx_format list[] = {FLOATX_FORMATS(FLOATX_ID)};
#undef FLOATX_ID
  return list;
}

floatx_status floatx_format_parse(const char* name, floatx_format* format) {
  return guarded([&] {
    check_pointer("name", name);
    check_pointer("format", format);
    const std::string wanted = lower_case(name);
    for (const format_traits& traits : formats) {
      if (!spells(wanted, traits)) continue;
      *format = static_cast<floatx_format>(traits.id);
      return;
    }
    invalid("name is \"%.64s\": must be a format such as e3m2, e2m1 or e4m3fn", name);
  });
}

floatx_status floatx_format_describe(floatx_format format, floatx_format_info* info) {
  return guarded([&] {
    check_struct("info", info);
    const format_traits& traits = check_format("format", format);
    info->name = traits.name;
    info->bits = traits.bits;
    info->exponent_bits = traits.exponent_bits;
    info->mantissa_bits = traits.mantissa_bits;
    info->bias = traits.bias;
    info->max = traits.max;
    info->smallest_normal = traits.smallest_normal;
    info->smallest_subnormal = traits.smallest_subnormal;
    info->has_infinity = traits.special_codes == specials::ieee;
    info->has_nan = traits.special_codes != specials::none;
  });
}

floatx_status floatx_format_encode(floatx_format format, float value, uint8_t* code) {
  return guarded([&] {
    check_format("format", format);
    check_pointer("code", code);
    if (std::isnan(value)) fail(FLOATX_STATUS_INVALID_DATA, "value is NaN: no code stands for it");
    *code = visit_format(format, [&](auto f) { return encode<decltype(f)>(value); });
  });
}

floatx_status floatx_format_decode(floatx_format format, uint8_t code, float* value) {
  return guarded([&] {
    const format_traits& traits = check_format("format", format);
    check_pointer("value", value);
    if (code >> traits.bits)
      invalid("code is 0x%x: %s has %d bits", static_cast<unsigned>(code), traits.name, traits.bits);
    *value = visit_format(format, [&](auto f) { return decode<decltype(f)>(code); });
  });
}

floatx_status floatx_threads_create(int32_t count, floatx_parallel_for run, void* pool,
                                    floatx_threads** threads) {
  return guarded([&] {
    check_pointer("threads", threads);
    check_range("count", count, 0, 1024);
    *threads = cpu::threads_create(count, run, pool);
  });
}

void floatx_threads_destroy(floatx_threads* threads) { cpu::threads_destroy(threads); }

floatx_status floatx_layout_usable(floatx_layout layout) {
  return guarded([&] {
    switch (layout) {
      case FLOATX_LAYOUT_CPU:
        return;
      case FLOATX_LAYOUT_CANONICAL:
        fail(FLOATX_STATUS_UNSUPPORTED,
             "layout is canonical, which is for storage: floatx_repack it for a backend");
      case FLOATX_LAYOUT_CUDA:
        cuda::check_usable();
        return;
      default:
        invalid("layout is %d: must be one of FLOATX_LAYOUT_*", static_cast<int>(layout));
    }
  });
}

const char* floatx_cpu_isa(void) { return cpu::isa(); }

floatx_status floatx_weight_sizes(const floatx_weight* weight, floatx_sizes* sizes) {
  return guarded([&] {
    check_struct("sizes", sizes);
    const weight_sizes found = check_description(weight);
    sizes->codes_bytes = found.codes;
    sizes->scales_bytes = found.scales;
    sizes->alignment = found.codes_alignment;
    sizes->layout_version = found.version;
  });
}

floatx_status floatx_workspace_bytes(const floatx_weight* weight, floatx_operation operation,
                                     floatx_memory memory, int64_t m, floatx_type x_type, size_t* bytes) {
  return guarded([&] {
    check_pointer("bytes", bytes);
    check_description(weight);
    if (memory != FLOATX_MEMORY_HOST && memory != FLOATX_MEMORY_DEVICE)
      invalid("memory is %d: must be one of FLOATX_MEMORY_*", static_cast<int>(memory));
    type_bytes("x_type", x_type);
    switch (operation) {
      case FLOATX_OPERATION_PACK:
      case FLOATX_OPERATION_UNPACK:
      case FLOATX_OPERATION_REPACK:
        if (memory == FLOATX_MEMORY_DEVICE) cuda::check_usable();
        *bytes = 0;
        return;
      case FLOATX_OPERATION_LINEAR:
        check_range("m", m, 1, max_size);
        if (memory == FLOATX_MEMORY_DEVICE) {
          check_device_linear(*weight, x_type, x_type);
          *bytes = cuda::linear_workspace_bytes(shape_of(*weight), m, x_type);
          return;
        }
        *bytes = weight->layout == FLOATX_LAYOUT_CPU
                     ? cpu::linear_workspace_bytes(shape_of(*weight), m, x_type)
                     : 0;
        return;
      default:
        invalid("operation is %d: must be one of FLOATX_OPERATION_*", static_cast<int>(operation));
    }
  });
}

floatx_status floatx_pack(const floatx_weight* weight, floatx_type values_type, const void* values,
                          int64_t values_stride, const floatx_pack_options* options,
                          const floatx_execution* execution) {
  return guarded([&] {
    const floatx_execution& how = check_execution(execution);
    const weight_sizes sizes = check_weight(weight);
    const quantize_rules rules = check_options(options, weight->scale_type);
    const size_t element = type_bytes("values_type", values_type);
    const size_t bytes =
        check_matrix("values", "values_stride", values, weight->n, weight->k, values_stride, element);
    const range written[] = {{"weight->codes", weight->codes, sizes.codes},
                             {"weight->scales", weight->scales, sizes.scales},
                             {"weight->tensor_scale", weight->tensor_scale, tensor_scale_bytes(*weight)}};
    const range read[] = {{"values", values, bytes}};
    check_disjoint(written, read);
    check_place("weight", *weight, how);
    if (on_device(how)) {
      cuda::pack(stored(*weight), values_type, values, values_stride, rules, cuda_execution(how));
    } else {
      cpu::pack(stored(*weight), values_type, values, values_stride, rules, how.threads);
    }
  });
}

floatx_status floatx_unpack(const floatx_weight* weight, floatx_type values_type, void* values,
                            int64_t values_stride, const floatx_execution* execution) {
  return guarded([&] {
    const floatx_execution& how = check_execution(execution);
    const weight_sizes sizes = check_weight(weight);
    const size_t element = type_bytes("values_type", values_type);
    const size_t bytes =
        check_matrix("values", "values_stride", values, weight->n, weight->k, values_stride, element);
    const range written[] = {{"values", values, bytes}};
    const range read[] = {{"weight->codes", weight->codes, sizes.codes},
                          {"weight->scales", weight->scales, sizes.scales},
                          {"weight->tensor_scale", weight->tensor_scale, tensor_scale_bytes(*weight)}};
    check_disjoint(written, read);
    check_place("weight", *weight, how);
    if (on_device(how)) {
      cuda::unpack(stored(*weight), values_type, values, values_stride, cuda_execution(how));
    } else {
      cpu::unpack(stored(*weight), values_type, values, values_stride, how.threads);
    }
  });
}

floatx_status floatx_repack(const floatx_weight* source, const floatx_weight* target,
                            const floatx_execution* execution) {
  return guarded([&] {
    check_struct("source", source);
    check_struct("target", target);
    if (source->n != target->n)
      invalid("target->n is %lld: must be the source's %lld", wide(target->n), wide(source->n));
    if (source->k != target->k)
      invalid("target->k is %lld: must be the source's %lld", wide(target->k), wide(source->k));
    slice(source, 0, 0, target, execution);
  });
}

floatx_status floatx_slice(const floatx_weight* source, int64_t row_begin, int64_t k_begin,
                           const floatx_weight* target, const floatx_execution* execution) {
  return guarded([&] { slice(source, row_begin, k_begin, target, execution); });
}

floatx_status floatx_linear(const floatx_weight* weight, int64_t m, floatx_type x_type, const void* x,
                            int64_t x_stride, const void* bias, floatx_type y_type, void* y, int64_t y_stride,
                            const floatx_execution* execution) {
  return guarded([&] {
    const floatx_execution& how = check_execution(execution);
    const weight_sizes sizes = check_weight(weight);
    if (!on_device(how) && weight->layout != FLOATX_LAYOUT_CPU) {
      invalid("weight->layout is %d: host memory takes FLOATX_LAYOUT_CPU; floatx_repack makes it",
              static_cast<int>(weight->layout));
    }
    check_range("m", m, 1, max_size);
    const size_t x_element = type_bytes("x_type", x_type), y_element = type_bytes("y_type", y_type);
    const size_t x_bytes = check_matrix("x", "x_stride", x, m, weight->k, x_stride, x_element);
    const size_t y_bytes = check_matrix("y", "y_stride", y, m, weight->n, y_stride, y_element);
    if (bias) check_aligned("bias", bias, y_element);
    const range written[] = {{"y", y, y_bytes}, {"execution->workspace", how.workspace, how.workspace_bytes}};
    const range read[] = {{"x", x, x_bytes},
                          {"bias", bias, static_cast<size_t>(weight->n) * y_element},
                          {"weight->codes", weight->codes, sizes.codes},
                          {"weight->scales", weight->scales, sizes.scales},
                          {"weight->tensor_scale", weight->tensor_scale, tensor_scale_bytes(*weight)}};
    check_disjoint(written, read);
    if (on_device(how)) {
      check_device_linear(*weight, x_type, y_type);
      cuda::linear(shape_of(*weight), weight->codes, weight->scales, weight->tensor_scale, m, x_type, x,
                   x_stride, bias, y, y_stride, cuda_execution(how));
      return;
    }
    cpu::linear(shape_of(*weight), weight->codes, weight->scales,
                weight->tensor_scale ? *weight->tensor_scale : 1.0f, m, x_type, x, x_stride, bias, y_type, y,
                y_stride, how.threads, how.workspace, how.workspace_bytes);
  });
}

}  // extern "C"
