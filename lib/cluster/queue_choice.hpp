// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/cluster/job.hpp>

namespace isobar {

/// The first queue that takes the job's nodes and time. One for tests, or for few, is taken where
/// its name or QoS is asked for, or its partition where that has no other. A reservation lifts the
/// limits on nodes. Throws UsageError, which names the queue that would do, or what to ask for.
Queue choose_queue(const ClusterProfile& profile, const JobRequest& request);

}  // namespace isobar
