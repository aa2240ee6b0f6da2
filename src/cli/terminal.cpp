// SPDX-License-Identifier: Apache-2.0
#include "cli/terminal.hpp"

#include <fmt/core.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace floatx::cli {
namespace {

size_t terminal_columns() {
  winsize size = {};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

// Code points, which is what the names and units here take on screen.
size_t width(const std::string& text) {
  return static_cast<size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

}  // namespace

void text_table::print() const {
  std::vector<size_t> widths;
  for (const column& c : columns_) {
    widths.push_back(width(c.title));
  }
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) {
      widths[i] = std::max(widths[i], width(row[i]));
    }
  }
  const auto print_cells = [&](const auto& cell_of) {
    std::string line;
    for (size_t i = 0; i < columns_.size(); ++i) {
      const std::string& cell = cell_of(i);
      const std::string padding(widths[i] - width(cell), ' ');
      line += i > 0 ? "  " : "";
      line += columns_[i].alignment == align::left ? cell + padding : padding + cell;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    fmt::print("{}\n", line);
  };
  const auto print_rule = [&] {
    size_t total = 2 * (columns_.size() - 1);
    for (const size_t w : widths) {
      total += w;
    }
    fmt::print("{}\n", std::string(total, '-'));
  };
  print_cells([&](size_t i) -> const std::string& { return columns_[i].title; });
  print_rule();
  for (const auto& row : rows_) {
    if (row.empty()) {
      print_rule();
    } else {
      print_cells([&](size_t i) -> const std::string& { return row[i]; });
    }
  }
}

progress_bar::progress_bar(uint64_t total, bool wanted)
    : active_(wanted && isatty(STDERR_FILENO) == 1), total_(std::max<uint64_t>(total, 1)) {}

progress_bar::~progress_bar() { finish(); }

void progress_bar::label(const std::string& text) {
  const std::lock_guard<std::mutex> lock(mutex_);
  label_ = text;
}

void progress_bar::advance(uint64_t amount) {
  const std::lock_guard<std::mutex> lock(mutex_);
  done_ = std::min(done_ + amount, total_);
  if (active_ && clock::now() - last_drawn_ >= std::chrono::milliseconds(100)) {
    draw();
  }
}

void progress_bar::draw() {
  last_drawn_ = clock::now();
  const double share = static_cast<double>(done_) / static_cast<double>(total_);
  const double seconds = std::chrono::duration<double>(last_drawn_ - start_).count();
  constexpr int cells = 24;
  const int filled = static_cast<int>(share * cells);
  std::string line = fmt::format("[{}{}] {:3.0f} %", std::string(static_cast<size_t>(filled), '#'),
                                 std::string(static_cast<size_t>(cells - filled), '.'), 100 * share);
  // An estimate from the first moments would jump about.
  if (seconds > 2 && share > 0.02) {
    line += fmt::format("  {:.0f} s left", seconds / share * (1 - share));
  }
  line += "  " + label_;
  if (const size_t columns = terminal_columns(); line.size() >= columns) {
    line.resize(columns - 1);
  }
  fmt::print(stderr, "\r\x1b[K{}", line);
  std::fflush(stderr);
}

void progress_bar::finish() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (active_ && last_drawn_ != clock::time_point{}) {
    fmt::print(stderr, "\r\x1b[K");
    std::fflush(stderr);
  }
  active_ = false;
}

}  // namespace floatx::cli
