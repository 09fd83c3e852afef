// SPDX-License-Identifier: Apache-2.0
#include <isobar/train/climatology.hpp>

#include <isobar/comm/agreement.hpp>
#include <isobar/comm/own_pace.hpp>
#include <isobar/core/error.hpp>
#include <ATen/ATen.h>

#include <algorithm>
#include <limits>
#include <set>

namespace isobar {
namespace {

ClimatologySlots slots_within(const Dataset& dataset, const Period& period) {
  return {dataset.times(), dataset.calendar(), period};
}

}  // namespace

std::vector<int64_t> climatology_times(const Dataset& dataset, const Period& period,
                                       const std::vector<int64_t>& wanted) {
  const auto slots = slots_within(dataset, period);
  std::set<ClimatologySlot> asked;
  for (const int64_t time : wanted) asked.insert(slots.of(time));
  std::vector<int64_t> times;
  for (const int64_t index : indices_within(dataset.times(), period)) {
    const auto from = slots.of(dataset.times()[index]);
    const auto uses = [&](const auto& slot) { return slots.weight(slot, from) > 0; };
    if (std::any_of(asked.begin(), asked.end(), uses)) times.push_back(dataset.times()[index]);
  }
  return times;
}

Climatology::Climatology(const SampleSet& samples, const ClimatologyOptions& options,
                         const ProcessGrid& grid)
    : calendar_(samples.dataset().calendar()),
      slots_(slots_within(samples.dataset(), options.period)) {
  at::Tensor weights;
  std::vector<int64_t> times;
  run_agreed(grid.world(), [&] {
    if (indices_within(samples.dataset().times(), options.period).empty()) {
      throw DataError("climatology: the data have no time from " +
                      format_period(options.period, calendar_));
    }
    times = climatology_times(samples.dataset(), options.period, options.times);
    for (const int64_t time : options.times) rows_.emplace(slots_.of(time), 0);
    int64_t next = 0;
    for (auto& [slot, row] : rows_) row = next++;
    fields_ = at::zeros({next, samples.points(), std::ssize(samples.variables())}, at::kDouble);
    weights = at::zeros(fields_.sizes(), at::kFloat);
  });
  const int64_t all = std::ssize(times) * grid.model().size();  // a rank reads its own points
  run_at_own_pace(
      grid.world(),
      [&](const Advance& advance) {
        for (int64_t i = grid.data().rank(); i < std::ssize(times); i += grid.data().size()) {
          add(samples.field(times[i]), slots_.of(times[i]), weights);
          advance(1);
        }
      },
      [&](int64_t done) {
        if (options.progress) options.progress(done, all);
      });
  // Sums over times, of which each replica has read its share; a rank's points are its own.
  grid.data().allreduce(fields_).wait();
  grid.data().allreduce(weights).wait();
  fields_.div_(weights);
}

void Climatology::add(const at::Tensor& field, const ClimatologySlot& from, at::Tensor& weights) {
  const auto known = field.isnan().logical_not();
  const auto values = at::where(known, field.to(at::kDouble), 0.0);
  for (const auto& [slot, row] : rows_) {
    const double factor = slots_.weight(slot, from);
    if (factor == 0) continue;
    fields_[row].add_(values, factor);
    weights[row].add_(known, factor);
  }
}

at::Tensor Climatology::at(const std::vector<int64_t>& analyses,
                           const std::vector<int64_t>& lead_hours, const at::Tensor& scored) const {
  const auto sizes = std::vector{std::ssize(analyses), std::ssize(lead_hours)};
  const auto wanted = scored.defined() ? scored : at::ones(sizes, at::kBool);
  ISOBAR_CHECK(wanted.sizes() == at::IntArrayRef(sizes), "Climatology: scored is ", wanted.sizes(),
               " for ", sizes[0], " analyses at ", sizes[1], " lead times");
  auto fields = at::full({sizes[0], sizes[1], fields_.size(1), fields_.size(2)},
                         std::numeric_limits<double>::quiet_NaN(), at::kDouble);
  for (int64_t b = 0; b < sizes[0]; ++b) {
    for (int64_t s = 0; s < sizes[1]; ++s) {
      if (!wanted[b][s].item<bool>()) continue;
      const int64_t time = analyses[b] + lead_hours[s] * kHourSeconds;
      const auto found = rows_.find(slots_.of(time));
      ISOBAR_CHECK(found != rows_.end(), "Climatology: it was not made for ",
                   format_time(time, calendar_));
      fields[b][s].copy_(fields_[found->second]);
    }
  }
  return fields;
}

}  // namespace isobar
