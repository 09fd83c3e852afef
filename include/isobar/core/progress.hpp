// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <iosfwd>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace isobar {

struct ProgressOptions {
  /// Ranks other than 0 are silent.
  int rank = 0;
  std::string label = "step";
  /// The count that is reached at the end; 0 where it is not known.
  std::int64_t total = 0;
  /// The count at construction, which a resumed run does not begin with 0.
  std::int64_t start = 0;
  /// What is counted, for the rate: "step" gives "3.2 step/s".
  std::string unit = "step";
  /// Where no terminal is: seconds between lines.
  double line_interval_s = 10;
  /// Whether `out` is a terminal; unset, standard error is asked, or that of the launcher which
  /// copies it.
  std::optional<bool> terminal = {};
  /// Columns of the terminal; 0 asks it.
  int columns = 0;
  /// Where to write; null is standard error. Must outlive the Progress.
  std::ostream* out = nullptr;
  /// Monotonic seconds, for tests; empty is the steady clock.
  std::function<double()> clock_s = {};
  /// What a plain line begins with, for tests; empty is the local time of day.
  std::function<std::string()> time_of_day = {};
};

/// Values shown after a count, such as {"loss", 0.53}. The first one is shown before rate and time
/// left, and so on narrow terminals too.
using ProgressFields = std::vector<std::pair<std::string, double>>;

/// Shows how far a loop has come: on a terminal a bar on one line, redrawn at
/// most ten times a second, without what its columns do not hold; elsewhere plain
/// lines with the time of day, at most one in `line_interval_s`. The rate is the mean since
/// construction. Not for use from several threads.
class Progress {
 public:
  explicit Progress(ProgressOptions options);

  /// Leaves a bar's line, so that what follows begins on its own.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `done` counts from the beginning of the run, like `start`.
  void update(std::int64_t done, ProgressFields fields = {});

  /// Shows the last state, whenever the one before was shown; a plain line of it that is there
  /// already stays the only one.
  void finish();

 private:
  double now_s() const;
  void show(double now);
  std::string bar(int columns) const;
  std::vector<std::string> status(double now) const;

  ProgressOptions options_;
  double start_s_ = 0;
  double shown_s_ = 0;
  bool shown_ = false;  ///< the last state
  std::int64_t done_ = 0;
  ProgressFields fields_;
  bool ended_ = false;
  bool line_open_ = false;
};

}  // namespace isobar
