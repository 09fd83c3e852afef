// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/progress.hpp>

#include <isobar/core/text.hpp>

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <iostream>
#include <iterator>
#include <limits>
#include <utility>

namespace isobar {
namespace {

constexpr double kRedrawIntervalS = 0.1;
constexpr int kBarColumns = 24;

int terminal_columns() {
  winsize size{};
  const bool known = ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return known ? size.ws_col : 80;
}

}  // namespace

Progress::Progress(ProgressOptions options) : options_(std::move(options)) {
  if (options_.out == nullptr) options_.out = &std::cerr;
  if (!options_.terminal) options_.terminal = ::isatty(STDERR_FILENO) != 0;
  if (options_.columns == 0) options_.columns = terminal_columns();
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
  const double now = now_s();
  const double interval = *options_.terminal ? kRedrawIntervalS : options_.line_interval_s;
  if (now - shown_s_ >= interval) show(now);
}

void Progress::finish() {
  if (options_.rank != 0 || ended_) return;
  show(now_s());
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
  if (!*options_.terminal) {
    *options_.out << status(now) << std::endl;
    return;
  }
  // One column stays free: a full line would wrap, and '\r' then not return.
  const auto width = static_cast<std::size_t>(std::max(options_.columns - 1, 0));
  *options_.out << "\r\x1b[K" << (bar() + status(now)).substr(0, width) << std::flush;
  line_open_ = true;
}

std::string Progress::bar() const {
  if (options_.total <= 0) return "";
  const double share = static_cast<double>(done_) / static_cast<double>(options_.total);
  const int filled = std::clamp(static_cast<int>(share * kBarColumns), 0, kBarColumns);
  return fmt::format("[{}{}] ", std::string(static_cast<std::size_t>(filled), '='),
                     std::string(static_cast<std::size_t>(kBarColumns - filled), ' '));
}

std::string Progress::status(double now) const {
  std::string text = fmt::format("{} {}", options_.label, done_);
  auto out = std::back_inserter(text);
  if (options_.total > 0) {
    fmt::format_to(out, "/{} ({} %)", options_.total, 100 * done_ / options_.total);
  }
  const auto progressed = static_cast<double>(done_ - options_.start);
  if (progressed > 0 && now > start_s_) {
    const double rate = progressed / (now - start_s_);
    fmt::format_to(out, ", {:.3g} {}/s", rate, options_.unit);
    const auto left = static_cast<double>(options_.total - done_);
    if (left > 0) fmt::format_to(out, ", {} left", format_duration(left / rate));
  }
  for (const auto& [name, value] : fields_) fmt::format_to(out, ", {} {:.4g}", name, value);
  return text;
}

}  // namespace isobar
