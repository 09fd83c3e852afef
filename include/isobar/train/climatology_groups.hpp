// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/data/period.hpp>
#include <isobar/data/samples.hpp>
#include <isobar/train/climatology_slot.hpp>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

namespace isobar {

/// What anomalies are from, for scores that need it a part at a time.
struct ClimatologySource {
  Period period;  ///< what it is the mean of
  /// What a rank's climatology may take at once, if it is at least that of 61 mean fields.
  int64_t memory_bytes = int64_t{1} << 30;
  int64_t points = 0;  ///< of the model's largest rank; 0: as many as the samples have
  /// Called on every rank while fields are read: (fields read, fields to read).
  std::function<void(int64_t done, int64_t total)> progress = nullptr;
};

/// Samples of a set whose forecasts are scored at some lead times.
struct ScoredSamples {
  std::shared_ptr<const SampleSet> set;
  std::vector<int64_t> lead_hours;
};

/// One of them, and at which of the lead times it is scored.
struct ScoredSample {
  int64_t position = 0;        ///< in its set
  std::vector<int64_t> leads;  ///< positions in the lead times, increasing
};

/// What is scored together, and the times whose climatology that needs.
struct ClimatologyGroup {
  std::vector<std::vector<ScoredSample>> samples;  ///< by set
  std::vector<int64_t> times;                      ///< of their targets, each once
};

/// What a climatology holds for each slot that it is asked for, of so many points and variables: a
/// field in float64 and, while it is computed, weights in float32.
int64_t climatology_bytes(int64_t fields, int64_t points, int64_t variables);

/// The slots of `times`, and to which part of the climatology each belongs, from 0 on: one part
/// where `memory_bytes` hold a field of so many points and variables for all of them. Otherwise
/// parts are blocks of the year, of 60 days or more, of as many times of day as fit. A day's mean
/// is from the 59 days around it, which touch two such blocks at most: so a field of the period is
/// read for two parts at most. 61 fields are held where the memory is for fewer.
std::map<ClimatologySlot, int64_t> divide_climatology(const std::vector<int64_t>& times,
                                                      const ClimatologySlots& slots,
                                                      int64_t memory_bytes, int64_t points,
                                                      int64_t variables);

/// Divides the targets of several sets' samples, which are of the same points and variables, by the
/// part of the climatology that they need. Each lead time of a sample is in one group; a sample
/// whose targets need several parts is in several groups, and is forecast for each of them.
std::vector<ClimatologyGroup> group_by_climatology(const std::vector<ScoredSamples>& scored,
                                                   const ClimatologySource& source);

}  // namespace isobar
