// SPDX-License-Identifier: Apache-2.0
// What isobar data verify asks, on one thread, field after field. Fields are judged by the others
// of their variable alone, so that nothing has to be known of what the variable is.
#include "field_series.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

namespace isobar::detail {
namespace {

/// More than nearly all is how the variable is: a mask does not change.
constexpr double kNearlyAll = 0.9;

/// A change so many times as large as nearly all others is none of weather; a field that was turned
/// or mixed up makes two. A few changes do not tell which are usual.
constexpr double kFarChange = 3;
constexpr double kUsualChanges = 0.98;
constexpr std::size_t kFewestChanges = 50;

}  // namespace

void FieldSeries::add(int64_t time, const at::Tensor& values) {
  Facts facts;
  facts.time = time;
  const at::Tensor present = values.masked_select(values.isnan().logical_not());
  facts.missing = values.numel() - present.numel();
  facts.minimum = facts.maximum = std::numeric_limits<double>::quiet_NaN();
  if (present.numel() > 0) {
    facts.minimum = present.min().item<double>();
    facts.maximum = present.max().item<double>();
  }
  if (before_.defined() && time - fields_.back().time == step_) {
    const at::Tensor change = (values - before_).to(at::kDouble);
    const double square = change.square().nanmean().item<double>();
    if (!std::isnan(square)) facts.change = std::sqrt(square);
  }
  before_ = values;
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

/// A change that is no longer usual; infinite where too few are known.
double FieldSeries::large_change() const {
  std::vector<double> changes;
  for (const Facts& facts : fields_) {
    if (facts.change > 0) changes.push_back(facts.change);
  }
  if (changes.size() < kFewestChanges) return std::numeric_limits<double>::infinity();
  const auto high =
      changes.begin() + static_cast<int64_t>(kUsualChanges * static_cast<double>(changes.size()));
  std::nth_element(changes.begin(), high, changes.end());
  return kFarChange * *high;
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
  add("unchanged", some(where([&](const Facts& f) {
        return f.change == 0 && !is_constant(f) && f.minimum != f.maximum;
      })),
      [](const Facts&) { return std::string("is as a step before"); });
  const double large = large_change();
  add("changes", where([&](const Facts& f) { return f.change > large; }), [&](const Facts& f) {
    return fmt::format(
        "changes by {:.4g} in a step (root mean square), where 98 % of its changes "
        "are below {:.4g}",
        f.change, large / kFarChange);
  });
  return found;
}

}  // namespace isobar::detail
