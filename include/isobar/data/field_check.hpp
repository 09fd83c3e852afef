// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace isobar {

/// Something that does not look like weather.
struct FieldFinding {
  /// When: times that follow each other make a run.
  struct When {
    int64_t times = 0;  ///< how many, of all runs
    int64_t runs = 0;
    std::string first;  ///< of the first run, as format_time() has them
    std::string last;
  };

  std::string variable;
  /// "file" (what is amiss with the file, its grid or its times), "unreadable", "missing",
  /// "constant", "far", "unchanged" or "changes".
  std::string check;
  std::string text;  ///< one line for people, with the times
  std::optional<When> when;
};

struct FieldCheckOptions {
  /// NetCDF-4 files of the same variables and grid.
  std::vector<std::string> paths = {};
  /// Empty: all that are fields over time.
  std::vector<std::string> variables = {};
  /// As DatasetOptions::select; of it each variable takes what concerns it.
  std::map<std::string, std::string> select = {};
};

/// Looks at every field of files for what does not look like weather: what cannot be read or is
/// missing, values far outside the rest, fields that are constant, do not change or change too
/// much, and what is amiss with times and grid. Reads each field once, by variable and in the order
/// of time; one thread calls it.
class FieldCheck {
 public:
  /// Reads what the first file says of its variables. Throws DataError where it cannot be read or
  /// none of them is a field over time, UsageError for a choice that no variable has a dimension
  /// for.
  explicit FieldCheck(FieldCheckOptions options);

  /// Those that there are to look at.
  const std::vector<std::string>& variables() const noexcept { return options_.variables; }

  /// Reads all fields of a variable; `read` is told how many of how many, 0 before the first. What
  /// is amiss with the files is a finding, too. Throws UsageError as Dataset does.
  void look_at(const std::string& variable,
               const std::function<void(int64_t done, int64_t total)>& read = nullptr);

  /// So far; each text once: a word on the grid comes with every variable on it.
  const std::vector<FieldFinding>& findings() const noexcept { return findings_; }

 private:
  void add(FieldFinding finding);
  void read_fields(const std::string& variable,
                   const std::function<void(int64_t done, int64_t total)>& read);
  std::map<std::string, std::string> choices_for(const std::string& variable) const;

  FieldCheckOptions options_;
  std::vector<FieldFinding> findings_;
};

}  // namespace isobar
