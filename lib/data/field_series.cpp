// SPDX-License-Identifier: Apache-2.0
// What isobar data verify asks, on one thread, field after field. Fields are judged by the others
// of their variable alone, so that nothing has to be known of what the variable is.
#include "field_series.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <map>

#include "field_moments.hpp"

namespace isobar {
namespace {

/// More than nearly all is how the variable is.
constexpr double kNearlyAll = 0.9;

}  // namespace

void FieldSeries::add(int64_t time, const at::Tensor& values) {
  const at::Tensor field = values.unsqueeze(1);
  const Moments all = moments_of(field).front();
  Facts facts;
  facts.time = time;
  facts.missing = values.numel() - static_cast<int64_t>(all.count);
  facts.minimum = facts.maximum = std::numeric_limits<double>::quiet_NaN();
  if (all.count > 0) {
    facts.minimum = all.minimum;
    facts.maximum = all.maximum;
  }
  if (before_.defined() && time - fields_.back().time == step_) {
    const Moments change = moments_of_change(field, before_).front();
    if (change.count > 0) facts.change = root_mean_square(change);
  }
  before_ = field;
  bins_.add(field, time);
  fields_.push_back(std::move(facts));
}

void FieldSeries::add_unreadable(int64_t time, const std::string& why) {
  Facts facts;
  facts.time = time;
  facts.unreadable = why;
  fields_.push_back(std::move(facts));
  before_ = at::Tensor();
}

template <typename Test>
std::vector<int64_t> FieldSeries::where(const Test& test) const {
  std::vector<int64_t> positions;
  for (std::size_t i = 0; i < fields_.size(); ++i) {
    if (test(fields_[i])) positions.push_back(static_cast<int64_t>(i));
  }
  return positions;
}

OddFields FieldSeries::describe(const std::string& check, const std::vector<int64_t>& positions,
                                const std::string& text) const {
  OddFields odd;
  odd.check = check;
  odd.text = text;
  odd.times = static_cast<int64_t>(positions.size());
  odd.first = fields_[positions.front()].time;
  odd.last = odd.first;
  for (std::size_t i = 0; i < positions.size(); ++i) {
    const bool follows = i > 0 && positions[i] == positions[i - 1] + 1;
    if (!follows) ++odd.runs;
    if (odd.runs == 1) odd.last = fields_[positions[i]].time;
  }
  return odd;
}

bool FieldSeries::is_constant(const Facts& facts) const {
  return facts.unreadable.empty() && facts.minimum == facts.maximum && facts.minimum != 0;
}

/// What most fields miss: a variable of the sea has none on land.
int64_t FieldSeries::usually_missing() const {
  std::map<int64_t, int64_t> counts;
  for (const Facts& facts : fields_) {
    if (facts.unreadable.empty()) ++counts[facts.missing];
  }
  const auto most =
      std::max_element(counts.begin(), counts.end(),
                       [](const auto& a, const auto& b) { return a.second < b.second; });
  return most == counts.end() ? 0 : most->first;
}

LargeChange FieldSeries::large_change() const {
  std::vector<double> changes;
  for (const Facts& facts : fields_) changes.push_back(std::max(0.0, facts.change));
  return isobar::large_change(std::move(changes));
}

std::vector<int64_t> FieldSeries::unchanged() const {
  std::vector<Repeat> repeats;
  for (const Facts& facts : fields_) {
    const bool told = facts.change > 0 || (facts.change == 0 && facts.minimum != facts.maximum);
    repeats.push_back(!told               ? Repeat::unknown
                      : facts.change == 0 ? Repeat::unchanged
                                          : Repeat::changed);
  }
  return unusual_repeats(repeats);
}

std::vector<OddFields> FieldSeries::odd() const {
  std::vector<OddFields> found;
  const auto add = [&](const std::string& check, const std::vector<int64_t>& positions,
                       const auto& text) {
    if (!positions.empty())
      found.push_back(describe(check, positions, text(fields_[positions[0]])));
  };
  const auto some = [&](const std::vector<int64_t>& positions) {
    const bool nearly_all =
        static_cast<double>(positions.size()) > kNearlyAll * static_cast<double>(fields_.size());
    return nearly_all ? std::vector<int64_t>{} : positions;
  };
  add("unreadable", where([](const Facts& f) { return !f.unreadable.empty(); }),
      [](const Facts& f) { return f.unreadable; });
  const int64_t usual = usually_missing();
  add("missing", where([&](const Facts& f) { return f.unreadable.empty() && f.missing != usual; }),
      [&](const Facts& f) {
        return fmt::format("misses {} values, usually {}", f.missing, usual);
      });
  add("constant", some(where([&](const Facts& f) { return is_constant(f); })),
      [](const Facts& f) { return fmt::format("is {:.7g} everywhere", f.minimum); });
  if (const auto far = bins_.far_values(0)) {
    const bool low = far->maximum < far->others_minimum;
    add("far", where([&](const Facts& f) {
          return low ? f.minimum <= far->maximum : f.maximum >= far->minimum;
        }),
        [&](const Facts&) { return "has " + text_of(*far); });
  }
  add("unchanged", unchanged(), [](const Facts&) { return std::string("is as a step before"); });
  const LargeChange large = large_change();
  add("changes", where([&](const Facts& f) { return f.change > large.from; }), [&](const Facts& f) {
    return fmt::format(
        "changes by {:.4g} in a step (root mean square), where 98 % of its changes "
        "are below {:.4g}",
        f.change, large.usual);
  });
  return found;
}

}  // namespace isobar
