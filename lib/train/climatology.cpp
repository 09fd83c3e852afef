// SPDX-License-Identifier: Apache-2.0
#include <isobar/train/climatology.hpp>

#include <isobar/comm/agreement.hpp>
#include <isobar/comm/own_pace.hpp>
#include <isobar/core/error.hpp>
#include <isobar/train/climatology_groups.hpp>
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

namespace isobar {
namespace {

constexpr int64_t kHalfWindow = 30;  // days

std::vector<int64_t> times_within(const Dataset& dataset, const Period& period) {
  std::vector<int64_t> times;
  for (const int64_t index : indices_within(dataset.times(), period)) {
    times.push_back(dataset.times()[index]);
  }
  if (times.empty()) {
    throw DataError("climatology: the data have no time from " +
                    format_period(period, dataset.calendar()));
  }
  return times;
}

int64_t days_of_year(Calendar calendar) {
  if (calendar == Calendar::day_360) return 360;
  return calendar == Calendar::noleap ? 365 : 366;
}

}  // namespace

Climatology::Climatology(const SampleSet& samples, const ClimatologyOptions& options,
                         const ProcessGrid& grid)
    : calendar_(samples.dataset().calendar()) {
  at::Tensor weights;
  std::vector<int64_t> times;
  run_agreed(grid.world(), [&] {
    times = times_within(samples.dataset(), options.period);
    seasonal_ = has_seasons(samples.dataset(), options.period);
    for (const int64_t time : options.times) slots_.emplace(slot_of(time), 0);
    int64_t row = 0;
    for (auto& slot : slots_) slot.second = row++;
    fields_ = at::zeros({row, samples.points(), std::ssize(samples.variables())}, at::kDouble);
    weights = at::zeros(fields_.sizes(), at::kFloat);
  });
  const int64_t all = std::ssize(times) * grid.model().size();  // a rank reads its own points
  run_at_own_pace(
      grid.world(),
      [&](const Advance& advance) {
        for (int64_t i = grid.data().rank(); i < std::ssize(times); i += grid.data().size()) {
          const auto own = slot_of(times[i]);
          const auto used = [&](const auto& slot) { return weight(slot.first, own) > 0; };
          if (std::any_of(slots_.begin(), slots_.end(), used)) {
            add(samples.field(times[i]), own, weights);
          }
          advance(1);
        }
      },
      [&](int64_t done) {
        if (options.progress) options.progress(done, all);
      });
  grid.data().allreduce(fields_).wait();
  grid.data().allreduce(weights).wait();
  fields_.div_(weights);
}

Climatology::Slot Climatology::slot_of(int64_t time) const {
  const auto second = to_date(time, calendar_).second_of_day;
  return {seasonal_ ? static_cast<int64_t>(std::floor(day_of_year(time, calendar_))) : 0, second};
}

/// Whole numbers, so that their sums are exact in float32 and the same in any order.
double Climatology::weight(const Slot& slot, const Slot& of) const {
  if (slot.second != of.second) return 0;
  if (!seasonal_) return 1;
  const int64_t apart = std::abs(slot.first - of.first);
  const int64_t days = std::min(apart, days_of_year(calendar_) - apart);
  return static_cast<double>(std::max<int64_t>(0, kHalfWindow - days));
}

void Climatology::add(const at::Tensor& field, const Slot& of, at::Tensor& weights) {
  const auto known = field.isnan().logical_not();
  const auto values = at::where(known, field.to(at::kDouble), 0.0);
  for (const auto& [slot, row] : slots_) {
    const double factor = weight(slot, of);
    if (factor == 0) continue;
    fields_[row].add_(values, factor);
    weights[row].add_(known, factor);
  }
}

at::Tensor Climatology::at(const std::vector<int64_t>& analyses,
                           const std::vector<int64_t>& lead_hours) const {
  std::vector<int64_t> rows;
  for (const int64_t analysis : analyses) {
    for (const int64_t hours : lead_hours) {
      const int64_t time = analysis + hours * kHourSeconds;
      const auto found = slots_.find(slot_of(time));
      ISOBAR_CHECK(found != slots_.end(), "Climatology: it was not made for ",
                   format_time(time, calendar_));
      rows.push_back(found->second);
    }
  }
  return fields_.index_select(0, at::tensor(rows, at::kLong))
      .view({std::ssize(analyses), std::ssize(lead_hours), fields_.size(1), fields_.size(2)});
}

}  // namespace isobar
