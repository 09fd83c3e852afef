// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/ddp/bucket_plan.hpp>

#include <cstdint>
#include <functional>
#include <memory>

namespace isobar {

class Compressor;

/// When a bucket's reduction starts.
enum class Launch {
  /// Once each of its parameters has had a gradient. A second gradient of a
  /// bucket that was sent is refused, so each parameter gets one gradient a step
  /// outside of accumulation scopes.
  first_gradient,
  /// Once each of its parameters has had as many gradients as in the first step,
  /// whose buckets leave in finish(): for steps that are all alike, but in which a
  /// parameter gets several gradients (several backward passes, recomputed
  /// activations) or none, which is then not waited for. Gradients of accumulation
  /// scopes are not counted, so the number of micro-batches may vary. More
  /// gradients than counted are refused; fewer let the bucket leave in finish().
  counted,
  /// In finish(): nothing is hidden behind the backward pass, and every order and
  /// number of gradients is right.
  at_finish
};

/// How a bucket that all ranks of a model share is reduced on a ProcessGrid.
enum class GridLevels {
  /// By one allreduce over the world.
  flat,
  /// By a reduce-scatter in the model-parallel group, an allreduce of each rank's
  /// share over its data-parallel group and an all-gather in the model-parallel
  /// group: where such a group shares a node, 1/M of the bytes crosses the
  /// network from each rank. Needs more than one rank a model.
  two
};

struct ReducerOptions {
  BucketCaps caps{};
  Launch launch = Launch::first_gradient;
  GridLevels levels = GridLevels::flat;
  /// Sends less than the gradients; null for none. Serves this reducer alone, until it is
  /// destroyed. On a grid with several ranks a model it compresses what crosses from node
  /// to node: `levels` is then GridLevels::two, whatever it says.
  std::shared_ptr<Compressor> compressor = nullptr;
};

/// What a reducer has done since it was made. All counts are of this rank.
struct ReducerCounters {
  int64_t steps = 0;
  int64_t collectives = 0;           ///< reductions of buckets; one on two levels counts once
  int64_t launched_in_backward = 0;  ///< those of them that a hook started
  int64_t copies = 0;                ///< gradients that had to be copied into their buffer
  int64_t gradient_bytes = 0;        ///< of the gradients that were reduced
  int64_t payload_bytes = 0;         ///< handed to the collectives that reduce across nodes
  int64_t sent_bytes = 0;            ///< by those, see Traffic
  int64_t compressed_steps = 0;
  int64_t deviations = 0;  ///< parameters, by step, with fewer gradients than counted
  /// Time finish() waited for communication; of parameters on a GPU that its stream did, which is
  /// known once it has passed: after finish() and a synchronisation all of it, before perhaps not
  /// yet of the last step.
  double exposed_seconds = 0;
};

/// Where a parameter's gradient lies in its bucket's slice, in elements.
struct Slot {
  int64_t parameter = 0;  ///< index into the parameter list
  int64_t offset = 0;     ///< a multiple of 64 bytes
  int64_t elements = 0;   ///< what follows up to the next slot is padding, and zero
};

/// A bucket whose reduction has ended.
struct ReducedBucket {
  int64_t index = 0;
  at::Tensor gradients;            ///< one-dimensional, reduced and divided; padding is zero
  const Bucket* bucket = nullptr;  ///< valid during the call
};

using BucketCallback = std::function<void(const ReducedBucket&)>;

}  // namespace isobar
