// SPDX-License-Identifier: Apache-2.0
#include "usual_changes.hpp"

#include <algorithm>
#include <limits>

namespace isobar {
namespace {

constexpr double kFarChange = 3;
/// A few changes do not tell which are usual.
constexpr int64_t kFewestChanges = 50;

/// More than nearly all is how the variable is.
constexpr double kAlways = 0.9;
constexpr double kUsualRuns = 0.95;
constexpr int64_t kMuchLonger = 3;

/// Unchanged fields that follow each other; none between two that both changed.
struct Run {
  int64_t first = 0, length = 0;
};

std::vector<Run> runs_of(const std::vector<Repeat>& fields) {
  std::vector<Run> runs;
  Run run;
  bool open = false;
  for (int64_t i = 0; i < std::ssize(fields); ++i) {
    if (fields[i] == Repeat::unchanged) {
      if (run.length++ == 0) run.first = i;
      open = true;
      continue;
    }
    if (open) runs.push_back(run);
    run = {};
    open = fields[i] == Repeat::changed;
  }
  if (run.length > 0) runs.push_back(run);
  return runs;
}

int64_t usual_length(const std::vector<Run>& runs) {
  std::vector<int64_t> lengths;
  for (const Run& run : runs) lengths.push_back(run.length);
  const auto usual =
      lengths.begin() + static_cast<int64_t>(kUsualRuns * static_cast<double>(lengths.size() - 1));
  std::nth_element(lengths.begin(), usual, lengths.end());
  return *usual;
}

}  // namespace

LargeChange large_change(std::vector<double> changes) {
  changes.erase(std::remove(changes.begin(), changes.end(), 0.0), changes.end());
  const int64_t count = std::ssize(changes);
  if (count < kFewestChanges) return {0, std::numeric_limits<double>::infinity()};
  std::sort(changes.begin(), changes.end());
  const double most = changes[count * 49 / 50];
  // A tail that lies a factor above the median here goes on by no more than that factor again where
  // it is exponential, and by about its square where it is a power.
  const double tail = most / changes[count / 2];
  return {most, std::max(kFarChange, tail * tail) * most};
}

std::vector<int64_t> unusual_repeats(const std::vector<Repeat>& fields) {
  const auto unchanged = std::count(fields.begin(), fields.end(), Repeat::unchanged);
  const auto changed = std::count(fields.begin(), fields.end(), Repeat::changed);
  const auto known = static_cast<double>(changed + unchanged);
  if (unchanged == 0 || static_cast<double>(unchanged) > kAlways * known) return {};
  const std::vector<Run> runs = runs_of(fields);
  const int64_t usual = usual_length(runs);
  std::vector<int64_t> positions;
  for (const Run& run : runs) {
    if (run.length <= kMuchLonger * usual) continue;
    for (int64_t i = 0; i < run.length; ++i) positions.push_back(run.first + i);
  }
  return positions;
}

}  // namespace isobar
