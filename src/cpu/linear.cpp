#include <atomic>
#include <cstdlib>
#include <cstring>
#include <new>

#include "cpu/kernels.hpp"
#include "cpu/threads.hpp"

namespace floatx::cpu {
namespace {

constexpr int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr size_t align(size_t bytes) { return (bytes + 63) & ~size_t{63}; }

constexpr size_t element_bytes(floatx_type type) { return type == FLOATX_TYPE_F32 ? 4 : 2; }

// Tokens whose x is packed at once, so many that decoding and the traffic of x are negligible, so few
// that a panel's worth of x (256 KB) stays in the second-level cache. Long rows take fewer.
constexpr int64_t max_block_tokens = 504;
constexpr int64_t max_block_floats = int64_t{8} << 20;

// Panels whose sums one task keeps; x is read from memory once for that many rows.
constexpr int64_t max_block_rows = 128;

int64_t block_tokens(int64_t units, int64_t m) {
  const int64_t fit = max_block_floats / (units * unit_k) / max_tile_tokens * max_tile_tokens;
  return std::min(m, std::clamp<int64_t>(fit, max_tile_tokens, max_block_tokens));
}

// Floats are counted for BF16 too: it needs half, but a smaller m may take the FP32 path.
size_t x_bytes(int64_t units, int64_t m) {
  return align(static_cast<size_t>(units * unit_k * block_tokens(units, m)) * sizeof(float));
}
size_t sums_bytes(int64_t units, int64_t m, int64_t rows) {
  return align(static_cast<size_t>(rows * block_tokens(units, m)) * sizeof(float));
}

// Scratch memory: the caller's if it is enough, else our own.
class scratch {
 public:
  scratch(void* workspace, size_t workspace_bytes, size_t bytes) {
    if (workspace && workspace_bytes >= bytes) {
      data_ = static_cast<char*>(workspace);
    } else {
      own_.reset(static_cast<char*>(std::aligned_alloc(64, bytes)));
      if (!own_) throw std::bad_alloc();
      data_ = own_.get();
    }
  }
  char* at(size_t offset) const { return data_ + offset; }

 private:
  struct freer {
    void operator()(char* p) const { std::free(p); }
  };
  std::unique_ptr<char, freer> own_;
  char* data_;
};

// One call.
struct job {
  const kernels& isa;
  const path& way;
  weight_view w;
  int64_t m;
  floatx_type x_type;
  const char* x;
  int64_t x_stride;
  const char* bias;
  floatx_type y_type;
  char* y;
  int64_t y_stride;

  int64_t strips() const { return strips_of(w.shape.n); }
};

// ---- x ---------------------------------------------------------------------------------------------

// Products are not scaled before they are summed, so a row of very large (or small) x is first brought to
// a middle size by a power of two: the sum then neither overflows nor vanishes unless the result does.
// FP16 cannot get that large.
struct row_power {
  float before = 1, after = 1;
};

row_power power_of(const job& j, const char* x) {
  if (j.x_type == FLOATX_TYPE_F16) return {};
  const float largest = j.isa.largest_finite(j.x_type, x, j.w.shape.k);
  if (largest >= 0x1p80f) return {0x1p-64f, 0x1p64f};
  if (largest < 0x1p-80f) return {0x1p64f, 0x1p-64f};
  return {};
}

uint32_t bits_of_float(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

constexpr int x_chunk = 256;  // k that are converted at a time

// An FP16 number is the exact sum of two BF16 numbers; they are left in the upper halves. Inf and NaN
// stand in the first alone.
void split_f16(const float (&x)[x_chunk], uint32_t (&high)[x_chunk], uint32_t (&low)[x_chunk]) {
  for (int i = 0; i < x_chunk; ++i) {
    high[i] = bits_of_float(x[i]) & 0xffff0000u;
    float rounded;
    std::memcpy(&rounded, &high[i], sizeof rounded);
    const uint32_t finite = (high[i] & 0x7f800000u) != 0x7f800000u ? 0xffffffffu : 0;
    low[i] = bits_of_float(x[i] - rounded) & finite;
  }
}

// Neighbouring k, whose BF16 are in the upper halves.
uint32_t pair_of(uint32_t even, uint32_t odd) { return even >> 16 | (odd & 0xffff0000u); }

// Packs a tile of `tokens` rows of x, from row `first`. In the BF16 path a row of FP16 becomes two
// neighbouring rows of the tile. after[token] undoes the row's power.
void pack_tile(const job& j, int64_t first, int tokens, void* packed, float* after) {
  const int64_t k = j.w.shape.k, padded_k = j.w.units * unit_k;
  const bool split = j.way.bf16 && j.x_type == FLOATX_TYPE_F16;
  const int width = split ? 2 * tokens : tokens;
  auto* out = static_cast<uint32_t*>(packed);
  for (int t = 0; t < tokens; ++t) {
    const char* row = j.x + static_cast<size_t>((first + t) * j.x_stride) * element_bytes(j.x_type);
    const row_power power = power_of(j, row);
    after[t] = power.after;
    for (int64_t k0 = 0; k0 < padded_k; k0 += x_chunk) {
      const auto count = static_cast<int>(std::clamp<int64_t>(k - k0, 0, x_chunk));
      const auto padded = static_cast<int>(std::min<int64_t>(padded_k - k0, x_chunk));
      float x[x_chunk];
      j.isa.to_f32(j.x_type, row + static_cast<size_t>(k0) * element_bytes(j.x_type), count, x);
      std::fill(x + count, x + x_chunk, 0.0f);
      if (power.before != 1) {
        for (float& value : x) value *= power.before;
      }
      if (!j.way.bf16) {
        for (int i = 0; i < padded; ++i) out[(k0 + i) * width + t] = bits_of_float(x[i]);
      } else if (!split) {
        for (int i = 0; i < padded; i += 2) {
          out[(k0 + i) / 2 * width + t] = pair_of(bits_of_float(x[i]), bits_of_float(x[i + 1]));
        }
      } else {
        uint32_t high[x_chunk], low[x_chunk];
        split_f16(x, high, low);
        for (int i = 0; i < padded; i += 2) {
          uint32_t* pair = out + (k0 + i) / 2 * width + 2 * t;
          pair[0] = pair_of(high[i], high[i + 1]);
          pair[1] = pair_of(low[i], low[i + 1]);
        }
      }
    }
  }
}

// ---- y ---------------------------------------------------------------------------------------------

// Writes rows [row, row + rows) of the features of one token.
void finish(const job& j, int64_t token, int64_t row, int rows, float* sums, const float* row_scales,
            float after) {
  const size_t bytes = element_bytes(j.y_type);
  float scales[max_panel_rows];
  if (after != 1) {
    // In double, where neither the sum nor the scale can leave the range before the power is undone.
    for (int i = 0; i < rows; ++i) {
      const double scale = row_scales ? static_cast<double>(row_scales[i]) : 1.0;
      sums[i] = static_cast<float>(static_cast<double>(sums[i]) * scale * static_cast<double>(after));
      scales[i] = 1;
    }
    row_scales = scales;
  }
  j.isa.finish(sums, row_scales, j.bias ? j.bias + static_cast<size_t>(row) * bytes : nullptr, j.y_type, rows,
               j.y + static_cast<size_t>(token * j.y_stride + row) * bytes);
}

// ---- The two ways ----------------------------------------------------------------------------------

// A block of tokens, cut into tiles of nearly the same size.
struct tiling {
  int64_t first, tokens, tiles;
  int64_t begin(int64_t tile) const { return tokens * tile / tiles; }
  int size(int64_t tile) const { return static_cast<int>(begin(tile + 1) - begin(tile)); }
};

void run_skinny(const job& j, team& threads, void* workspace, size_t workspace_bytes) {
  const scratch memory(workspace, workspace_bytes, x_bytes(j.w.units, j.m));
  const int parts = j.way.bf16 && j.x_type == FLOATX_TYPE_F16 ? 2 : 1;  // rows of a tile for each token
  const tiling block{0, j.m, divide_up(j.m * parts, j.way.skinny_tokens)};
  const auto x_of = [&](int64_t tile) {
    return memory.at(static_cast<size_t>(j.w.units * unit_k * parts * block.begin(tile)) *
                     (j.way.bf16 ? 2 : 4));
  };
  float after[max_skinny_m];
  for (int64_t tile = 0; tile < block.tiles; ++tile) {
    pack_tile(j, block.begin(tile), block.size(tile), x_of(tile), after + block.begin(tile));
  }

  // Some eight tasks for each thread: a thread that is held up leaves its share to the others.
  const int64_t strips = j.strips(), tasks = std::min<int64_t>(strips, int64_t{8} * threads.size());
  threads.run(tasks, [&](int64_t task) {
    alignas(64) float sums[max_tile_tokens * strip_rows];
    alignas(64) float scales[strip_rows];
    const bool by_row = j.w.shape.group_size == 0;
    for (int64_t strip = strips * task / tasks; strip < strips * (task + 1) / tasks; ++strip) {
      if (by_row) j.isa.scales(j.w, strip, 0, 1, strip_rows, scales);
      const int64_t row = strip * strip_rows;
      const auto rows = static_cast<int>(std::min(strip_rows, j.w.shape.n - row));
      for (int64_t tile = 0; tile < block.tiles; ++tile) {
        const int tokens = block.size(tile);
        j.way.skinny(j.w, strip, tokens * parts, x_of(tile), sums);
        for (int t = 0; t < tokens; ++t) {
          float* sum = sums + t * parts * strip_rows;
          if (parts == 2) {
            for (int i = 0; i < strip_rows; ++i) sum[i] += sum[strip_rows + i];
          }
          const int64_t token = block.begin(tile) + t;
          finish(j, token, row, rows, sum, by_row ? scales : nullptr, after[token]);
        }
      }
    }
  });
}

// Rows [panels first .. last) of y for a block of tokens.
void multiply_block(const job& j, const tiling& block, int64_t first_panel, int64_t last_panel, const char* x,
                    const float* after, float* sums) {
  const path& way = j.way;
  const int panel_rows = way.panel_strips * static_cast<int>(strip_rows);
  const int64_t group_size = j.w.shape.group_size;
  const bool scale_sums = way.bf16 && group_size != 0;
  const size_t x_unit = size_t{unit_k} * (way.bf16 ? 2 : 4);  // bytes of a token's unit
  alignas(64) char panel[max_panel_bytes];
  alignas(64) float scales[panel_k / 16 * max_panel_rows];
  const auto strip_of = [&](int64_t index, int column) {
    // A last panel without a second strip repeats the first; those sums are not used.
    return std::min(index * way.panel_strips + column, j.strips() - 1);
  };

  for (int64_t unit = 0; unit < j.w.units; unit += panel_units) {
    const auto units = static_cast<int>(std::min<int64_t>(panel_units, j.w.units - unit));
    for (int64_t p = first_panel; p < last_panel; ++p) {
      for (int column = 0; column < way.panel_strips; ++column) {
        way.decode(j.w, strip_of(p, column), unit, units, column, panel);
        if (scale_sums) {
          const int64_t group = unit * unit_k / group_size;
          const int count =
              static_cast<int>(std::min(divide_up(units * unit_k, group_size), j.w.groups - group));
          j.isa.scales(j.w, strip_of(p, column), group, count, panel_rows, scales + column * strip_rows);
        }
      }
      for (int64_t tile = 0; tile < block.tiles; ++tile) {
        const int64_t begin = block.begin(tile), tokens = block.size(tile);
        const char* x_tile = x + static_cast<size_t>(j.w.units * begin + unit * tokens) * x_unit;
        float* sum = sums + ((p - first_panel) * block.tokens + begin) * panel_rows;
        way.tile(static_cast<int>(tokens), units * unit_k, panel, x_tile, unit == 0,
                 scale_sums ? scales : nullptr, scale_sums ? static_cast<int>(group_size) : units * unit_k,
                 sum);
      }
    }
  }

  for (int64_t p = first_panel; p < last_panel; ++p) {
    const int64_t row = p * panel_rows;
    const auto rows = static_cast<int>(std::min<int64_t>(panel_rows, j.w.shape.n - row));
    if (group_size == 0) {
      for (int column = 0; column < way.panel_strips; ++column) {
        j.isa.scales(j.w, strip_of(p, column), 0, 1, panel_rows, scales + column * strip_rows);
      }
    }
    for (int64_t t = 0; t < block.tokens; ++t) {
      float* sum = sums + ((p - first_panel) * block.tokens + t) * panel_rows;
      finish(j, block.first + t, row, rows, sum, group_size == 0 ? scales : nullptr, after[t]);
    }
  }
}

void run_tiles(const job& j, team& threads, void* workspace, size_t workspace_bytes) {
  const int64_t panel_rows = j.way.panel_strips * strip_rows;
  const int64_t panels = divide_up(j.w.shape.n, panel_rows);
  // Blocks of rows: as many panels as their sums have room for, but work for every thread.
  const int64_t block_panels =
      std::clamp<int64_t>(panels / (int64_t{4} * threads.size()), 1, max_block_rows / panel_rows);
  const int64_t blocks = divide_up(panels, block_panels);
  const int64_t tasks = std::min<int64_t>(threads.size(), blocks);
  const size_t x_size = x_bytes(j.w.units, j.m),
               sums_size = sums_bytes(j.w.units, j.m, block_panels * panel_rows);
  const scratch memory(workspace, workspace_bytes, x_size + static_cast<size_t>(tasks) * sums_size);
  char* x = memory.at(0);
  // Blocks of tokens of nearly the same size, since each one decodes the weight again.
  const int64_t step = divide_up(j.m, divide_up(j.m, block_tokens(j.w.units, j.m)));

  for (int64_t first = 0; first < j.m; first += step) {
    tiling block{first, std::min(step, j.m - first), 0};
    block.tiles = divide_up(block.tokens, j.way.tile_tokens);
    float after[max_block_tokens];
    threads.run(block.tiles, [&](int64_t tile) {
      const int64_t begin = block.begin(tile);
      const size_t offset = static_cast<size_t>(j.w.units * unit_k * begin) * (j.way.bf16 ? 2 : 4);
      pack_tile(j, first + begin, block.size(tile), x + offset, after + begin);
    });
    // One task for each thread, because each needs its own sums; the blocks are shared out as they go.
    std::atomic<int64_t> next{0};
    threads.run(tasks, [&](int64_t task) {
      auto* sums = reinterpret_cast<float*>(memory.at(x_size + static_cast<size_t>(task) * sums_size));
      for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < blocks;) {
        multiply_block(j, block, i * block_panels, std::min((i + 1) * block_panels, panels), x, after, sums);
      }
    });
  }
}

}  // namespace

size_t linear_workspace_bytes(const weight_shape& shape, int64_t m, floatx_type) {
  const int64_t units = units_of(shape.k);
  return x_bytes(units, m) + static_cast<size_t>(processor_count()) * sums_bytes(units, m, max_block_rows);
}

void linear_with(const kernels& isa, const weight_shape& shape, const void* codes, const void* scales,
                 float tensor_scale, int64_t m, floatx_type x_type, const void* x, int64_t x_stride,
                 const void* bias, floatx_type y_type, void* y, int64_t y_stride, floatx_threads* threads,
                 void* workspace, size_t workspace_bytes) {
  const weight_view w{shape,
                      bits_of(shape.format),
                      units_of(shape.k),
                      padded_groups_of(shape),
                      static_cast<const uint8_t*>(codes),
                      static_cast<const uint8_t*>(scales),
                      tensor_scale,
                      values_of(shape.format)};
  // FP16 costs two BF16 products, which pays while they hide behind the decoding.
  const bool in_bf16 = isa.bf16 && (x_type == FLOATX_TYPE_BF16 ||
                                    (x_type == FLOATX_TYPE_F16 && 2 * m <= isa.bf16->skinny_tokens));
  const path& way = in_bf16 ? *isa.bf16 : isa.fp32;
  const job j{isa,      way,
              w,        m,
              x_type,   static_cast<const char*>(x),
              x_stride, static_cast<const char*>(bias),
              y_type,   static_cast<char*>(y),
              y_stride};
  // One core reads some 15 bytes and multiplies some 50 pairs in a nanosecond.
  const double macs = static_cast<double>(m) * static_cast<double>(shape.n) * static_cast<double>(shape.k);
  const double ns = std::max(static_cast<double>(codes_bytes(shape)) / 15, macs / 50);
  team group(threads, static_cast<int64_t>(std::min(ns, 1e15)));
  if (m <= way.skinny_m) {
    run_skinny(j, group, workspace, workspace_bytes);
  } else {
    run_tiles(j, group, workspace, workspace_bytes);
  }
}

void linear(const weight_shape& shape, const void* codes, const void* scales, float tensor_scale, int64_t m,
            floatx_type x_type, const void* x, int64_t x_stride, const void* bias, floatx_type y_type,
            void* y, int64_t y_stride, floatx_threads* threads, void* workspace, size_t workspace_bytes) {
  linear_with(*supported_kernels().back(), shape, codes, scales, tensor_scale, m, x_type, x, x_stride, bias,
              y_type, y, y_stride, threads, workspace, workspace_bytes);
}

}  // namespace floatx::cpu
