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
  /// Further fields to compare a forecast with, such as the value 24 h before
  /// its target.
  std::vector<int64_t> reference_hours = {};
  /// Names of compute_forcings.
  std::vector<std::string> forcings = {};
};

/// B samples on N points; T input, S target and R reference hours; P variables
/// of the data set and F forcings. All float32 on the CPU.
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
/// all its input, target and reference hours and all its targets lie within the
/// period. Inputs and references may lie before the period begins: only what is
/// learnt from, or scored, decides to which period a sample belongs.
class SampleSet {
 public:
  /// Throws UsageError for options that make no sample, or a normalizer of
  /// other variables, and DataError where the period has no analysis time.
  SampleSet(std::shared_ptr<const Dataset> dataset, Normalizer normalizer, SampleOptions options,
            Period period);

  /// Analysis times, increasing.
  const std::vector<int64_t>& times() const noexcept { return times_; }
  int64_t size() const noexcept { return static_cast<int64_t>(times_.size()); }

  /// The target times of all samples, increasing, each once.
  std::vector<int64_t> target_times() const;

  /// The samples at the given positions of times(), in that order. Reads from
  /// the files what is not in memory; any thread may call it.
  Batch get(const std::vector<int64_t>& indices) const;

  const Dataset& dataset() const noexcept { return *dataset_; }
  const Normalizer& normalizer() const noexcept { return normalizer_; }
  const SampleOptions& options() const noexcept { return options_; }

 private:
  bool usable(int64_t analysis_time, const Period& period) const;
  at::Tensor fields(const std::vector<int64_t>& times, const std::vector<int64_t>& hours) const;
  at::Tensor forcings(const std::vector<int64_t>& times) const;

  std::shared_ptr<const Dataset> dataset_;
  Normalizer normalizer_;
  SampleOptions options_;
  std::vector<int64_t> times_;
  at::Tensor latitudes_;
  at::Tensor longitudes_;
};

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
