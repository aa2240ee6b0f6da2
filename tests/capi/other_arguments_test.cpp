// Bad arguments of the functions around the weights, and the message of each thread.
#include <cmath>

#include "capi/arguments.hpp"

using namespace floatx::test;

TEST_CASE("the other functions refuse bad arguments", "[arguments]") {
  // Risk: NULL followed, or an enum from a newer header read past the end of a table.
  const floatx_weight w = describe(plain, FLOATX_LAYOUT_CPU);
  size_t bytes = 0;
  require_invalid(floatx_weight_sizes(&w, nullptr), "sizes is NULL");
  floatx_sizes sizes{};
  require_invalid(floatx_weight_sizes(&w, &sizes), "sizes->struct_size is 0");
  const auto workspace = [&](floatx_operation operation, floatx_memory memory, int64_t rows,
                             floatx_type type) {
    return floatx_workspace_bytes(&w, operation, memory, rows, type, &bytes);
  };
  const auto linear = FLOATX_OPERATION_LINEAR;
  const auto on_host = FLOATX_MEMORY_HOST;
  const auto f32 = FLOATX_TYPE_F32;
  require_invalid(workspace(unknown<floatx_operation>(), on_host, 1, f32), "operation is 99");
  require_invalid(workspace(linear, unknown<floatx_memory>(), 1, f32), "memory is 99");
  require_invalid(workspace(linear, FLOATX_MEMORY_DEVICE, 1, f32), "FLOATX_LAYOUT_CUDA");
  require_invalid(workspace(linear, on_host, 0, f32), "m is 0");
  require_invalid(workspace(linear, on_host, 1, unknown<floatx_type>()), "x_type is 99");
  require_invalid(floatx_workspace_bytes(&w, linear, on_host, 1, f32, nullptr), "bytes is NULL");

  floatx_format format = FLOATX_FORMAT_E3M2;
  require_invalid(floatx_format_parse(nullptr, &format), "name is NULL");
  require_invalid(floatx_format_parse("e3m2", nullptr), "format is NULL");
  for (const char* name : {"", "e", "e9m9", "e1m0", "e3m2 ", "float5_e3m2fn", "float6_e3m2f"}) {
    require_invalid(floatx_format_parse(name, &format), "name is");
  }
  CHECK(format == FLOATX_FORMAT_E3M2);

  floatx_format_info info{};
  require_invalid(floatx_format_describe(format, nullptr), "info is NULL");
  require_invalid(floatx_format_describe(format, &info), "info->struct_size is 0");
  info.struct_size = sizeof info;
  require_invalid(floatx_format_describe(unknown<floatx_format>(), &info), "format is 0x63");

  uint8_t code = 0xee;
  float value = 7;
  require_invalid(floatx_format_encode(unknown<floatx_format>(), 1, &code), "format is 0x63");
  require_invalid(floatx_format_encode(format, 1, nullptr), "code is NULL");
  require_failure(floatx_format_encode(format, std::nanf(""), &code), FLOATX_STATUS_INVALID_DATA,
                  "value is NaN");
  require_invalid(floatx_format_decode(format, 1, nullptr), "value is NULL");
  require_invalid(floatx_format_decode(format, 0x40, &value), "code is 0x40");
  CHECK(code == 0xee);
  CHECK(value == 7);

  floatx_threads* threads = nullptr;
  require_invalid(floatx_threads_create(1, nullptr, nullptr, nullptr), "threads is NULL");
  require_invalid(floatx_threads_create(-1, nullptr, nullptr, &threads), "count is -1");
  require_invalid(floatx_threads_create(1025, nullptr, nullptr, &threads), "count is 1025");
  CHECK(threads == nullptr);
  floatx_threads_destroy(nullptr);

  // With a GPU it is usable.
  if (floatx_layout_usable(FLOATX_LAYOUT_CUDA) != FLOATX_STATUS_OK) {
    require_failure(floatx_layout_usable(FLOATX_LAYOUT_CUDA), unsupported, "");
  }
  require_failure(floatx_layout_usable(FLOATX_LAYOUT_CANONICAL), unsupported, "canonical");
  require_invalid(floatx_layout_usable(unknown<floatx_layout>()), "layout is 99");
  CHECK(std::string(floatx_status_string(unknown<floatx_status>())) == "unknown status");
}

TEST_CASE("a success leaves the message of the last failure", "[arguments]") {
  // Risk: a message lost between the failure and the caller who reads it after cleaning up.
  require_invalid(floatx_weight_sizes(nullptr, nullptr), "sizes is NULL");
  REQUIRE(pack_call().run() == FLOATX_STATUS_OK);
  CHECK(std::string(floatx_last_error()).find("sizes is NULL") != std::string::npos);
}
