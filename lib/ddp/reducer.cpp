// SPDX-License-Identifier: Apache-2.0
// A reducer's construction, its plan and what users call between steps, all on the caller's thread;
// reducer_step.cpp has what happens in a step.
//
// Constructing is collective, and the order of its collectives is that in which Impl's members are
// declared, for so they are initialised: comparing the arguments, splitting communicators, agreeing
// on a number, then on the plan. Whoever moves a member moves a collective. What may be wrong with
// the arguments of one rank is found in the first, which throws on all ranks.
#include <isobar/ddp/reducer.hpp>

#include "ddp/normal_mode.hpp"
#include "ddp/reducer_access.hpp"
#include "ddp/reducer_agreement.hpp"
#include "ddp/reducer_step.hpp"

#include <isobar/core/error.hpp>
#include <isobar/core/log.hpp>

#include <utility>

namespace isobar {
namespace {

std::vector<NamedParameter> checked(std::vector<NamedParameter> parameters,
                                    const ReducerOptions& options, const ReducerGroups& groups,
                                    const std::shared_ptr<GradOwner>& owner) {
  check_agreement(parameters, options, groups, owner);
  return parameters;
}

c10::Device device_of(const std::vector<NamedParameter>& parameters) {
  return parameters.empty() ? c10::Device(c10::kCPU) : parameters.front().tensor.device();
}

/// A compressor's part is what crosses the network, after the sum inside a model's ranks.
ReducerOptions with_levels(ReducerOptions options, const ReducerGroups& groups) {
  if (options.compressor && groups.model_size() > 1) options.levels = GridLevels::two;
  return options;
}

}  // namespace

Reducer::Impl::Impl(std::vector<NamedParameter> list, const ReducerGroups& groups,
                    ReducerOptions wanted)
    : parameters(checked(std::move(list), wanted, groups, owner)),
      groups(groups),
      options(with_levels(std::move(wanted), groups)),
      collectives(groups, options.levels, options.compressor.get(), device_of(parameters)),
      number(agree_on_number(groups.world)),
      arrivals(count(), options.launch),
      frozen(parameters),
      errors(groups.world.rank()) {
  owner->name = detail::join("reducer ", number);
  set_plan(reverse_order(count()));
  attach_hooks();
}

Reducer::Impl::~Impl() {
  if (!buffers) return;
  const bool is_alone = groups.world.size() == 1;
  buffers->give_back([&](int64_t p) { return is_sent(p) && !is_alone; });
}

std::shared_ptr<Reducer::Impl> Reducer::Impl::make(std::vector<NamedParameter> parameters,
                                                   const ReducerGroups& groups,
                                                   ReducerOptions options) {
  const NormalMode mode;
  return std::make_shared<Impl>(std::move(parameters), groups, std::move(options));
}

/// The parameters as they were wrapped, as far as their layout goes.
std::vector<NamedParameter> Reducer::Impl::layouts() const {
  auto list = parameters;
  for (int64_t p = 0; buffers && p < count(); ++p) {
    if (!buffers->fits(p)) list[p].tensor = buffers->slot(p);
  }
  return list;
}

void Reducer::Impl::set_plan(const std::vector<int64_t>& order) {
  const auto wrapped = layouts();
  plan = agree_on_plan(groups.world, wrapped, order, options.caps);
  bucket_of.resize(parameters.size());
  for (size_t b = 0; b < plan.size(); ++b) {
    for (const int64_t p : plan[b].parameters) bucket_of[p] = static_cast<int64_t>(b);
  }
  const bool is_shared = options.levels == GridLevels::two;
  buffers.emplace(parameters, wrapped, plan, is_shared ? groups.model_size() : 1);
  collectives.set_plan(wrapped, plan, *buffers);
  arrivals.set_plan(plan);
  ++plan_version;
}

void Reducer::Impl::attach_hooks() {
  for (int64_t p = 0; p < count(); ++p) {
    hooks.emplace_back(
        parameters[p].tensor, owner, [this, p] { before_gradient(p); },
        [this, p] { after_gradient(p); });
  }
}

Reducer::Reducer(std::vector<NamedParameter> parameters, const ProcessGrid& grid,
                 ReducerOptions options)
    : impl_(Impl::make(std::move(parameters),
                       ReducerGroups{grid.world(), grid.data(), &grid.model()},
                       std::move(options))) {}

Reducer::Reducer(std::vector<NamedParameter> parameters, Communicator& world,
                 ReducerOptions options)
    : impl_(Impl::make(std::move(parameters), ReducerGroups{world, world}, std::move(options))) {}

// No result shows a compressor that was never used: who did not look at the counters is told.
Reducer::~Reducer() {
  impl_->owner->is_gone = true;
  const auto& counters = impl_->counters;
  if (!impl_->options.compressor || impl_->is_looked_at || counters.steps == 0) return;
  if (counters.compressed_steps > 0 || impl_->groups.world.rank() != 0) return;
  try {
    Logger log({.rank = 0, .size = impl_->groups.world.size()});
    log.warn("none of {} steps was compressed by {}: {}", counters.steps,
             impl_->options.compressor->description(),
             impl_->groups.data.size() == 1
                 ? "there is one replica, whose gradients go nowhere"
                 : "all came before its start_step; set start_step to fewer steps");
  } catch (...) {  // a destructor that cannot print has nobody to tell
  }
}

void Reducer::finish() { finish(BucketCallback()); }

// The callback may destroy the reducer: the step ends for all ranks nevertheless.
void Reducer::finish(const BucketCallback& on_bucket) {
  const auto kept = impl_;
  kept->finish(on_bucket);
}

void Reducer::begin_step(int64_t number) {
  ISOBAR_CHECK(number >= 0, "Reducer: begin_step: a step's number must not be negative, got ",
               number);
  impl_->step = number;
}

void Reducer::zero_grad() {
  impl_->check_current();
  ISOBAR_CHECK(impl_->collectives.launched() == 0, "Reducer: zero_grad on rank ",
               impl_->groups.world.rank(),
               " while gradients are being reduced; call finish() first");
  const NormalMode mode;
  impl_->notice_update();
  impl_->is_open = false;
  impl_->frozen.end_step();
  impl_->errors.clear();
  impl_->arrivals.start_step();
  if (impl_->options.compressor) {
    impl_->buffers->drop();
  } else {
    impl_->buffers->zero();
  }
}

void Reducer::replan() { replan(impl_->options.caps); }

void Reducer::replan(BucketCaps caps) {
  plan_buckets({}, {}, caps);  // throws for caps that make no sense
  impl_->replan_with = std::move(caps);
}

const BucketPlan& Reducer::plan() const noexcept { return impl_->plan; }
int64_t Reducer::plan_version() const noexcept { return impl_->plan_version; }

const at::Tensor& Reducer::gradients(int64_t bucket) const {
  ISOBAR_CHECK(bucket >= 0 && bucket < static_cast<int64_t>(impl_->plan.size()),
               "Reducer: no bucket ", bucket, " of ", impl_->plan.size());
  return impl_->buffers->bucket(bucket);
}

std::vector<Slot> Reducer::slots(int64_t bucket) const {
  gradients(bucket);  // checks
  std::vector<Slot> slots;
  for (const int64_t p : impl_->plan[bucket].parameters) {
    slots.push_back({p, impl_->buffers->offset(p), impl_->parameters[p].tensor.numel()});
  }
  return slots;
}

const ReducerCounters& Reducer::counters() const noexcept {
  impl_->is_looked_at = true;
  impl_->counters.exposed_seconds = impl_->collectives.waited_seconds();
  return impl_->counters;
}
const std::vector<NamedParameter>& Reducer::parameters() const noexcept {
  return impl_->parameters;
}

const std::shared_ptr<GradOwner>& ReducerAccess::owner(const Reducer& reducer) {
  return reducer.impl_->owner;
}

bool ReducerAccess::is_under_way(const Reducer& reducer) { return reducer.impl_->is_open; }

AccumulationScope::AccumulationScope(Reducer& reducer) : alive_(reducer.impl_->owner->scopes) {
  ++*alive_;
}
AccumulationScope::~AccumulationScope() { --*alive_; }

}  // namespace isobar
