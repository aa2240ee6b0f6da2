// Unpacking, repacking and slicing in device memory: byte by byte what the host makes.
//
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "kernel/dense_values.hpp"
#include "kernel/device_weight.hpp"

using namespace floatx;
using namespace floatx::test;

namespace {

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

}  // namespace

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
