// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ddp/bucket_tasks.hpp"
#include "ddp/gradient_buffers.hpp"
#include "ddp/stream_waits.hpp"

#include <isobar/comm/process_grid.hpp>
#include <isobar/ddp/compressor.hpp>
#include <isobar/ddp/reducer_options.hpp>

#include <functional>
#include <memory>
#include <optional>
#include <vector>

namespace isobar {

/// The communicators that gradients travel over.
struct ReducerGroups {
  Communicator& world;
  Communicator& data;
  Communicator* model = nullptr;  ///< null with one rank a model

  int model_size() const { return model ? model->size() : 1; }
};

/// Reduces the buckets of a step, each in stages: a reduce-scatter in the model-parallel
/// group, an allreduce across it or what a compressor puts in its place, an all-gather in
/// the model-parallel group.
///
/// A stage starts when the one before it has ended, which is at another moment on
/// every rank. Yet each communicator sees the same order everywhere: a stage goes
/// through the buckets in the order of the plan, and has a communicator of its own.
///
/// That is not enough for NCCL, whose communicators wait for each other on the device
/// (DeviceOrder): there a bucket's launch puts a task into the device's order that starts
/// all its stages, one behind the other on a stream, before anything of the next bucket.
/// GPU tensors over host memory have neither: later stages start in complete().
class BucketCollectives {
 public:
  /// For parameters on `device`; `compressor` may be null. Collective over the world; blocks.
  BucketCollectives(const ReducerGroups& groups, GridLevels levels, Compressor* compressor,
                    const c10::Device& device);

  /// Collective over the model-parallel group where there is a compressor; blocks.
  void set_plan(const std::vector<NamedParameter>& parameters, const BucketPlan& plan,
                const GradientBuffers& buffers);

  /// Starts the reduction of the next bucket, whose collectives carry `mark`. Never blocks.
  /// `sources` has, for each of its
  /// parameters, where the gradient is, flat and as real numbers; it is undefined for one
  /// that is in the bucket already.
  void launch(const BucketMark& mark, std::vector<at::Tensor> sources = {});
  int64_t launched() const { return launched_; }

  /// Starts whatever follows on a stage that has ended. Never blocks.
  void advance();

  /// Waits until the bucket is reduced, and divides. Every bucket must have been
  /// launched, and those before this one completed.
  void complete(int64_t bucket);

  /// Forgets the step.
  void clear();

  /// Since this was made, that complete() has waited, by the host's clock; for parameters on a
  /// device that its stream has, as far as it has come.
  double waited_seconds() noexcept { return waits_ ? waits_->seconds() : waited_seconds_; }

  /// Since this was made.
  const Traffic& traffic() const { return traffic_; }
  int64_t compressed_steps() const { return compressed_steps_; }

 private:
  struct Reduced {
    at::Tensor values;                ///< the bucket's slice as real numbers
    at::Tensor share;                 ///< this rank's part of it; undefined unless on two levels
    at::Tensor divisor;               ///< of what has been summed; undefined where it is 1
    double divisor_inside_model = 1;  ///< of sums that are divided before they are rounded
    double divisor_across = 1;        ///< likewise
    int64_t bytes = 0;                ///< of the gradients, without padding
    BucketMark mark;
    std::vector<PieceSlot> slots;
    /// By slot, until the compressor has read them: where a task reads them, until complete(),
    /// since the memory is the caller's stream's.
    std::vector<at::Tensor> sources;
    Communicator* across = nullptr;
    std::vector<Work> works;  ///< by stage
  };

  Reduced prepare(const at::Tensor& gradients, Reduction reduction);
  void set_divisors(Reduced& bucket, Reduction reduction) const;
  std::vector<BucketPiece> pieces() const;
  void begin_step();
  void take_sources(Reduced& bucket, std::vector<at::Tensor> sources);
  int stages() const { return across_stages_ + (two_levels_ ? 2 : 0); }
  bool can_start(int stage) const;
  Work& before(int stage);
  void start_next(int stage);
  Work start(Reduced& bucket, int stage);
  void start_all(Reduced& bucket);
  void push_tasks();
  void await_end(int64_t bucket);
  void await_task(int64_t bucket);
  Work start_across(Reduced& bucket, int stage);
  void end_across(Reduced& bucket);
  Communicator& across(const Reduced& bucket, int stage) const;
  void timed(const std::function<void()>& wait);

  ReducerGroups groups_;
  bool two_levels_;
  Compressor* compressor_;
  /// The ranks may start different stages in different order.
  bool any_order_ = true;
  /// Over the model-parallel group.
  std::shared_ptr<Communicator> scatter_, gather_;
  /// By a compressor's stage, over the data-parallel group; null where it is the bucket's own.
  std::vector<std::shared_ptr<Communicator>> across_;
  std::vector<Reduced> buckets_;

  // The step under way.
  bool is_compressed_ = false;
  int across_stages_ = 1;
  int64_t launched_ = 0;
  std::vector<int64_t> started_;  ///< by stage, how many buckets have

  double waited_seconds_ = 0;
  std::optional<StreamWaits> waits_;  ///< on a device
  Traffic traffic_;
  int64_t compressed_steps_ = 0;

  /// Where stages are started by tasks, which refer to all of the above.
  std::optional<BucketTasks> tasks_;
};

}  // namespace isobar
