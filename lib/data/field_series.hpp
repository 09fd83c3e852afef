// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/data/cf_time.hpp>
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "usual_changes.hpp"
#include "value_bins.hpp"

namespace isobar {

/// A run of times in which a variable's fields do not look like weather.
struct OddFields {
  std::string check;  ///< "unreadable", "missing", "constant", "far", "unchanged" or "changes"
  int64_t times = 0;  ///< how many, of all runs
  int64_t first = 0;  ///< seconds, of the first run
  int64_t last = 0;
  int64_t runs = 0;
  std::string text;  ///< for people, without the times
};

/// The fields of one variable in the order of their times, by what is kept of each: its range, what
/// is missing, and the root mean square of its change since the time before, if that is the usual
/// step earlier.
class FieldSeries {
 public:
  explicit FieldSeries(int64_t step_seconds) : step_(step_seconds) {}

  /// `values` [points] float32; NaN is missing.
  void add(int64_t time, const at::Tensor& values);

  /// A field that cannot be read, or holds what no variable of the weather is.
  void add_unreadable(int64_t time, const std::string& why);

  /// Fields that are constant where others of the variable are not (zero everywhere is a dry day,
  /// or night), that miss other numbers of values than most, that have values far outside all
  /// others, that are as a step before for much longer than usual, or whose change is far larger.
  std::vector<OddFields> odd() const;

 private:
  struct Facts {
    int64_t time = 0;
    double minimum = 0;
    double maximum = 0;
    double change = -1;  ///< none
    int64_t missing = 0;
    std::string unreadable;
  };

  template <typename Test>
  std::vector<int64_t> where(const Test& test) const;
  OddFields describe(const std::string& check, const std::vector<int64_t>& positions,
                     const std::string& text) const;
  bool is_constant(const Facts& facts) const;
  int64_t usually_missing() const;
  LargeChange large_change() const;
  std::vector<int64_t> unchanged() const;

  int64_t step_;
  std::vector<Facts> fields_;
  at::Tensor before_;
  ValueBins bins_{1};
};

}  // namespace isobar
