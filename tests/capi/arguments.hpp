// What the tests of bad input share: a call that is right until a test breaks it, and what must be said then.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "capi/weight_memory.hpp"

namespace floatx::test {

constexpr int64_t n = 20, k = 48, m = 3;
constexpr int64_t huge = int64_t{1} << 31;
constexpr weight_description plain = {FLOATX_FORMAT_E3M2, FLOATX_SCALE_F16, n, k, 16};
constexpr weight_description nvfp4 = {FLOATX_FORMAT_E2M1, FLOATX_SCALE_E4M3FN, n, k, 16};

constexpr floatx_status invalid_argument = FLOATX_STATUS_INVALID_ARGUMENT,
                        unsupported = FLOATX_STATUS_UNSUPPORTED, invalid_data = FLOATX_STATUS_INVALID_DATA;

template <class Enum>
Enum unknown(int value = 99) {
  return static_cast<Enum>(value);
}

inline void require_failure(floatx_status actual, floatx_status expected, const std::string& text) {
  const std::string message = floatx_last_error();
  INFO("message: " << message);
  CHECK(actual == expected);
  CHECK(message.find(text) != std::string::npos);
}

inline void require_invalid(floatx_status actual, const std::string& text) {
  require_failure(actual, invalid_argument, text);
}

inline floatx_execution host() {
  floatx_execution e{};
  e.struct_size = sizeof e;
  return e;
}

inline void* misaligned(void* pointer) { return static_cast<uint8_t*>(pointer) + 1; }

// One way to spoil something right, and what must be said of it.
template <class Subject>
struct mistake {
  std::function<void(Subject&)> spoil;
  floatx_status status;
  const char* text;
};

// Everything a call of floatx_pack needs, right until a test breaks it; nothing written unless it is OK.
struct pack_call {
  explicit pack_call(const weight_description& d = plain)
      : target(d, FLOATX_LAYOUT_CPU),
        weight(target.weight),
        data(static_cast<size_t>(d.n * d.k), 0.5f),
        values(data.data()),
        stride(d.k) {
    options.struct_size = sizeof options;
  }

  floatx_status run() const { return floatx_pack(&weight, type, values, stride, &options, &execution); }
  void invalid(const std::string& text) const { fails(invalid_argument, text); }
  void fails(floatx_status status, const std::string& text) const {
    require_failure(run(), status, text);
    CHECK(target.untouched());
  }

  weight_memory target;
  floatx_weight weight;
  std::vector<float> data;
  floatx_type type = FLOATX_TYPE_F32;
  const void* values;
  int64_t stride;
  floatx_pack_options options{};
  floatx_execution execution = host();
};

// Makes each mistake in a call of its own.
template <class Call>
void check_mistakes(const std::vector<mistake<Call>>& mistakes) {
  for (const mistake<Call>& wrong : mistakes) {
    CAPTURE(wrong.text);
    Call call;
    wrong.spoil(call);
    call.fails(wrong.status, wrong.text);
  }
}

}  // namespace floatx::test
