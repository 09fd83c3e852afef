// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/progress.hpp>

#include "core/terminal.hpp"

#include <isobar/core/text.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <ctime>
#include <iostream>
#include <limits>
#include <utility>

namespace isobar {
namespace {

constexpr double kRedrawIntervalS = 0.1;
constexpr int kBarColumns = 24;
constexpr int kLeastBarColumns = 5;

std::string local_time() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::localtime_r(&now, &parts);
  std::array<char, 16> text{};
  std::strftime(text.data(), text.size(), "%H:%M:%S", &parts);
  return text.data();
}

}  // namespace

Progress::Progress(ProgressOptions options) : options_(std::move(options)) {
  if (options_.out == nullptr) options_.out = &std::cerr;
  if (!options_.terminal || options_.columns == 0) {
    const auto found = detail::standard_error_terminal();
    if (!options_.terminal) options_.terminal = found.has_value();
    if (options_.columns == 0) options_.columns = found.value_or(detail::Terminal{}).columns;
  }
  start_s_ = now_s();
  // A bar appears at the first update, a plain line once there is something to tell.
  shown_s_ = *options_.terminal ? -std::numeric_limits<double>::infinity() : start_s_;
  done_ = options_.start;
}

Progress::~Progress() {
  try {
    if (line_open_) *options_.out << std::endl;
  } catch (...) {  // a stream that throws has nobody to tell
  }
}

void Progress::update(std::int64_t done, ProgressFields fields) {
  if (options_.rank != 0) return;
  done_ = done;
  fields_ = std::move(fields);
  shown_ = false;
  const double now = now_s();
  const double interval = *options_.terminal ? kRedrawIntervalS : options_.line_interval_s;
  if (now - shown_s_ >= interval) show(now);
}

void Progress::finish() {
  if (options_.rank != 0 || ended_) return;
  if (!shown_ || *options_.terminal) show(now_s());
  if (line_open_) *options_.out << std::endl;
  line_open_ = false;
  ended_ = true;
}

double Progress::now_s() const {
  if (options_.clock_s) return options_.clock_s();
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

void Progress::show(double now) {
  shown_s_ = now;
  shown_ = true;
  if (!*options_.terminal) {
    const auto time = options_.time_of_day ? options_.time_of_day() : local_time();
    *options_.out << time << ' ' << join_words(status(now)) << std::endl;
    return;
  }
  // One column stays free: a full line would wrap, and '\r' then not return.
  const auto width = static_cast<std::size_t>(std::max(options_.columns - 1, 0));
  auto parts = status(now);
  // What does not fit is left out whole, from the end; the bar takes what is left.
  while (parts.size() > 1 && join_words(parts).size() > width) parts.pop_back();
  const auto text = join_words(parts);
  const auto line = bar(static_cast<int>(width) - static_cast<int>(text.size())) + text;
  *options_.out << "\r\x1b[K" << line.substr(0, width) << std::flush;
  line_open_ = true;
}

std::string Progress::bar(int columns) const {
  columns = std::min(columns - 3, kBarColumns);  // without its brackets and a space
  if (options_.total <= 0 || columns < kLeastBarColumns) return "";
  const double share = static_cast<double>(done_) / static_cast<double>(options_.total);
  const int filled = std::clamp(static_cast<int>(share * columns), 0, columns);
  return fmt::format("[{}{}] ", std::string(static_cast<std::size_t>(filled), '='),
                     std::string(static_cast<std::size_t>(columns - filled), ' '));
}

/// In the order of what is missed most.
std::vector<std::string> Progress::status(double now) const {
  std::vector<std::string> parts{fmt::format("{} {}", options_.label, done_)};
  if (options_.total > 0) {
    parts[0] += fmt::format("/{} ({} %)", options_.total, 100 * done_ / options_.total);
  }
  const auto add_field = [&](std::size_t i) {
    if (i < fields_.size()) {
      parts.push_back(fmt::format("{} {:.4g}", fields_[i].first, fields_[i].second));
    }
  };
  add_field(0);
  const auto progressed = static_cast<double>(done_ - options_.start);
  if (progressed > 0 && now > start_s_) {
    const double rate = progressed / (now - start_s_);
    parts.push_back(fmt::format("{:.3g} {}/s", rate, options_.unit));
    const auto left = static_cast<double>(options_.total - done_);
    if (left > 0) parts.push_back(format_duration(left / rate) + " left");
  }
  for (std::size_t i = 1; i < fields_.size(); ++i) add_field(i);
  return parts;
}

}  // namespace isobar
