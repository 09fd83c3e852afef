// SPDX-License-Identifier: Apache-2.0
// What the ranks of a profiled step did: the words that findings and the model of sums share.
#pragma once

#include <isobar/core/summary.hpp>
#include <isobar/scaling/diagnosis.hpp>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace isobar {

/// From this share of its computation on a rank waits for threads of its own.
inline constexpr double kSharedCore = 0.03;

inline double part_of(const ProfiledRank& rank, const std::string& part) {
  const auto found = rank.seconds.find(part);
  return found == rank.seconds.end() ? 0 : found->second;
}

inline double waiting_s(const ProfiledRank& rank) { return part_of(rank, "data_wait"); }

inline double computing_s(const ProfiledRank& rank) {
  return part_of(rank, "copy") + part_of(rank, "forward") + part_of(rank, "backward") +
         part_of(rank, "optimizer") + part_of(rank, "other");
}

inline double delay_s(const ProfiledRank& rank) { return rank.run_delay_s.value_or(0); }

template <typename Value>
const ProfiledRank& largest_of(const ProfiledStep& profile, const Value& value) {
  return *std::max_element(profile.ranks.begin(), profile.ranks.end(),
                           [&](const auto& a, const auto& b) { return value(a) < value(b); });
}

template <typename Value>
double largest(const ProfiledStep& profile, const Value& value) {
  return value(largest_of(profile, value));
}

/// Of the ranks but one, their largest and their median; 0 where it is alone.
struct Others {
  double most = 0;
  double median = 0;
};

template <typename Value>
Others others_than(const ProfiledStep& profile, const ProfiledRank& one, const Value& value) {
  std::vector<double> values;
  for (const auto& rank : profile.ranks) {
    if (&rank != &one) values.push_back(value(rank));
  }
  if (values.empty()) return {};
  const double most = *std::max_element(values.begin(), values.end());
  return {most, summarize(std::move(values)).median};
}

/// Whether it is a quota of the control group that a rank waits for, and no other process.
inline bool is_throttled(const ProfiledRank& rank) {
  return rank.throttled_s.value_or(0) > delay_s(rank) / 2;
}

/// For its own threads a rank waits no longer than they run; the rest others have had, or a quota.
inline double delay_by_own_s(const ProfiledRank& rank) {
  if (is_throttled(rank)) return 0;
  return std::min(delay_s(rank), rank.helpers_cpu_s.value_or(0));
}

/// Whether a rank's threads share the core that computes.
inline bool shares_core(const ProfiledRank& rank) {
  return delay_by_own_s(rank) > kSharedCore * computing_s(rank);
}

/// Of the rank that waits least: what is left when nobody waits for another.
inline const ProfiledRank& least_waiting(const ProfiledStep& profile) {
  return largest_of(profile,
                    [](const ProfiledRank& rank) { return -part_of(rank, "exposed_comm"); });
}

}  // namespace isobar
