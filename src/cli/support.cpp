// SPDX-License-Identifier: Apache-2.0
#include "cli/support.hpp"

#include <fmt/core.h>
#include <sys/stat.h>

#include <atomic>
#include <cmath>
#include <csignal>
#include <nlohmann/json.hpp>

namespace floatx::cli {
namespace {

constexpr size_t alignment = 64;

std::atomic<bool> signal_received{false};
static_assert(std::atomic<bool>::is_always_lock_free, "or a signal handler must not touch it");

extern "C" void remember_signal(int) { signal_received = true; }

}  // namespace

void catch_signals() {
  struct sigaction action = {};
  action.sa_handler = remember_signal;
  // A second signal ends the program at once.
  action.sa_flags = static_cast<int>(SA_RESETHAND) | SA_RESTART;
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
    sigaction(number, &action, nullptr);
  }
  // A file size limit shall be an error of write(), like a full disk, and not the end of the program.
  std::signal(SIGXFSZ, SIG_IGN);
}

void throw_if_interrupted() {
  if (signal_received) {
    throw interrupted();
  }
}

void check(floatx_status status, const std::string& context) {
  if (status != FLOATX_STATUS_OK) {
    throw std::runtime_error(fmt::format("{}: {}", context, floatx_last_error()));
  }
}

aligned_buffer::aligned_buffer(size_t bytes) { ensure(bytes); }

void* aligned_buffer::ensure(size_t bytes) {
  if (bytes > bytes_ || !memory_) {
    memory_.reset();
    bytes_ = 0;
    const size_t rounded = (bytes + alignment - 1) / alignment * alignment;
    memory_.reset(std::aligned_alloc(alignment, rounded == 0 ? alignment : rounded));
    if (!memory_) {
      throw std::bad_alloc();
    }
    bytes_ = bytes;
  }
  return memory_.get();
}

std::string show_bytes(uint64_t bytes) {
  const char* unit = "B";
  auto value = static_cast<double>(bytes);
  for (const char* larger : {"kB", "MB", "GB", "TB"}) {
    // 999.95 would print as 1000.0.
    if (value < (*unit == 'B' ? 1000.0 : 999.95)) {
      break;
    }
    value /= 1000;
    unit = larger;
  }
  return *unit == 'B' ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, unit);
}

json_report::json_report(const std::string& path, const std::vector<const io::model*>& inputs) {
  if (path.empty()) {
    return;
  }
  for (const io::model* input : inputs) {
    io::require_not_input(*input, path);
  }
  file_.emplace(path);
}

void json_report::write(const nlohmann::ordered_json& content) {
  if (file_) {
    const std::string text = content.dump(2) + "\n";
    file_->write(0, text.data(), text.size());
    file_->sync();
  }
}

void json_report::commit() {
  if (file_) {
    file_->commit();
  }
}

nlohmann::ordered_json finite_or_null(double value) {
  return std::isfinite(value) ? nlohmann::ordered_json(value) : nlohmann::ordered_json(nullptr);
}

}  // namespace floatx::cli
