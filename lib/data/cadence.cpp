// SPDX-License-Identifier: Apache-2.0
// Times are often stored inexactly: as days in float32 they are minutes off, and some archives
// have each day on another second. A sample asks for whole hours, so times are moved to the steps
// that they were meant to be on. Dataset asks once, for the times of all its files.
#include "cadence.hpp"

#include <isobar/data/cf_time.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace isobar {
namespace {

constexpr int64_t kMinute = 60;
constexpr int64_t kLargestTolerance = 10 * kMinute;
constexpr double kShareOnSteps = 0.9;

/// Where meant times lie between steps, the likelier first.
constexpr std::array<int64_t, 5> kRoundOffsets = {kHourSeconds, kHourSeconds / 2, 15 * kMinute,
                                                  5 * kMinute, kMinute};

int64_t modulo(int64_t a, int64_t b) { return ((a % b) + b) % b; }

/// How far a time lies from the nearest step, with its sign.
int64_t distance(int64_t time, int64_t step, int64_t offset) {
  const int64_t after = modulo(time - offset, step);
  return after > step / 2 ? after - step : after;
}

std::vector<int64_t> positive_differences(const std::vector<int64_t>& times) {
  std::vector<int64_t> differences;
  for (std::size_t i = 1; i < times.size(); ++i) {
    if (times[i] > times[i - 1]) differences.push_back(times[i] - times[i - 1]);
  }
  return differences;
}

bool are_months(const std::vector<int64_t>& times) {
  const auto differences = positive_differences(times);
  if (differences.size() < 2) return false;
  const auto [least, most] = std::minmax_element(differences.begin(), differences.end());
  return *least >= 28 * kDaySeconds && *most <= 31 * kDaySeconds && *least < *most;
}

double share_within(const std::vector<int64_t>& times, int64_t step, int64_t offset,
                    int64_t tolerance) {
  const auto count = std::count_if(times.begin(), times.end(), [&](int64_t time) {
    return std::abs(distance(time, step, offset)) <= tolerance;
  });
  return static_cast<double>(count) / static_cast<double>(times.size());
}

/// What most times are after a step, the middle of the densest part of the circle that is twice
/// the tolerance wide.
int64_t densest(const std::vector<int64_t>& times, int64_t step, int64_t tolerance) {
  std::vector<int64_t> after;
  for (const int64_t time : times) after.push_back(modulo(time, step));
  std::sort(after.begin(), after.end());
  const std::size_t count = after.size();
  for (std::size_t i = 0; i < count; ++i) after.push_back(after[i] + step);
  std::size_t best = 0, most = 0;
  for (std::size_t first = 0, end = 0; first < count; ++first) {
    while (end < first + count && after[end] - after[first] <= 2 * tolerance) ++end;
    if (end - first <= most) continue;
    most = end - first;
    best = first;
  }
  return modulo(after[best + most / 2], step);
}

/// What a meant time is after a step: the exact one that most share, else a round one near it.
int64_t meant_offset(const std::vector<int64_t>& times, int64_t step, int64_t tolerance) {
  const int64_t middle = densest(times, step, tolerance);
  if (share_within(times, step, middle, 0) >= kShareOnSteps) return middle;
  for (const int64_t round : kRoundOffsets) {
    const int64_t nearest = (middle + round / 2) / round * round;
    if (std::abs(nearest - middle) <= tolerance) return modulo(nearest, step);
  }
  return middle;
}

}  // namespace

int64_t usual_step(const std::vector<int64_t>& times) {
  std::vector<int64_t> differences = positive_differences(times);
  if (differences.empty()) return 0;
  const auto middle = differences.begin() + static_cast<int64_t>(differences.size() / 2);
  std::nth_element(differences.begin(), middle, differences.end());
  const auto median = static_cast<double>(*middle);
  // Stored inexactly, a step comes as two lengths or more: their mean is the one meant.
  double sum = 0, count = 0;
  for (const int64_t difference : differences) {
    if (std::abs(static_cast<double>(difference) - median) > 0.1 * median) continue;
    sum += static_cast<double>(difference);
    count += 1;
  }
  if (2 * count < static_cast<double>(differences.size())) return 0;
  const double mean = sum / count;
  return mean < kMinute ? std::llround(mean) : kMinute * std::llround(mean / kMinute);
}

std::string step_text(const std::vector<int64_t>& times) {
  const int64_t step = usual_step(times);
  if (step == 0) return "irregular";
  if (are_months(times)) return "a month";
  if (step % kDaySeconds == 0) return fmt::format("{} d", step / kDaySeconds);
  if (step % kHourSeconds == 0) return fmt::format("{} h", step / kHourSeconds);
  if (step % kMinute == 0) return fmt::format("{} min", step / kMinute);
  return fmt::format("{} s", step);
}

RoundedTimes round_to_steps(std::vector<int64_t>& times) {
  const int64_t step = usual_step(times);
  if (times.size() < 3 || step < kMinute || are_months(times)) return {};
  RoundedTimes result;
  result.step = step;
  result.tolerance = std::min(step / 20, kLargestTolerance);
  const int64_t offset = meant_offset(times, step, result.tolerance);
  if (share_within(times, step, offset, result.tolerance) < kShareOnSteps) return {};
  for (int64_t& time : times) {
    const int64_t off = distance(time, step, offset);
    if (std::abs(off) > result.tolerance) {
      result.left.push_back(time);
    } else if (off != 0) {
      time -= off;
      ++result.rounded;
      result.furthest = std::max(result.furthest, std::abs(off));
    }
  }
  return result;
}

}  // namespace isobar
