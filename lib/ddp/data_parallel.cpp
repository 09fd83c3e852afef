// SPDX-License-Identifier: Apache-2.0
// A module's wrapper, called on the caller's thread of every rank. Constructor and finish() are
// collective; nothing that one rank alone knows decides whether a collective is made.
//
// So finish() makes all collectives of a step before it throws what was wrong on this rank alone (a
// gradient that was written to, a module that was changed): the others have ended the step, and the
// ranks stay in step. Where parameters then differ, on all ranks, because this one was not updated,
// all throw this rank's error, which explains it.
#include <isobar/ddp/data_parallel.hpp>

#include "ddp/broadcast.hpp"
#include "ddp/buffer_sync.hpp"
#include "ddp/grad_hook.hpp"
#include "ddp/module_watch.hpp"
#include "ddp/normal_mode.hpp"
#include "ddp/parameter_check.hpp"
#include "ddp/reducer_access.hpp"
#include "ddp/tensor_bits.hpp"

#include <isobar/comm/agreement.hpp>
#include <isobar/core/error.hpp>
#include <isobar/ddp/trainable.hpp>
#include <torch/nn/module.h>

#include <algorithm>
#include <exception>

namespace isobar {
namespace {

std::vector<std::string> describe_rest(const torch::nn::Module& module, bool buffers) {
  std::vector<std::string> lines;
  const auto add = [&](const std::string& kind, const auto& item) {
    lines.push_back(detail::join(kind, " ", item.key(), " ", describe_layout(item.value())));
  };
  if (buffers) {
    for (const auto& item : module.named_buffers()) add("buffer", item);
  } else {
    for (const auto& item : module.named_parameters()) {
      if (!item.value().requires_grad()) add("frozen parameter", item);
    }
  }
  return lines;
}

/// What the constructor copies from rank 0 must be something that it can copy.
void check_kinds(const torch::nn::Module& module, const Communicator& world) {
  if (world.size() == 1) return;
  const auto check = [](std::string_view kind, const auto& item) {
    const auto obstacle = obstacle_to_copying(item.value());
    ISOBAR_CHECK(obstacle.empty(), "DataParallel: ", kind, " '", item.key(), "' ", obstacle,
                 ", and cannot be copied from rank 0; keep it as a member that is not registered");
  };
  for (const auto& item : module.named_parameters()) check("parameter", item);
  for (const auto& item : module.named_buffers()) check("buffer", item);
}

/// A wrapper that is made while an earlier one of the same module is alive takes its place, as in
/// `parallel = std::make_unique<DataParallel>(...)`.
/// Unless it comes to stay, the earlier one gets it back.
class Replacement {
 public:
  /// Throws the same UsageError on every rank where one would be replaced that is in finish().
  Replacement(const torch::nn::Module& module, Communicator& world) {
    std::vector<std::shared_ptr<GradOwner>> found;
    for (const auto& tensor : module.parameters()) {
      const auto owner = GradHook::owner_of(tensor);
      if (!owner || owner->module != &module) continue;
      if (found.empty() || found.back() != owner) found.push_back(owner);
    }
    run_agreed(world, [&] {
      for (const auto& owner : found) {
        ISOBAR_CHECK(!owner->is_finishing, "DataParallel: rank ", world.rank(), ": the module of ",
                     owner->name,
                     " was wrapped again inside its on_bucket; do that after finish()");
      }
    });
    earlier_ = std::move(found);
    for (const auto& owner : earlier_) owner->is_replaced = true;
  }
  ~Replacement() {
    for (const auto& owner : earlier_) owner->is_replaced = false;
  }
  Replacement(const Replacement&) = delete;
  Replacement& operator=(const Replacement&) = delete;

  /// For good. Scopes of accumulate() that are alive now hold for `reducer`.
  void stay(const Reducer& reducer) {
    if (!earlier_.empty()) ReducerAccess::owner(reducer)->scopes = earlier_.back()->scopes;
    earlier_.clear();
  }

 private:
  std::vector<std::shared_ptr<GradOwner>> earlier_;
};

/// A data-parallel group of one averages nothing, and nobody would notice.
void check_replicas(const ProcessGrid& grid, SingleReplica single) {
  const int ranks = grid.world().size();
  ISOBAR_CHECK(ranks == 1 || grid.replicas() > 1 || single == SingleReplica::allowed,
               "DataParallel: all ", ranks,
               " ranks belong to one model, so that no other replica shares the samples; give "
               "ProcessGrid fewer ranks a model than ",
               ranks, ", or set .single_replica = SingleReplica::allowed");
}

}  // namespace

struct DataParallel::Impl {
  Impl(torch::nn::Module& module, Communicator& world, Communicator& data,
       std::unique_ptr<Reducer> made, const DataParallelOptions& options)
      : module(module),
        world(world),
        data(data),
        reducer(std::move(made)),
        buffers(module, world, data, options.buffers),
        parameters(module, *reducer, world, data, options.compare_parameters_every),
        watch(module),
        owner(ReducerAccess::owner(*reducer)) {
    // Compared before anything is copied: a broadcast of other shapes would fill other tensors.
    run_agreed(world, [&] { check_kinds(module, world); });
    if (world.size() > 1) {
      require_equal(world, "DataParallel: layout of frozen parameters",
                    describe_rest(module, false));
      require_equal(data, "DataParallel: layout of buffers", describe_rest(module, true));
    }
    broadcast_parameters();
    buffers.broadcast();
    take_ownership();
  }

  void broadcast_parameters();
  void take_ownership() const;
  std::exception_ptr reduce(const BucketCallback& on_bucket);
  void finish(const BucketCallback& on_bucket);
  void end_step();
  void tell_cause(const std::exception_ptr& failure);

  torch::nn::Module& module;
  Communicator& world;
  Communicator& data;
  std::unique_ptr<Reducer> reducer;
  BufferSync buffers;
  ParameterCheck parameters;
  ModuleWatch watch;
  std::shared_ptr<GradOwner> owner;
  int64_t steps = 0;
};

/// Whoever wraps one of these parameters again learns that it was this module.
void DataParallel::Impl::take_ownership() const {
  owner->module = &module;
  owner->name = "the DataParallel of '" + module.name() + "'";
}

/// Reduces, and returns this rank's own error, with which the step has ended for all.
std::exception_ptr DataParallel::Impl::reduce(const BucketCallback& on_bucket) {
  const auto change = watch.change();
  const int64_t before = reducer->counters().steps;
  try {
    reducer->finish(change.empty() ? on_bucket : BucketCallback());
  } catch (...) {
    if (reducer->counters().steps == before) throw;
    return std::current_exception();
  }
  if (change.empty()) return nullptr;
  return std::make_exception_ptr(UsageError(
      detail::join("DataParallel: rank ", world.rank(), ": ", change,
                   " after the module was wrapped, and would be trained on this rank by itself or "
                   "not at all; wrap the module again")));
}

// The step ends for all ranks, with all its collectives, before one of them throws: the others
// stay in step.
void DataParallel::Impl::finish(const BucketCallback& on_bucket) {
  const auto failure = reduce(on_bucket);
  try {
    end_step();
  } catch (const Error& error) {
    if (error.known_to_all()) tell_cause(failure);
    if (!failure) throw;
  }
  if (failure) std::rethrow_exception(failure);
}

/// Ranks differ, and all know it. A rank that was not updated for an error of its own explains
/// that: all throw this error then.
void DataParallel::Impl::tell_cause(const std::exception_ptr& failure) {
  run_agreed(world, [&] {
    if (failure) std::rethrow_exception(failure);
  });
}

void DataParallel::Impl::end_step() {
  ++steps;
  buffers.end_step(steps);
  parameters.end_step(steps);
}

void DataParallel::Impl::broadcast_parameters() {
  std::vector<at::Tensor> replicated, sharded;
  for (const auto& parameter : reducer->parameters()) {
    auto& list = parameter.reduction == Reduction::sharded ? sharded : replicated;
    list.push_back(parameter.tensor);
  }
  for (const auto& tensor : module.parameters()) {
    if (!tensor.requires_grad()) replicated.push_back(tensor);
  }
  broadcast_coalesced(world, replicated, 0);
  broadcast_coalesced(data, sharded, 0);
}

DataParallel::DataParallel(torch::nn::Module& module, Communicator& world,
                           const DataParallelOptions& options) {
  const NormalMode mode;
  Replacement replacement(module, world);
  auto reducer =
      std::make_unique<Reducer>(trainable(module, options.reduction), world, options.reducer);
  impl_ = std::make_shared<Impl>(module, world, world, std::move(reducer), options);
  replacement.stay(*impl_->reducer);
}

DataParallel::DataParallel(torch::nn::Module& module, const ProcessGrid& grid,
                           const DataParallelOptions& options) {
  const NormalMode mode;
  run_agreed(grid.world(), [&] { check_replicas(grid, options.single_replica); });
  Replacement replacement(module, grid.world());
  auto reducer =
      std::make_unique<Reducer>(trainable(module, options.reduction), grid, options.reducer);
  impl_ = std::make_shared<Impl>(module, grid.world(), grid.data(), std::move(reducer), options);
  replacement.stay(*impl_->reducer);
}

DataParallel::~DataParallel() { impl_->owner->is_gone = true; }

void DataParallel::zero_grad() { impl_->reducer->zero_grad(); }

void DataParallel::begin_step(int64_t number) { impl_->reducer->begin_step(number); }

void DataParallel::finish() { finish(BucketCallback()); }

// The callback may destroy the wrapper: the step ends for all ranks nevertheless.
void DataParallel::finish(const BucketCallback& on_bucket) {
  const NormalMode mode;
  const auto kept = impl_;
  kept->finish(on_bucket);
}

AccumulationScope DataParallel::accumulate() { return impl_->reducer->accumulate(); }

Reducer& DataParallel::reducer() noexcept { return *impl_->reducer; }

const BufferCounters& DataParallel::buffer_counters() const noexcept {
  return impl_->buffers.counters();
}

}  // namespace isobar
