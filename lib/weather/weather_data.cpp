// SPDX-License-Identifier: Apache-2.0
// Called by every rank before its first step. Sample sets are made with a normalizer that changes
// nothing, since only their times are looked at: the scales come out of the reading. Checks run in
// run_agreed(); only the reading itself, which is shared over the ranks, communicates.
#include <isobar/weather/weather_data.hpp>

#include "weather/sample_hours.hpp"

#include <isobar/weather/network_plan.hpp>

#include <isobar/comm/agreement.hpp>
#include <isobar/core/error.hpp>
#include <isobar/core/machine.hpp>
#include <isobar/core/progress.hpp>
#include <isobar/core/text.hpp>
#include <isobar/data/float_step.hpp>
#include <isobar/data/sampler.hpp>
#include <isobar/train/shared_scan.hpp>
#include <isobar/train/trainer.hpp>
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <utility>

namespace isobar {
namespace {

/// Months have no length that step_hours could say.
void refuse_months(const Dataset& dataset) {
  if (dataset.step_text() != "a month") return;
  const auto& times = dataset.times();
  throw DataError(fmt::format(
      "data: the {} times from {} to {} are a month apart, and months have no fixed length: a step "
      "is a number of hours (data.step_hours), so only data of equal steps can be trained on",
      times.size(), format_time(times.front(), dataset.calendar()),
      format_time(times.back(), dataset.calendar())));
}

Normalizer no_normalizer(const Dataset& dataset) {
  const auto variables = static_cast<int64_t>(dataset.variables().size());
  return Normalizer::from_tensors(
      dataset.variables(), {{"mul", at::ones({variables})}, {"add", at::zeros({variables})}});
}

/// Fields are float32, of which values need some steps to be told apart: at fewer than this for a
/// deviation, rounding is 1/70 of it.
constexpr double kFewSteps = 20;

/// "" where float32 tells the variable's values apart.
std::string resolution_warning(const std::string& name, const ScanStatistics& statistics,
                               int64_t step_hours) {
  const auto& values = statistics.values;
  const double step = float_step(values.minimum, values.maximum);
  const double change = statistics.change_stdev;
  const double least = change > 0 ? std::min(values.stdev, change) : values.stdev;
  if (least == 0 || step * kFewSteps <= least) return {};
  return fmt::format(
      "'{}' has a deviation of {:.4g}, of its change over {} h {:.4g}, among values up to {:.6g}, "
      "where float32, as which it is read, has steps of {:.3g}: what is smaller is lost; subtract "
      "a constant in the file",
      name, values.stdev, step_hours, change,
      std::max(std::abs(values.minimum), std::abs(values.maximum)), step);
}

/// All times that the samples' fields are of.
void append_times(const SampleSet& samples, std::vector<int64_t>& times) {
  const auto& options = samples.options();
  for (const auto* hours :
       {&options.input_hours, &options.target_hours, &options.reference_hours}) {
    for (const int64_t hour : *hours) {
      for (const int64_t time : samples.times()) times.push_back(time + hour * kHourSeconds);
    }
  }
}

}  // namespace

/// Before anything is read: a period's mistake is the experiment's, and named by its key.
void check_periods(const Experiment& experiment, const Dataset& dataset) {
  const auto& times = dataset.times();
  const auto calendar = dataset.calendar();
  for (const auto* text : {&experiment.train, &experiment.validation, &experiment.test}) {
    if (text->begin.empty()) continue;
    ISOBAR_CHECK(!indices_within(times, parse_period(*text, calendar)).empty(), text->key,
                 ": no time of ", experiment.data.paths.front(), " is from ", text->begin,
                 " until ", text->end, "; its ", times.size(), " times are from ",
                 format_time(times.front(), calendar), " to ", format_time(times.back(), calendar));
  }
}

PeriodText refit_period(const Experiment& experiment, Calendar calendar) {
  auto text = experiment.train;
  const auto& other = experiment.validation;
  const auto time = [&](const std::string& date) { return parse_time(date, calendar); };
  if (time(other.begin) < time(text.begin)) text.begin = other.begin;
  if (time(other.end) > time(text.end)) text.end = other.end;
  return text;
}

WeatherData::WeatherData(const Experiment& experiment, const ProcessGrid& grid)
    : experiment_(experiment), sharing_ranks_(grid.model().size()) {
  run_agreed(grid.world(), [&] {
    open();
    check_batch(grid);
  });
  look_through(grid);
  run_agreed(grid.world(), [&] {
    check_known_targets();
    check_scored_targets();
    statistics_ = scan_->statistics(period(experiment_.train));
  });
}

void WeatherData::open() {
  dataset_ = std::make_shared<const Dataset>(experiment_.data);
  refuse_months(*dataset_);
  check_periods(experiment_, *dataset_);
  const auto grid = make_data_grid(experiment_, *dataset_);
  check_memory(experiment_, grid);
  mesh_warning_ = check_mesh(grid, experiment_.graph);
  make_training_parts();
  make_scored_parts(experiment_.validation, experiment_.validation_lead_hours);
  make_scored_parts(experiment_.test, experiment_.test_lead_hours);
  if (experiment_.refit) check_refit();
}

Period WeatherData::period(const PeriodText& text) const {
  return parse_period(text, dataset_->calendar());
}

SampleOptions WeatherData::hours() const {
  return {.input_hours = experiment_.input_hours, .target_hours = {}};
}

void WeatherData::add_part(const std::string& name, const std::shared_ptr<const SampleSet>& samples,
                           const Period& period) {
  parts_.push_back({name, samples, sample_use(*samples, period)});
}

/// The periods are compared by forecasts of one step, whose targets are all that there can be: a
/// validation period may be shorter than the longest forecast that is trained.
void WeatherData::make_training_parts() {
  const auto one_step = with_training_hours(hours(), experiment_, 1);
  // The split does not know which of the experiment's keys has no sample.
  for (const auto* text : {&experiment_.train, &experiment_.validation, &experiment_.test}) {
    samples_of(*text, one_step);
  }
  make_split(dataset_, no_normalizer(*dataset_), one_step,
             {period(experiment_.train), period(experiment_.validation), period(experiment_.test)});
  const auto longest = with_training_hours(hours(), experiment_, experiment_.longest_rollout());
  add_part(experiment_.train.key, samples_of(experiment_.train, longest),
           period(experiment_.train));
}

std::shared_ptr<const SampleSet> WeatherData::samples_of(const PeriodText& text,
                                                         const SampleOptions& options) const {
  return make_samples(dataset_, no_normalizer(*dataset_), options, period(text), text.key);
}

void WeatherData::make_scored_parts(const PeriodText& text,
                                    const std::vector<int64_t>& lead_hours) {
  for (const int64_t lead : lead_hours) {
    const auto name = fmt::format("{} at {} h", text.key, lead);
    add_part(name,
             make_samples(dataset_, no_normalizer(*dataset_),
                          with_lead_hours(hours(), experiment_, lead), period(text), name),
             period(text));
  }
}

PeriodText WeatherData::refit_text() const {
  return refit_period(experiment_, dataset_->calendar());
}

/// Before anything is read: the samples do not become more by it.
void WeatherData::check_batch(const ProcessGrid& grid) const {
  try {
    Sampler(parts_.front().samples->size(), sampler_options(experiment_.trainer, grid));
  } catch (const UsageError& error) {
    throw UsageError(fmt::format("train.batch: {} in {}", error.what(), experiment_.train.key));
  }
}

void WeatherData::check_refit() const {
  const auto options = with_training_hours(hours(), experiment_, 1);
  const auto text = refit_text();
  const auto shared =
      shared_targets(*samples_of(text, options), *samples_of(experiment_.test, options));
  ISOBAR_CHECK(shared.empty(), "train.refit: trains again on ",
               format_period(period(text), dataset_->calendar()), ", and ", shared.size(),
               " of its target times are of data.test, the first ",
               shared.empty() ? "" : format_time(shared.front(), dataset_->calendar()),
               "; put the test period behind the validation period, or set refit: false");
}

void WeatherData::look_through(const ProcessGrid& grid) {
  FieldScanOptions options{
      .periods = {period(experiment_.train)}, .times = {}, .step_hours = experiment_.step_hours};
  if (experiment_.refit) options.periods.push_back(period(refit_text()));
  for (const Part& part : parts_) append_times(*part.samples, options.times);
  // Statistics take all points, of which a rank that shares a model is to keep only its own: of
  // what is read here no more than a chunk stays in memory.
  const bool shared = grid.model().size() > 1;
  auto whole = experiment_.data;
  whole.cache_bytes = 1;
  run_agreed(grid.world(), [&] {
    scan_.emplace(shared ? std::make_shared<const Dataset>(whole) : dataset_, options);
  });
  Progress progress({.rank = grid.world().rank(),
                     .label = "reading the data",
                     .total = scan_->fields(),
                     .unit = "field"});
  share_scan(*scan_, grid.world(), [&](int64_t done, int64_t) { progress.update(done); });
  progress.finish();
}

/// What is missing is no error where the data set allows it, but it makes a loss that does not mask
/// it no number.
void WeatherData::check_known_targets() const {
  if (experiment_.mask_missing || !experiment_.data.allow_missing) return;
  auto targets = parts_.front().samples->target_times();
  if (experiment_.refit) {
    // All that the first fit trains on, and what lies behind or before it.
    const auto& options = parts_.front().samples->options();
    targets = samples_of(refit_text(), options)->target_times();
  }
  for (size_t v = 0; v < experiment_.outputs().size(); ++v) {
    const auto missing = scan_->first_missing(static_cast<int64_t>(v), targets);
    if (!missing) continue;
    throw DataError(
        fmt::format("{} is missing at {}, which is trained to be forecast{}; set "
                    "loss.mask_missing: true, or make it one of data.forcing_variables",
                    experiment_.outputs()[v], format_time(*missing, dataset_->calendar()),
                    period(experiment_.train).contains(*missing) ? "" : " by train.refit"));
  }
}

/// A variable that no scored field has is left out of the scores, which have to be of something.
void WeatherData::check_scored_targets() {
  const auto outputs = experiment_.outputs();
  for (const auto& [name, samples, use] : parts_) {
    if (&samples == &parts_.front().samples) continue;
    const auto targets = samples->target_times();
    std::vector<std::string> absent;
    for (size_t v = 0; v < outputs.size(); ++v) {
      if (!scan_->has_value(static_cast<int64_t>(v), targets)) absent.push_back(outputs[v]);
    }
    if (absent.empty()) continue;
    const auto text = fmt::format(
        "{}: every value of {} is missing at all {} target times, {} to {}", name,
        join_words(absent), targets.size(), format_time(targets.front(), dataset_->calendar()),
        format_time(targets.back(), dataset_->calendar()));
    if (absent.size() == outputs.size()) {
      throw DataError(text + ", so there is nothing to score; choose another period");
    }
    unscored_.push_back(text + ", which is not scored");
  }
}

DataScales WeatherData::scales(const Experiment& experiment) const {
  DataScales scales(dataset_->variables(), origin_of(*dataset_));
  scales.take(experiment, scan_->statistics(period(experiment.train)));
  return scales;
}

std::vector<std::string> WeatherData::report() const {
  std::vector<std::string> lines;
  for (const auto& [name, samples, use] : parts_) {
    lines.push_back(fmt::format("{}: {} of {} samples", name, use.used, use.whole));
    if (use.used < use.whole) {
      lines.back() +=
          fmt::format("; {} dropped, of which the data lack an input, target or reference hour",
                      use.whole - use.used);
    }
  }
  for (size_t v = 0; v < statistics_.size(); ++v) {
    const auto& [values, change, missing] = statistics_[v];
    const auto& units = dataset_->units()[v];
    lines.push_back(fmt::format(
        "{}{} in data.train: minimum {:.6g}, maximum {:.6g}, mean {:.6g}, deviation {:.6g}, of the "
        "change over {} h {:.6g}; {} of {} values missing",
        dataset_->variables()[v], units.empty() ? "" : " (" + units + ")", values.minimum,
        values.maximum, values.mean, values.stdev, experiment_.step_hours, change, missing,
        missing + values.count));
  }
  return lines;
}

std::vector<std::string> WeatherData::warnings() const {
  auto lines = dataset_->warnings();
  if (!mesh_warning_.empty()) lines.push_back(mesh_warning_);
  for (auto& line : scan_->suspicions()) lines.push_back(std::move(line));
  for (size_t v = 0; v < statistics_.size(); ++v) {
    // Of a fill value that nothing declares the range says nothing, and it has a line already.
    if (scan_->has_far_values(static_cast<int64_t>(v))) continue;
    auto line =
        resolution_warning(dataset_->variables()[v], statistics_[v], experiment_.step_hours);
    if (!line.empty()) lines.push_back(std::move(line));
  }
  lines.insert(lines.end(), unscored_.begin(), unscored_.end());
  for (const auto& [name, samples, use] : parts_) {
    const bool scored = &samples != &parts_.front().samples;
    if (scored && samples->options().reference_hours.empty()) {
      lines.push_back(
          name +
          ": the data have no field of the target's time of day before the analysis, so "
          "previous_day is not scored");
    }
  }
  return lines;
}

/// As a rank keeps them: of a model that ranks share, its part of the points.
nlohmann::json WeatherData::memory_record() const {
  const auto points = dataset_->latitudes().size() * dataset_->longitudes().size();
  const auto fields = dataset_->times().size() * dataset_->variables().size();
  const auto sharing = static_cast<size_t>(sharing_ranks_);
  return {{"bytes", (points + sharing - 1) / sharing * fields * sizeof(float)},
          {"cache_bytes", experiment_.data.cache_bytes},
          {"machine_bytes", machine_memory_bytes()}};
}

nlohmann::json WeatherData::record() const {
  auto samples = nlohmann::json::object(), variables = nlohmann::json::object();
  for (const auto& part : parts_) {
    samples[part.name] = {{"used", part.use.used}, {"whole", part.use.whole}};
  }
  for (size_t v = 0; v < statistics_.size(); ++v) {
    const auto& [values, change, missing] = statistics_[v];
    variables[dataset_->variables()[v]] = {
        {"minimum", values.minimum}, {"maximum", values.maximum},  {"mean", values.mean},
        {"deviation", values.stdev}, {"change_deviation", change}, {"values", values.count},
        {"missing", missing}};
  }
  return {{"fields_read", scan_->fields()},
          {"samples", samples},
          {"training", variables},
          {"memory", memory_record()}};
}

}  // namespace isobar
