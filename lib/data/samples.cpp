// SPDX-License-Identifier: Apache-2.0
// Made where data are opened; get() and field() then run on any thread, the loaders' and those that
// score. Nothing changes after construction, and Dataset takes care of its cache.
//
// The rule that keeps scores honest: a sample belongs to the period in which its targets lie, and
// make_split() refuses periods that share a target time. Inputs and references may lie before the
// period, for they are known when a forecast begins; were a target, the network would be scored on
// what it has learnt.
#include <isobar/data/samples.hpp>

#include <isobar/core/error.hpp>
#include <isobar/core/text.hpp>
#include <isobar/data/forcings.hpp>
#include <ATen/ATen.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "rows.hpp"

namespace isobar {
namespace {

void check_sample_options(const SampleOptions& options, const Dataset& dataset,
                          const Normalizer& normalizer) {
  ISOBAR_CHECK(!options.input_hours.empty(), "SampleSet: no input hours given");
  ISOBAR_CHECK(!options.target_hours.empty(), "SampleSet: no target hours given");
  ISOBAR_CHECK(normalizer.variables() == dataset.variables(),
               "SampleSet: the normalizer is of other variables than the data set");
  for (const int64_t hour : options.period_hours) {
    ISOBAR_CHECK(std::count(options.target_hours.begin(), options.target_hours.end(), hour) > 0,
                 "SampleSet: hour ", hour, " of period_hours is no target hour");
  }
  check_forcings(options.forcings);
  for (const at::Tensor& degrees : {options.latitudes, options.longitudes}) {
    const auto points = dataset.point_latitudes().size(0);
    ISOBAR_CHECK(degrees.defined() == options.latitudes.defined() &&
                     (!degrees.defined() || (degrees.dim() == 1 && degrees.size(0) == points)),
                 "SampleSet: latitudes and longitudes must be given for all ", points,
                 " points of the data set, or neither of them");
  }
  if (options.rows.defined()) {
    check_rows("SampleSet", options.rows, dataset.point_latitudes().size(0));
  }
}

std::vector<int64_t> joined(const std::vector<int64_t>& a, const std::vector<int64_t>& b) {
  std::vector<int64_t> all = a;
  all.insert(all.end(), b.begin(), b.end());
  return all;
}

at::Tensor of_rows(const at::Tensor& values, const at::Tensor& rows) {
  return rows.defined() ? values.index_select(0, rows) : values;
}

void check_disjoint(const SampleSet& a, const std::string& name_a, const SampleSet& b,
                    const std::string& name_b) {
  const auto shared = shared_targets(a, b);
  ISOBAR_CHECK(shared.empty(), "split: ", name_a, " and ", name_b, " share ", shared.size(),
               " target times, the first ", format_time(shared.front(), a.dataset().calendar()),
               "; make their periods disjoint");
}

}  // namespace

SampleSet::SampleSet(std::shared_ptr<const Dataset> dataset, Normalizer normalizer,
                     SampleOptions options, Period period)
    : dataset_(std::move(dataset)),
      normalizer_(std::move(normalizer)),
      options_(std::move(options)) {
  check_sample_options(options_, *dataset_, normalizer_);
  find_columns();
  const bool placed = options_.latitudes.defined();
  latitudes_ = of_rows(placed ? options_.latitudes : dataset_->point_latitudes(), options_.rows);
  longitudes_ = of_rows(placed ? options_.longitudes : dataset_->point_longitudes(), options_.rows);
  for (const int64_t time : dataset_->times()) {
    if (usable(time, period)) times_.push_back(time);
  }
  if (times_.empty()) fail_without_sample(period);
}

/// Names the first hour for want of which no time of the data is left.
void SampleSet::fail_without_sample(const Period& period) const {
  const Calendar calendar = dataset_->calendar();
  std::vector<int64_t> left = dataset_->times();
  std::string lack;
  const auto keep = [&](const std::vector<int64_t>& hours, const auto& test, const char* role,
                        const char* where) {
    for (const int64_t hour : hours) {
      if (!lack.empty()) return;
      std::vector<int64_t> kept;
      std::copy_if(left.begin(), left.end(), std::back_inserter(kept),
                   [&](int64_t time) { return test(time + hour * kHourSeconds); });
      if (kept.empty()) {
        lack = detail::join("of ", left.size(), " analysis times none has its ", role, " hour ",
                            hour, where);
      }
      left = std::move(kept);
    }
  };
  const auto within = [&](int64_t time) { return period.contains(time); };
  const auto present = [&](int64_t time) { return dataset_->find(time).has_value(); };
  keep(period_hours(), within, "target", " in the period");
  keep(options_.target_hours, present, "target", " (steps of data.step_hours) in the data");
  keep(options_.input_hours, present, "input", " (data.input_hours) in the data");
  keep(options_.reference_hours, present, "reference", " in the data");
  throw DataError(detail::join("no sample from ", format_period(period, calendar), ": ", lack,
                               "; the data have ", dataset_->times().size(), " times from ",
                               format_time(dataset_->times().front(), calendar), " to ",
                               format_time(dataset_->times().back(), calendar),
                               " (usual step: ", dataset_->step_text(), ")"));
}

void SampleSet::find_columns() {
  std::vector<int64_t> forecast, seen;
  const auto& forcing = options_.forcing_variables;
  const auto& all = dataset_->variables();
  for (std::size_t v = 0; v < all.size(); ++v) {
    if (std::find(forcing.begin(), forcing.end(), all[v]) != forcing.end()) continue;
    forecast.push_back(static_cast<int64_t>(v));
    variables_.push_back(all[v]);
  }
  for (const std::string& name : forcing) {
    const auto found = std::find(all.begin(), all.end(), name);
    ISOBAR_CHECK(found != all.end() && std::count(forcing.begin(), forcing.end(), name) == 1,
                 "SampleSet: forcing variable '", name,
                 "' is given twice or not one of the data set's; ", did_you_mean(name, all));
    seen.push_back(found - all.begin());
  }
  ISOBAR_CHECK(!forecast.empty(), "SampleSet: every variable is a forcing variable");
  forecast_columns_ = at::tensor(forecast, at::kLong);
  forcing_columns_ = at::tensor(seen, at::kLong);
}

at::Tensor SampleSet::unit() const {
  const at::Tensor mul = normalizer_.tensors().at("mul").to(at::kDouble);
  return 1 / mul.index_select(0, forecast_columns_);
}

bool SampleSet::usable(int64_t analysis_time, const Period& period) const {
  const auto present = [&](int64_t hour) {
    return dataset_->find(analysis_time + hour * kHourSeconds).has_value();
  };
  const auto within = [&](int64_t hour) {
    return period.contains(analysis_time + hour * kHourSeconds);
  };
  const auto all = [](const std::vector<int64_t>& hours, const auto& test) {
    return std::all_of(hours.begin(), hours.end(), test);
  };
  return all(period_hours(), within) && all(options_.target_hours, present) &&
         all(options_.input_hours, present) && all(options_.reference_hours, present);
}

std::vector<int64_t> SampleSet::target_times() const {
  std::vector<int64_t> targets;
  for (const int64_t time : times_) {
    for (const int64_t hour : period_hours()) targets.push_back(time + hour * kHourSeconds);
  }
  std::sort(targets.begin(), targets.end());
  targets.erase(std::unique(targets.begin(), targets.end()), targets.end());
  return targets;
}

std::vector<int64_t> shared_targets(const SampleSet& a, const SampleSet& b) {
  const auto times_a = a.target_times(), times_b = b.target_times();
  std::vector<int64_t> shared;
  std::set_intersection(times_a.begin(), times_a.end(), times_b.begin(), times_b.end(),
                        std::back_inserter(shared));
  return shared;
}

/// Normalised fields [B, hours, N, P].
at::Tensor SampleSet::fields(const std::vector<int64_t>& times,
                             const std::vector<int64_t>& hours) const {
  at::Tensor result =
      at::empty({static_cast<int64_t>(times.size()), static_cast<int64_t>(hours.size()),
                 latitudes_.size(0), static_cast<int64_t>(dataset_->variables().size())},
                at::kFloat);
  for (std::size_t b = 0; b < times.size(); ++b) {
    for (std::size_t h = 0; h < hours.size(); ++h) {
      // Present, since the time is one of times_.
      const int64_t index = *dataset_->find(times[b] + hours[h] * kHourSeconds);
      result[static_cast<int64_t>(b)][static_cast<int64_t>(h)].copy_(
          options_.rows.defined() ? dataset_->read(index, options_.rows) : dataset_->read(index));
    }
  }
  normalizer_.normalize_(result);
  return result;
}

/// Computed forcings [B, hours, N, F].
at::Tensor SampleSet::forcings(const std::vector<int64_t>& times,
                               const std::vector<int64_t>& hours) const {
  at::Tensor result =
      at::empty({static_cast<int64_t>(times.size()), static_cast<int64_t>(hours.size()),
                 latitudes_.size(0), static_cast<int64_t>(options_.forcings.size())},
                at::kFloat);
  for (std::size_t b = 0; b < times.size(); ++b) {
    for (std::size_t h = 0; h < hours.size(); ++h) {
      result[static_cast<int64_t>(b)][static_cast<int64_t>(h)].copy_(
          compute_forcings(options_.forcings, latitudes_, longitudes_,
                           times[b] + hours[h] * kHourSeconds, dataset_->calendar()));
    }
  }
  return result;
}

at::Tensor SampleSet::forecast_columns(const at::Tensor& fields) const {
  return forcing_columns_.numel() == 0 ? fields : fields.index_select(-1, forecast_columns_);
}

at::Tensor SampleSet::field(int64_t time) const {
  if (!dataset_->find(time)) {
    throw DataError("SampleSet: the data have no time " + format_time(time, dataset_->calendar()));
  }
  return forecast_columns(fields({time}, {0})[0][0]);
}

Batch SampleSet::get(const std::vector<int64_t>& indices) const {
  return get(indices, static_cast<int64_t>(options_.target_hours.size()));
}

Batch SampleSet::get(const std::vector<int64_t>& indices, int64_t targets) const {
  const auto& all = options_.target_hours;
  ISOBAR_CHECK(targets > 0 && targets <= static_cast<int64_t>(all.size()), "SampleSet: ", targets,
               " target hours of ", all.size());
  const std::vector<int64_t> target_hours(all.begin(), all.begin() + targets);
  Batch batch;
  for (const int64_t index : indices) {
    ISOBAR_CHECK(index >= 0 && index < size(), "SampleSet: sample ", index, " of ", size());
    batch.times.push_back(times_[index]);
  }
  const at::Tensor input = fields(batch.times, options_.input_hours);
  const at::Tensor target = fields(batch.times, target_hours);
  batch.state = forecast_columns(input);
  batch.target = forecast_columns(target);
  batch.forcing = forcings(batch.times, joined(options_.input_hours, target_hours));
  if (forcing_columns_.numel() > 0) {
    const auto seen = at::cat({input, target}, 1).index_select(-1, forcing_columns_);
    batch.forcing = at::cat({batch.forcing, seen}, -1);
  }
  if (!options_.reference_hours.empty()) {
    batch.reference = forecast_columns(fields(batch.times, options_.reference_hours));
  }
  return batch;
}

Split make_split(const std::shared_ptr<const Dataset>& dataset, const Normalizer& normalizer,
                 const SampleOptions& options, const SplitPeriods& periods) {
  Split split{{dataset, normalizer, options, periods.train},
              {dataset, normalizer, options, periods.validation},
              {dataset, normalizer, options, periods.test}};
  check_disjoint(split.train, "train", split.validation, "validation");
  check_disjoint(split.train, "train", split.test, "test");
  check_disjoint(split.validation, "validation", split.test, "test");
  return split;
}

}  // namespace isobar
