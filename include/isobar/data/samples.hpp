// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/data/dataset.hpp>
#include <isobar/data/normalizer.hpp>
#include <isobar/data/period.hpp>
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace isobar {

/// What a sample holds, in hours from its analysis time.
struct SampleOptions {
  std::vector<int64_t> input_hours = {-18, -12, -6, 0};
  std::vector<int64_t> target_hours = {6};
  /// Those of the target hours that decide to which period a sample belongs; empty for all. A
  /// forecast that is scored at its last hour alone may begin before the period.
  std::vector<int64_t> period_hours = {};
  /// Further fields to compare a forecast with, such as the value 24 h before
  /// its target.
  std::vector<int64_t> reference_hours = {};
  /// Names of compute_forcings.
  std::vector<std::string> forcings = {};
  /// Variables of the data set that are seen and not forecast. They stand behind the
  /// computed forcings.
  std::vector<std::string> forcing_variables = {};
  /// The points wanted, [n] int64 on the CPU, as positions in the data set's order;
  /// undefined for all. Not to be changed afterwards.
  at::Tensor rows = {};
  /// Where the data set's points lie, in degrees [points], for the computed forcings of grids that
  /// have no axes; undefined for what the data set's axes say. Both or none.
  at::Tensor latitudes = {}, longitudes = {};
};

/// B samples on N points, all or those of the rows asked for; T input, S target and
/// R reference hours; P variables of the data set, all but the forcing variables; F forcings,
/// the computed ones and then the forcing variables, normalised. All float32 on the
/// CPU. Missing values, where the data set allows them, are NaN.
struct Batch {
  at::Tensor state;            ///< [B, T, N, P], normalised, at the input hours
  at::Tensor forcing;          ///< [B, T + S, N, F], at the input, then the target hours
  at::Tensor target;           ///< [B, S, N, P], normalised
  at::Tensor reference;        ///< [B, R, N, P], normalised; undefined without reference hours
  std::vector<int64_t> times;  ///< analysis times, as in Dataset::times()
};

/// The samples of a period.
///
/// A time of the data set is an analysis time of the period if the data set has
/// all its input, target and reference hours and all its targets (those of
/// SampleOptions::period_hours) lie within the period. Inputs and references may lie before the
/// period begins: only what is learnt from, or scored, decides to which period a sample belongs.
///
/// A set of some rows has the same samples as one of all points, cut to these rows
/// bit for bit, and reads and keeps little more than them: for ranks that share the
/// points of a model.
class SampleSet {
 public:
  /// Throws UsageError for options that make no sample, or a normalizer of
  /// other variables, and DataError where the period has no analysis time, which names the first
  /// hour for want of which there is none.
  SampleSet(std::shared_ptr<const Dataset> dataset, Normalizer normalizer, SampleOptions options,
            Period period);

  /// Analysis times, increasing.
  const std::vector<int64_t>& times() const noexcept { return times_; }
  int64_t size() const noexcept { return static_cast<int64_t>(times_.size()); }

  /// The target hours that lie within the period.
  const std::vector<int64_t>& period_hours() const noexcept {
    return options_.period_hours.empty() ? options_.target_hours : options_.period_hours;
  }
  /// The times of all samples at these hours, increasing, each once.
  std::vector<int64_t> target_times() const;

  /// The samples at the given positions of times(), in that order. Reads from
  /// the files what is not in memory; any thread may call it.
  Batch get(const std::vector<int64_t>& indices) const;

  /// The same with the first `targets` target hours only; what belongs to the others is not read.
  Batch get(const std::vector<int64_t>& indices, int64_t targets) const;

  /// [N, P] float32: the fields of one time of the data set, whether or not the period has it,
  /// normalised, as a batch has them. Throws DataError for a time that the data set lacks.
  at::Tensor field(int64_t time) const;

  /// The N points of its batches.
  int64_t points() const { return latitudes_.size(0); }
  /// The P variables of its batches.
  const std::vector<std::string>& variables() const noexcept { return variables_; }
  /// What one normalised unit of each is in its own units, float64 [P].
  at::Tensor unit() const;

  const Dataset& dataset() const noexcept { return *dataset_; }
  const Normalizer& normalizer() const noexcept { return normalizer_; }
  const SampleOptions& options() const noexcept { return options_; }

 private:
  bool usable(int64_t analysis_time, const Period& period) const;
  [[noreturn]] void fail_without_sample(const Period& period) const;
  void find_columns();
  at::Tensor fields(const std::vector<int64_t>& times, const std::vector<int64_t>& hours) const;
  at::Tensor forcings(const std::vector<int64_t>& times, const std::vector<int64_t>& hours) const;
  at::Tensor forecast_columns(const at::Tensor& fields) const;

  std::shared_ptr<const Dataset> dataset_;
  Normalizer normalizer_;
  SampleOptions options_;
  std::vector<int64_t> times_;
  std::vector<std::string> variables_;
  at::Tensor forecast_columns_;  ///< of the data set's variables
  at::Tensor forcing_columns_;
  at::Tensor latitudes_;
  at::Tensor longitudes_;
};

/// The target times that two sets have in common, increasing.
std::vector<int64_t> shared_targets(const SampleSet& a, const SampleSet& b);

/// Samples to learn from, to choose by, and to score once.
struct Split {
  SampleSet train;
  SampleSet validation;
  SampleSet test;
};

struct SplitPeriods {
  Period train;
  Period validation;
  Period test;
};

/// The three sample sets of one data set. Throws UsageError that names both
/// parts and the first time where a target time belongs to two of them.
Split make_split(const std::shared_ptr<const Dataset>& dataset, const Normalizer& normalizer,
                 const SampleOptions& options, const SplitPeriods& periods);

}  // namespace isobar
