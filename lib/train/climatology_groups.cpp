// SPDX-License-Identifier: Apache-2.0
#include <isobar/train/climatology_groups.hpp>

#include <algorithm>
#include <iterator>
#include <set>
#include <utility>

namespace isobar {
namespace {

/// A window of 59 days touches three blocks only where it holds the middle one and a day on either
/// side, so blocks need 58 days. A year has six blocks of 60 or 61, and with 61 days' memory it is
/// never divided further.
constexpr int64_t kLeastDays = 61;

int64_t rounded_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// How many times of day, and of these how many days, a part holds.
struct PartSizes {
  int64_t hours = 1;
  int64_t days = 1;
};

/// As many times of day as there is memory for, alike over the parts: a forecast of several lead
/// times is made anew for each part that its targets are in.
PartSizes part_sizes(int64_t hours, int64_t most, bool seasonal) {
  const int64_t least = seasonal ? kLeastDays : 1;
  const int64_t parts = rounded_up(hours, std::clamp<int64_t>(most / least, 1, hours));
  const int64_t together = rounded_up(hours, parts);
  return {.hours = together, .days = most / together};
}

}  // namespace

int64_t climatology_bytes(int64_t fields, int64_t points, int64_t variables) {
  return fields * points * variables * static_cast<int64_t>(sizeof(double) + sizeof(float));
}

std::map<ClimatologySlot, int64_t> divide_climatology(const std::vector<int64_t>& times,
                                                      const ClimatologySlots& slots,
                                                      int64_t memory_bytes, int64_t points,
                                                      int64_t variables) {
  std::map<ClimatologySlot, int64_t> part_of;
  std::set<int64_t> seconds;
  for (const int64_t time : times) {
    const auto slot = slots.of(time);
    part_of.emplace(slot, 0);
    seconds.insert(slot.second);
  }
  const int64_t most = std::max(memory_bytes / climatology_bytes(1, points, variables), kLeastDays);
  if (std::ssize(part_of) <= most) return part_of;
  const auto sizes = part_sizes(std::ssize(seconds), most, slots.seasonal());
  const int64_t blocks = rounded_up(slots.days(), sizes.days);
  std::map<std::pair<int64_t, int64_t>, int64_t> numbers;  // of (times of day, block of days)
  for (auto& [slot, part] : part_of) {
    const auto hour = std::distance(seconds.begin(), seconds.find(slot.second));
    const std::pair key{hour / sizes.hours, slot.day * blocks / slots.days()};
    part = numbers.emplace(key, std::ssize(numbers)).first->second;
  }
  return part_of;
}

std::vector<ClimatologyGroup> group_by_climatology(const std::vector<ScoredSamples>& scored,
                                                   const ClimatologySource& source) {
  const SampleSet& first = *scored.at(0).set;
  const ClimatologySlots slots(first.dataset().times(), first.dataset().calendar(), source.period);
  std::vector<int64_t> targets;
  const auto each_target = [&](const auto& visit) {
    for (size_t s = 0; s < scored.size(); ++s) {
      for (int64_t i = 0; i < scored[s].set->size(); ++i) {
        for (int64_t l = 0; l < std::ssize(scored[s].lead_hours); ++l) {
          visit(s, i, l, scored[s].set->times()[i] + scored[s].lead_hours[l] * kHourSeconds);
        }
      }
    }
  };
  each_target([&](size_t, int64_t, int64_t, int64_t time) { targets.push_back(time); });
  const int64_t points = source.points > 0 ? source.points : first.points();
  const auto part_of = divide_climatology(targets, slots, source.memory_bytes, points,
                                          std::ssize(first.variables()));
  std::map<int64_t, ClimatologyGroup> groups;
  each_target([&](size_t s, int64_t i, int64_t l, int64_t time) {
    auto& group = groups[part_of.at(slots.of(time))];
    group.samples.resize(scored.size());
    group.times.push_back(time);
    auto& samples = group.samples[s];
    if (samples.empty() || samples.back().position != i) samples.push_back({i, {}});
    samples.back().leads.push_back(l);
  });
  std::vector<ClimatologyGroup> all;
  for (auto& [part, group] : groups) {
    std::sort(group.times.begin(), group.times.end());
    group.times.erase(std::unique(group.times.begin(), group.times.end()), group.times.end());
    all.push_back(std::move(group));
  }
  return all;
}

}  // namespace isobar
