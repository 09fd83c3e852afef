// SPDX-License-Identifier: Apache-2.0
// A step as a trace that others' simulators of networks replay.
#pragma once

#include <isobar/projection/projection.hpp>

#include <ostream>

namespace isobar {

/// Writes a step of input.node_ranks ranks on each of `nodes` nodes in GOAL's text form (Hoefler,
/// Siebert and Lumsdaine, ICPP 2009), which LogGOPSim and ATLAHS read: of each rank what it
/// computes, in nanoseconds, what it sends and receives, and what requires what.
///
/// Each bucket's sum is a ring: 2 (n - 1) messages of an n-th of its bytes, rounded up, from each
/// rank to the next, tagged with the bucket's number. Buckets use the ring one after another, as
/// they become full; computation is on `cpu 0` and communication on `cpu 1`, so that both go on at
/// once. Compressors' stages follow each other as buckets do, with what they compute between them.
/// Jitter, other jobs, data and compute_rate are not in it: a simulator has its own.
///
/// A trace has about 6 (n - 1) n lines a bucket. Throws UsageError for fewer than two ranks and
/// for more than ten million lines, and Error where the stream cannot be written.
void write_goal_trace(std::ostream& out, const ProjectionInput& input, int nodes);

}  // namespace isobar
