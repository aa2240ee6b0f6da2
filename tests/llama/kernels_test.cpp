// The example's kernels against FP64, one by one. Skipped where there is no GPU.
//
// SPDX-License-Identifier: Apache-2.0
#include "llama/kernels.hpp"

#include <algorithm>
#include <cmath>
#include <floatx/codec.hpp>
#include <random>
#include <vector>

#include "llama/gpu.hpp"
#include "support/catch.hpp"
#include "support/device_memory.hpp"

namespace {

using floatx::test::device_buffer;
using llama::gpu::half_bits;

constexpr half_bits not_a_number = 0x7fff;

// Values between guards in device memory, and back.
template <class Value>
device_buffer upload(const std::vector<Value>& values) {
  return {values.data(), values.size() * sizeof(Value)};
}
template <class Value>
Value* as(const device_buffer& buffer) {
  return reinterpret_cast<Value*>(buffer.data());
}
template <class Value>
std::vector<Value> download(const device_buffer& buffer) {
  REQUIRE(buffer.guards_intact());
  std::vector<Value> values(buffer.size() / sizeof(Value));
  buffer.download(values.data());
  return values;
}

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
  NEEDS_GPU;
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
      std::fill(keys.begin() + static_cast<long>(begin), keys.begin() + static_cast<long>(end), not_a_number);
      std::fill(values.begin() + static_cast<long>(begin), values.begin() + static_cast<long>(end),
                not_a_number);
    }
    std::vector<float2> turns(static_cast<size_t>(context * l.size / 2));
    for (float2& t : turns) {
      const float angle = 3 * normal();
      t = {std::cos(angle), std::sin(angle)};
    }
    const device_buffer qkv_there = upload(qkv);
    const device_buffer turns_there = upload(turns);
    const device_buffer position = upload(std::vector<int>{at});
    const device_buffer keys_there = upload(keys), values_there = upload(values);
    const size_t outputs = static_cast<size_t>(l.sequences * l.heads) * size;
    const device_buffer out = upload(std::vector<half_bits>(outputs, not_a_number));
    run(at % 2 != 0, [&](const llama::gpu::launch_on& on) {
      llama::gpu::attend(on, shape, true, as<half_bits>(qkv_there), as<float2>(turns_there),
                         as<int>(position), {as<half_bits>(keys_there), as<half_bits>(values_there)},
                         as<half_bits>(out));
    });
    const std::vector<half_bits> made_keys = download<half_bits>(keys_there),
                                 made_values = download<half_bits>(values_there);
    const std::vector<half_bits> found = download<half_bits>(out);

    const auto turned = [&](const half_bits* row, int d) {
      const int pairs = l.size / 2, pair = d % pairs;
      const float2 t = turns[static_cast<size_t>(at * pairs + pair)];
      return d < pairs ? value(row[d]) * double{t.x} - value(row[d + pairs]) * double{t.y}
                       : value(row[d]) * double{t.x} + value(row[d - pairs]) * double{t.y};
    };
    const auto turned_sizes = [&](const half_bits* row, int d) {
      const int pairs = l.size / 2;
      const float2 t = turns[static_cast<size_t>(at * pairs + d % pairs)];
      return std::fabs(value(row[d]) * double{t.x}) +
             std::fabs(value(row[d < pairs ? d + pairs : d - pairs]) * double{t.y});
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
        double magnitude = 0, rotated = 0, largest = -INFINITY, smallest = INFINITY, sum = 0;
        for (int p = 0; p <= at; ++p) {
          double score = 0, sizes = 0, rotations = 0;
          for (int d = 0; d < l.size; ++d) {
            const double key = value(keys[row_of(s, kv, p) + static_cast<size_t>(d)]) / std::sqrt(l.size);
            score += turned(query, d) * key;
            sizes += std::fabs(turned(query, d) * key);
            rotations += turned_sizes(query, d) * std::fabs(key);
          }
          scores.push_back(score);
          magnitude = std::max(magnitude, sizes);
          rotated = std::max(rotated, rotations);
          largest = std::max(largest, score);
          smallest = std::min(smallest, score);
        }
        for (double& score : scores) sum += score = std::exp(score - largest);
        // In units of 2^-24, which is what a rounding is off by. A score: three roundings of what the
        // rotation adds, and of each term the scale's, the product's and the sums'. A weight: twice that, its
        // own and the largest score's; of the exponentials (2 + 1.2 |x| units of 2^-23 each, as the CUDA
        // manual says) its own, as the largest score grows one a turn, and those of two joins, whose x add up
        // to the scores' range; and a product with each but its own. Sums: of four positions a turn, and at
        // most 20 of lanes, warps and thread blocks. The denominator has the same, and the division two units
        // of 2^-23. A turn takes four positions of each of eight warps, of each of their two or four groups
        // of lanes where heads are of 128 or 64.
        const double score_units = (l.size + 1) * magnitude + 3 * rotated;
        const int positions = l.size == 64 ? 128 : l.size == 128 ? 64 : 32;
        const int turns_taken = 1 + at / positions;
        const double units = 2 * score_units + 4 * (turns_taken + 2) + 2.4 * (largest - smallest) +
                             (turns_taken + 2) + 4 * turns_taken + 20 + 4;
        for (int d = 0; d < l.size; ++d) {
          double exact = 0, most = 0;
          for (int p = 0; p <= at; ++p) {
            const double v = value(values[row_of(s, kv, p) + static_cast<size_t>(d)]);
            exact += scores[static_cast<size_t>(p)] / sum * v;
            most += scores[static_cast<size_t>(p)] / sum * std::fabs(v);
          }
          const double got = value(found[static_cast<size_t>((s * l.heads + head) * l.size + d)]);
          const double allowed = 2 * units * 0x1p-24 * most + half_rounding(exact);
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
  NEEDS_GPU;
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
      const device_buffer delta_there = upload(delta);
      const device_buffer weight_there = upload(weight);
      const device_buffer x_there = upload(x);
      const device_buffer out = upload(std::vector<half_bits>(count, not_a_number));
      run(hidden % 2 == 0, [&](const llama::gpu::launch_on& on) {
        llama::gpu::add_and_norm(on, as<float>(x_there), adds ? as<half_bits>(delta_there) : nullptr,
                                 as<float>(weight_there), epsilon, m, hidden, as<half_bits>(out));
      });
      const std::vector<float> kept = download<float>(x_there);
      const std::vector<half_bits> found = download<half_bits>(out);
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
          // In FP32, in units of 2^-24: a square, its sum with 32 others and in ten steps with those of other
          // threads, epsilon, and 4 of the division, of all of which the root takes half; 4 of the root; two
          // products.
          const double allowed = half_rounding(exact) + 31 * 0x1p-24 * std::fabs(exact);
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
  NEEDS_GPU;
  for (const int inner : {1, 2, 511, 512, 514, 11008}) {
    const int m = 2;
    CAPTURE(inner);
    std::vector<half_bits> gate_up = random_halves(static_cast<size_t>(2 * m * inner));
    gate_up[0] = floatx::f32_to_f16(-60000);
    gate_up[static_cast<size_t>(2 * inner)] = floatx::f32_to_f16(60000);
    const device_buffer there = upload(gate_up);
    const device_buffer out = upload(std::vector<half_bits>(static_cast<size_t>(m * inner), not_a_number));
    run(inner % 4 == 2, [&](const llama::gpu::launch_on& on) {
      llama::gpu::swiglu(on, as<half_bits>(there), m, inner, as<half_bits>(out));
    });
    const std::vector<half_bits> found = download<half_bits>(out);
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
        // In units of 2^-23: the exponential is off by 2 + 1.2 |gate| where it counts, the division by 2, the
        // sum and the product by half of one.
        const double allowed =
            half_rounding(exact) + (5 + 1.2 * std::min(std::fabs(gate), 90.0)) * 0x1p-23 * std::fabs(exact);
        if (!(std::fabs(got - exact) <= allowed)) FAIL("gate " << gate << ", up " << up << ": " << got);
      }
    }
  }
}

// Guards against rows and columns beyond a warp's, and against weights of the wrong row.
TEST_CASE("products with dense weights") {
  NEEDS_GPU;
  for (const int m : {1, 3}) {
    for (const int n : {1, 2, 15, 16, 17, 1000}) {
      for (const int k : {1, 8, 100, 1016, 1024, 1032, 4096}) {
        CAPTURE(m, n, k);
        const auto columns = static_cast<size_t>(k);
        const std::vector<half_bits> x = random_halves(static_cast<size_t>(m) * columns);
        const std::vector<half_bits> w = random_halves(static_cast<size_t>(n) * columns);
        const device_buffer x_there = upload(x), w_there = upload(w);
        const device_buffer y = upload(std::vector<half_bits>(static_cast<size_t>(m * n), not_a_number));
        run(n % 2 == 0, [&](const llama::gpu::launch_on& on) {
          llama::gpu::dense_product(on, as<half_bits>(x_there), as<half_bits>(w_there), m, n, k,
                                    as<half_bits>(y));
        });
        const std::vector<half_bits> found = download<half_bits>(y);
        for (int t = 0; t < m; ++t) {
          for (int r = 0; r < n; ++r) {
            double exact = 0, sizes = 0;
            for (size_t i = 0; i < columns; ++i) {
              const double term = value(x[static_cast<size_t>(t) * columns + i]) *
                                  value(w[static_cast<size_t>(r) * columns + i]);
              exact += term;
              sizes += std::fabs(term);
            }
            // Products of two FP16 are exact in FP32. A lane adds up eight of each 256 columns, then 32 lanes
            // come together in five steps: each sum rounds by 2^-24 of what is there, sizes at most. One more
            // for what these roundings are rounded by.
            const int roundings = (k + 255) / 256 * 8 + 5 + 1;
            const double allowed = half_rounding(exact) + roundings * 0x1p-24 * sizes;
            const double got = value(found[static_cast<size_t>(t * n + r)]);
            if (!(std::fabs(got - exact) <= allowed)) {
              FAIL("token " << t << ", row " << r << ": " << got << " in place of " << exact);
            }
          }
        }
      }
    }
  }
}

// Guards against a token that is not the first of the likeliest, and against logits that are not numbers.
TEST_CASE("the likeliest token") {
  NEEDS_GPU;
  enum class logits_are { different, all_equal, in_part_not_numbers };
  for (const int vocabulary : {1, 7, 8, 2048, 32000, 32003}) {
    for (const auto are : {logits_are::different, logits_are::all_equal, logits_are::in_part_not_numbers}) {
      const int sequences = 2;
      CAPTURE(vocabulary, static_cast<int>(are));
      std::vector<half_bits> logits = random_halves(static_cast<size_t>(sequences * vocabulary));
      if (are == logits_are::all_equal) std::fill(logits.begin(), logits.end(), floatx::f32_to_f16(-3));
      if (are == logits_are::in_part_not_numbers) {
        for (size_t i = 0; i < logits.size(); i += 3) logits[i] = not_a_number;
      }
      const device_buffer there = upload(logits);
      const device_buffer tokens = upload(std::vector<int>(static_cast<size_t>(sequences), -1));
      const device_buffer position = upload(std::vector<int>{41});
      run(are == logits_are::all_equal, [&](const llama::gpu::launch_on& on) {
        llama::gpu::argmax_and_advance(on, as<half_bits>(there), sequences, vocabulary, as<int>(tokens),
                                       as<int>(position));
      });
      CHECK(download<int>(position) == std::vector<int>{42});
      const std::vector<int> found = download<int>(tokens);
      for (int s = 0; s < sequences; ++s) {
        const half_bits* row = logits.data() + static_cast<size_t>(s * vocabulary);
        int best = 0;
        double largest = -INFINITY;
        for (int i = 0; i < vocabulary; ++i) {
          if (value(row[i]) > largest) {
            largest = value(row[i]);
            best = i;
          }
        }
        CHECK(found[static_cast<size_t>(s)] == best);
      }
    }
  }
}
