// SPDX-License-Identifier: Apache-2.0
#include <isobar/data/samples.hpp>

#include <isobar/core/error.hpp>
#include <isobar/data/forcings.hpp>
#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

namespace isobar {
namespace {

constexpr int64_t kHourSeconds = 3600;

void check_options(const SampleOptions& options, const Dataset& dataset,
                   const Normalizer& normalizer) {
  ISOBAR_CHECK(!options.input_hours.empty(), "SampleSet: no input hours given");
  ISOBAR_CHECK(!options.target_hours.empty(), "SampleSet: no target hours given");
  ISOBAR_CHECK(normalizer.variables() == dataset.variables(),
               "SampleSet: the normalizer is of other variables than the data set");
  check_forcings(options.forcings);
}

std::vector<int64_t> joined(const std::vector<int64_t>& a, const std::vector<int64_t>& b) {
  std::vector<int64_t> all = a;
  all.insert(all.end(), b.begin(), b.end());
  return all;
}

void check_disjoint(const SampleSet& a, const std::string& name_a, const SampleSet& b,
                    const std::string& name_b) {
  std::vector<int64_t> shared;
  const std::vector<int64_t> times_a = a.target_times();
  const std::vector<int64_t> times_b = b.target_times();
  std::set_intersection(times_a.begin(), times_a.end(), times_b.begin(), times_b.end(),
                        std::back_inserter(shared));
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
  check_options(options_, *dataset_, normalizer_);
  latitudes_ = dataset_->point_latitudes();
  longitudes_ = dataset_->point_longitudes();
  for (const int64_t time : dataset_->times()) {
    if (usable(time, period)) times_.push_back(time);
  }
  if (times_.empty()) {
    const Calendar calendar = dataset_->calendar();
    throw DataError(detail::join("no sample from ", format_period(period, calendar),
                                 ": the data have ", dataset_->times().size(), " times from ",
                                 format_time(dataset_->times().front(), calendar), " to ",
                                 format_time(dataset_->times().back(), calendar),
                                 ", and a sample needs its input, "
                                 "target and reference hours"));
  }
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
  return all(options_.target_hours, within) && all(options_.target_hours, present) &&
         all(options_.input_hours, present) && all(options_.reference_hours, present);
}

std::vector<int64_t> SampleSet::target_times() const {
  std::vector<int64_t> targets;
  for (const int64_t time : times_) {
    for (const int64_t hour : options_.target_hours) targets.push_back(time + hour * kHourSeconds);
  }
  std::sort(targets.begin(), targets.end());
  targets.erase(std::unique(targets.begin(), targets.end()), targets.end());
  return targets;
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
      result[static_cast<int64_t>(b)][static_cast<int64_t>(h)].copy_(dataset_->read(index));
    }
  }
  normalizer_.normalize_(result);
  return result;
}

/// Forcings [B, T + S, N, F].
at::Tensor SampleSet::forcings(const std::vector<int64_t>& times) const {
  const std::vector<int64_t> hours = joined(options_.input_hours, options_.target_hours);
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

Batch SampleSet::get(const std::vector<int64_t>& indices) const {
  Batch batch;
  for (const int64_t index : indices) {
    ISOBAR_CHECK(index >= 0 && index < size(), "SampleSet: sample ", index, " of ", size());
    batch.times.push_back(times_[index]);
  }
  batch.state = fields(batch.times, options_.input_hours);
  batch.forcing = forcings(batch.times);
  batch.target = fields(batch.times, options_.target_hours);
  if (!options_.reference_hours.empty()) {
    batch.reference = fields(batch.times, options_.reference_hours);
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
