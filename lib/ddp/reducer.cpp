// SPDX-License-Identifier: Apache-2.0
// Called by whoever trains, on the thread that runs the backward pass, hooks included (on a GPU
// they run on autograd's thread of that device, while the caller waits in backward()).
//
// A step opens with its first gradient outside of accumulation scopes, or in finish(): then it is
// settled which parameters are frozen. From a parameter's gradient on until finish() its `.grad`
// is hidden, so that nobody changes what is under way, or what will be.
#include <isobar/ddp/reducer.hpp>

#include "ddp/grad_hook.hpp"
#include "ddp/gradient_buffers.hpp"
#include "ddp/reducer_agreement.hpp"
#include "ddp/reducer_arrivals.hpp"
#include "ddp/reducer_collectives.hpp"

#include <isobar/core/error.hpp>
#include <isobar/core/log.hpp>

#include <exception>
#include <optional>
#include <utility>

namespace isobar {
namespace {

std::vector<NamedParameter> checked(std::vector<NamedParameter> parameters,
                                    const ReducerOptions& options, const ReducerGroups& groups) {
  check_agreement(parameters, options, groups);
  return parameters;
}

/// A compressor's part is what crosses the network, after the sum inside a model's ranks.
ReducerOptions with_levels(ReducerOptions options, const ReducerGroups& groups) {
  if (options.compressor && groups.model_size() > 1) options.levels = GridLevels::two;
  return options;
}

}  // namespace

struct Reducer::Impl {
  Impl(std::vector<NamedParameter> list, const ReducerGroups& groups, ReducerOptions wanted)
      : parameters(checked(std::move(list), wanted, groups)),
        groups(groups),
        options(with_levels(std::move(wanted), groups)),
        collectives(groups, options.levels, options.compressor.get()),
        number(agree_on_number(groups.world)),
        arrivals(count(), options.launch) {
    owner->name = detail::join("reducer ", number);
    set_plan(reverse_order(count()));
    attach_hooks();
  }
  ~Impl() {
    if (buffers) buffers->give_back();
  }

  int64_t count() const { return static_cast<int64_t>(parameters.size()); }
  bool is_ignored(int64_t parameter) const;
  bool is_sent(int64_t parameter) const { return bucket_of[parameter] < collectives.launched(); }

  void set_plan(const std::vector<int64_t>& order);
  void attach_hooks();
  void check_current() const;
  void find_unusable();
  std::vector<NamedParameter> layouts() const;
  void open_step();
  BucketMark mark_of(int64_t bucket) const;
  void recover(int64_t parameter);
  void take_discards(int64_t parameter);
  void check_untouched();
  void before_gradient(int64_t parameter);
  void after_gradient(int64_t parameter);
  void launch_next();
  void complete_all(const BucketCallback* on_bucket);
  void end_step();

  std::vector<NamedParameter> parameters;
  ReducerGroups groups;
  ReducerOptions options;

  BucketPlan plan;
  int64_t plan_version = 0;
  std::optional<BucketCaps> replan_with;  ///< asked for at the next finish()
  std::vector<int64_t> bucket_of;         ///< by parameter
  std::optional<GradientBuffers> buffers;
  BucketCollectives collectives;
  int32_t number;  ///< of the reducer, see BucketMark
  Arrivals arrivals;
  std::shared_ptr<GradOwner> owner = std::make_shared<GradOwner>();
  std::vector<GradHook> hooks;

  // The step under way.
  bool is_open = false;
  std::vector<bool> frozen;    ///< by parameter
  std::vector<bool> unusable;  ///< by parameter: it is not any more what was wrapped
  std::string misfit;          ///< about the first of those; empty: there is none
  std::string interference;    ///< with a hidden gradient, the first; empty: none
  int64_t step = 0;

  int64_t accumulation_scopes = 0;
  ReducerCounters counters;
  bool is_looked_at = false;  ///< the caller has seen the counters of the last step
};

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

void Reducer::Impl::check_current() const {
  ISOBAR_CHECK(!owner->is_replaced, "Reducer: rank ", groups.world.rank(), ": ", owner->name,
               " was used after the same module had been wrapped anew; use the later wrapper");
}

// It may be so on one rank only: the step goes on with zeros for them, and then finish() throws.
void Reducer::Impl::find_unusable() {
  unusable.resize(parameters.size());
  for (int64_t p = 0; p < count(); ++p) {
    const auto& tensor = parameters[p].tensor;
    const bool is_attached = hooks[p].is_attached(tensor);
    unusable[p] = !is_attached || !buffers->fits(p);
    if (!unusable[p] || !misfit.empty()) continue;
    misfit = detail::join("Reducer: rank ", groups.world.rank(), ": parameter '",
                          parameters[p].name, "' was ");
    misfit +=
        is_attached
            ? detail::join("given the shape ", tensor.sizes(), " with strides ", tensor.strides(),
                           " after it was wrapped, and had another; wrap the module again")
            : "moved, retyped or loaded after it was wrapped and has lost its hook; wrap the "
              "module after module.to(...) and torch::load(), or copy values into the "
              "parameters that it has";
  }
}

void Reducer::Impl::open_step() {
  if (is_open) return;
  is_open = true;
  bool is_other = frozen.empty();
  frozen.resize(parameters.size());
  for (size_t i = 0; i < parameters.size(); ++i) {
    const bool is_frozen = !parameters[i].tensor.requires_grad();
    is_other |= is_frozen != frozen[i];
    frozen[i] = is_frozen;
  }
  if (is_other) arrivals.set_frozen(frozen);
  find_unusable();
}

BucketMark Reducer::Impl::mark_of(int64_t bucket) const {
  BucketMark mark{.bucket = static_cast<int32_t>(bucket), .reducer = number, .step = step};
  for (const int64_t p : plan[bucket].parameters) mark.frozen += frozen[p] ? 1 : 0;
  return mark;
}

/// The gradient as it was before it was hidden.
void Reducer::Impl::recover(int64_t parameter) {
  const auto done = buffers->show(parameter);
  if (done == Interference::none || !interference.empty()) return;
  interference = detail::join(
      "Reducer: rank ", groups.world.rank(), ": .grad of parameter '", parameters[parameter].name,
      done == Interference::written ? "' was written to" : "' was replaced",
      " between backward() and finish(), when it belongs to the reducer; clip, scale or zero "
      "gradients after finish(), run the backward pass inside accumulate(), or read it with "
      "const_data_ptr (data_ptr and accessor<T> ask to write)");
}

/// A pass that was thrown away, as any zero_grad does, before anything of it was sent.
void Reducer::Impl::take_discards(int64_t parameter) {
  if (collectives.launched() > 0 || !buffers->is_discarded(parameter)) return;
  for (int64_t p = 0; p < count(); ++p) {
    if (!buffers->is_discarded(p)) continue;
    buffers->discard(p);
    arrivals.forget(p);
  }
}

void Reducer::Impl::check_untouched() {
  if (interference.empty()) return;
  throw UsageError(std::exchange(interference, {}));
}

/// What autograd drops, for its graph is older, and what has no place to go.
bool Reducer::Impl::is_ignored(int64_t parameter) const {
  return (is_open && frozen[parameter]) || !buffers->fits(parameter);
}

// A hook after accumulation would be too late: the buffer in flight is then already corrupt.
void Reducer::Impl::before_gradient(int64_t parameter) {
  if (accumulation_scopes == 0) open_step();
  if (is_ignored(parameter)) return;
  take_discards(parameter);
  ISOBAR_CHECK(accumulation_scopes > 0 || !arrivals.is_exhausted(parameter), "Reducer: rank ",
               groups.world.rank(), ": a gradient of '", parameters[parameter].name,
               "' arrived beyond the ", arrivals.expected(parameter),
               " that the first step counted; with Launch::counted every step must be like the "
               "first: run what varies inside accumulate(), or use Launch::at_finish");
  ISOBAR_CHECK(!is_sent(parameter), "Reducer: rank ", groups.world.rank(), ": a gradient of '",
               parameters[parameter].name,
               "' arrived after its bucket was sent; call finish() after each backward pass, run "
               "the earlier passes of a step inside accumulate(), or construct with "
               "Launch::counted (every step alike) or Launch::at_finish (any)");
  recover(parameter);
  check_untouched();
}

// A compressor reads gradients where autograd has put them, so that they need neither be zeroed
// before nor accumulated: four passes over memory less.
// A gradient with a graph may be differentiated before the step ends: launch_next() takes its
// values, and leaves it where it is.
void Reducer::Impl::after_gradient(int64_t parameter) {
  if (accumulation_scopes == 0) open_step();
  if (is_ignored(parameter)) return;
  const bool stays = options.compressor || buffers->has_graph(parameter);
  if (!stays && !buffers->is_hidden(parameter) && buffers->bind(parameter)) ++counters.copies;
  if (accumulation_scopes > 0) return;
  buffers->hide(parameter);
  arrivals.add(parameter);
  const auto before = collectives.launched();
  // Strictly in the plan's order: a full bucket waits for those before it, so that every rank
  // issues the same collectives in the same order whatever order its gradients arrive in.
  while (collectives.launched() < static_cast<int64_t>(plan.size()) &&
         arrivals.is_complete(collectives.launched())) {
    const auto& bucket = plan[collectives.launched()];
    launch_next();
    for (const int64_t p : bucket.parameters) buffers->hide(p);
  }
  counters.launched_in_backward += collectives.launched() - before;
  collectives.advance();
}

void Reducer::Impl::launch_next() {
  const int64_t index = collectives.launched();
  const auto& bucket = plan[index];
  std::vector<at::Tensor> sources;
  for (const int64_t p : bucket.parameters) {
    recover(p);
    if (frozen[p] || unusable[p]) {
      buffers->drop(p);
      if (options.compressor) sources.emplace_back();
      continue;
    }
    if (options.compressor) sources.push_back(buffers->give_up(p));
    if (!sources.empty() && sources.back().defined()) continue;
    // Unused here, dropped by a zero_grad, or with a graph.
    if (buffers->take(p)) ++counters.copies;
  }
  collectives.launch(mark_of(index), std::move(sources));
  ++counters.collectives;
  counters.gradient_bytes += bucket.bytes;
}

void Reducer::Impl::complete_all(const BucketCallback* on_bucket) {
  const double waited = collectives.waited_seconds();
  std::exception_ptr failure;
  for (size_t b = 0; b < plan.size(); ++b) {
    const auto index = static_cast<int64_t>(b);
    collectives.complete(index);
    if (!on_bucket || failure) continue;
    try {
      (*on_bucket)({index, buffers->bucket(index), &plan[b]});
    } catch (...) {
      failure = std::current_exception();
    }
  }
  counters.exposed_seconds += collectives.waited_seconds() - waited;
  counters.payload_bytes = collectives.traffic().payload_bytes;
  counters.sent_bytes = collectives.traffic().sent_bytes;
  counters.compressed_steps = collectives.compressed_steps();
  end_step();
  if (failure) std::rethrow_exception(failure);
}

void Reducer::Impl::end_step() {
  const auto order = arrivals.order();
  counters.deviations += arrivals.end_step();
  collectives.clear();
  is_open = false;
  ++step;
  is_looked_at = false;
  const bool is_first = counters.steps++ == 0;
  if (replan_with) {
    const BucketCaps caps = *replan_with;
    replan_with.reset();
    check_replan(groups.world, caps, plan_version);
    options.caps = caps;
  } else if (!is_first) {
    return;
  }
  set_plan(order);
}

Reducer::Reducer(std::vector<NamedParameter> parameters, const ProcessGrid& grid,
                 ReducerOptions options)
    : impl_(std::make_unique<Impl>(std::move(parameters),
                                   ReducerGroups{grid.world(), grid.data(), &grid.model()},
                                   std::move(options))) {}

Reducer::Reducer(std::vector<NamedParameter> parameters, Communicator& world,
                 ReducerOptions options)
    : impl_(std::make_unique<Impl>(std::move(parameters), ReducerGroups{world, world},
                                   std::move(options))) {}

// No result shows a compressor that was never used: who did not look at the counters is told.
Reducer::~Reducer() {
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

void Reducer::finish(const BucketCallback& on_bucket) {
  Impl& r = *impl_;
  r.check_current();
  r.open_step();
  r.find_unusable();
  for (int64_t p = 0; p < r.count(); ++p) r.recover(p);
  while (r.collectives.launched() < static_cast<int64_t>(r.plan.size())) r.launch_next();
  r.buffers->drop_graphs();
  // The step ends for all ranks before one of them throws: they stay in step.
  const bool is_sound = r.misfit.empty() && r.interference.empty();
  r.complete_all(on_bucket && is_sound ? &on_bucket : nullptr);
  if (!r.misfit.empty()) {
    r.interference.clear();
    throw UsageError(std::exchange(r.misfit, {}));
  }
  r.check_untouched();
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
  impl_->is_open = false;
  impl_->misfit.clear();
  impl_->interference.clear();
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
  return impl_->counters;
}
const std::vector<NamedParameter>& Reducer::parameters() const noexcept {
  return impl_->parameters;
}

AccumulationScope::AccumulationScope(Reducer& reducer) : reducer_(reducer) {
  ++reducer_.impl_->accumulation_scopes;
}
AccumulationScope::~AccumulationScope() { --reducer_.impl_->accumulation_scopes; }

}  // namespace isobar
