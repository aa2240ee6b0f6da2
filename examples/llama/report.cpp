// SPDX-License-Identifier: Apache-2.0
#include "report.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <fstream>

namespace llama {
namespace {

using clock = std::chrono::steady_clock;

// Code points, which is what the text here takes on screen.
size_t width(const std::string& text) {
  return static_cast<size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    out += c == '&' ? "&amp;" : c == '<' ? "&lt;" : c == '>' ? "&gt;" : std::string(1, c);
  }
  return out;
}

}  // namespace

progress_bar::progress_bar(std::string label)
    : label_(std::move(label)), active_(isatty(STDERR_FILENO) == 1) {}

progress_bar::~progress_bar() {
  if (drawn_) {
    fmt::print(stderr, "\r\x1b[K");
    std::fflush(stderr);
  }
}

void progress_bar::show(double share) {
  const clock::time_point now = clock::now();
  if (!active_ || now - last_ < std::chrono::milliseconds(100)) return;
  last_ = now;
  drawn_ = true;
  const double seconds = std::chrono::duration<double>(now - start_).count();
  const int filled = static_cast<int>(24 * share);
  // An estimate from the first moments would jump about.
  const std::string left =
      seconds > 2 && share > 0.02 ? fmt::format("  {:.0f} s left", seconds / share * (1 - share)) : "";
  fmt::print(stderr, "\r\x1b[K[{:#>{}}{:.>{}}] {:3.0f} %{}  {}", "", filled, "", 24 - filled, 100 * share,
             left, label_);
  std::fflush(stderr);
}

std::string markdown_table::text() const {
  std::vector<size_t> widths(rows_[0].size(), 0);
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width(row[i]));
  }
  std::string out;
  for (size_t r = 0; r < rows_.size(); ++r) {
    out += "|";
    for (size_t i = 0; i < widths.size(); ++i) {
      const std::string padding(widths[i] - width(rows_[r][i]), ' ');
      out += i == 0 ? fmt::format(" {}{} |", rows_[r][i], padding)
                    : fmt::format(" {}{} |", padding, rows_[r][i]);
    }
    out += "\n";
    if (r == 0) {
      out += "|";
      for (size_t i = 0; i < widths.size(); ++i) {
        out +=
            i == 0 ? fmt::format("{:->{}}|", "", widths[i] + 2) : fmt::format("{:->{}}:|", "", widths[i] + 1);
      }
      out += "\n";
    }
  }
  return out;
}

std::string bar_chart(const std::string& title, const std::vector<bar>& bars) {
  constexpr int row = 22, left = 150, longest = 420, right = 270, top = 34;
  double largest = 1e-30;
  for (const bar& b : bars) largest = std::max(largest, b.value);
  std::string out = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"sans-serif\" "
      "font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
      "<text x=\"10\" y=\"20\" font-size=\"14\">{}</text>\n",
      left + longest + right, top + row * static_cast<int>(bars.size()) + 8, escaped(title));
  int y = top;
  for (const bar& b : bars) {
    const double length = b.value / largest * longest;
    out += fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>", left - 8, y + 14,
                       escaped(b.label));
    out += fmt::format("<rect x=\"{}\" y=\"{}\" width=\"{:.1f}\" height=\"{}\" fill=\"{}\"/>", left, y + 3,
                       length, row - 6, b.marked ? "#b07aa1" : "#4e79a7");
    out += fmt::format("<text x=\"{:.1f}\" y=\"{}\">{}</text>\n", left + length + 6, y + 14, escaped(b.text));
    y += row;
  }
  return out + "</svg>\n";
}

std::string today() {
  const std::time_t now = std::time(nullptr);
  std::tm date = {};
  gmtime_r(&now, &date);
  return fmt::format("{:04}-{:02}-{:02}", date.tm_year + 1900, date.tm_mon + 1, date.tm_mday);
}

std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(": ");
    if (line.rfind("model name", 0) == 0 && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown";
}

}  // namespace llama
