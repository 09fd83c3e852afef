// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fmt/core.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>

namespace isobar {

struct LogOptions {
  int rank = 0;
  int size = 1;
  /// Ranks below this number write to standard error.
  int console_ranks = 1;
  /// Where given, every rank appends to rank_0000.log, rank_0001.log, ... in
  /// this folder, which is created.
  std::filesystem::path folder = {};
};

/// Writes lines that say when and where:
/// `12:00:01 [rank 1/4 step 120] warning: message`.
///
/// Time is local; the step is named from the first set_step() on. Lines are
/// whole and flushed one by one, from any number of threads. Standard error on
/// a terminal is cleared of a progress bar before a line. The constructor
/// throws Error where the file cannot be opened.
class Logger {
 public:
  explicit Logger(const LogOptions& options);
  ~Logger();
  Logger(Logger&&) noexcept;
  Logger& operator=(Logger&&) noexcept;

  template <typename... Args>
  void info(fmt::format_string<Args...> format, Args&&... args) {
    write(Level::info, fmt::format(format, std::forward<Args>(args)...));
  }

  template <typename... Args>
  void warn(fmt::format_string<Args...> format, Args&&... args) {
    write(Level::warning, fmt::format(format, std::forward<Args>(args)...));
  }

  template <typename... Args>
  void error(fmt::format_string<Args...> format, Args&&... args) {
    write(Level::error, fmt::format(format, std::forward<Args>(args)...));
  }

  /// The step that later lines name.
  void set_step(std::int64_t step);

 private:
  enum class Level { info, warning, error };
  struct Impl;

  void write(Level level, const std::string& message);

  std::unique_ptr<Impl> impl_;
};

}  // namespace isobar
