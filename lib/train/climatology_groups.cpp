// SPDX-License-Identifier: Apache-2.0
#include <isobar/train/climatology_groups.hpp>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <set>
#include <utility>

namespace isobar {
namespace {

constexpr int64_t kShortestYear = 360;
constexpr int64_t kDays = 60;  // twice the window's half

/// Time of day first, then day of the year.
using DayOfYear = std::pair<int64_t, int64_t>;

/// The day is 0 where there are no seasons.
DayOfYear day_of(int64_t time, Calendar calendar, bool seasonal) {
  const auto day = static_cast<int64_t>(std::floor(day_of_year(time, calendar)));
  return {to_date(time, calendar).second_of_day, seasonal ? day : 0};
}

}  // namespace

bool has_seasons(const Dataset& dataset, const Period& period) {
  const auto within = indices_within(dataset.times(), period);
  if (within.empty()) return false;
  const int64_t span = dataset.times()[within.back()] - dataset.times()[within.front()];
  return span >= (kShortestYear - 1) * kDaySeconds;
}

int64_t climatology_bytes(int64_t fields, int64_t points, int64_t variables) {
  return fields * points * variables * static_cast<int64_t>(sizeof(double) + sizeof(float));
}

namespace {

/// A sample of one of several sets.
struct Place {
  size_t set = 0;
  int64_t sample = 0;
  std::vector<int64_t> targets;  ///< times
  std::vector<DayOfYear> slots;  ///< of these
};

std::vector<Place> places_of(const std::vector<ScoredSamples>& scored, const Period& period) {
  std::vector<Place> places;
  const bool seasonal = has_seasons(scored.at(0).set->dataset(), period);
  for (size_t s = 0; s < scored.size(); ++s) {
    const auto& [set, lead_hours] = scored[s];
    for (int64_t i = 0; i < set->size(); ++i) {
      Place place{.set = s, .sample = i, .targets = {}, .slots = {}};
      for (const int64_t hours : lead_hours) {
        place.targets.push_back(set->times()[i] + hours * kHourSeconds);
        place.slots.push_back(day_of(place.targets.back(), set->dataset().calendar(), seasonal));
      }
      places.push_back(std::move(place));
    }
  }
  return places;
}

int64_t most_slots(const std::vector<ScoredSamples>& scored, const ClimatologySource& source) {
  const SampleSet& set = *scored.at(0).set;
  const int64_t each = climatology_bytes(1, set.points(), std::ssize(set.variables()));
  int64_t leads = 0;
  for (const auto& one : scored) leads = std::max<int64_t>(leads, std::ssize(one.lead_hours));
  return std::max(source.memory_bytes / each, kDays * leads);
}

}  // namespace

std::vector<ClimatologyGroup> group_by_climatology(const std::vector<ScoredSamples>& scored,
                                                   const ClimatologySource& source) {
  auto places = places_of(scored, source.period);
  const int64_t most = most_slots(scored, source);
  std::set<DayOfYear> all;
  for (const Place& place : places) all.insert(place.slots.begin(), place.slots.end());
  if (std::ssize(all) > most) {
    std::stable_sort(places.begin(), places.end(), [](const Place& a, const Place& b) {
      return a.slots.back() < b.slots.back();
    });
  }
  std::vector<ClimatologyGroup> groups;
  std::set<DayOfYear> held;
  for (const Place& place : places) {
    const auto further =
        std::count_if(place.slots.begin(), place.slots.end(),
                      [&](const DayOfYear& slot) { return held.count(slot) == 0; });
    if (groups.empty() || std::ssize(held) + further > most) {
      groups.push_back({.samples = std::vector<std::vector<int64_t>>(scored.size()), .times = {}});
      held.clear();
    }
    held.insert(place.slots.begin(), place.slots.end());
    ClimatologyGroup& group = groups.back();
    group.times.insert(group.times.end(), place.targets.begin(), place.targets.end());
    group.samples[place.set].push_back(place.sample);
  }
  return groups;
}

}  // namespace isobar
