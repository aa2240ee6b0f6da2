// How an error travels to capi.cpp: thrown as a failure, turned there into a status and a message.
#pragma once

#include <string>

#include "floatx.h"

namespace floatx {

struct failure {
  floatx_status status;
  std::string message;
};

// Throws a failure with a printf-formatted message that names argument, value and rule.
[[noreturn]] void fail(floatx_status status, const char* format, ...) __attribute__((format(printf, 2, 3)));

// The calling thread's last message. Setting it never throws; a message that finds no memory is cut.
void set_last_error(const char* message) noexcept;
const char* last_error() noexcept;

}  // namespace floatx
