// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/data/dataset.hpp>
#include <isobar/data/moments.hpp>
#include <isobar/data/normalizer.hpp>
#include <isobar/data/period.hpp>
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace isobar {

struct FieldScanOptions {
  /// What statistics will be asked for: these, and what can be put together of the pieces into
  /// which their ends cut time. All times of the data set within one of them are read.
  std::vector<Period> periods;
  /// Further times to read, such as inputs from before a period, in seconds.
  std::vector<int64_t> times;
  /// The change from the field so many hours earlier is looked at, too. Positive.
  int64_t step_hours = 6;
};

/// Of one variable over a period.
struct ScanStatistics {
  VariableStatistics values;
  /// The standard deviation of the change over a step to the times of the period, from all pairs
  /// of fields that the data set has and that can be read; 0 without any.
  double change_stdev = 0;
  int64_t missing = 0;  ///< values
};

/// One pass over fields: reads each once, in order, and keeps what is to be known of them before
/// training, so that nothing is read for it again.
///
/// Ranks share it: each looks through its own part, and the parts are then put together, in the
/// same bits whatever the number of ranks (share_scan() does both). Moments are taken of each
/// field in double precision by two passes over memory, and joined in a fixed order.
///
/// Memory: the fields of one step and, a variable, 128 KiB and some 12 bytes for each field.
class FieldScan {
 public:
  /// Throws UsageError for options that make no sense.
  FieldScan(std::shared_ptr<const Dataset> dataset, FieldScanOptions options);
  ~FieldScan();
  FieldScan(FieldScan&&) noexcept;
  FieldScan& operator=(FieldScan&&) noexcept;

  /// Fields that all ranks read together.
  int64_t fields() const noexcept;

  /// Reads this rank's part, which is one run of times. `read` is called after each field; what it
  /// throws ends the reading. Throws what Dataset::read() does.
  void look_through(int rank, int size, const std::function<void()>& read = nullptr);

  /// What the ranks' parts are put together from, in place: every tensor of sums() is to be summed
  /// over them, every one of minima() to become their minimum, of maxima() their maximum.
  std::vector<at::Tensor> sums() const;
  std::vector<at::Tensor> minima() const;
  std::vector<at::Tensor> maxima() const;

  /// By variable. Throws UsageError for a period whose ends are none of the options', DataError for
  /// a variable without any value in it.
  std::vector<ScanStatistics> statistics(const Period& period) const;

  /// The first of `times` (seconds) at which a value of the variable is missing, of those that were
  /// read.
  std::optional<int64_t> first_missing(int64_t variable, const std::vector<int64_t>& times) const;

  /// Whether the variable has a value at one of `times` (seconds), of those that were read.
  bool has_value(int64_t variable, const std::vector<int64_t>& times) const;

  /// Whether suspicions() tell of values of the variable that are far outside all others.
  bool has_far_values(int64_t variable) const;

  /// Sentences about what does not look like weather: values far outside all others (a fill value
  /// that nothing declares), fields that are the same everywhere where others of the variable are
  /// not, or the same as a step before for much longer than usual, and changes over a step that are
  /// far larger than others.
  std::vector<std::string> suspicions() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace isobar
