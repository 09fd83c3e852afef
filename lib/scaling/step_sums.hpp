// SPDX-License-Identifier: Apache-2.0
// The sums of gradients of a profiled step, by a model of one wire that they go over.
#pragma once

#include <isobar/scaling/diagnosis.hpp>

#include <algorithm>
#include <optional>

namespace isobar {

/// Sums of gradients on one wire: `calls` alike, which the backward pass fills one after another.
struct Wire {
  double backward_s = 0;
  double sent_bytes = 0;  ///< by a rank, for all sums

  /// What is left after the backward pass of sums that take busy_s together: the last one's own
  /// time, or the first one's start and all of them, where they queue.
  double exposed_s(double calls, double busy_s) const {
    return std::max(busy_s / calls, backward_s / calls + busy_s - backward_s);
  }

  /// The busy_s that leaves so much.
  double busy_s(double calls, double exposed_s) const {
    return exposed_s < backward_s / calls ? exposed_s * calls
                                          : exposed_s + backward_s - backward_s / calls;
  }
};

/// What is known of a step's sums.
struct Sums {
  Wire wire;
  double calls = 1;
  double bytes = 0;
  double exposed_s = 0;  ///< of the rank that waits least
  double busy_s = 0;     ///< all of them, by that
};

/// Nothing where no gradients were summed.
std::optional<Sums> sums_of(const ProfiledStep& profile);

/// What all sums should take together.
double should_take_s(const ProfiledStep& profile, const Sums& sums,
                     const NetworkReference& network);

/// How the time of a step's sums divides into their number and their bytes.
struct FittedWire {
  double latency_s = 0;
  double bytes_per_s = 0;
  double alone_s = 0;  ///< latency where nothing computes, as far as it is known
};

/// Sums of which latency should be the larger part tell of latency, others of the rate: a call of
/// ranks that compute at the same time takes several times what it takes alone. Without a reference
/// calls that carry nothing say what latency is.
FittedWire fit(const Sums& sums, const ProfiledStep& profile, const DiagnosisOptions& options);

/// A bucket cap, and what it would leave exposed.
struct Cap {
  double bytes = 0;
  double exposed_s = 0;
};

/// The largest cap that is about as good as any: what is saved by a call more has to be worth it.
Cap best_cap(const Sums& sums, const FittedWire& wire, double step_s);

}  // namespace isobar
