#include "cpu/pack.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <mutex>
#include <vector>

#include "cpu/threads.hpp"
#include "floatx/layout.hpp"
#include "status.hpp"

namespace floatx::cpu {
namespace {

scale_storage storage_of(const weight_shape& shape) { return static_cast<scale_storage>(shape.scale_type); }

int64_t groups_of(const weight_shape& shape) { return group_count(shape.k, shape.group_size); }

int64_t group_width(const weight_shape& shape) { return shape.group_size == 0 ? shape.k : shape.group_size; }

size_t scale_row_bytes(const weight_shape& shape) {
  return static_cast<size_t>(groups_of(shape) * scale_bytes(storage_of(shape)));
}

uint32_t load_scale(scale_storage type, const uint8_t* scales, int64_t index) {
  uint32_t bits = 0;  // little endian: the low bytes are the element
  const auto size = static_cast<size_t>(scale_bytes(type));
  std::memcpy(&bits, scales + static_cast<size_t>(index) * size, size);
  return bits;
}

float load_value(floatx_type type, const uint8_t* row, int64_t column) {
  if (type == FLOATX_TYPE_F32) {
    float value;
    std::memcpy(&value, row + column * 4, 4);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, row + column * 2, 2);
  return type == FLOATX_TYPE_F16 ? f16_to_f32(bits) : bf16_to_f32(bits);
}

void store_value(floatx_type type, uint8_t* row, int64_t column, float value) {
  if (type == FLOATX_TYPE_F32) {
    std::memcpy(row + column * 4, &value, 4);
    return;
  }
  const uint16_t bits = type == FLOATX_TYPE_F16 ? f32_to_f16(value) : f32_to_bf16(value);
  std::memcpy(row + column * 2, &bits, 2);
}

size_t value_bytes(floatx_type type) { return type == FLOATX_TYPE_F32 ? 4 : 2; }

// Strips of a weight, shared out among threads: body(strip, first_row, rows, thread).
template <class Body>
void for_each_strip(team& threads, int64_t n, Body&& body) {
  const int64_t strips = (n + strip_rows - 1) / strip_rows;
  std::atomic<int64_t> next{0};
  threads.run(threads.size(), [&](int64_t thread) {
    for (int64_t strip = next++; strip < strips; strip = next++) {
      const int64_t first_row = strip * strip_rows;
      body(strip, first_row, std::min(strip_rows, n - first_row), thread);
    }
  });
}

// The first offence in row order, whichever thread finds it.
class offence {
 public:
  void note(int64_t row, int64_t column, const char* what) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (row > row_ || (row == row_ && column >= column_)) return;
    row_ = row, column_ = column, what_ = what;
  }
  void raise() const {
    if (!what_) return;
    fail(FLOATX_STATUS_INVALID_DATA, "row %lld, column %lld: %s", static_cast<long long>(row_),
         static_cast<long long>(column_), what_);
  }

 private:
  std::mutex mutex_;
  int64_t row_ = std::numeric_limits<int64_t>::max(), column_ = 0;
  const char* what_ = nullptr;
};

// Padding belongs to the strip before it: the last strip also clears the rest of its 64-row block.
void store_gpu_strip(const stored_weight& target, int64_t strip, int64_t rows, const uint8_t* codes,
                     const uint8_t* scales) {
  const weight_shape& shape = target.shape;
  const format_traits& format = *find_format(shape.format);
  const auto size = static_cast<size_t>(scale_bytes(storage_of(shape)));
  const int64_t first_row = strip * strip_rows;
  gpu::store_strip(format.bits, format.mantissa_bits, shape.k, first_row, rows, codes, target.codes);
  int64_t end_row = first_row + strip_rows;
  if (end_row >= shape.n) end_row = gpu::round_up(shape.n, gpu::block_rows);
  for (int64_t padding = first_row + strip_rows; padding < end_row; padding += strip_rows) {
    gpu::store_strip(format.bits, format.mantissa_bits, shape.k, padding, 0, nullptr, target.codes);
  }
  const auto place = [&](int64_t index) { return target.scales + static_cast<size_t>(index) * size; };
  for (int64_t row = first_row; row < end_row; ++row) {
    uint32_t largest = 0;
    for (int64_t group = 0; group < gpu::padded_groups(shape.k, shape.group_size); ++group) {
      uint32_t bits = 0;
      if (row < first_row + rows && group < groups_of(shape)) {
        std::memcpy(&bits, scales + static_cast<size_t>((row - first_row) * groups_of(shape) + group) * size,
                    size);
      }
      std::memcpy(place(gpu::scale_index(shape.k, shape.group_size, row, group)), &bits, size);
      largest = std::max(largest, magnitude_bits(storage_of(shape), bits));
    }
    if (shape.group_size == 0) continue;
    std::memcpy(place(gpu::largest_scale_index(shape.n, shape.k, shape.group_size, row)), &largest, size);
  }
}

// Writes a strip in the target's layout; codes [rows][k] one a byte, scales [rows][groups].
void store_strip(const stored_weight& target, int64_t strip, int64_t rows, const uint8_t* codes,
                 const uint8_t* scales) {
  const weight_shape& shape = target.shape;
  if (target.layout == FLOATX_LAYOUT_CANONICAL) {
    const int bits = find_format(shape.format)->bits;
    const auto row_bytes = static_cast<size_t>(canonical::row_bytes(bits, shape.k));
    const auto first_row = static_cast<size_t>(strip * strip_rows);
    for (int64_t row = 0; row < rows; ++row) {
      canonical::store_row(bits, shape.k, codes + row * shape.k,
                           target.codes + (first_row + static_cast<size_t>(row)) * row_bytes);
    }
    std::memcpy(target.scales + first_row * scale_row_bytes(shape), scales,
                static_cast<size_t>(rows) * scale_row_bytes(shape));
    return;
  }
  if (target.layout == FLOATX_LAYOUT_CUDA) {
    store_gpu_strip(target, strip, rows, codes, scales);
    return;
  }
  cpu::store_strip(shape, target.codes, strip * strip_rows, codes);
  weight_shape strip_shape = shape;
  strip_shape.n = rows;
  store_scales(strip_shape, target.scales + static_cast<size_t>(strip) * strip_scales_bytes(shape), scales);
}

void load_strip(const stored_weight& source, int64_t strip, int64_t rows, uint8_t* codes, uint8_t* scales) {
  const weight_shape& shape = source.shape;
  if (source.layout == FLOATX_LAYOUT_CANONICAL) {
    const int bits = find_format(shape.format)->bits;
    const auto row_bytes = static_cast<size_t>(canonical::row_bytes(bits, shape.k));
    const auto first_row = static_cast<size_t>(strip * strip_rows);
    for (int64_t row = 0; row < rows; ++row) {
      canonical::load_row(bits, shape.k, source.codes + (first_row + static_cast<size_t>(row)) * row_bytes,
                          codes + row * shape.k);
    }
    std::memcpy(scales, source.scales + first_row * scale_row_bytes(shape),
                static_cast<size_t>(rows) * scale_row_bytes(shape));
    return;
  }
  if (source.layout == FLOATX_LAYOUT_CUDA) {
    const auto size = static_cast<size_t>(scale_bytes(storage_of(shape)));
    const format_traits& format = *find_format(shape.format);
    gpu::load_strip(format.bits, format.mantissa_bits, shape.k, strip * strip_rows, rows, source.codes,
                    codes);
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t group = 0; group < groups_of(shape); ++group, scales += size) {
        const int64_t index = gpu::scale_index(shape.k, shape.group_size, strip * strip_rows + row, group);
        std::memcpy(scales, source.scales + static_cast<size_t>(index) * size, size);
      }
    }
    return;
  }
  cpu::load_strip(shape, source.codes, strip * strip_rows, codes);
  weight_shape strip_shape = shape;
  strip_shape.n = rows;
  load_scales(strip_shape, source.scales + static_cast<size_t>(strip) * strip_scales_bytes(shape), scales);
}

// One strip's codes and scales, for each thread.
struct strip_buffers {
  strip_buffers(const weight_shape& shape, int threads)
      : codes_bytes(static_cast<size_t>(strip_rows * shape.k)),
        scales_bytes(static_cast<size_t>(strip_rows) * scale_row_bytes(shape)),
        bytes((codes_bytes + scales_bytes) * static_cast<size_t>(threads)) {}
  uint8_t* codes(int64_t thread) {
    return bytes.data() + static_cast<size_t>(thread) * (codes_bytes + scales_bytes);
  }
  uint8_t* scales(int64_t thread) { return codes(thread) + codes_bytes; }

  size_t codes_bytes, scales_bytes;
  std::vector<uint8_t> bytes;
};

float group_absmax(const float* values, int64_t count) {
  float absmax = 0;
  for (int64_t i = 0; i < count; ++i) absmax = std::max(absmax, std::fabs(values[i]));
  return absmax;
}

template <class Format>
void pack_as(const stored_weight& target, floatx_type values_type, const uint8_t* values,
             int64_t values_stride, quantize_rules rules, floatx_threads* handle) {
  const weight_shape& shape = target.shape;
  const scale_storage type = storage_of(shape);
  const int64_t width = group_width(shape);
  const size_t stride_bytes = static_cast<size_t>(values_stride) * value_bytes(values_type);
  team threads(handle, shape.n * shape.k * 4);

  strip_buffers buffers(shape, threads.size());
  std::vector<float> rows_f32(static_cast<size_t>(shape.k * threads.size()));
  const auto load_row = [&](int64_t row, int64_t thread) {
    float* out = rows_f32.data() + thread * shape.k;
    const uint8_t* in = values + static_cast<size_t>(row) * stride_bytes;
    for (int64_t i = 0; i < shape.k; ++i) out[i] = load_value(values_type, in, i);
    return out;
  };

  // Look at everything before a byte is written: a refused weight leaves the target as it was.
  offence found;
  std::vector<float> absmax_of_thread(static_cast<size_t>(threads.size()), 0.0f);
  for_each_strip(threads, shape.n, [&](int64_t, int64_t first_row, int64_t rows, int64_t thread) {
    for (int64_t row = first_row; row < first_row + rows; ++row) {
      const float* w = load_row(row, thread);
      const float* bad = std::find_if(w, w + shape.k, [](float v) { return !std::isfinite(v); });
      if (bad != w + shape.k) {
        found.note(row, bad - w, "the weight is NaN or Inf, which no format holds");
        return;
      }
      for (int64_t begin = 0; begin < shape.k; begin += width) {
        const float absmax = group_absmax(w + begin, std::min(width, shape.k - begin));
        absmax_of_thread[static_cast<size_t>(thread)] =
            std::max(absmax_of_thread[static_cast<size_t>(thread)], absmax);
        if (type != scale_storage::f16 || absmax == 0) continue;
        const uint16_t bits = f32_to_f16(unrounded_scale<Format>(absmax));
        if (bits == 0)
          return found.note(row, begin, "the scale of this nonzero group rounds to 0 in F16; use F32 scales");
        if (bits >= 0x7c00u)
          return found.note(row, begin, "the scale of this group overflows F16; use F32 scales");
      }
    }
  });
  found.raise();

  float tensor = 1;
  if (type == scale_storage::e4m3fn) {
    tensor = tensor_scale<Format>(*std::max_element(absmax_of_thread.begin(), absmax_of_thread.end()));
    *target.tensor_scale = tensor;
  }

  for_each_strip(threads, shape.n, [&](int64_t strip, int64_t first_row, int64_t rows, int64_t thread) {
    uint8_t* codes = buffers.codes(thread);
    uint8_t* scales = buffers.scales(thread);
    for (int64_t row = 0; row < rows; ++row) {
      const float* w = load_row(first_row + row, thread);
      for (int64_t begin = 0; begin < shape.k; begin += width) {
        const int64_t count = std::min(width, shape.k - begin);
        const group_scale scale = make_scale<Format>(group_absmax(w + begin, count), type, rules, tensor);
        std::memcpy(scales, &scale.bits, static_cast<size_t>(scale_bytes(type)));
        scales += scale_bytes(type);
        if (scale.divisor == 0) {
          std::memset(codes, 0, static_cast<size_t>(count));
        } else {
          for (int64_t i = 0; i < count; ++i) codes[i] = encode<Format>(w[begin + i] / scale.divisor);
        }
        codes += count;
      }
    }
    store_strip(target, strip, rows, buffers.codes(thread), buffers.scales(thread));
  });
}

}  // namespace

void pack(const stored_weight& target, floatx_type values_type, const void* values, int64_t values_stride,
          quantize_rules rules, floatx_threads* threads) {
  visit_format(target.shape.format, [&](auto format) {
    pack_as<decltype(format)>(target, values_type, static_cast<const uint8_t*>(values), values_stride, rules,
                              threads);
  });
}

void unpack(const stored_weight& source, floatx_type values_type, void* values, int64_t values_stride,
            floatx_threads* handle) {
  const weight_shape& shape = source.shape;
  const scale_storage type = storage_of(shape);
  const int64_t width = group_width(shape), groups = groups_of(shape);
  const float tensor = type == scale_storage::e4m3fn ? *source.tensor_scale : 1;
  float value_of_code[256] = {};
  visit_format(shape.format, [&](auto format) {
    for (int code = 0; code <= decltype(format)::code_mask; ++code) {
      value_of_code[code] = decode<decltype(format)>(static_cast<uint8_t>(code));
    }
  });

  team threads(handle, shape.n * shape.k * 2);
  strip_buffers buffers(shape, threads.size());
  const size_t stride_bytes = static_cast<size_t>(values_stride) * value_bytes(values_type);
  for_each_strip(threads, shape.n, [&](int64_t strip, int64_t first_row, int64_t rows, int64_t thread) {
    load_strip(source, strip, rows, buffers.codes(thread), buffers.scales(thread));
    for (int64_t row = 0; row < rows; ++row) {
      const uint8_t* codes = buffers.codes(thread) + row * shape.k;
      uint8_t* out = static_cast<uint8_t*>(values) + static_cast<size_t>(first_row + row) * stride_bytes;
      for (int64_t group = 0; group < groups; ++group) {
        const float scale =
            scale_value(type, load_scale(type, buffers.scales(thread), row * groups + group), tensor);
        const int64_t end = std::min(shape.k, (group + 1) * width);
        for (int64_t i = group * width; i < end; ++i) {
          store_value(values_type, out, i, value_of_code[codes[i]] * scale);
        }
      }
    }
  });
}

void slice(const stored_weight& source, int64_t row_begin, int64_t k_begin, const stored_weight& target,
           floatx_threads* handle) {
  const weight_shape& from = source.shape;
  const weight_shape& to = target.shape;
  const scale_storage type = storage_of(from);
  const int64_t group_begin = k_begin / group_width(from);
  team threads(handle, to.n * to.k * 2);
  strip_buffers in(from, threads.size()), out(to, threads.size());

  // body(target row, codes of the row's window, scales of the row's window), a source strip at a time.
  const auto for_each_row = [&](int64_t first, int64_t rows, int64_t thread, auto&& body) {
    int64_t loaded = -1;
    for (int64_t row = first; row < first + rows; ++row) {
      const int64_t source_row = row_begin + row, strip = source_row / strip_rows;
      if (strip != loaded) {
        load_strip(source, strip, std::min(strip_rows, from.n - strip * strip_rows), in.codes(thread),
                   in.scales(thread));
        loaded = strip;
      }
      const int64_t in_strip = source_row % strip_rows;
      body(row, in.codes(thread) + in_strip * from.k + k_begin,
           in.scales(thread) + static_cast<size_t>(in_strip) * scale_row_bytes(from) +
               static_cast<size_t>(group_begin * scale_bytes(type)));
    }
  };

  if (source.layout == FLOATX_LAYOUT_CANONICAL) {  // comes from outside: look before writing
    bool special[256] = {};
    visit_format(from.format, [&](auto format) {
      for (int code = 0; code <= decltype(format)::code_mask; ++code) {
        special[code] = is_special<decltype(format)>(static_cast<uint8_t>(code));
      }
    });
    offence found;
    if (type == scale_storage::e4m3fn && !std::isfinite(*source.tensor_scale)) {
      fail(FLOATX_STATUS_INVALID_DATA, "source->tensor_scale is %g: must be finite",
           static_cast<double>(*source.tensor_scale));
    }
    for_each_strip(threads, to.n, [&](int64_t, int64_t first, int64_t rows, int64_t thread) {
      for_each_row(first, rows, thread, [&](int64_t row, const uint8_t* codes, const uint8_t* scales) {
        const uint8_t* bad = std::find_if(codes, codes + to.k, [&](uint8_t code) { return special[code]; });
        if (bad != codes + to.k)
          found.note(row_begin + row, k_begin + (bad - codes), "the code is NaN or Inf");
        for (int64_t group = 0; group < groups_of(to); ++group) {
          if (std::isfinite(scale_value(type, load_scale(type, scales, group), 1))) continue;
          found.note(row_begin + row, k_begin + group * group_width(from),
                     "the scale of this group is NaN or Inf");
        }
      });
    });
    found.raise();
  }

  if (type == scale_storage::e4m3fn) *target.tensor_scale = *source.tensor_scale;
  for_each_strip(threads, to.n, [&](int64_t strip, int64_t first, int64_t rows, int64_t thread) {
    for_each_row(first, rows, thread, [&](int64_t row, const uint8_t* codes, const uint8_t* scales) {
      std::memcpy(out.codes(thread) + (row - first) * to.k, codes, static_cast<size_t>(to.k));
      std::memcpy(out.scales(thread) + static_cast<size_t>(row - first) * scale_row_bytes(to), scales,
                  scale_row_bytes(to));
    });
    store_strip(target, strip, rows, out.codes(thread), out.scales(thread));
  });
}

}  // namespace floatx::cpu
