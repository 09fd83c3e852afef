// SPDX-License-Identifier: Apache-2.0
// What a training step will take on more nodes than were measured, or on another machine, with an
// interval. docs/projection.md has the model, and what it has been held against.
#pragma once

#include <isobar/ddp/step_model.hpp>
#include <isobar/projection/network_model.hpp>
#include <isobar/scaling/statistics.hpp>

#include <cstdint>
#include <vector>

namespace isobar {

/// How times differ from the ones that were measured. Deviations are of logarithms: 0.02 is about
/// two percent. Every step waits for the slowest rank, so they cost the more the more ranks there
/// are, although no rank is slower.
struct Jitter {
  double between_ranks = 0;  ///< that stays: one processor is slower than another
  double between_steps = 0;  ///< of each step on each rank, about its own mean
  double collectives = 0;    ///< of each collective
};

/// How differently the same measurement comes out in another call: standard deviations of the
/// logarithms of `reports` calibrations, two or more. What will be measured differs from their
/// median as they do from each other, by Student's t of as many less one degrees of freedom, times
/// sqrt(1 + 1 / reports): few calibrations make a wide interval.
struct Repeatability {
  double compute = 0;
  double network = 0;
  int reports = 1;  ///< 1: nothing is known of it
};

/// Other jobs on the same network.
struct SharedNetwork {
  /// The most of a collective's rate that is lost to others, from 0 to below 1, where all of its
  /// traffic goes through links that others use. Each draw loses an even share between 0 and that.
  double most_lost = 0;
  int group_nodes = 1;    ///< of a leaf switch or a cell: traffic inside meets nobody
  int machine_nodes = 0;  ///< of the whole machine; 0: endless
};

/// The share of pairs of a job's nodes that lie in different groups: with `scatter` 0 the job fills
/// groups one after another, 1 - group / nodes; with 1 its nodes lie anywhere, 1 - group / machine.
double crossing_share(const SharedNetwork& network, int nodes, double scatter);

/// A step as it was measured, or planned, without communication, and what it meets.
struct ProjectionInput {
  StepCompute compute;  ///< of the median rank; its buckets do not count
  std::vector<StagedBucket> buckets;
  NetworkFit network;
  int node_ranks = 1;     ///< that sum gradients on each node
  int compute_ranks = 1;  ///< that compute on each node, which all wait for each other
  Jitter jitter;
  Repeatability repeatability;
  SharedNetwork shared;
  double compute_rate = 1;  ///< beside a collective, see StepWire
  /// Of a step of several ranks: that they wait for each other at one collective after another,
  /// which no part by itself shows. Negative where they had less to wait than the parts say. It
  /// grows with the depth of a tree of the ranks, from the `meeting_ranks` of which it is known; 0:
  /// it is the same for any number.
  double meeting_s = 0;
  int meeting_ranks = 0;
  /// Where the network is known of one point alone, 0 elsewhere: of how many nodes, and how many
  /// times faster than there the link is. The interval is wider the more doublings lie between.
  int known_nodes = 0;
  double known_rate_factor = 1;
  double data_wait_s = 0;  ///< a step, on one node
  /// Bytes that a node reads for a step, and what the file system gives all nodes together; where
  /// that is less than a step needs, the step waits. 0: no limit is known.
  double node_read_bytes = 0;
  double storage_bytes_s = 0;
  double start_s = 0;      ///< of a run, before its first step, shared by its steps
  std::int64_t steps = 0;  ///< of a run; 0: the start is left out
};

/// The step on some nodes. Intervals hold 95 % of the draws.
struct ProjectedStep {
  int nodes = 1;
  Ratio step_s;
  Ratio efficiency;  ///< E = T1 / TN of one draw's steps on one node and on these
  /// Parts of the median: computation of a rank, more that the slowest takes, communication that
  /// nothing hides, waiting for data, and the start's share.
  double compute_s = 0;
  double straggler_s = 0;
  double exposed_s = 0;
  double data_s = 0;
  double start_s = 0;
};

struct ProjectionOptions {
  int draws = 400;  ///< runs, each of which keeps its network, its slowest rank and its neighbours
  int steps = 8;    ///< of each
  std::uint64_t seed = 0;
};

/// For each number of nodes. The slowest of n ranks is drawn by the distribution of a maximum, so
/// that thousands cost no more than one. The same arguments give the same result on every machine.
/// Throws UsageError for deviations, times or shares that are negative or out of range.
std::vector<ProjectedStep> project_steps(const ProjectionInput& input,
                                         const std::vector<int>& nodes,
                                         const ProjectionOptions& options = {});

}  // namespace isobar
