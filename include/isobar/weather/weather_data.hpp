// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/weather/data_scales.hpp>
#include <isobar/weather/experiment.hpp>

#include <isobar/comm/process_grid.hpp>
#include <isobar/data/field_scan.hpp>
#include <isobar/data/sample_use.hpp>
#include <nlohmann/json_fwd.hpp>

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace isobar {

/// The data of an experiment, looked through before anything is trained: all sample sets of the run
/// are made, every field that one of them needs is read once, and what is found is kept for the
/// whole run, its refit included.
class WeatherData {
 public:
  /// Opens the data, checks all periods and reads every field that will be used, shared over the
  /// world's ranks; rank 0 shows progress. Collective; blocks. Throws on every rank: UsageError
  /// where a target time belongs to two periods, the refit's among them, or a step takes more
  /// samples than there are; DataError where a period has no sample or, of what is scored, no
  /// value, a field cannot be read, misses values that it may not, or is not finite, a variable
  /// that is trained to be forecast, by the refit too, is missing at a target time and
  /// loss.mask_missing is not set, or a variable has no value in the training period.
  WeatherData(const Experiment& experiment, const ProcessGrid& grid);

  const std::shared_ptr<const Dataset>& dataset() const noexcept { return dataset_; }

  /// From a training period of this run: the experiment's, or the refit's.
  DataScales scales(const Experiment& experiment) const;

  /// Lines for people: samples by period, and what the variables' values are in the training
  /// period.
  std::vector<std::string> report() const;
  /// And what does not look right.
  std::vector<std::string> warnings() const;
  /// The same for the run's record.
  nlohmann::json record() const;

 private:
  /// A sample set of the run, as far as its times go.
  struct Part {
    std::string name;  ///< such as "data.test at 6 h"
    std::shared_ptr<const SampleSet> samples;
    SampleUse use;
  };

  void open();
  void add_part(const std::string& name, const std::shared_ptr<const SampleSet>& samples,
                const Period& period);
  void make_training_parts();
  void make_scored_parts(const PeriodText& text, const std::vector<int64_t>& lead_hours);
  std::shared_ptr<const SampleSet> samples_of(const PeriodText& text,
                                              const SampleOptions& options) const;
  PeriodText refit_text() const;
  void check_refit() const;
  void check_batch(const ProcessGrid& grid) const;
  void check_known_targets() const;
  void check_scored_targets();
  void look_through(const ProcessGrid& grid);
  Period period(const PeriodText& text) const;
  SampleOptions hours() const;

  nlohmann::json memory_record() const;

  Experiment experiment_;
  int sharing_ranks_;  ///< of a model
  std::shared_ptr<const Dataset> dataset_;
  std::string mesh_warning_;
  std::vector<Part> parts_;  ///< the first is the training period's
  std::optional<FieldScan> scan_;
  std::vector<ScanStatistics> statistics_;  ///< of the training period, by variable
  std::vector<std::string> unscored_;       ///< lines about variables that cannot be scored
};

/// Throws UsageError, naming the key, for a period in which the data have no time.
void check_periods(const Experiment& experiment, const Dataset& dataset);

/// The period that train.refit trains on, once validation has chosen the steps: the training and
/// the validation period, and what lies between them. Throws UsageError for a text that is no time
/// of the data's calendar.
PeriodText refit_period(const Experiment& experiment, Calendar calendar);

}  // namespace isobar
