// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/data/period.hpp>
#include <isobar/data/samples.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

namespace isobar {

/// What anomalies are from, for scores that need it a part at a time.
struct ClimatologySource {
  Period period;  ///< what it is the mean of
  /// What a rank's climatology may take at once, if it is at least that of 60 days (see
  /// group_by_climatology).
  int64_t memory_bytes = int64_t{1} << 30;
  /// Called on every rank while fields are read: (fields read, fields to read).
  std::function<void(int64_t done, int64_t total)> progress = nullptr;
};

/// Samples of a set whose forecasts are scored at some lead times.
struct ScoredSamples {
  std::shared_ptr<const SampleSet> set;
  std::vector<int64_t> lead_hours;
};

/// Samples that are scored together, and the times whose climatology they need.
struct ClimatologyGroup {
  std::vector<std::vector<int64_t>> samples;  ///< by set, their positions in it
  std::vector<int64_t> times;                 ///< of their targets
};

/// Whether a climatology of the period has seasons: where the data's times in it span 360 days or
/// more (a year, in the shortest calendar). Without, it is by time of day alone.
bool has_seasons(const Dataset& dataset, const Period& period);

/// What a climatology holds for each time of day and day of the year that it is asked for, of so
/// many points and variables: a field in float64 and, while it is computed, weights in float32.
int64_t climatology_bytes(int64_t fields, int64_t points, int64_t variables);

/// Divides the samples of several sets, of the same points and variables, so that a climatology of
/// one group's targets fits into memory: one group where that of all does, otherwise groups of
/// neighbouring days of the year with one time of day. A day's climatology is from 59 days around,
/// so that groups of 60 days read the period's fields at most twice as often as one of all samples;
/// no group has fewer for want of memory.
std::vector<ClimatologyGroup> group_by_climatology(const std::vector<ScoredSamples>& scored,
                                                   const ClimatologySource& source);

}  // namespace isobar
