// What people see: tables on standard output, a progress bar on a terminal.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

namespace floatx::cli {

class text_table {
 public:
  enum class align { left, right };
  struct column {
    std::string title;
    align alignment = align::right;
  };

  explicit text_table(std::vector<column> columns) : columns_(std::move(columns)) {}
  void add(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  // A line between the rows so far and the next.
  void add_rule() { rows_.emplace_back(); }
  void print() const;

 private:
  std::vector<column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

// A line on standard error, redrawn at most ten times a second; nothing when that is no terminal.
class progress_bar {
 public:
  progress_bar(uint64_t total, bool wanted);
  ~progress_bar();
  progress_bar(const progress_bar&) = delete;
  progress_bar& operator=(const progress_bar&) = delete;

  // What is being worked on.
  void label(const std::string& text);
  // From any thread.
  void advance(uint64_t amount);
  // Clears the line, before other output.
  void finish();

 private:
  void draw();

  using clock = std::chrono::steady_clock;
  std::mutex mutex_;
  bool active_;
  uint64_t total_;
  uint64_t done_ = 0;
  std::string label_;
  clock::time_point start_ = clock::now();
  clock::time_point last_drawn_ = {};
};

}  // namespace floatx::cli
