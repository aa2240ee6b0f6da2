// Packing, unpacking and slicing in device memory: byte by byte what the host makes.
//
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "floatx.h"
#include "floatx/codec.hpp"
#include "kernel/device_memory.hpp"
#include "support/catch.hpp"
#include "support/skip.hpp"

using namespace floatx;
using namespace floatx::test;

namespace {

constexpr floatx_scale_type all_scale_types[] = {FLOATX_SCALE_F32, FLOATX_SCALE_F16, FLOATX_SCALE_BF16,
                                                 FLOATX_SCALE_E8M0, FLOATX_SCALE_E4M3FN};
constexpr floatx_type all_types[] = {FLOATX_TYPE_F32, FLOATX_TYPE_F16, FLOATX_TYPE_BF16};
constexpr int64_t all_group_sizes[] = {0, 16, 32, 64, 128};
constexpr int64_t odd_sizes[] = {1, 15, 16, 17, 63, 64, 65, 127, 128, 129, 300};
constexpr floatx_layout device_layouts[] = {FLOATX_LAYOUT_CANONICAL, FLOATX_LAYOUT_CUDA};

size_t bytes_of(floatx_type type) { return type == FLOATX_TYPE_F32 ? 4 : 2; }

struct description {
  floatx_format format;
  floatx_scale_type scale_type;
  int64_t n, k, group_size;
};

std::string text_of(const description& d, floatx_layout layout, floatx_type type) {
  char text[160];
  std::snprintf(text, sizeof text, "%s scales %d n %d k %d group %d layout %d values %d",
                find_format(d.format)->name, static_cast<int>(d.scale_type), static_cast<int>(d.n),
                static_cast<int>(d.k), static_cast<int>(d.group_size), static_cast<int>(layout),
                static_cast<int>(type));
  return text;
}

bool holds(floatx_layout layout, floatx_format format) {
  return layout == FLOATX_LAYOUT_CANONICAL || find_format(format)->exponent_bits <= 5;
}

floatx_weight describe(const description& d, floatx_layout layout) {
  floatx_weight w = {};
  w.struct_size = sizeof w;
  w.format = d.format;
  w.layout = layout;
  w.n = d.n, w.k = d.k;
  w.group_size = d.group_size;
  w.scale_type = d.scale_type;
  return w;
}

floatx_sizes sizes_of(const floatx_weight& w) {
  floatx_sizes sizes = {};
  sizes.struct_size = sizeof sizes;
  REQUIRE(floatx_weight_sizes(&w, &sizes) == FLOATX_STATUS_OK);
  return sizes;
}

struct host_weight {
  floatx_weight weight;
  std::vector<uint8_t> codes, scales;
  float tensor_scale = 0;

  host_weight(const description& d, floatx_layout layout) : weight(describe(d, layout)) {
    const floatx_sizes sizes = sizes_of(weight);
    // The standard library's memory is aligned to 16 bytes, which is what the layouts here want.
    codes.resize(weight.codes_bytes = sizes.codes_bytes);
    scales.resize(weight.scales_bytes = sizes.scales_bytes);
    weight.codes = codes.data(), weight.scales = scales.data();
    if (d.scale_type == FLOATX_SCALE_E4M3FN) weight.tensor_scale = &tensor_scale;
  }
  host_weight(const host_weight&) = delete;
};

// Poisoned, between guards.
struct device_weight {
  floatx_weight weight;
  device_buffer codes, scales, tensor_scale;

  device_weight(const description& d, floatx_layout layout)
      : weight(describe(d, layout)),
        codes(sizes_of(weight).codes_bytes),
        scales(sizes_of(weight).scales_bytes),
        tensor_scale(sizeof(float)) {
    weight.codes = codes.data(), weight.codes_bytes = codes.size();
    weight.scales = scales.data(), weight.scales_bytes = scales.size();
    if (d.scale_type == FLOATX_SCALE_E4M3FN) {
      weight.tensor_scale = reinterpret_cast<float*>(tensor_scale.data());
    }
  }
  void upload(const host_weight& from) {
    codes.upload(from.codes.data());
    scales.upload(from.scales.data());
    if (weight.tensor_scale) tensor_scale.upload(&from.tensor_scale);
  }
  bool guards_intact() const {
    return codes.guards_intact() && scales.guards_intact() && tensor_scale.guards_intact();
  }
};

// The first byte that differs, or -1.
int64_t difference(const device_buffer& device, const void* host) {
  std::vector<uint8_t> found(device.size());
  device.download(found.data());
  const auto* wanted = static_cast<const uint8_t*>(host);
  for (size_t i = 0; i < found.size(); ++i) {
    if (found[i] != wanted[i]) return static_cast<int64_t>(i);
  }
  return -1;
}

void compare(const device_weight& device, const host_weight& host) {
  CHECK(device.guards_intact());
  CHECK(difference(device.scales, host.scales.data()) == -1);
  if (host.weight.tensor_scale) CHECK(difference(device.tensor_scale, &host.tensor_scale) == -1);
  CHECK(difference(device.codes, host.codes.data()) == -1);
}

struct report_buffer {
  device_buffer memory{sizeof(floatx_report)};

  floatx_report* get() const { return reinterpret_cast<floatx_report*>(memory.data()); }
  floatx_report read() const {
    CHECK(memory.guards_intact());
    floatx_report report;
    memory.download(&report);
    return report;
  }
};

floatx_execution on_device(floatx_report* report = nullptr, cudaStream_t stream = nullptr) {
  floatx_execution how = {};
  how.struct_size = sizeof how;
  how.memory = FLOATX_MEMORY_DEVICE;
  how.stream = stream;
  how.report = report;
  return how;
}

void require_ok(floatx_status status) {
  INFO(floatx_last_error());
  REQUIRE(status == FLOATX_STATUS_OK);
}

void check_is_ok(const floatx_report& report) {
  CHECK(report.status == FLOATX_STATUS_OK);
  CHECK(report.row == -1);
  CHECK(report.column == -1);
}

// ---- Values ------------------------------------------------------------------------------------------

void store(floatx_type type, void* data, int64_t index, float value) {
  if (type == FLOATX_TYPE_F32) {
    std::memcpy(static_cast<char*>(data) + 4 * index, &value, 4);
  } else {
    const uint16_t bits = type == FLOATX_TYPE_F16 ? f32_to_f16(value) : f32_to_bf16(value);
    std::memcpy(static_cast<char*>(data) + 2 * index, &bits, 2);
  }
}

// The largest number of the type.
float largest(floatx_type type) {
  return type == FLOATX_TYPE_F16 ? 65504.0f : type == FLOATX_TYPE_BF16 ? 0x1.fep127f : 0x1.fffffep127f;
}

// [n][stride], NaN between the rows. Rows differ in kind: ordinary, zeros of both signs, midpoints between
// codes, one value throughout, and unless `tame` the smallest and largest numbers and all magnitudes mixed.
struct dense_values {
  floatx_type type;
  int64_t n, k, stride, shift;
  std::vector<uint8_t> data;  // the first `shift` elements are not used, so that rows are not aligned

  dense_values(floatx_type type_, const description& d, int64_t stride_, int64_t shift_, bool tame,
               uint32_t seed)
      : type(type_), n(d.n), k(d.k), stride(stride_), shift(shift_) {
    data.resize(static_cast<size_t>(shift + n * stride) * bytes_of(type));
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    std::uniform_real_distribution<float> uniform(-1, 1);
    const format_traits& format = *find_format(d.format);
    // What F16 scales hold, of E6M0 too.
    const float unit = !tame ? 1.0f : format.max > 1e6f ? 1e6f : format.max > 1e3f ? 1e3f : 1.0f;
    for (int64_t i = 0; i < shift + n * stride; ++i) store(type, data.data(), i, std::nanf(""));
    for (int64_t row = 0; row < n; ++row) {
      const auto kind = (row + seed) % (tame ? 5 : 8);
      for (int64_t i = 0; i < k; ++i) {
        float value = 0;
        switch (kind) {
          case 0:
            value = unit * (0.02f * normal(random) + 0.001f);
            break;
          case 1:
            value = i % 3 ? 0.0f : -0.0f;
            break;
          case 2:  // multiples of half a step, and max, so that the scale is a power of two
            value = i % 16 == 0 ? format.max * 0.125f
                                : static_cast<float>(static_cast<int>(random() % 512) - 256) * 0.0625f *
                                      format.smallest_subnormal;
            break;
          case 3:
            value = unit * 0.37f;
            break;
          case 4:
            value = unit * (i % 50 == 7 ? 30.0f * uniform(random) : 0.01f * normal(random));
            break;
          case 5:
            value = uniform(random) * (type == FLOATX_TYPE_F16 ? 0x1p-20f : 0x1p-120f);
            break;
          case 6:
            value = uniform(random) * largest(type);
            break;
          default:
            value = std::ldexp(uniform(random), static_cast<int>(random() % 250) - 149);
            break;
        }
        if (!(std::fabs(value) <= largest(type))) value = largest(type);
        set(row, i, value);
      }
    }
  }
  void set(int64_t row, int64_t column, float value) {
    store(type, data.data(), shift + row * stride + column, value);
  }
  const void* first() const { return data.data() + static_cast<size_t>(shift) * bytes_of(type); }
};

// Values in device memory as they lie on the host.
struct device_values {
  device_buffer memory;
  const dense_values& values;

  explicit device_values(const dense_values& from)
      : memory(from.data.data(), from.data.size()), values(from) {}
  void* first() const { return memory.data() + static_cast<size_t>(values.shift) * bytes_of(values.type); }
};

floatx_pack_options options_of(floatx_scale_rule scale_rule, floatx_exponent_rule exponent_rule) {
  return {sizeof(floatx_pack_options), scale_rule, exponent_rule};
}

// Packs on both sides and compares.
void check_pack(const description& d, floatx_layout layout, const dense_values& values,
                const floatx_pack_options& options, bool with_report) {
  INFO(text_of(d, layout, values.type) << " stride " << values.stride << " shift " << values.shift
                                       << " rules " << options.scale_rule << options.exponent_rule);
  host_weight host(d, layout);
  require_ok(floatx_pack(&host.weight, values.type, values.first(), values.stride, &options, nullptr));
  device_weight device(d, layout);
  const device_values on_gpu(values);
  const report_buffer report;
  const floatx_execution how = on_device(with_report ? report.get() : nullptr);
  require_ok(floatx_pack(&device.weight, values.type, on_gpu.first(), values.stride, &options, &how));
  compare(device, host);
  CHECK(on_gpu.memory.guards_intact());
  if (with_report) check_is_ok(report.read());
}

// A weight in host memory of random codes and scales, all of them finite unless `any_code`.
void fill(host_weight& w, bool any_code, uint32_t seed) {
  std::mt19937 random(seed);
  const floatx_format format = w.weight.format;
  const int bits = find_format(format)->bits;
  const int64_t row_bytes = (w.weight.k * bits + 7) / 8;
  std::vector<uint8_t> codes(static_cast<size_t>(w.weight.k));
  for (int64_t row = 0; row < w.weight.n; ++row) {
    for (uint8_t& code : codes) {
      bool special;
      do {
        code = static_cast<uint8_t>(random() & ((1u << bits) - 1));
        special = visit_format(format, [&](auto f) { return is_special<decltype(f)>(code); });
      } while (special && !any_code);
    }
    uint8_t* to = w.codes.data() + row * row_bytes;
    std::memset(to, 0, static_cast<size_t>(row_bytes));
    for (int64_t i = 0; i < w.weight.k * bits; ++i) {
      to[i / 8] |=
          static_cast<uint8_t>(((codes[static_cast<size_t>(i / bits)] >> (i % bits)) & 1) << (i % 8));
    }
  }
  const size_t size = w.weight.scale_type == FLOATX_SCALE_F32    ? 4
                      : w.weight.scale_type <= FLOATX_SCALE_BF16 ? 2
                                                                 : 1;
  for (size_t i = 0; i * size < w.scales.size(); ++i) {
    const float scale = std::exp2(static_cast<float>(static_cast<int>(random() % 24) - 14)) * 1.37f;
    switch (w.weight.scale_type) {
      case FLOATX_SCALE_F32:
        store(FLOATX_TYPE_F32, w.scales.data(), static_cast<int64_t>(i), scale);
        break;
      case FLOATX_SCALE_F16:
        store(FLOATX_TYPE_F16, w.scales.data(), static_cast<int64_t>(i), scale);
        break;
      case FLOATX_SCALE_BF16:
        store(FLOATX_TYPE_BF16, w.scales.data(), static_cast<int64_t>(i), scale);
        break;
      case FLOATX_SCALE_E8M0:
        w.scales[i] = static_cast<uint8_t>(random() % 255);
        break;
      default:
        w.scales[i] = static_cast<uint8_t>(random() % 0x7f);
        break;
    }
  }
  w.tensor_scale = 0.0123f;
}

// "row 3, column 5: ..." of the host's message.
bool place_in_message(long long& row, long long& column) {
  return std::sscanf(floatx_last_error(), "row %lld, column %lld:", &row, &column) == 2;
}

}  // namespace

#define NEEDS_GPU \
  if (!has_gpu()) return skip("no GPU")

TEST_CASE("packing: every format, scale type, rule, type of values and layout") {
  // Risk: arithmetic or an arrangement that differs from the host's in one of them.
  NEEDS_GPU;
  uint32_t count = 0;
  for (const format_traits& format : formats) {
    const auto id = static_cast<floatx_format>(format.id);
    for (const floatx_scale_type scale : all_scale_types) {
      for (const int rule : {0, 1}) {
        const floatx_pack_options options =
            scale == FLOATX_SCALE_E8M0
                ? options_of(FLOATX_SCALE_RULE_STORED,
                             rule ? FLOATX_EXPONENT_RULE_CEIL : FLOATX_EXPONENT_RULE_FLOOR)
                : options_of(rule ? FLOATX_SCALE_RULE_UNROUNDED : FLOATX_SCALE_RULE_STORED,
                             FLOATX_EXPONENT_RULE_FLOOR);
        for (const floatx_type type : all_types) {
          for (const int64_t group : {int64_t{0}, all_group_sizes[1 + count % 4]}) {
            const description d = {id, scale, 21, 300, group};
            // F16 scales of the extremes are refused.
            const dense_values values(type, d, 304, 0, scale == FLOATX_SCALE_F16, count);
            for (const floatx_layout layout : device_layouts) {
              if (holds(layout, id)) check_pack(d, layout, values, options, count % 2 == 0);
            }
            ++count;
          }
        }
      }
    }
  }
}

TEST_CASE("packing: every odd n and k, any leading dimension and alignment") {
  // Risk: something read or written beyond an edge; padding that is not zero.
  NEEDS_GPU;
  uint32_t count = 0;
  for (const int64_t n : odd_sizes) {
    for (const int64_t k : odd_sizes) {
      for (const floatx_type type : all_types) {
        const format_traits& format = formats[count % format_count];
        const auto id = static_cast<floatx_format>(format.id);
        const description d = {id, all_scale_types[count % 5], n, k, all_group_sizes[count / 3 % 5]};
        // In turn: aligned rows, aligned rows of odd length apart, no alignment.
        const int64_t stride = count % 3 == 2 ? k + 3 : (k + 7) / 8 * 8 + count % 2 * 8;
        const dense_values values(type, d, stride, count % 3 == 2 ? 1 : 0, d.scale_type == FLOATX_SCALE_F16,
                                  count);
        for (const floatx_layout layout : device_layouts) {
          if (holds(layout, id)) check_pack(d, layout, values, options_of({}, {}), count % 4 == 0);
        }
        ++count;
      }
    }
  }
}

TEST_CASE("packing: rows from one thread block's share to more than a cluster holds") {
  // Risk: a largest value that misses the share of another thread block, or a part that is read again
  // wrongly.
  NEEDS_GPU;
  uint32_t count = 0;
  for (const int64_t k : {1024, 1025, 2048, 2049, 4096, 5000, 8192, 11008, 16384, 16500, 40000}) {
    for (const floatx_type type : all_types) {
      for (const int64_t group : {0, 32}) {
        const description d = {count % 2 ? FLOATX_FORMAT_E3M2 : FLOATX_FORMAT_E2M3,
                               all_scale_types[count % 5], 35, k, group};
        const dense_values values(type, d, k + (count % 3 == 2 ? 1 : 8), 0, d.scale_type == FLOATX_SCALE_F16,
                                  count);
        for (const floatx_layout layout : device_layouts) {
          check_pack(d, layout, values, options_of({}, {}), count % 2 == 0);
        }
        ++count;
      }
    }
  }
}

TEST_CASE("packing: an outlier in any column decides its row") {
  // Risk: a lane, a step or a thread block whose values do not count.
  NEEDS_GPU;
  const int64_t k = 4100;
  for (const floatx_type type : all_types) {
    const description d = {FLOATX_FORMAT_E3M2, FLOATX_SCALE_F32, 512, k, 0};
    dense_values values(type, d, k + 4, 0, true, 3);
    for (int64_t row = 0; row < d.n; ++row) values.set(row, row * 8 + row % 9, row % 2 ? 123.0f : -123.0f);
    check_pack(d, FLOATX_LAYOUT_CUDA, values, options_of({}, {}), false);
  }
}

TEST_CASE("bad values are reported as the host reports them") {
  // Risk: an offence missed, the wrong one named, or one named where there is none.
  NEEDS_GPU;
  struct bad {
    int64_t row, column;
    float value;
  };
  const float nan = std::nanf(""), inf = std::numeric_limits<float>::infinity();
  const std::vector<std::vector<bad>> cases = {
      {{0, 0, nan}},
      {{36, 2999, inf}},
      {{20, 100, -inf}, {20, 99, nan}, {21, 0, nan}, {19, 2500, inf}},
      {{3, 2999, nan}, {5, 0, nan}},
      {{17, 640, 60000.0f}, {17, 641, nan}},
  };
  for (const floatx_type type : all_types) {
    for (const int64_t group : {0, 16, 128}) {
      for (const floatx_scale_type scale : all_scale_types) {
        for (const floatx_layout layout : device_layouts) {
          const description d = {FLOATX_FORMAT_E3M2, scale, 37, 3000, group};
          const dense_values good(type, d, 3000, 0, true, 8);
          for (const auto& offences : cases) {
            dense_values values = good;
            for (const bad& b : offences) values.set(b.row, b.column, b.value);
            INFO(text_of(d, layout, type));
            host_weight host(d, layout);
            const floatx_status status =
                floatx_pack(&host.weight, type, values.first(), values.stride, nullptr, nullptr);
            long long row = -1, column = -1;
            REQUIRE(status == FLOATX_STATUS_INVALID_DATA);
            REQUIRE(place_in_message(row, column));
            device_weight device(d, layout);
            const device_values on_gpu(values);
            const report_buffer report;
            const floatx_execution how = on_device(report.get());
            require_ok(floatx_pack(&device.weight, type, on_gpu.first(), values.stride, nullptr, &how));
            const floatx_report found = report.read();
            CHECK(found.status == FLOATX_STATUS_INVALID_DATA);
            CHECK(found.row == row);
            CHECK(found.column == column);
            CHECK(device.guards_intact());
          }
        }
      }
    }
  }
}

TEST_CASE("scales that F16 cannot hold are reported") {
  // Risk: Inf or 0 stored for a group that is neither; a NaN of the same row named after it.
  NEEDS_GPU;
  for (const float extreme : {1e-9f, 1e9f}) {
    for (const int64_t group : {0, 32}) {
      for (const bool with_nan : {false, true}) {
        const description d = {FLOATX_FORMAT_E3M2, FLOATX_SCALE_F16, 40, 300, group};
        dense_values values(FLOATX_TYPE_F32, d, 300, 0, true,
                            5);  // row 21 is of zeros
        for (int64_t i = 96; i < 300; ++i) values.set(21, i, extreme);
        if (group == 0) {
          for (int64_t i = 0; i < 96; ++i) values.set(21, i, extreme);
        }
        if (with_nan) values.set(21, 299, std::nanf(""));
        host_weight host(d, FLOATX_LAYOUT_CUDA);
        REQUIRE(floatx_pack(&host.weight, FLOATX_TYPE_F32, values.first(), 300, nullptr, nullptr) ==
                FLOATX_STATUS_INVALID_DATA);
        long long row = -1, column = -1;
        REQUIRE(place_in_message(row, column));
        CHECK(row == 21);
        device_weight device(d, FLOATX_LAYOUT_CUDA);
        const device_values on_gpu(values);
        void* pinned = nullptr;
        cuda_check(cudaHostAlloc(&pinned, sizeof(floatx_report), cudaHostAllocDefault));
        auto* report = static_cast<floatx_report*>(pinned);
        const floatx_execution how = on_device(report);
        require_ok(floatx_pack(&device.weight, FLOATX_TYPE_F32, on_gpu.first(), 300, nullptr, &how));
        cuda_check(cudaDeviceSynchronize());
        CHECK(report->status == FLOATX_STATUS_INVALID_DATA);
        CHECK(report->row == row);
        CHECK(report->column == column);
        cuda_check(cudaFreeHost(pinned));
      }
    }
  }
}

TEST_CASE("unpacking: every code of every format, every scale type and type of values") {
  // Risk: a value, a NaN or a rounding that differs from the host's; something written between the rows.
  NEEDS_GPU;
  uint32_t count = 0;
  for (const format_traits& format : formats) {
    const auto id = static_cast<floatx_format>(format.id);
    for (const floatx_scale_type scale : all_scale_types) {
      for (const floatx_type type : all_types) {
        const int64_t n = odd_sizes[count % 11], k = odd_sizes[(count / 11 + count) % 11];
        const description d = {id, scale, n, k, all_group_sizes[count % 5]};
        INFO(text_of(d, FLOATX_LAYOUT_CANONICAL, type));
        host_weight canonical(d, FLOATX_LAYOUT_CANONICAL);
        fill(canonical, true, count);
        const int64_t stride = count % 2 ? k + 5 : (k + 3) / 4 * 4;
        std::vector<uint8_t> wanted(static_cast<size_t>(n * stride) * bytes_of(type), device_buffer::poison);
        require_ok(floatx_unpack(&canonical.weight, type, wanted.data(), stride, nullptr));
        device_weight device(d, FLOATX_LAYOUT_CANONICAL);
        device.upload(canonical);
        device_buffer values(wanted.size());
        const report_buffer report;
        const floatx_execution how = on_device(count % 2 ? report.get() : nullptr);
        require_ok(floatx_unpack(&device.weight, type, values.data(), stride, &how));
        CHECK(values.guards_intact());
        CHECK(difference(values, wanted.data()) == -1);
        if (how.report) check_is_ok(report.read());
        if (holds(FLOATX_LAYOUT_CUDA, id)) {
          // Through the other layout; the host has it only of finite codes.
          fill(canonical, false, count);
          std::fill(wanted.begin(), wanted.end(), device_buffer::poison);
          require_ok(floatx_unpack(&canonical.weight, type, wanted.data(), stride, nullptr));
          host_weight packed(d, FLOATX_LAYOUT_CUDA);
          require_ok(floatx_repack(&canonical.weight, &packed.weight, nullptr));
          device_weight on_gpu(d, FLOATX_LAYOUT_CUDA);
          on_gpu.upload(packed);
          values.fill(device_buffer::poison);
          require_ok(floatx_unpack(&on_gpu.weight, type, values.data(), stride, &how));
          CHECK(values.guards_intact());
          CHECK(difference(values, wanted.data()) == -1);
        }
        ++count;
      }
    }
  }
}

TEST_CASE("repacking: every format and odd shape, in all directions") {
  // Risk: a code or a scale that lands elsewhere, padding that is not zero.
  NEEDS_GPU;
  uint32_t count = 0;
  for (const int64_t n : odd_sizes) {
    for (const int64_t k : odd_sizes) {
      for (int turn = 0; turn < 2; ++turn, ++count) {
        const auto id = static_cast<floatx_format>(formats[count % format_count].id);
        const description d = {id, all_scale_types[count % 5], n, k, all_group_sizes[count / 2 % 5]};
        INFO(text_of(d, FLOATX_LAYOUT_CANONICAL, {}));
        host_weight canonical(d, FLOATX_LAYOUT_CANONICAL);
        fill(canonical, false, count);
        device_weight source(d, FLOATX_LAYOUT_CANONICAL);
        source.upload(canonical);
        const report_buffer report;
        const floatx_execution how = on_device(report.get());
        if (!holds(FLOATX_LAYOUT_CUDA, id)) {
          device_weight copy(d, FLOATX_LAYOUT_CANONICAL);
          require_ok(floatx_repack(&source.weight, &copy.weight, &how));
          compare(copy, canonical);
          continue;
        }
        host_weight packed(d, FLOATX_LAYOUT_CUDA);
        require_ok(floatx_repack(&canonical.weight, &packed.weight, nullptr));
        device_weight there(d, FLOATX_LAYOUT_CUDA), again(d, FLOATX_LAYOUT_CUDA),
            back(d, FLOATX_LAYOUT_CANONICAL);
        require_ok(floatx_repack(&source.weight, &there.weight, &how));
        check_is_ok(report.read());
        compare(there, packed);
        require_ok(floatx_repack(&there.weight, &again.weight, &how));
        compare(again, packed);
        require_ok(floatx_repack(&again.weight, &back.weight, &how));
        compare(back, canonical);
      }
    }
  }
}

TEST_CASE("slices by rows and by k") {
  // Risk: a window that begins inside a unit; a window's last group.
  NEEDS_GPU;
  struct window {
    int64_t row_begin, rows, k_begin, columns;  // columns 0: to the end
  };
  const window windows[] = {{0, 200, 0, 0},   {64, 64, 0, 0},   {16, 33, 128, 256}, {5, 100, 0, 0},
                            {1, 1, 256, 128}, {0, 200, 384, 0}, {77, 123, 128, 0},  {199, 1, 0, 128}};
  uint32_t count = 0;
  for (const format_traits& format : formats) {
    const auto id = static_cast<floatx_format>(format.id);
    for (const int64_t group : all_group_sizes) {
      const description whole = {id, all_scale_types[count % 5], 200, 430, group};
      host_weight canonical(whole, FLOATX_LAYOUT_CANONICAL);
      fill(canonical, false, count);
      for (const floatx_layout from : device_layouts) {
        if (!holds(from, id)) continue;
        host_weight source(whole, from);
        require_ok(floatx_repack(&canonical.weight, &source.weight, nullptr));
        device_weight device(whole, from);
        device.upload(source);
        for (window w : windows) {
          const int64_t k_begin = w.k_begin;
          // Within a unit where the groups allow it: anywhere without groups.
          if (count % 2 && w.k_begin > 0) w.k_begin += group == 0 ? 3 : group < 128 ? group : 0;
          if (w.k_begin >= whole.k) w.k_begin = k_begin;
          if (w.columns == 0 || w.k_begin + w.columns > whole.k) w.columns = whole.k - w.k_begin;
          if (group == 0 && w.columns > 40) w.columns -= 37;
          for (const floatx_layout to : device_layouts) {
            if (!holds(to, id)) continue;
            const description part = {id, whole.scale_type, w.rows, w.columns, group};
            INFO(text_of(part, to, {})
                 << " from layout " << from << " row " << w.row_begin << " k " << w.k_begin);
            host_weight wanted(part, to);
            require_ok(floatx_slice(&source.weight, w.row_begin, w.k_begin, &wanted.weight, nullptr));
            device_weight found(part, to);
            const report_buffer report;
            const floatx_execution how = on_device(count % 2 ? report.get() : nullptr);
            require_ok(floatx_slice(&device.weight, w.row_begin, w.k_begin, &found.weight, &how));
            compare(found, wanted);
            if (how.report) check_is_ok(report.read());
            ++count;
          }
        }
      }
    }
  }
}

TEST_CASE("bad codes and scales of canonical weights are reported as the host reports them") {
  // Risk: a checkpoint's NaN that the linear layer would multiply.
  NEEDS_GPU;
  const auto check_refused = [](host_weight& source, const description& d, int64_t row_begin, int64_t rows) {
    const description part = {d.format, d.scale_type, rows, d.k, d.group_size};
    host_weight host_target(part, FLOATX_LAYOUT_CUDA);
    REQUIRE(floatx_slice(&source.weight, row_begin, 0, &host_target.weight, nullptr) ==
            FLOATX_STATUS_INVALID_DATA);
    long long row = -1, column = -1;
    place_in_message(row, column);  // not for the tensor scale, which has no place
    device_weight device(d, FLOATX_LAYOUT_CANONICAL), target(part, FLOATX_LAYOUT_CUDA);
    device.upload(source);
    const report_buffer report;
    floatx_execution how = on_device(report.get());
    require_ok(floatx_slice(&device.weight, row_begin, 0, &target.weight, &how));
    const floatx_report found = report.read();
    CHECK(found.status == FLOATX_STATUS_INVALID_DATA);
    CHECK(found.row == row);
    CHECK(found.column == column);
    CHECK(target.guards_intact());
    how.report = nullptr;  // nobody asks
    require_ok(floatx_slice(&device.weight, row_begin, 0, &target.weight, &how));
    cuda_check(cudaDeviceSynchronize());
  };
  for (const floatx_format format : {FLOATX_FORMAT_E4M3FN, FLOATX_FORMAT_E5M2}) {
    for (const int64_t group : {0, 32}) {
      const description d = {format, FLOATX_SCALE_F32, 100, 300, group};
      host_weight source(d, FLOATX_LAYOUT_CANONICAL);
      fill(source, false, 9);
      source.codes[70 * 300 + 299] = 0xff;
      check_refused(source, d, 0, 100);
      check_refused(source, d, 30, 60);
      source.codes[70 * 300 + 131] = 0x7f;
      check_refused(source, d, 65, 20);
      const float nan = std::nanf("");
      const int64_t groups = group == 0 ? 1 : 10;
      std::memcpy(&source.scales[static_cast<size_t>(70 * groups + groups / 2) * 4], &nan, 4);
      check_refused(source, d, 0, 100);
      std::memcpy(&source.scales[static_cast<size_t>(69 * groups + groups - 1) * 4], &nan, 4);
      check_refused(source, d, 0, 100);
    }
  }
  for (const floatx_scale_type scale :
       {FLOATX_SCALE_F16, FLOATX_SCALE_BF16, FLOATX_SCALE_E8M0, FLOATX_SCALE_E4M3FN}) {
    const description d = {FLOATX_FORMAT_E2M1, scale, 80, 200, 16};
    host_weight source(d, FLOATX_LAYOUT_CANONICAL);
    fill(source, false, 10);
    const size_t index = 40 * 13 + 12;
    if (scale <= FLOATX_SCALE_BF16) {
      store(scale == FLOATX_SCALE_F16 ? FLOATX_TYPE_F16 : FLOATX_TYPE_BF16, source.scales.data(),
            static_cast<int64_t>(index), std::numeric_limits<float>::infinity());
    } else {
      source.scales[index] = 0xff;
    }
    check_refused(source, d, 0, 80);
    if (scale != FLOATX_SCALE_E4M3FN) continue;
    source.tensor_scale = std::numeric_limits<float>::infinity();
    check_refused(source, d, 0, 80);
  }
}

TEST_CASE("a graph packs whatever its values are when it is launched") {
  // Risk: something done at capture instead of at launch; a report or a tensor scale that keeps its last
  // value.
  NEEDS_GPU;
  cudaStream_t stream;
  cuda_check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  for (const int64_t group : {0, 16}) {
    const description d = {FLOATX_FORMAT_E2M1, FLOATX_SCALE_E4M3FN, 70, 5000, group};
    dense_values values(FLOATX_TYPE_F16, d, 5000, 0, true, 1);
    device_values on_gpu(values);
    device_weight first(d, FLOATX_LAYOUT_CUDA), second(d, FLOATX_LAYOUT_CANONICAL);
    device_buffer unpacked(static_cast<size_t>(d.n * d.k) * 2);
    const report_buffer report;
    const floatx_execution how = on_device(report.get(), stream);
    const auto work = [&] {
      require_ok(floatx_pack(&first.weight, FLOATX_TYPE_F16, on_gpu.first(), 5000, nullptr, &how));
      const floatx_execution plain = on_device(nullptr, stream);
      require_ok(floatx_repack(&first.weight, &second.weight, &plain));
      require_ok(floatx_unpack(&second.weight, FLOATX_TYPE_F16, unpacked.data(), d.k, &plain));
    };
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    cuda_check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    work();
    cuda_check(cudaStreamEndCapture(stream, &graph));
    cuda_check(cudaGraphInstantiate(&executable, graph, 0));
    for (uint32_t round = 0; round < 4; ++round) {
      dense_values next(FLOATX_TYPE_F16, d, 5000, 0, true, round);
      if (round == 1) next.set(5, 6, std::nanf(""));
      on_gpu.memory.upload(next.data.data());
      cuda_check(cudaDeviceSynchronize());  // the stream does not wait for the default one
      cuda_check(cudaGraphLaunch(executable, stream));
      cuda_check(cudaStreamSynchronize(stream));
      const floatx_report found = report.read();
      if (round == 1) {
        CHECK(found.status == FLOATX_STATUS_INVALID_DATA);
        CHECK(found.row == 5);
        CHECK(found.column == 6);
        continue;
      }
      check_is_ok(found);
      host_weight host(d, FLOATX_LAYOUT_CUDA), canonical(d, FLOATX_LAYOUT_CANONICAL);
      require_ok(floatx_pack(&host.weight, FLOATX_TYPE_F16, next.first(), 5000, nullptr, nullptr));
      require_ok(floatx_repack(&host.weight, &canonical.weight, nullptr));
      std::vector<uint16_t> dense(static_cast<size_t>(d.n * d.k));
      require_ok(floatx_unpack(&host.weight, FLOATX_TYPE_F16, dense.data(), d.k, nullptr));
      compare(first, host);
      compare(second, canonical);
      CHECK(difference(unpacked, dense.data()) == -1);
    }
    cuda_check(cudaGraphExecDestroy(executable));
    cuda_check(cudaGraphDestroy(graph));
  }
  cuda_check(cudaStreamDestroy(stream));
}

TEST_CASE("what device memory refuses") {
  // Risk: the CPU's layout read by a GPU; a report that nothing can be written to.
  NEEDS_GPU;
  const description d = {FLOATX_FORMAT_E3M2, FLOATX_SCALE_F32, 16, 128, 0};
  device_buffer values(16 * 128 * 4), memory(1 << 16);
  floatx_weight w = describe(d, FLOATX_LAYOUT_CPU);
  w.codes = memory.data(), w.codes_bytes = 1 << 15;
  w.scales = memory.data() + (1 << 15), w.scales_bytes = 1 << 15;
  floatx_execution how = on_device();
  CHECK(floatx_pack(&w, FLOATX_TYPE_F32, values.data(), 128, nullptr, &how) ==
        FLOATX_STATUS_INVALID_ARGUMENT);
  device_weight target(d, FLOATX_LAYOUT_CUDA);
  const report_buffer report;
  how.report = reinterpret_cast<floatx_report*>(reinterpret_cast<char*>(report.get()) + 4);
  CHECK(floatx_pack(&target.weight, FLOATX_TYPE_F32, values.data(), 128, nullptr, &how) ==
        FLOATX_STATUS_INVALID_ARGUMENT);
}

// Not part of the tests: pack_cuda "[.speed]" prints what the operations take on this GPU. Medians of replays
// of a graph of 8 launches, each on buffers of its own, so that nothing is found in the cache.
TEST_CASE("speed", "[.speed]") {
  NEEDS_GPU;
  cudaStream_t stream;
  cuda_check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  const auto measure = [&](const char* name, double bytes, const std::function<void(int)>& work) {
    constexpr int launches = 8;
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    cuda_check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    for (int i = 0; i < launches; ++i) work(i % 4);
    cuda_check(cudaStreamEndCapture(stream, &graph));
    cuda_check(cudaGraphInstantiate(&executable, graph, 0));
    cudaEvent_t begin, end;
    cuda_check(cudaEventCreate(&begin));
    cuda_check(cudaEventCreate(&end));
    std::vector<float> times;
    for (int replay = 0; replay < 23; ++replay) {
      cuda_check(cudaEventRecord(begin, stream));
      cuda_check(cudaGraphLaunch(executable, stream));
      cuda_check(cudaEventRecord(end, stream));
      cuda_check(cudaEventSynchronize(end));
      float ms;
      cuda_check(cudaEventElapsedTime(&ms, begin, end));
      if (replay > 2) times.push_back(ms * 1000 / launches);
    }
    std::sort(times.begin(), times.end());
    const double us = times[times.size() / 2];
    std::printf("%-58s %8.1f us  %7.1f MB  %5.2f TB/s\n", name, us, bytes / 1e6, bytes / us / 1e6);
    cuda_check(cudaEventDestroy(begin));
    cuda_check(cudaEventDestroy(end));
    cuda_check(cudaGraphExecDestroy(executable));
    cuda_check(cudaGraphDestroy(graph));
  };
  struct shape {
    int64_t n, k;
  };
  for (const shape s : {shape{8192, 8192}, shape{4096, 14336}, shape{8192, 28672}}) {
    const size_t count = static_cast<size_t>(s.n * s.k);
    std::vector<std::unique_ptr<device_buffer>> values, outputs;
    std::vector<uint16_t> dense(count);
    uint32_t state = 1;
    for (uint16_t& value : dense) {  // FP16 and BF16 alike: small numbers of both signs
      state = state * 1664525u + 1013904223u;
      value = static_cast<uint16_t>((state >> 16 & 0x83ffu) | 0x2800u | (state >> 8 & 0x0c00u));
    }
    for (int i = 0; i < 4; ++i) {
      values.push_back(std::make_unique<device_buffer>(dense.data(), count * 2));
      outputs.push_back(std::make_unique<device_buffer>(count * 2));
    }
    std::printf("n %d k %d\n", static_cast<int>(s.n), static_cast<int>(s.k));
    measure("copy", static_cast<double>(count) * 4, [&](int i) {
      cuda_check(cudaMemcpyAsync(outputs[static_cast<size_t>(i)]->data(),
                                 values[static_cast<size_t>(i)]->data(), count * 2, cudaMemcpyDeviceToDevice,
                                 stream));
    });
    struct variant {
      const char* name;
      floatx_format format;
      floatx_scale_type scale;
      int64_t group;
      floatx_type type;
      floatx_layout layout;
    };
    const variant variants[] = {
        {"pack f16 e3m2 row f32 cuda", FLOATX_FORMAT_E3M2, FLOATX_SCALE_F32, 0, FLOATX_TYPE_F16,
         FLOATX_LAYOUT_CUDA},
        {"pack bf16 e3m2 row f32 cuda", FLOATX_FORMAT_E3M2, FLOATX_SCALE_F32, 0, FLOATX_TYPE_BF16,
         FLOATX_LAYOUT_CUDA},
        {"pack f32 e3m2 row f32 cuda", FLOATX_FORMAT_E3M2, FLOATX_SCALE_F32, 0, FLOATX_TYPE_F32,
         FLOATX_LAYOUT_CUDA},
        {"pack f16 e2m1 row f16 cuda", FLOATX_FORMAT_E2M1, FLOATX_SCALE_F16, 0, FLOATX_TYPE_F16,
         FLOATX_LAYOUT_CUDA},
        {"pack f16 e4m3fn row f32 cuda", FLOATX_FORMAT_E4M3FN, FLOATX_SCALE_F32, 0, FLOATX_TYPE_F16,
         FLOATX_LAYOUT_CUDA},
        {"pack f16 e3m2 128 f16 cuda", FLOATX_FORMAT_E3M2, FLOATX_SCALE_F16, 128, FLOATX_TYPE_F16,
         FLOATX_LAYOUT_CUDA},
        {"pack bf16 mxfp4 cuda", FLOATX_FORMAT_E2M1, FLOATX_SCALE_E8M0, 32, FLOATX_TYPE_BF16,
         FLOATX_LAYOUT_CUDA},
        {"pack bf16 nvfp4 cuda", FLOATX_FORMAT_E2M1, FLOATX_SCALE_E4M3FN, 16, FLOATX_TYPE_BF16,
         FLOATX_LAYOUT_CUDA},
        {"pack f16 e3m2 row f32 canonical", FLOATX_FORMAT_E3M2, FLOATX_SCALE_F32, 0, FLOATX_TYPE_F16,
         FLOATX_LAYOUT_CANONICAL},
    };
    for (const variant& v : variants) {
      // FP32 takes half the rows of two bytes' memory.
      const int64_t n = v.type == FLOATX_TYPE_F32 ? s.n / 2 : s.n;
      const description d = {v.format, v.scale, n, s.k, v.group};
      std::vector<std::unique_ptr<device_weight>> weights;
      for (int i = 0; i < 4; ++i) weights.push_back(std::make_unique<device_weight>(d, v.layout));
      const floatx_execution how = on_device(nullptr, stream);
      const double packed = static_cast<double>(weights[0]->codes.size() + weights[0]->scales.size());
      measure(v.name, static_cast<double>(count) * 2 + packed, [&](int i) {
        const auto at = static_cast<size_t>(i);
        require_ok(floatx_pack(&weights[at]->weight, v.type, values[at]->data(), s.k, nullptr, &how));
      });
      if (&v != &variants[0]) continue;
      const report_buffer report;
      const floatx_execution reported = on_device(report.get(), stream);
      measure("  with a report", static_cast<double>(count) * 2 + packed, [&](int i) {
        const auto at = static_cast<size_t>(i);
        require_ok(floatx_pack(&weights[at]->weight, v.type, values[at]->data(), s.k, nullptr, &reported));
      });
      measure("unpack e3m2 row cuda to f16", static_cast<double>(count) * 2 + packed, [&](int i) {
        const auto at = static_cast<size_t>(i);
        require_ok(floatx_unpack(&weights[at]->weight, v.type, outputs[at]->data(), s.k, &how));
      });
      std::vector<std::unique_ptr<device_weight>> canonical;
      for (int i = 0; i < 4; ++i)
        canonical.push_back(std::make_unique<device_weight>(d, FLOATX_LAYOUT_CANONICAL));
      measure("repack e3m2 row cuda to canonical", 2 * packed, [&](int i) {
        const auto at = static_cast<size_t>(i);
        require_ok(floatx_repack(&weights[at]->weight, &canonical[at]->weight, &how));
      });
      measure("repack e3m2 row canonical to cuda", 2 * packed, [&](int i) {
        const auto at = static_cast<size_t>(i);
        require_ok(floatx_repack(&canonical[at]->weight, &weights[at]->weight, &how));
      });
    }
  }
  cuda_check(cudaStreamDestroy(stream));
}
