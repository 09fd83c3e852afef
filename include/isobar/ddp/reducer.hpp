// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/process_grid.hpp>
#include <isobar/ddp/bucket_plan.hpp>

#include <cstdint>
#include <memory>
#include <vector>

namespace isobar {

/// What a reducer has done since it was made. All counts are of this rank.
struct ReducerCounters {
  int64_t steps = 0;
  int64_t collectives = 0;           ///< reductions of buckets
  int64_t launched_in_backward = 0;  ///< those of them that a hook started
  int64_t copies = 0;                ///< gradients that had to be copied into their buffer
  int64_t payload_bytes = 0;         ///< gradient values handed to collectives
  double exposed_seconds = 0;        ///< time finish() waited for communication
};

class Reducer;

/// While it lives, backward passes only accumulate into the gradients of its
/// reducer and start no communication. Scopes nest.
class [[nodiscard]] AccumulationScope {
 public:
  explicit AccumulationScope(Reducer& reducer);
  ~AccumulationScope();
  AccumulationScope(const AccumulationScope&) = delete;
  AccumulationScope& operator=(const AccumulationScope&) = delete;

 private:
  Reducer& reducer_;
};

/// Reduces the gradients of a list of parameters over ranks while the backward
/// pass that computes them goes on.
///
/// Gradients live in flat buffers, one for each (type, device, reduction), and
/// every parameter's `.grad` is an alias into one. A hook on each parameter's
/// gradient accumulator notices when a bucket is full and starts its allreduce;
/// buckets start strictly in the order of the plan, so that all ranks issue the
/// same collectives in the same order. finish() waits and divides as the
/// parameter's Reduction says. After the first step the buckets are planned
/// once more, in the order in which gradients arrived on rank 0.
///
/// A step:
///
///     reducer.zero_grad();       // or any other way to zero or drop gradients
///     loss.backward();           // full buckets are on their way meanwhile
///     reducer.finish();          // .grad now holds the reduced gradients
///     optimizer.step();
///
/// A gradient found outside its buffer (the first of a step after
/// `zero_grad(set_to_none = true)`) is copied in and the alias set again; with
/// the reducer's own zero_grad() a steady step copies and allocates nothing.
///
/// A parameter without a gradient on this rank contributes zero; one without a
/// gradient on any rank gets a gradient of zeros. All ranks must call finish()
/// the same number of times. Must not outlive its communicators.
class Reducer {
 public:
  /// Collective over the world; blocks. Throws the same UsageError on every
  /// rank if names, types, devices' types, reductions or caps differ over the
  /// world, or shapes within a group that reduces the parameter. Every
  /// parameter must be a leaf that requires a gradient.
  Reducer(std::vector<NamedParameter> parameters, const ProcessGrid& grid, BucketCaps caps = {});

  /// The same with one rank a model.
  Reducer(std::vector<NamedParameter> parameters, Communicator& world, BucketCaps caps = {});

  /// Removes the hooks. Neither waits nor communicates.
  ~Reducer();
  Reducer(const Reducer&) = delete;
  Reducer& operator=(const Reducer&) = delete;

  /// Ends a step: starts what no hook has started, waits for every bucket and
  /// divides. Collective; blocks. Throws CommError when a peer fails, and
  /// UsageError when a parameter was moved or retyped since construction.
  void finish();

  /// Zeroes the flat buffers and sets every alias. Does not block.
  void zero_grad();

  /// See AccumulationScope. What counts is whether a scope is alive during the
  /// backward pass; where the forward ran does not matter.
  AccumulationScope accumulate() { return AccumulationScope(*this); }

  const BucketPlan& plan() const noexcept;
  const ReducerCounters& counters() const noexcept;
  const std::vector<NamedParameter>& parameters() const noexcept;

 private:
  friend class AccumulationScope;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace isobar
