// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/process_grid.hpp>
#include <isobar/data/period.hpp>
#include <isobar/data/samples.hpp>
#include <isobar/train/climatology_slot.hpp>
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <vector>

namespace isobar {

struct ClimatologyOptions {
  /// What it is the mean of; times that the data set has within it.
  Period period;
  /// The times it will be asked for, in seconds: only what these need is computed and kept.
  std::vector<int64_t> times;
  /// Called on every rank while they read: (fields that all have read, fields to read). A field
  /// counts once for each rank of a model, which read their own points of it.
  std::function<void(int64_t done, int64_t total)> progress = nullptr;
};

/// The data's times in the period whose fields the climatology of `wanted` times is a mean of: what
/// is read for it, once each.
std::vector<int64_t> climatology_times(const Dataset& dataset, const Period& period,
                                       const std::vector<int64_t>& wanted);

/// The mean field by time of day and, where the period is long enough, by season.
///
/// Each point's mean is over the times of the period that have the same time of day. If
/// these span 360 days or more (a year, in the shortest calendar), days of the year within 30
/// days count alone, with weights that fall linearly to zero there: the 61-day window of
/// WeatherBench 2 (S. Rasp et al., J. Adv. Model. Earth Syst. 16, e2023MS004019, 2024). Missing
/// values do not count; a point without any value has none (NaN).
///
/// Fields are read one by one and never held together; what is held is one field in float64 for
/// each time of day, and day of the year, that is asked for, and while computing half as much
/// again.
class Climatology {
 public:
  /// Of the variables and points of `samples`, normalised as they are. The fields to read are
  /// shared over the data-parallel group, whose ranks may take as long as they need; sums are in
  /// float64. Collective over the world; blocks.
  /// Throws on every rank what reading throws on one, and DataError where the period has no time.
  Climatology(const SampleSet& samples, const ClimatologyOptions& options, const ProcessGrid& grid);

  /// [B, S, N, P] float64: at the target times of B analyses, `lead_hours` after each; of those
  /// that `scored`, [B, S] bool, says where it is defined, NaN at others. Throws UsageError for a
  /// time it was not made for.
  at::Tensor at(const std::vector<int64_t>& analyses, const std::vector<int64_t>& lead_hours,
                const at::Tensor& scored = {}) const;

 private:
  void add(const at::Tensor& field, const ClimatologySlot& from, at::Tensor& weights);

  Calendar calendar_;
  ClimatologySlots slots_;
  std::map<ClimatologySlot, int64_t> rows_;  ///< in fields_
  at::Tensor fields_;                        ///< [slots, N, P] float64
};

}  // namespace isobar
