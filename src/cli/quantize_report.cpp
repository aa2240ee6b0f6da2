// SPDX-License-Identifier: Apache-2.0
#include "cli/quantize_report.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cli/names.hpp"
#include "cli/support.hpp"
#include "cli/terminal.hpp"
#include "io/error.hpp"

namespace floatx::cli {
namespace {

void add_statistics(nlohmann::ordered_json& to, const error_statistics& s) {
  to["relative_rms_error"] = finite_or_null(s.relative_rms());
  to["snr_db"] = finite_or_null(s.snr_db());
  to["worst_error"] = finite_or_null(s.worst_error);
}

}  // namespace

void quantize_report::add(const quantized_entry& entry, const error_statistics& statistics) {
  const double bits = bits_per_weight(stored_tensors(scheme_, entry), entry.n, entry.k);
  const uint64_t weights = static_cast<uint64_t>(entry.n) * static_cast<uint64_t>(entry.k);
  rows_.push_back({entry, statistics, bits});
  total_.add(statistics);
  weights_ += weights;
  bits_ += bits * static_cast<double>(weights);
}

nlohmann::ordered_json quantize_report::json() const {
  nlohmann::ordered_json out;
  out["floatx"] = floatx_version_string();
  out.update(describe(scheme_));
  out["tensors"] = nlohmann::ordered_json::array();
  for (const row& r : rows_) {
    nlohmann::ordered_json tensor;
    tensor["name"] = r.entry.name;
    tensor["shape"] = {r.entry.n, r.entry.k};
    tensor["dtype"] = io::name(r.entry.original);
    tensor["scale_type"] = name(r.entry.scale_type);
    tensor["bits_per_weight"] = r.bits_per_weight;
    add_statistics(tensor, r.statistics);
    out["tensors"].push_back(tensor);
  }
  nlohmann::ordered_json& total = out["total"];
  total["weights"] = weights_;
  total["bits_per_weight"] = bits_ / static_cast<double>(weights_);
  add_statistics(total, total_);
  total["bytes_before"] = bytes_before_;
  total["bytes_after"] = bytes_after_;
  return out;
}

void quantize_report::print() const {
  using align = text_table::align;
  text_table table({{"tensor", align::left},
                    {"shape"},
                    {"format", align::left},
                    {"scales", align::left},
                    {"bits/weight"},
                    {"rel. RMS error"},
                    {"SNR dB"},
                    {"worst/absmax"}});
  const std::string format = describe(scheme_.format).name;
  const auto add = [&](const std::string& title, const std::string& shape, const std::string& scales,
                       double bits, const error_statistics& s) {
    table.add({title, shape, format, scales, fmt::format("{:.3f}", bits),
               fmt::format("{:.5f}", s.relative_rms()), fmt::format("{:.2f}", s.snr_db()),
               fmt::format("{:.5f}", s.worst_error)});
  };
  size_t wider = 0;
  for (const row& r : rows_) {
    std::string scales = scheme_.group_size == 0
                             ? fmt::format("{} a row", name(r.entry.scale_type))
                             : fmt::format("{} / {}", name(r.entry.scale_type), scheme_.group_size);
    if (r.entry.scale_type != scheme_.scale_type) {
      scales += " (wider)";
      ++wider;
    }
    add(io::printable(r.entry.name), fmt::format("{} x {}", r.entry.n, r.entry.k), scales, r.bits_per_weight,
        r.statistics);
  }
  table.add_rule();
  add(fmt::format("{} tensor{}", rows_.size(), rows_.size() == 1 ? "" : "s"),
      fmt::format("{} weights", weights_), "", bits_ / static_cast<double>(weights_), total_);
  table.print();
  if (wider > 0) {
    fmt::print("{} of them with F32 scales, because F16 does not hold theirs\n", wider);
  }
  fmt::print("size: {} before, {} after ({:.1f} %)\n", show_bytes(bytes_before_), show_bytes(bytes_after_),
             100.0 * static_cast<double>(bytes_after_) / static_cast<double>(bytes_before_));
}

}  // namespace floatx::cli
