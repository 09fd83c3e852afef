// SPDX-License-Identifier: Apache-2.0
#include <isobar/weather/climatology_plan.hpp>

#include <isobar/weather/weather_data.hpp>

#include <isobar/core/error.hpp>
#include <isobar/train/climatology_groups.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>

namespace isobar {
namespace {

/// The times that fields are of, as far as they are known.
struct FieldTimes {
  std::vector<int64_t> times;
  Calendar calendar = Calendar::standard;
  std::string assumed;
};

FieldTimes times_of_data(const Experiment& experiment) {
  const Dataset dataset(experiment.data);
  check_periods(experiment, dataset);
  return {.times = dataset.times(), .calendar = dataset.calendar(), .assumed = {}};
}

/// Every step of the training and of the test period; nothing where the calendar has not got their
/// dates.
std::optional<FieldTimes> times_in(const Experiment& experiment, Calendar calendar) {
  FieldTimes assumed{.times = {}, .calendar = calendar, .assumed = {}};
  try {
    for (const auto* text : {&experiment.train, &experiment.test}) {
      const auto period = parse_period(*text, calendar);
      const int64_t step = experiment.step_hours * kHourSeconds;
      for (int64_t t = period.begin; t < period.end; t += step) assumed.times.push_back(t);
    }
  } catch (const Error&) {
    return std::nullopt;
  }
  std::sort(assumed.times.begin(), assumed.times.end());
  assumed.assumed = fmt::format("fields every {} h in the {} calendar", experiment.step_hours,
                                to_string(calendar));
  return assumed;
}

FieldTimes field_times(const Experiment& experiment) {
  const auto is_there = [](const auto& path) { return std::filesystem::exists(path); };
  const auto& paths = experiment.data.paths;
  if (std::all_of(paths.begin(), paths.end(), is_there)) return times_of_data(experiment);
  for (const auto calendar : {Calendar::standard, Calendar::day_360}) {
    if (auto assumed = times_in(experiment, calendar)) return *std::move(assumed);
  }
  parse_period(experiment.train, Calendar::standard);  // throws, for one of the two
  parse_period(experiment.test, Calendar::standard);
  return {};
}

}  // namespace

ClimatologyPlan plan_climatology(const Experiment& experiment, int64_t points) {
  const auto [times, calendar, assumed] = field_times(experiment);
  const ClimatologySlots slots(times, calendar, parse_period(experiment.train, calendar));
  std::vector<int64_t> targets;
  for (const int64_t index : indices_within(times, parse_period(experiment.test, calendar))) {
    targets.push_back(times[index]);
  }
  const auto variables = static_cast<int64_t>(experiment.outputs().size());
  std::map<int64_t, int64_t> fields;  // by part
  const auto part_of =
      divide_climatology(targets, slots, experiment.data.cache_bytes, points, variables);
  for (const auto& [slot, part] : part_of) ++fields[part];
  ClimatologyPlan plan{.fields = std::ssize(part_of), .assumed = assumed};
  for (const auto& [part, count] : fields) {
    plan.fields_at_once = std::max(plan.fields_at_once, count);
  }
  plan.peak_bytes = climatology_bytes(plan.fields_at_once, points, variables);
  return plan;
}

}  // namespace isobar
