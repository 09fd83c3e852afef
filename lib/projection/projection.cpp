// SPDX-License-Identifier: Apache-2.0
// Runs are drawn, and each is a small simulation of simulate_staged_step(). What stays for a run is
// drawn once in it: the network's coefficients (how well they are known), where its nodes lie and
// what others take, and how slow its slowest rank is. What changes from step to step is drawn for
// each of its steps. The efficiency of a draw compares its steps on many nodes with those of the
// same draw on one, so that what both have in common cancels.
//
// A step waits for the slowest rank at its first collective, and again at the next: as the
// collectives of a step follow each other, a rank that is slow in the whole step makes all wait
// once. So one factor scales the computation of a step. It is the largest of n in two parts, of
// what stays and of what changes. Their maxima do not fall on the same rank, but the two deviations
// add up as squares, and the largest of sums of two normal numbers is the largest of one normal
// number with their common deviation.
#include <isobar/projection/projection.hpp>

#include "projection/random_draws.hpp"

#include <isobar/core/error.hpp>
#include <isobar/core/summary.hpp>

#include <algorithm>
#include <cmath>

namespace isobar {
namespace {

constexpr double kTail = 0.025;
/// What is known of one point alone is less sure elsewhere: deviations of the logarithm of a sum's
/// time for each doubling of nodes or rate between, and of meeting_s for other ranks.
/// Of the size of what sums in the testbed were off there (docs/results/scaling.md).
constexpr double kUnseenDoubling = 0.03;
constexpr double kUnseenMeeting = 0.5;

/// What a run keeps.
struct DrawnRun {
  NetworkModel network;
  double scatter = 0;            ///< see crossing_share
  double lost = 0;               ///< of what may be lost to others
  double slowest = 0;            ///< uniform: where in its distribution the slowest rank lies
  double compute = 1, wire = 1;  ///< times so much: how well calibrations agreed
  double unseen_wire = 0, unseen_meeting = 0;  ///< normal numbers
};

struct Parts {
  double compute_s = 0, straggler_s = 0, exposed_s = 0, data_s = 0, start_s = 0;
  double sum() const { return compute_s + straggler_s + exposed_s + data_s + start_s; }
};

void check_input(const ProjectionInput& in) {
  const auto& [between_ranks, between_steps, collectives] = in.jitter;
  ISOBAR_CHECK(between_ranks >= 0 && between_steps >= 0 && collectives >= 0,
               "project_steps: deviations must not be negative, got ", between_ranks, ", ",
               between_steps, " and ", collectives);
  const auto& repeats = in.repeatability;
  ISOBAR_CHECK(repeats.compute >= 0 && repeats.network >= 0 && repeats.reports > 0,
               "project_steps: wanted a report or more and no negative deviation of theirs, got ",
               repeats.reports, ", ", repeats.compute, " and ", repeats.network);
  ISOBAR_CHECK(in.shared.most_lost >= 0 && in.shared.most_lost < 1 && in.shared.group_nodes > 0,
               "project_steps: wanted a most_lost from 0 to below 1 and groups of a node or more, "
               "got ",
               in.shared.most_lost, " and ", in.shared.group_nodes);
  ISOBAR_CHECK(in.node_ranks > 0 && in.compute_ranks > 0,
               "project_steps: wanted a rank or more on each node");
  ISOBAR_CHECK(in.meeting_ranks >= 0 && in.known_nodes >= 0 && in.known_rate_factor > 0,
               "project_steps: wanted no negative number of ranks or nodes and a positive rate");
  ISOBAR_CHECK(in.data_wait_s >= 0 && in.node_read_bytes >= 0 && in.storage_bytes_s >= 0 &&
                   in.start_s >= 0 && in.steps >= 0,
               "project_steps: no time, size or rate may be negative");
}

double compute_seconds(const ProjectionInput& in) {
  double sum = in.compute.forward_s + in.compute.backward_s + in.compute.optimizer_s;
  for (const auto& bucket : in.buckets) {
    sum += bucket.complete_s;
    for (const auto& stage : bucket.stages) sum += stage.compute_s;
  }
  return sum;
}

/// All computation takes `factor` times as long.
void scale_compute(StepCompute& compute, std::vector<StagedBucket>& buckets, double factor) {
  compute.forward_s *= factor;
  compute.backward_s *= factor;
  compute.optimizer_s *= factor;
  for (auto& bucket : buckets) {
    bucket.ready_s *= factor;
    bucket.complete_s *= factor;
    for (auto& stage : bucket.stages) stage.compute_s *= factor;
  }
}

/// Of a run's steps on some nodes.
class DrawnSteps {
 public:
  DrawnSteps(const ProjectionInput& input, int nodes, const DrawnRun& run)
      : in_(input),
        nodes_(nodes),
        run_(run),
        unseen_wire_(std::exp(kUnseenDoubling * doublings() * run.unseen_wire)),
        meeting_s_(meeting_seconds()) {}

  Parts mean(int steps, RandomDraws& draws) const {
    Parts sum;
    for (int s = 0; s < steps; ++s) add(draws, sum);
    for (double* part : {&sum.compute_s, &sum.straggler_s, &sum.exposed_s, &sum.data_s}) {
      *part /= steps;
    }
    sum.start_s = in_.steps > 0 ? in_.start_s / static_cast<double>(in_.steps) : 0;
    return sum;
  }

 private:
  void add(RandomDraws& draws, Parts& sum) const {
    const double slow = slowest_factor(draws);
    auto compute = in_.compute;
    auto buckets = in_.buckets;
    scale_compute(compute, buckets, slow * run_.compute);
    const double rate = 1 - run_.lost * crossing_share(in_.shared, nodes_, run_.scatter);
    const auto seconds = [&](std::int64_t bytes) {
      const double alone_s =
          run_.wire * unseen_wire_ * run_.network.seconds(bytes, nodes_, in_.node_ranks);
      return alone_s / rate * std::exp(in_.jitter.collectives * draws.normal());
    };
    const auto step = simulate_staged_step(compute, buckets,
                                           {.seconds = seconds, .compute_rate = in_.compute_rate});
    const double own_s = run_.compute * compute_seconds(in_);
    sum.compute_s += own_s;
    sum.straggler_s += (slow - 1) * own_s;
    sum.exposed_s += step.step_s - slow * own_s + meeting_s_;
    sum.data_s += data_seconds(step.step_s + meeting_s_);
  }

  /// Between these nodes and this link and those of which the network is known.
  double doublings() const {
    if (in_.known_nodes == 0) return 0;
    return std::hypot(std::log2(static_cast<double>(nodes_) / in_.known_nodes),
                      std::log2(in_.known_rate_factor));
  }

  double meeting_seconds() const {
    const int ranks = nodes_ * in_.node_ranks;
    if (ranks == 1) return 0;
    if (in_.meeting_ranks < 2 || ranks == in_.meeting_ranks) return in_.meeting_s;
    return in_.meeting_s * std::log2(ranks) / std::log2(in_.meeting_ranks) *
           std::exp(kUnseenMeeting * run_.unseen_meeting);
  }

  double slowest_factor(RandomDraws& draws) const {
    const double ranks = static_cast<double>(nodes_) * in_.compute_ranks;
    const auto& jitter = in_.jitter;
    // The run's part by the run's own place in the distribution, so that it is the same slow rank.
    const double stays = normal_quantile(-std::expm1(std::log(run_.slowest) / ranks));
    const double changes = draws.largest_normal(ranks);
    const double both = std::hypot(jitter.between_ranks, jitter.between_steps);
    if (both == 0) return 1;
    const double weight = jitter.between_ranks * jitter.between_ranks / (both * both);
    return std::exp(both * (weight * stays + (1 - weight) * changes));
  }

  double data_seconds(double step_s) const {
    double wait_s = in_.data_wait_s;
    if (in_.storage_bytes_s > 0) {
      const double needed_s = in_.node_read_bytes * nodes_ / in_.storage_bytes_s;
      wait_s = std::max(wait_s, needed_s - step_s);
    }
    return wait_s;
  }

  const ProjectionInput& in_;
  int nodes_;
  const DrawnRun& run_;
  double unseen_wire_, meeting_s_;
};

double draw_repeat(const Repeatability& repeats, double deviation, RandomDraws& draws) {
  if (repeats.reports < 2) return 1;
  const double wider = std::sqrt(1 + 1.0 / repeats.reports);
  return std::exp(deviation * wider * draws.student_t(repeats.reports - 1));
}

DrawnRun draw_run(const ProjectionInput& in, RandomDraws& draws) {
  DrawnRun run;
  run.network = in.network.draw([&] { return draws.normal(); });
  run.scatter = draws.uniform();
  run.lost = in.shared.most_lost * draws.uniform();
  run.slowest = draws.uniform();
  run.compute = draw_repeat(in.repeatability, in.repeatability.compute, draws);
  run.wire = draw_repeat(in.repeatability, in.repeatability.network, draws);
  run.unseen_wire = draws.normal();
  run.unseen_meeting = draws.normal();
  return run;
}

Ratio middle(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return {.value = quantile(values, 0.5),
          .low = quantile(values, kTail),
          .high = quantile(values, 1 - kTail)};
}

double median_part(const std::vector<Parts>& all, double Parts::*part) {
  std::vector<double> values;
  for (const auto& parts : all) values.push_back(parts.*part);
  return middle(std::move(values)).value;
}

}  // namespace

double crossing_share(const SharedNetwork& network, int nodes, double scatter) {
  ISOBAR_CHECK(nodes > 0 && scatter >= 0 && scatter <= 1, "crossing_share: ", nodes,
               " nodes and a scatter of ", scatter, "; wanted a node, and a scatter from 0 to 1");
  if (nodes == 1) return 0;
  const double group = network.group_nodes;
  const double filled = std::max(0.0, 1 - group / nodes);
  const double anywhere =
      network.machine_nodes > 0 ? std::max(0.0, 1 - group / network.machine_nodes) : 1;
  return (1 - scatter) * filled + scatter * anywhere;
}

std::vector<ProjectedStep> project_steps(const ProjectionInput& input,
                                         const std::vector<int>& nodes,
                                         const ProjectionOptions& options) {
  check_input(input);
  ISOBAR_CHECK(options.draws > 1 && options.steps > 0,
               "project_steps: wanted two draws and a step or more, got ", options.draws, " and ",
               options.steps);
  std::vector<DrawnRun> runs;
  std::vector<double> single_s;
  RandomDraws draws(options.seed);
  for (int d = 0; d < options.draws; ++d) {
    runs.push_back(draw_run(input, draws));
    single_s.push_back(DrawnSteps(input, 1, runs.back()).mean(options.steps, draws).sum());
  }
  std::vector<ProjectedStep> projected;
  for (const int count : nodes) {
    ISOBAR_CHECK(count > 0, "project_steps: wanted a node or more, got ", count);
    std::vector<Parts> parts;
    std::vector<double> step_s, efficiency;
    for (int d = 0; d < options.draws; ++d) {
      parts.push_back(DrawnSteps(input, count, runs[d]).mean(options.steps, draws));
      step_s.push_back(parts.back().sum());
      efficiency.push_back(single_s[d] / step_s.back());
    }
    projected.push_back({.nodes = count,
                         .step_s = middle(std::move(step_s)),
                         .efficiency = middle(std::move(efficiency)),
                         .compute_s = median_part(parts, &Parts::compute_s),
                         .straggler_s = median_part(parts, &Parts::straggler_s),
                         .exposed_s = median_part(parts, &Parts::exposed_s),
                         .data_s = median_part(parts, &Parts::data_s),
                         .start_s = median_part(parts, &Parts::start_s)});
  }
  return projected;
}

}  // namespace isobar
