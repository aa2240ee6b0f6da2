// What people see: a progress bar, tables, a figure.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <string>
#include <vector>

namespace llama {

// A line on standard error, redrawn at most ten times a second; nothing when that is no terminal.
class progress_bar {
 public:
  explicit progress_bar(std::string label);
  ~progress_bar();
  progress_bar(const progress_bar&) = delete;
  progress_bar& operator=(const progress_bar&) = delete;
  void show(double share);

 private:
  std::string label_;
  bool active_;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::chrono::steady_clock::time_point last_ = {};
};

// A table in Markdown, its columns as wide as they need to be, so that it reads well as text, too.
class markdown_table {
 public:
  explicit markdown_table(std::vector<std::string> titles) : rows_{std::move(titles)} {}
  void add(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  std::string text() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

// Horizontal bars in SVG, one for each row, with a text behind each.
struct bar {
  std::string label;
  double value;
  std::string text;
  bool marked;  // in another colour
};
std::string bar_chart(const std::string& title, const std::vector<bar>& bars);

// "2026-11-25"
std::string today();
// The processor, as the system calls it.
std::string processor_name();

}  // namespace llama
