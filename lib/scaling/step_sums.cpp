// SPDX-License-Identifier: Apache-2.0
#include "scaling/step_sums.hpp"

#include <cmath>
#include <vector>

#include "scaling/profiled_ranks.hpp"

namespace isobar {
namespace {

constexpr const char* kGradients = "gradients";
/// Where a rank's threads share a core, a call waits about so long for the one that computes: a
/// time slice of Linux.
constexpr double kSlice = 4e-3;
/// Caps that are proposed, and by how much of a step a smaller one has to be better.
constexpr double kLeastCap = 16 << 10, kMostCap = 64 << 20;
constexpr double kWorthACall = 0.02;
/// Collectives below this carry nothing but their latency.
constexpr double kTinyBytes = 1024;

const ProfiledCollective* gradients_of(const ProfiledStep& profile) {
  for (const auto& collective : profile.collectives) {
    if (collective.asker == kGradients && collective.calls > 0) return &collective;
  }
  return nullptr;
}

/// What the network should take, latencies first.
struct Wanted {
  double latency_s = 0;
  double all_s = 0;
  bool is_mostly_latency() const { return latency_s > all_s / 2; }
};

Wanted wanted(const Sums& sums, const NetworkReference& network) {
  const double latency_s = sums.calls * network.latency_s;
  return {latency_s, latency_s + sums.wire.sent_bytes / network.bytes_per_s};
}

/// Of calls that carry nothing else, whatever part of them was a wait for another rank; nothing
/// where there were none.
std::optional<double> measured_latency_s(const ProfiledStep& profile) {
  std::optional<double> least;
  for (const auto& one : profile.collectives) {
    if (one.calls <= 0 || one.bytes > kTinyBytes * one.calls || one.asker == kGradients) continue;
    const double seconds = one.seconds / one.calls;
    if (seconds > 0) least = std::min(least.value_or(seconds), seconds);
  }
  return least;
}

}  // namespace

std::optional<Sums> sums_of(const ProfiledStep& profile) {
  const auto* gradients = gradients_of(profile);
  if (gradients == nullptr) return std::nullopt;
  const auto ranks = static_cast<double>(profile.ranks.size());
  double all_s = 0;
  for (const auto& collective : profile.collectives) all_s += collective.exposed_s;
  const auto& rank = least_waiting(profile);
  Sums sums{.wire = {part_of(rank, "backward"), 2 * (1 - 1 / ranks) * gradients->bytes},
            .calls = std::max(1.0, std::round(gradients->calls)),
            .bytes = gradients->bytes};
  const double share = all_s > 0 ? gradients->exposed_s / all_s : 1;
  sums.exposed_s = part_of(rank, "exposed_comm") * share;
  // No sum takes longer than from its call until its wait has returned.
  sums.busy_s = std::min(sums.wire.busy_s(sums.calls, sums.exposed_s),
                         std::max(gradients->seconds, sums.exposed_s));
  return sums;
}

double should_take_s(const ProfiledStep& profile, const Sums& sums,
                     const NetworkReference& network) {
  const double slices = shares_core(least_waiting(profile)) ? sums.calls : 0;
  return wanted(sums, network).all_s + slices * kSlice;
}

FittedWire fit(const Sums& sums, const ProfiledStep& profile, const DiagnosisOptions& options) {
  double latency_s = measured_latency_s(profile).value_or(0);
  const double alone_s = options.network ? options.network->latency_s : latency_s;
  if (options.network) {
    const auto& network = *options.network;
    const double rest_s = sums.busy_s - sums.wire.sent_bytes / network.bytes_per_s;
    latency_s = wanted(sums, network).is_mostly_latency()
                    ? std::max(rest_s / sums.calls, network.latency_s)
                    : network.latency_s;
  }
  latency_s = std::min(latency_s, sums.busy_s / sums.calls);
  const double wire_s = std::max(sums.busy_s - sums.calls * latency_s, 1e-9);
  return {latency_s, sums.wire.sent_bytes / wire_s, alone_s};
}

Cap best_cap(const Sums& sums, const FittedWire& wire, double step_s) {
  std::vector<Cap> caps;
  double least_s = sums.exposed_s;
  for (double bytes = kLeastCap; bytes <= kMostCap; bytes *= 2) {
    const double calls = std::max(1.0, std::ceil(sums.bytes / bytes));
    const double busy_s = calls * wire.latency_s + sums.wire.sent_bytes / wire.bytes_per_s;
    caps.push_back({bytes, sums.wire.exposed_s(calls, busy_s)});
    least_s = std::min(least_s, caps.back().exposed_s);
    if (calls == 1) break;
  }
  Cap best{0, sums.exposed_s};
  for (const auto& cap : caps) {
    if (cap.exposed_s <= least_s + kWorthACall * step_s) best = cap;
  }
  return best;
}

}  // namespace isobar
