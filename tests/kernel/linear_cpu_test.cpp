// The CPU linear layer against FP64, on every instruction set that this machine has.
#include "kernel/linear_problem.hpp"

using namespace floatx;
using namespace floatx::test;

TEST_CASE("the best instruction set is the one in use", "[linear]") {
  // Risk: a kernel that is tested but never chosen, or the other way round.
  const auto& supported = cpu::supported_kernels();
  REQUIRE_FALSE(supported.empty());
  CHECK(std::string(cpu::name(*supported.front())) == "portable");
  CHECK(std::string(cpu::name(*supported.back())) == cpu::isa());
}

TEST_CASE("every format with every kind of scale", "[linear]") {
  // Risk: a bit misplaced in one of the decoders, a scale type or a group boundary mistaken.
  uint32_t seed = 1;
  for (const floatx_format format : all_formats) {
    for (const int64_t group_size : all_group_sizes) {
      for (const floatx_scale_type scale_type : all_scale_types) {
        const packed_weight w(random_weight(format, 33, 161, group_size, scale_type, seed++));
        const floatx_type x_type = all_types[seed % 3];
        for (const int64_t m : {1, 3, 66}) {
          const activations x(x_type, m, w.shape.k, w.shape.k, seed);
          for (const cpu::kernels* isa : cpu::supported_kernels()) {
            INFO(describe(*isa, w, m, x_type, FLOATX_TYPE_F32));
            outputs y(FLOATX_TYPE_F32, m, w.shape.n, w.shape.n);
            run(*isa, w, x, nullptr, y);
            check(w, x, nullptr, y);
          }
        }
      }
    }
  }
}

TEST_CASE("odd shapes", "[linear]") {
  // Risk: edges: a strip, unit, panel, group or tile that is not full, read or written past its end.
  uint32_t seed = 1000;
  for (const floatx_format format : {FLOATX_FORMAT_E2M1, FLOATX_FORMAT_E3M2, FLOATX_FORMAT_E5M0}) {
    for (const int64_t group_size : {0, 16, 64}) {
      for (const int64_t n : {1, 15, 16, 17, 33, 70}) {
        for (const int64_t k : {1, 15, 16, 17, 31, 33, 127, 128, 129, 300}) {
          const packed_weight w(random_weight(format, n, k, group_size, FLOATX_SCALE_F16, seed++));
          for (const int64_t m : {1, 2, 3, 5, 17, 67}) {
            const floatx_type x_type = all_types[seed % 3], y_type = all_types[seed / 3 % 3];
            const activations x(x_type, m, k, k + static_cast<int64_t>(seed % 4), seed);
            const std::vector<uint8_t> bias = random_bias(y_type, n, seed);
            for (const cpu::kernels* isa : cpu::supported_kernels()) {
              INFO(describe(*isa, w, m, x_type, y_type));
              outputs y(y_type, m, n, n + static_cast<int64_t>(seed % 5));
              run(*isa, w, x, bias.data(), y);
              check(w, x, &bias, y);
            }
            ++seed;
          }
        }
      }
    }
  }
}

TEST_CASE("every type of x with every type of y, with and without bias", "[linear]") {
  // Risk: a conversion that truncates, or a path that only one combination takes.
  for (const int64_t group_size : {0, 32}) {
    const packed_weight w(random_weight(FLOATX_FORMAT_E2M3, 50, 260, group_size, FLOATX_SCALE_BF16, 7));
    for (const floatx_type x_type : all_types) {
      for (const floatx_type y_type : all_types) {
        const std::vector<uint8_t> bias = random_bias(y_type, w.shape.n, 8);
        for (const int64_t m : {1, 2, 4, 6, 8, 9, 25, 70}) {
          const activations x(x_type, m, w.shape.k, w.shape.k + 3, 9);
          for (const bool with_bias : {false, true}) {
            for (const cpu::kernels* isa : cpu::supported_kernels()) {
              INFO(describe(*isa, w, m, x_type, y_type) << " bias " << with_bias);
              outputs y(y_type, m, w.shape.n, w.shape.n + 1);
              run(*isa, w, x, with_bias ? bias.data() : nullptr, y);
              check(w, x, with_bias ? &bias : nullptr, y);
            }
          }
        }
      }
    }
  }
}

TEST_CASE("more tokens than are packed at once", "[linear]") {
  // Risk: the second block of tokens, whose first token is not 0.
  const packed_weight w(random_weight(FLOATX_FORMAT_E3M2, 40, 70, 32, FLOATX_SCALE_F32, 3));
  for (const floatx_type x_type : all_types) {
    const activations x(x_type, 1100, w.shape.k, w.shape.k, 4);
    for (const cpu::kernels* isa : cpu::supported_kernels()) {
      INFO(describe(*isa, w, x.m, x_type, FLOATX_TYPE_F32));
      outputs y(FLOATX_TYPE_F32, x.m, w.shape.n, w.shape.n);
      run(*isa, w, x, nullptr, y);
      check(w, x, nullptr, y);
    }
  }
}

TEST_CASE("NaN and Inf reach exactly their rows", "[linear]") {
  // Risk: 0 * Inf in the padding of k, or a tile that mixes tokens.
  constexpr float infinity = std::numeric_limits<float>::infinity();
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  for (const int64_t group_size : {0, 16, 32}) {
    const packed_weight w(random_weight(FLOATX_FORMAT_E3M2, 35, 45, group_size, FLOATX_SCALE_F32, 21));
    for (const floatx_type x_type : all_types) {
      for (const int64_t m : {1, 2, 4, 7, 13, 77}) {
        for (const cpu::kernels* isa : cpu::supported_kernels()) {
          INFO(describe(*isa, w, m, x_type, FLOATX_TYPE_F32));
          activations x(x_type, m, w.shape.k, w.shape.k, 22);
          outputs clean(FLOATX_TYPE_F32, m, w.shape.n, w.shape.n);
          run(*isa, w, x, nullptr, clean);
          const int64_t token = m / 2, column = w.shape.k - 1;
          for (const float special : {infinity, -infinity, nan}) {
            x.set(token, column, special);
            outputs y(FLOATX_TYPE_F32, m, w.shape.n, w.shape.n);
            run(*isa, w, x, nullptr, y);
            for (int64_t t = 0; t < m; ++t) {
              for (int64_t row = 0; row < w.shape.n; ++row) {
                const double weight = w.dense[static_cast<size_t>(row * w.shape.k + column)];
                const double expected = static_cast<double>(special) * weight;  // NaN for a weight of 0
                if (t != token) {
                  REQUIRE(y.at(t, row) == clean.at(t, row));
                } else if (std::isnan(expected)) {
                  REQUIRE(std::isnan(y.at(t, row)));
                } else {
                  REQUIRE(y.at(t, row) == expected);
                }
              }
            }
          }
        }
      }
    }
  }
}

TEST_CASE("sums stay in range wherever the result does", "[linear]") {
  // Risk: x . w overflows (or vanishes) although x . (w * scale) is an ordinary number.
  struct extreme {
    float x, scale;
  };
  for (const extreme e :
       {extreme{0x1p126f, 0x1p-120f}, extreme{0x1p-126f, 0x1p90f}, extreme{0x1p100f, 0x1p-30f}}) {
    for (const int64_t group_size : {0, 32}) {
      reference::weight canonical =
          random_weight(FLOATX_FORMAT_E3M2, 20, 90, group_size, FLOATX_SCALE_F32, 31);
      for (size_t i = 0; i < canonical.scales.size() / 4; ++i) {
        store(FLOATX_TYPE_F32, canonical.scales.data(), i, e.scale);
      }
      const packed_weight w(canonical);
      for (const floatx_type x_type : {FLOATX_TYPE_F32, FLOATX_TYPE_BF16}) {
        for (const int64_t m : {1, 3, 66}) {
          activations x(x_type, m, w.shape.k, w.shape.k, 32);
          for (int64_t t = 0; t < m; ++t) {
            for (int64_t i = 0; i < x.k; ++i) x.set(t, i, (i % 3 ? 1.0f : -1.5f) * e.x);
          }
          const std::vector<uint8_t> bias = random_bias(FLOATX_TYPE_F32, w.shape.n, 33);
          for (const cpu::kernels* isa : cpu::supported_kernels()) {
            INFO(describe(*isa, w, m, x_type, FLOATX_TYPE_F32) << " x " << e.x << " scale " << e.scale);
            outputs y(FLOATX_TYPE_F32, m, w.shape.n, w.shape.n);
            run(*isa, w, x, bias.data(), y);
            check(w, x, &bias, y);
          }
        }
      }
    }
  }
}

TEST_CASE("subnormal numbers of FP16", "[linear]") {
  // Risk: x or y flushed to zero, or a subnormal x rounded on its way to BF16.
  const packed_weight w(random_weight(FLOATX_FORMAT_E2M1, 20, 64, 0, FLOATX_SCALE_F32, 41));
  for (const int64_t m : {1, 2, 5, 65}) {
    activations x(FLOATX_TYPE_F16, m, w.shape.k, w.shape.k, 42);
    for (int64_t t = 0; t < m; ++t) {
      for (int64_t i = 0; i < x.k; ++i) x.set(t, i, static_cast<float>(i * 16 + 1 + t) * 0x1p-24f);
    }
    for (const floatx_type y_type : all_types) {
      for (const cpu::kernels* isa : cpu::supported_kernels()) {
        INFO(describe(*isa, w, m, FLOATX_TYPE_F16, y_type));
        outputs y(y_type, m, w.shape.n, w.shape.n);
        run(*isa, w, x, nullptr, y);
        check(w, x, nullptr, y);
      }
    }
  }
}

TEST_CASE("a scale of zero makes its weights zero, and y may overflow its type", "[linear]") {
  // Risk: a zero scale treated as missing; a saturating instead of a rounding conversion.
  reference::weight canonical = random_weight(FLOATX_FORMAT_E2M2, 18, 50, 0, FLOATX_SCALE_F32, 51);
  std::fill(canonical.codes.begin(), canonical.codes.end(), uint8_t{0x0f});  // the largest value
  for (size_t row = 0; row < 18; ++row)
    store(FLOATX_TYPE_F32, canonical.scales.data(), row, row % 2 ? 0.0f : 1e4f);
  const packed_weight w(canonical);
  for (const int64_t m : {1, 6, 70}) {
    activations x(FLOATX_TYPE_F32, m, w.shape.k, w.shape.k, 52);
    for (int64_t t = 0; t < m; ++t) {
      for (int64_t i = 0; i < x.k; ++i) x.set(t, i, 1);
    }
    for (const cpu::kernels* isa : cpu::supported_kernels()) {
      INFO(describe(*isa, w, m, FLOATX_TYPE_F32, FLOATX_TYPE_F16));
      outputs y(FLOATX_TYPE_F16, m, w.shape.n, w.shape.n);
      run(*isa, w, x, nullptr, y);
      for (int64_t t = 0; t < m; ++t) {
        for (int64_t row = 0; row < w.shape.n; ++row) {
          REQUIRE(y.at(t, row) == (row % 2 ? 0.0 : std::numeric_limits<double>::infinity()));
        }
      }
    }
  }
}

TEST_CASE("conversions to y round to nearest even", "[linear]") {
  // Risk: truncation, or ties away from zero. One product of 1 lets a tie through untouched.
  reference::weight canonical = random_weight(FLOATX_FORMAT_E2M1, 1, 1, 0, FLOATX_SCALE_F32, 61);
  canonical.codes[0] = 0x2;  // 1.0
  store(FLOATX_TYPE_F32, canonical.scales.data(), 0, 1.0f);
  const packed_weight w(canonical);
  for (const float value : {1 + 0x1p-11f, 1 + 0x3p-11f, -1 - 0x1p-11f, 0x1p-25f, 0x3p-25f, 65520.0f, 65519.0f,
                            1 + 0x1p-8f, 1 + 0x3p-8f, 1 + 0x1.02p-8f, 3.3953139e38f, 0x1p-134f}) {
    activations x(FLOATX_TYPE_F32, 1, 1, 1, 62);
    x.set(0, 0, value);
    for (const floatx_type y_type : {FLOATX_TYPE_F16, FLOATX_TYPE_BF16}) {
      buffer expected(2);
      store(y_type, expected.data(), 0, value);
      for (const cpu::kernels* isa : cpu::supported_kernels()) {
        INFO(describe(*isa, w, 1, FLOATX_TYPE_F32, y_type) << " value " << value);
        outputs y(y_type, 1, 1, 1);
        run(*isa, w, x, nullptr, y);
        CHECK(y.at(0, 0) == reference::load(y_type, expected.data(), 0));
      }
    }
  }
}
