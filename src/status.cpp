#include "status.hpp"

#include <cstdarg>
#include <cstdio>
#include <cstring>

namespace floatx {
namespace {
thread_local char message_of_thread[512] = "";
}

void fail(floatx_status status, const char* format, ...) {
  char text[sizeof message_of_thread];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  throw failure{status, text};
}

void set_last_error(const char* message) noexcept {
  std::strncpy(message_of_thread, message, sizeof message_of_thread - 1);
  message_of_thread[sizeof message_of_thread - 1] = '\0';
}

const char* last_error() noexcept { return message_of_thread; }

}  // namespace floatx
