// The example's kernels against FP64, one by one. Skipped where there is no GPU.
//
// SPDX-License-Identifier: Apache-2.0
#include "llama/kernels.hpp"

#include <algorithm>
#include <cmath>
#include <floatx/codec.hpp>
#include <random>
#include <vector>

#include "floatx.h"
#include "llama/gpu.hpp"
#include "support/catch.hpp"
#include "support/skip.hpp"

namespace {

using llama::gpu::half_bits;
using llama::gpu::memory;

bool has_gpu() {
  if (floatx_layout_usable(FLOATX_LAYOUT_CUDA) == FLOATX_STATUS_OK) return true;
  floatx::test::skip(floatx_last_error());
  return false;
}

constexpr half_bits poison = 0x7fff;  // NaN
constexpr size_t guard = 64;          // values of poison behind what a kernel writes

// Values on the device with a guard behind them.
template <class Value>
class guarded {
 public:
  explicit guarded(std::vector<Value> values, Value guarding) : size_(values.size()), guarding_(guarding) {
    values.resize(size_ + guard, guarding);
    device_ = memory::copy(values.data(), values.size() * sizeof(Value));
  }
  Value* get() const { return device_.template as<Value>(); }
  std::vector<Value> read() const {
    std::vector<Value> values(size_ + guard);
    REQUIRE(cudaMemcpy(values.data(), device_.get(), values.size() * sizeof(Value), cudaMemcpyDeviceToHost) ==
            cudaSuccess);
    for (size_t i = size_; i < values.size(); ++i) {
      if (values[i] != guarding_)
        FAIL("a kernel wrote beyond what it should: value " << i << " of " << size_);
    }
    values.resize(size_);
    return values;
  }

 private:
  size_t size_;
  Value guarding_;
  memory device_;
};

std::mt19937 random_source(11);

float normal() { return std::normal_distribution<float>()(random_source); }

std::vector<half_bits> random_halves(size_t count) {
  std::vector<half_bits> values(count);
  for (half_bits& v : values) v = floatx::f32_to_f16(normal());
  return values;
}

double value(half_bits bits) { return double{floatx::f16_to_f32(bits)}; }

// Of a float near v, rounded to FP16: half a unit in the last of 11 bits, or of the subnormal numbers.
double half_rounding(double v) { return 0x1p-11 * std::fabs(v) + 0x1p-25; }

// A kernel by itself, ordinary and programmatic.
template <class Launch>
void run(bool programmatic, Launch&& launch) {
  const llama::gpu::stream stream;
  launch(llama::gpu::launch_on{stream.get(), programmatic && llama::gpu::has_programmatic_launch()});
  stream.wait();
}

}  // namespace

// Guards against a position that no warp, split or turn of the loop takes, or takes twice, and against keys
// of the cache behind the token's, which nobody has written.
TEST_CASE("attention of one token") {
  if (!has_gpu()) return;
  struct layer {
    int sequences, heads, key_value_heads, size;
  };
  // In a cluster of four thread blocks a head, of two, and alone, on a GPU of 132 multiprocessors.
  const layer l = GENERATE(layer{1, 4, 4, 128}, layer{1, 8, 2, 64}, layer{5, 8, 2, 128}, layer{9, 8, 8, 64},
                           layer{2, 3, 1, 40}, layer{1, 2, 1, 256}, layer{1, 2, 1, 6});
  const int context = 1100;
  for (const int at : {0, 1, 7, 15, 16, 63, 64, 127, 128, 129, 511, 512, 513, 1099}) {
    CAPTURE(l.sequences, l.heads, l.key_value_heads, l.size, at);
    const llama::gpu::attention_shape shape = {l.sequences, 1, l.heads, l.key_value_heads, l.size, context};
    const auto width = static_cast<size_t>(shape.width()), size = static_cast<size_t>(l.size);
    const size_t cached = static_cast<size_t>(l.sequences * l.key_value_heads * context) * size;
    const auto row_of = [&](int sequence, int kv, int position) {
      return (static_cast<size_t>(sequence * l.key_value_heads + kv) * context +
              static_cast<size_t>(position)) *
             size;
    };
    const std::vector<half_bits> qkv = random_halves(static_cast<size_t>(l.sequences) * width);
    std::vector<half_bits> keys = random_halves(cached), values = random_halves(cached);
    for (int s = 0; s < l.sequences * l.key_value_heads; ++s) {
      const size_t begin = row_of(0, s, at), end = row_of(0, s, context);
      std::fill(keys.begin() + static_cast<long>(begin), keys.begin() + static_cast<long>(end), poison);
      std::fill(values.begin() + static_cast<long>(begin), values.begin() + static_cast<long>(end), poison);
    }
    std::vector<float2> turns(static_cast<size_t>(context * l.size / 2));
    for (float2& t : turns) {
      const float angle = 3 * normal();
      t = {std::cos(angle), std::sin(angle)};
    }
    const memory qkv_there = memory::copy(qkv.data(), qkv.size() * sizeof(half_bits));
    const memory turns_there = memory::copy(turns.data(), turns.size() * sizeof(float2));
    const memory position = memory::copy(&at, sizeof at);
    const guarded<half_bits> keys_there(keys, poison), values_there(values, poison);
    const size_t outputs = static_cast<size_t>(l.sequences * l.heads) * size;
    const guarded<half_bits> out(std::vector<half_bits>(outputs, poison), poison);
    run(at % 2 != 0, [&](const llama::gpu::launch_on& on) {
      llama::gpu::attend(on, shape, true, qkv_there.as<half_bits>(), turns_there.as<float2>(),
                         position.as<int>(), {keys_there.get(), values_there.get()}, out.get());
    });
    const std::vector<half_bits> made_keys = keys_there.read(), made_values = values_there.read();
    const std::vector<half_bits> found = out.read();

    const auto turned = [&](const half_bits* row, int d) {
      const int pairs = l.size / 2, pair = d % pairs;
      const float2 t = turns[static_cast<size_t>(at * pairs + pair)];
      return d < pairs ? value(row[d]) * double{t.x} - value(row[d + pairs]) * double{t.y}
                       : value(row[d]) * double{t.x} + value(row[d - pairs]) * double{t.y};
    };
    // The token's key and value are in the cache, and nothing else has changed.
    for (int s = 0; s < l.sequences; ++s) {
      for (int kv = 0; kv < l.key_value_heads; ++kv) {
        const half_bits* key = qkv.data() + static_cast<size_t>(s) * width + (l.heads + kv) * l.size;
        const half_bits* kept = key + l.key_value_heads * l.size;
        const size_t row = row_of(s, kv, at);
        for (int d = 0; d < l.size; ++d) {
          const size_t i = row + static_cast<size_t>(d);
          const double exact = turned(key, d);
          // Three roundings of FP32 before that to FP16, of terms no larger than 8.
          CHECK(std::fabs(value(made_keys[i]) - exact) <= half_rounding(exact) + 3 * 8 * 0x1p-24);
          CHECK(made_values[i] == kept[d]);
          keys[i] = made_keys[i];
          values[i] = made_values[i];
        }
      }
    }
    CHECK(keys == made_keys);
    CHECK(values == made_values);

    for (int s = 0; s < l.sequences; ++s) {
      for (int head = 0; head < l.heads; ++head) {
        const int kv = head / (l.heads / l.key_value_heads);
        const half_bits* query = qkv.data() + static_cast<size_t>(s) * width + head * l.size;
        std::vector<double> scores;
        double magnitude = 0, largest = -INFINITY, smallest = INFINITY, sum = 0;
        for (int p = 0; p <= at; ++p) {
          double score = 0, sizes = 0;
          for (int d = 0; d < l.size; ++d) {
            const double term = turned(query, d) * value(keys[row_of(s, kv, p) + static_cast<size_t>(d)]) /
                                std::sqrt(double(l.size));
            score += term;
            sizes += std::fabs(term);
          }
          scores.push_back(score);
          magnitude = std::max(magnitude, sizes);
          largest = std::max(largest, score);
          smallest = std::min(smallest, score);
        }
        for (double& score : scores) sum += score = std::exp(score - largest);
        // A score's error: of each term the rotation's three roundings, the scale's and the product's, and
        // the sum's. Relative to itself a weight has twice that (its own and the largest score's) and the two
        // exponentials' (2 + 1.2 |x| units each, as the CUDA manual says); sums of so many add half a unit
        // each. The denominator has the same.
        const double score_error = (l.size + 6) * magnitude * 0x1p-24;
        const double weight_error =
            2 * score_error + 2 * (2 + 1.2 * (largest - smallest)) * 0x1p-23 + (at + 40) * 0x1p-24;
        for (int d = 0; d < l.size; ++d) {
          double exact = 0, most = 0;
          for (int p = 0; p <= at; ++p) {
            const double v = value(values[row_of(s, kv, p) + static_cast<size_t>(d)]);
            exact += scores[static_cast<size_t>(p)] / sum * v;
            most += scores[static_cast<size_t>(p)] / sum * std::fabs(v);
          }
          const double got = value(found[static_cast<size_t>((s * l.heads + head) * l.size + d)]);
          const double allowed = 2 * weight_error * most + half_rounding(exact);
          if (!(std::fabs(got - exact) <= allowed)) {
            FAIL("sequence " << s << ", head " << head << ", dimension " << d << ": " << got
                             << " in place of " << exact << ", allowed " << allowed);
          }
        }
      }
    }
  }
}

// Guards against sizes that do not go evenly among threads, and against a residual that is not written back.
TEST_CASE("the norm, and what is added before") {
  if (!has_gpu()) return;
  const float epsilon = 1e-5f;
  for (const int hidden : {1, 30, 256, 511, 512, 513, 2048, 4096, 5120, 8192, 16384, 16896}) {
    for (const bool adds : {false, true}) {
      const int m = 3;
      CAPTURE(hidden, adds);
      const auto count = static_cast<size_t>(m * hidden);
      std::vector<float> x(count), weight(static_cast<size_t>(hidden));
      for (float& v : x) v = 5 * normal();
      for (float& v : weight) v = normal();
      const std::vector<half_bits> delta = random_halves(count);
      const memory delta_there = memory::copy(delta.data(), count * sizeof(half_bits));
      const memory weight_there = memory::copy(weight.data(), weight.size() * sizeof(float));
      const guarded<float> x_there(x, -1);
      const guarded<half_bits> out(std::vector<half_bits>(count, poison), poison);
      run(hidden % 2 == 0, [&](const llama::gpu::launch_on& on) {
        llama::gpu::add_and_norm(on, x_there.get(), adds ? delta_there.as<half_bits>() : nullptr,
                                 weight_there.as<float>(), epsilon, m, hidden, out.get());
      });
      const std::vector<float> kept = x_there.read();
      const std::vector<half_bits> found = out.read();
      for (size_t t = 0; t < count; t += static_cast<size_t>(hidden)) {
        double squares = 0;
        for (size_t i = t; i < t + static_cast<size_t>(hidden); ++i) {
          const float sum = adds ? x[i] + floatx::f16_to_f32(delta[i]) : x[i];
          if (kept[i] != sum) FAIL("x is " << kept[i] << " in place of " << sum);
          squares += double{sum} * double{sum};
        }
        const double factor = 1 / std::sqrt(squares / hidden + double{epsilon});
        for (size_t i = t; i < t + static_cast<size_t>(hidden); ++i) {
          const double exact = double{kept[i]} * factor * double{weight[i % static_cast<size_t>(hidden)]};
          // In FP32: up to 33 squares and ten sums of warps in a row, a division, a root and two products,
          // each of which rounds by 2^-24, the division and the root by 2^-22.
          const double allowed = half_rounding(exact) + 64 * 0x1p-24 * std::fabs(exact);
          if (!(std::fabs(value(found[i]) - exact) <= allowed)) {
            FAIL("value " << i << ": " << value(found[i]) << " in place of " << exact);
          }
        }
      }
    }
  }
}

// Guards against gates far from zero, where the exponential overflows, and against tails.
TEST_CASE("SwiGLU") {
  if (!has_gpu()) return;
  for (const int inner : {1, 2, 511, 512, 514, 11008}) {
    const int m = 2;
    CAPTURE(inner);
    std::vector<half_bits> gate_up = random_halves(static_cast<size_t>(2 * m * inner));
    gate_up[0] = floatx::f32_to_f16(-60000);
    gate_up[static_cast<size_t>(2 * inner)] = floatx::f32_to_f16(60000);
    const memory there = memory::copy(gate_up.data(), gate_up.size() * sizeof(half_bits));
    const guarded<half_bits> out(std::vector<half_bits>(static_cast<size_t>(m * inner), poison), poison);
    run(inner % 4 == 2, [&](const llama::gpu::launch_on& on) {
      llama::gpu::swiglu(on, there.as<half_bits>(), m, inner, out.get());
    });
    const std::vector<half_bits> found = out.read();
    for (int t = 0; t < m; ++t) {
      for (int i = 0; i < inner; ++i) {
        const auto at = static_cast<size_t>(2 * t * inner + i);
        const double gate = value(gate_up[at]), up = value(gate_up[at + static_cast<size_t>(inner)]);
        const double exact = gate / (1 + std::exp(-gate)) * up;
        const double got = value(found[static_cast<size_t>(t * inner + i)]);
        if (std::fabs(exact) >= 65520) {
          CHECK((std::isinf(got) && (got > 0) == (exact > 0)));
          continue;
        }
        // The exponential is off by 2 + 1.2 |gate| units of 2^-23 where it counts, the division by 2, two
        // sums and a product by half of one.
        const double allowed =
            half_rounding(exact) + (6 + 1.2 * std::min(std::fabs(gate), 90.0)) * 0x1p-23 * std::fabs(exact);
        if (!(std::fabs(got - exact) <= allowed)) FAIL("gate " << gate << ", up " << up << ": " << got);
      }
    }
  }
}
