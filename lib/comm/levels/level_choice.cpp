// SPDX-License-Identifier: Apache-2.0
#include "comm/levels/level_choice.hpp"

#include <algorithm>
#include <bit>

namespace isobar {
namespace {

/// The first of each way pays for connections and pages; its time counts only where it is best.
constexpr int kTrialsEach = 3;

}  // namespace

size_t LevelChoice::class_of(int64_t bytes) {
  return static_cast<size_t>(std::bit_width(static_cast<uint64_t>(std::max<int64_t>(bytes, 1))));
}

LevelChoice::Way LevelChoice::next(int64_t bytes) const {
  const auto& known = classes_[class_of(bytes)];
  if (known.trials < 2 * kTrialsEach) return known.trials % 2 == 0 ? Way::flat : Way::node;
  return known.best_s[1] < known.best_s[0] ? Way::node : Way::flat;
}

bool LevelChoice::is_trial(int64_t bytes) const {
  return classes_[class_of(bytes)].trials < 2 * kTrialsEach;
}

void LevelChoice::add(int64_t bytes, double seconds) {
  auto& known = classes_[class_of(bytes)];
  auto& best = known.best_s[known.trials % 2];
  best = known.trials < 2 ? seconds : std::min(best, seconds);
  ++known.trials;
}

}  // namespace isobar
