// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ddp/gradient_buffers.hpp"

#include <isobar/comm/process_grid.hpp>
#include <isobar/ddp/reducer_options.hpp>

#include <memory>
#include <vector>

namespace isobar {

/// The communicators that gradients travel over.
struct ReducerGroups {
  Communicator& world;
  Communicator& data;
  Communicator* model = nullptr;  ///< null with one rank a model

  int model_size() const { return model ? model->size() : 1; }
};

/// Reduces the buckets of a step, each in up to three stages: a reduce-scatter in
/// the model-parallel group, an allreduce, an all-gather in the model-parallel group.
///
/// A stage starts when the one before it has ended, which is at another moment on
/// every rank. Yet each communicator sees the same order everywhere: a stage goes
/// through the buckets in the order of the plan, and the two stages inside a model
/// have a communicator each. On a GPU that is not enough, since NCCL's communicators
/// wait for each other there: later stages start in complete(), everywhere alike.
class BucketCollectives {
 public:
  /// Collective over the model-parallel group; blocks.
  BucketCollectives(const ReducerGroups& groups, GridLevels levels);

  void set_plan(const std::vector<NamedParameter>& parameters, const BucketPlan& plan,
                const GradientBuffers& buffers);

  /// Starts the reduction of the next bucket. Never blocks.
  void launch();
  int64_t launched() const { return launched_; }

  /// Starts whatever follows on a stage that has ended. Never blocks.
  void advance();

  /// Waits until the bucket is reduced, and divides. Every bucket must have been
  /// launched, and those before this one completed.
  void complete(int64_t bucket);

  /// Forgets the step.
  void clear();

  double waited_seconds() const { return waited_seconds_; }

 private:
  struct Reduced {
    at::Tensor values;   ///< the bucket's slice as real numbers
    at::Tensor share;    ///< this rank's part of it; undefined unless on two levels
    at::Tensor divisor;  ///< undefined where it is 1
    Communicator* allreduce_over = nullptr;
    Work scatter, allreduce, gather;
  };

  Reduced prepare(const at::Tensor& gradients, Reduction reduction);
  void start_allreduce();
  void start_gather();
  void wait(Work& work);

  ReducerGroups groups_;
  bool two_levels_;
  /// The ranks may start different stages in different order.
  bool any_order_ = true;
  std::unique_ptr<Communicator> scatter_, gather_;
  std::vector<Reduced> buckets_;

  // How many buckets have started each stage.
  int64_t launched_ = 0;
  int64_t allreduced_ = 0;
  int64_t gathered_ = 0;
  double waited_seconds_ = 0;
};

}  // namespace isobar
