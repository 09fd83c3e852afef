// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/process_grid.hpp>
#include <isobar/ddp/bucket_plan.hpp>
#include <isobar/ddp/reducer_options.hpp>

#include <cstdint>
#include <memory>
#include <vector>

namespace isobar {

class Reducer;

/// While it lives, backward passes only accumulate into the gradients of its
/// reducer and start no communication. Scopes nest, and may outlive the reducer.
class [[nodiscard]] AccumulationScope {
 public:
  explicit AccumulationScope(Reducer& reducer);
  ~AccumulationScope();
  AccumulationScope(const AccumulationScope&) = delete;
  AccumulationScope& operator=(const AccumulationScope&) = delete;

 private:
  std::shared_ptr<int64_t> alive_;  ///< the reducer's count of scopes
};

/// Reduces the gradients of a list of parameters over ranks while the backward
/// pass that computes them goes on.
///
/// Gradients live in flat buffers, one for each (type, device, reduction), and
/// every parameter's `.grad` is an alias into one. A hook on each parameter's
/// gradient accumulator notices when a bucket is full (see Launch) and starts its
/// reduction; buckets start strictly in the order of the plan, so that all ranks
/// issue the same collectives in the same order. finish() waits and divides as
/// the parameter's Reduction says. After the first step the buckets are planned
/// once more, in the order in which gradients arrived on rank 0.
///
/// A step:
///
///     reducer.zero_grad();       // or any other way to zero or drop gradients
///     loss.backward();           // full buckets are on their way meanwhile
///     reducer.finish();          // .grad now holds the reduced gradients
///     optimizer.step();
///
/// Whose `.grad` is: the caller's between finish() and the backward pass, and after
/// passes inside accumulate(); from a gradient outside of accumulate() on until finish()
/// the reducer's. It may be read then, but holds no defined values; what is written there
/// is lost, and finish() reports it. To read element by element take const_data_ptr<T>() or
/// accessor<const T, N>(): the others ask to write. A `.grad` that the caller has made, and of
/// whose memory he holds something else, stays `.grad`: the result is copied there. A reducer that
/// is destroyed before finish() leaves NaN in the gradients that it had sent to other ranks.
///
/// A backward pass may be thrown away, on all ranks, as long as it has sent no bucket: zero or
/// drop the gradients and run the next one. That is every pass with Launch::at_finish; otherwise
/// call finish() first, and leave out the update. (With a compressor gradients are dropped, or
/// zeroed by the reducer's own zero_grad().)
///
/// A parameter may be frozen (requires_grad false) between steps, and thawed again: while
/// it is frozen it takes part with zeros and has no `.grad`, so that optimizers leave it
/// alone. One that is frozen after it has accumulated gradients in a step takes part with those.
/// All ranks freeze the same ones before the same step, and what they freeze or thaw in the middle
/// of one has got a gradient of that step, before it is frozen or once it is thawed, on all ranks
/// or on none; otherwise the next collective fails and says so.
///
/// A gradient found outside its buffer (the first of a step after
/// `zero_grad(set_to_none = true)`) is copied in and the alias set again; with
/// the reducer's own zero_grad() a steady step copies and allocates nothing.
///
/// `backward(create_graph)` puts a gradient with an autograd graph of its own in
/// `.grad`. It stays there, to be differentiated further or detached, until finish(): only
/// its values are reduced, and finish() replaces it by them, or reports that they are others than
/// were sent.
///
/// A parameter without a gradient on this rank contributes zero; one without a
/// gradient on any rank gets a gradient of zeros. All ranks must call finish()
/// the same number of times. Reducers of one communicator may be used in any order that is the
/// same on all ranks: collectives carry the reducer's number, and another order is an error.
/// Must not outlive its communicators.
class Reducer {
 public:
  /// Collective over the world; blocks. Throws the same UsageError on every
  /// rank if names, types, devices' types, reductions or options differ over the
  /// world, or shapes and memory layouts within a group that reduces the
  /// parameter. Every parameter must be a leaf that requires a gradient, given once, and in
  /// no other reducer that is alive.
  Reducer(std::vector<NamedParameter> parameters, const ProcessGrid& grid,
          ReducerOptions options = {});

  /// The same with one rank a model.
  Reducer(std::vector<NamedParameter> parameters, Communicator& world, ReducerOptions options = {});

  /// Removes the hooks. Neither waits nor communicates.
  ~Reducer();
  Reducer(const Reducer&) = delete;
  Reducer& operator=(const Reducer&) = delete;

  /// Ends a step: starts what no hook has started, waits for every bucket and
  /// divides. Collective; blocks. Throws CommError when a peer fails, and
  /// UsageError, once the step has ended, when a parameter was moved, retyped or reshaped since
  /// construction (it has then taken part with zeros), or a `.grad` was changed that belonged to
  /// the reducer.
  void finish();

  /// The same, and hands each bucket over as soon as its reduction has ended, in
  /// the order of the plan, on this thread, while later ones are still under way.
  /// What `on_bucket` throws is rethrown once the step has ended. It may not call finish(),
  /// zero_grad() or a backward pass, nor destroy the reducer: UsageError, once the step has ended.
  void finish(const BucketCallback& on_bucket);

  /// Zeroes the flat buffers and sets every alias; with a compressor, which reads gradients
  /// where autograd has put them, it drops every `.grad` until finish(). Does not block.
  void zero_grad();

  /// Says that the next backward pass belongs to step `number`, which the ranks then compare
  /// with the first bucket: a step left out on one rank is an error there and then. Without it
  /// steps are counted by finish(). Does not block.
  void begin_step(int64_t number);

  /// See AccumulationScope. What counts is whether a scope is alive during the
  /// backward pass; where the forward ran does not matter.
  AccumulationScope accumulate() { return AccumulationScope(*this); }

  /// Plans the buckets again at the end of the next finish(), in the order in which
  /// that step's gradients arrived on rank 0, with the same or with new caps.
  /// Gradients keep their values. Every rank must ask before the same finish(),
  /// which throws the same UsageError on every rank where they asked for different
  /// caps; a rank that has not asked at all fails the next collective.
  void replan();
  void replan(BucketCaps caps);

  const BucketPlan& plan() const noexcept;

  /// How often buckets have been planned: 1 at first, 2 after the first step.
  int64_t plan_version() const noexcept;

  /// A bucket's slice of its flat buffer: one-dimensional, padding included. What
  /// mirrors it (`at::zeros_like(reducer.gradients(b))` for an optimizer's state)
  /// lays parameters out as slots() says. Both hold for one plan_version().
  const at::Tensor& gradients(int64_t bucket) const;

  /// Where the bucket's parameters lie in it, in the plan's order. Inside a slot a
  /// dense parameter's elements are in the order of its strides, any other's in
  /// that of its shape. A bucket ends at a multiple of 64 bytes, on two levels of
  /// 64 bytes times the model's ranks.
  std::vector<Slot> slots(int64_t bucket) const;

  const ReducerCounters& counters() const noexcept;
  const std::vector<NamedParameter>& parameters() const noexcept;

 private:
  friend class AccumulationScope;
  friend struct ReducerAccess;
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace isobar
