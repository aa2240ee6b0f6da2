// Weights in host and in device memory, through the C API: what the tests of packing and moving share.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "floatx.h"
#include "floatx/format.hpp"
#include "kernel/kinds.hpp"
#include "support/catch.hpp"
#include "support/device_memory.hpp"
#include "support/skip.hpp"

namespace floatx::test {

constexpr int64_t odd_sizes[] = {1, 15, 16, 17, 63, 64, 65, 127, 128, 129, 300};
constexpr floatx_layout device_layouts[] = {FLOATX_LAYOUT_CANONICAL, FLOATX_LAYOUT_CUDA};

struct description {
  floatx_format format;
  floatx_scale_type scale_type;
  int64_t n, k, group_size;
};

inline std::string text_of(const description& d, floatx_layout layout, floatx_type type) {
  char text[160];
  std::snprintf(text, sizeof text, "%s scales %d n %d k %d group %d layout %d values %d",
                find_format(d.format)->name, static_cast<int>(d.scale_type), static_cast<int>(d.n),
                static_cast<int>(d.k), static_cast<int>(d.group_size), static_cast<int>(layout),
                static_cast<int>(type));
  return text;
}

inline bool holds(floatx_layout layout, floatx_format format) {
  return layout == FLOATX_LAYOUT_CANONICAL || find_format(format)->exponent_bits <= 5;
}

inline floatx_weight describe(const description& d, floatx_layout layout) {
  floatx_weight w = {};
  w.struct_size = sizeof w;
  w.format = d.format;
  w.layout = layout;
  w.n = d.n, w.k = d.k;
  w.group_size = d.group_size;
  w.scale_type = d.scale_type;
  return w;
}

inline floatx_sizes sizes_of(const floatx_weight& w) {
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
inline int64_t difference(const device_buffer& device, const void* host) {
  std::vector<uint8_t> found(device.size());
  device.download(found.data());
  const auto* wanted = static_cast<const uint8_t*>(host);
  for (size_t i = 0; i < found.size(); ++i) {
    if (found[i] != wanted[i]) return static_cast<int64_t>(i);
  }
  return -1;
}

inline void compare(const device_weight& device, const host_weight& host) {
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

inline floatx_execution on_device(floatx_report* report = nullptr, cudaStream_t stream = nullptr) {
  floatx_execution how = {};
  how.struct_size = sizeof how;
  how.memory = FLOATX_MEMORY_DEVICE;
  how.stream = stream;
  how.report = report;
  return how;
}

inline void require_ok(floatx_status status) {
  INFO(floatx_last_error());
  REQUIRE(status == FLOATX_STATUS_OK);
}

inline void check_is_ok(const floatx_report& report) {
  CHECK(report.status == FLOATX_STATUS_OK);
  CHECK(report.row == -1);
  CHECK(report.column == -1);
}

// "row 3, column 5: ..." of the host's message.
inline bool place_in_message(long long& row, long long& column) {
  return std::sscanf(floatx_last_error(), "row %lld, column %lld:", &row, &column) == 2;
}

}  // namespace floatx::test
