// SPDX-License-Identifier: Apache-2.0
// What a reducer does from the first gradient of a step to finish(). Hooks call it on the thread
// that runs the backward pass (on a GPU autograd's of that device, while the caller waits in
// backward()), and finish() on the caller's.
//
// A step opens with its first gradient outside of accumulation scopes, or in finish(): then it is
// settled which parameters are frozen. From a parameter's gradient on until finish() its `.grad`
// is hidden, so that nobody changes what is under way, or what will be.
#include "ddp/reducer_step.hpp"

#include "ddp/compressor_access.hpp"
#include "ddp/normal_mode.hpp"
#include "ddp/reducer_agreement.hpp"

#include <isobar/comm/census.hpp>
#include <isobar/core/error.hpp>
#include <isobar/core/log.hpp>

#include <algorithm>
#include <cstring>
#include <exception>
#include <utility>

namespace isobar {
namespace {

/// Marks the owner as in finish(), however that ends.
class Finishing {
 public:
  explicit Finishing(GradOwner& owner) : owner_(owner) { owner_.is_finishing = true; }
  ~Finishing() { owner_.is_finishing = false; }
  Finishing(const Finishing&) = delete;
  Finishing& operator=(const Finishing&) = delete;

 private:
  GradOwner& owner_;
};

}  // namespace

ValueMark mark_value(const at::Tensor& tensor) {
  ValueMark mark{.version = static_cast<uint32_t>(tensor._version())};
  if (!tensor.is_cpu() || tensor.layout() != at::kStrided || tensor.numel() == 0 ||
      !tensor.is_non_overlapping_and_dense()) {
    return mark;
  }
  const auto* values = static_cast<const char*>(tensor.const_data_ptr());
  const auto size = tensor.element_size();
  const auto length = std::min<int64_t>(sizeof(uint64_t), size);
  const auto last = tensor.numel() - 1;
  for (size_t i = 0; i < mark.bytes.size(); ++i) {
    std::memcpy(&mark.bytes[i], values + last * static_cast<int64_t>(i) / 2 * size, length);
  }
  return mark;
}

void Reducer::Impl::check_current() const {
  ISOBAR_CHECK(!owner->is_replaced, "Reducer: rank ", groups.world.rank(), ": ", owner->name,
               " was used after the same module had been wrapped anew; use the later wrapper");
}

// It may be so on one rank only: the step goes on with zeros for them, and then finish() throws.
void Reducer::Impl::find_unusable() {
  unusable.resize(parameters.size());
  for (int64_t p = 0; p < count(); ++p) {
    const bool is_attached = hooks[p].is_attached(parameters[p].tensor);
    unusable[p] = !is_attached || !buffers->fits(p);
    if (unusable[p]) errors.add_misfit(parameters[p], is_attached);
  }
}

void Reducer::Impl::open_step() {
  if (is_open) return;
  is_open = true;
  if (frozen.settle()) arrivals.set_frozen(frozen.frozen());
  marks.resize(parameters.size());
  for (int64_t p = 0; p < count(); ++p) {
    buffers->notice_lent(p);
    marks[p] = mark_value(parameters[p].tensor);
  }
  find_unusable();
}

/// A pass that nobody finished is being thrown away or added to. That is all right, unless an
/// optimizer has used it: each rank then goes where its own samples lead, and without finish() no
/// comparison ever finds out. Weights that were put back look the same, so this is no error.
void Reducer::Impl::notice_update() {
  if (!is_open || has_warned_of_update || groups.world.size() == 1) return;
  for (int64_t p = 0; p < count(); ++p) {
    if (mark_value(parameters[p].tensor) == marks[p]) continue;
    has_warned_of_update = true;
    Logger log({.rank = groups.world.rank(), .size = groups.world.size()});
    log.warn(
        "Reducer: parameter '{}' was changed after a backward pass without finish(): if an "
        "optimizer did that, it used this rank's own gradients; call finish() before it",
        parameters[p].name);
    return;
  }
}

/// A gradient of a parameter that was frozen when the step opened, in an earlier pass of it.
void Reducer::Impl::thaw(int64_t parameter) {
  ISOBAR_CHECK(!is_sent(parameter), "Reducer: rank ", groups.world.rank(), ": parameter '",
               parameters[parameter].name,
               "' was thawed after its bucket had been sent without it; thaw it before the first "
               "backward pass of a step, or use Launch::at_finish");
  frozen.thaw(parameter);
  arrivals.thaw(parameter);
}

// A wrapper that was made for the same module, and could not be, has had it meanwhile.
void Reducer::Impl::keep_compressor() {
  if (!options.compressor || CompressorAccess::serves(*options.compressor, owner)) return;
  CompressorAccess::claim(*options.compressor, owner);
  collectives.set_plan(layouts(), plan, *buffers);
}

BucketMark Reducer::Impl::mark_of(int64_t bucket) const {
  BucketMark mark{.bucket = static_cast<int32_t>(bucket), .reducer = number, .step = step};
  frozen.write(plan[bucket], mark);
  return mark;
}

/// The gradient as it was before it was hidden.
void Reducer::Impl::recover(int64_t parameter) {
  errors.add_interference(parameters[parameter], buffers->show(parameter));
}

/// A pass that was thrown away, as any zero_grad does, before anything of it was sent.
void Reducer::Impl::take_discards(int64_t parameter) {
  if (collectives.launched() > 0 || !buffers->is_discarded(parameter)) return;
  notice_update();
  for (int64_t p = 0; p < count(); ++p) {
    if (!buffers->is_discarded(p)) continue;
    buffers->take_discard(p);
    arrivals.forget(p);
  }
}

/// What autograd drops, for its graph is older, and what has no place to go.
bool Reducer::Impl::is_ignored(int64_t parameter) const {
  return (is_open && frozen.is_frozen(parameter)) || !buffers->fits(parameter);
}

// A hook after accumulation would be too late: the buffer in flight is then already corrupt.
void Reducer::Impl::before_gradient(int64_t parameter) {
  if (is_accumulating()) {
    frozen.notice_accumulation();
  } else {
    open_step();
  }
  if (is_open && frozen.is_thawed(parameter)) thaw(parameter);
  if (is_ignored(parameter)) return;
  take_discards(parameter);
  if (is_open && !is_accumulating() && arrivals.has_come(parameter)) notice_update();
  ISOBAR_CHECK(is_accumulating() || !arrivals.is_exhausted(parameter), "Reducer: rank ",
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
  if (buffers->is_left_over(parameter)) errors.add_left_over(parameters[parameter]);
  errors.throw_interference();
  if (!is_open) buffers->notice_lent(parameter);
}

// A compressor reads gradients where autograd has put them, so that they need neither be zeroed
// before nor accumulated: four passes over memory less.
// A gradient with a graph may be differentiated before the step ends: launch_next() takes its
// values, and leaves it where it is.
void Reducer::Impl::after_gradient(int64_t parameter) {
  if (!is_accumulating()) open_step();
  if (is_ignored(parameter)) return;
  const bool stays =
      options.compressor || buffers->has_graph(parameter) || buffers->is_lent(parameter);
  if (!stays && !buffers->is_hidden(parameter) && buffers->bind(parameter)) ++counters.copies;
  if (is_accumulating()) return;
  buffers->hide(parameter);
  arrivals.add(parameter);
  const auto before = collectives.launched();
  // Strictly in the plan's order: a full bucket waits for those before it, so that every rank
  // issues the same collectives in the same order whatever order its gradients arrive in.
  while (collectives.launched() < static_cast<int64_t>(plan.size()) &&
         arrivals.is_complete(collectives.launched())) {
    const auto& bucket = plan[collectives.launched()];
    launch_next();
    for (const int64_t p : bucket.parameters) buffers->hide_sent(p);
  }
  counters.launched_in_backward += collectives.launched() - before;
  collectives.advance();
}

void Reducer::Impl::launch_next() {
  const int64_t index = collectives.launched();
  const auto& bucket = plan[index];
  if (index == 0) keep_compressor();
  std::vector<at::Tensor> sources;
  for (const int64_t p : bucket.parameters) {
    recover(p);
    const bool is_left_over = !frozen.is_frozen(p) && buffers->is_left_over(p);
    if (is_left_over) errors.add_left_over(parameters[p]);
    if (frozen.is_frozen(p) || unusable[p] || is_left_over) {
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
  std::exception_ptr failure;
  for (size_t b = 0; b < plan.size(); ++b) {
    const auto index = static_cast<int64_t>(b);
    collectives.complete(index);
    for (const int64_t p : plan[b].parameters) buffers->hand_back(p);
    if (!on_bucket || failure || owner->is_gone) continue;
    try {
      (*on_bucket)({index, buffers->bucket(index), &plan[b]});
    } catch (...) {
      failure = std::current_exception();
    }
  }
  counters.exposed_seconds = collectives.waited_seconds();
  counters.payload_bytes = collectives.traffic().payload_bytes;
  counters.sent_bytes = collectives.traffic().sent_bytes;
  counters.compressed_steps = collectives.compressed_steps();
  end_step();
  if (failure) std::rethrow_exception(failure);
}

// Ranks plan again after the same step: after the first, and after one before which replan() was
// called, which the ranks compare here. The plan is rank 0's (agree_on_plan), for gradients arrive
// in another order on each.
void Reducer::Impl::end_step() {
  const auto order = arrivals.order();
  counters.deviations += arrivals.end_step();
  collectives.clear();
  frozen.end_step();
  is_open = false;
  const BucketMark mark{.bucket = BucketMark::kReplan, .reducer = number, .step = step++};
  is_looked_at = false;
  const bool is_first = counters.steps++ == 0;
  const CollectiveAsker asker("bucket_plan");
  if (replan_with) {
    const BucketCaps caps = *replan_with;
    replan_with.reset();
    check_replan(groups.world, caps, plan_version, mark);
    options.caps = caps;
  } else if (!is_first) {
    return;
  }
  set_plan(order);
}

void Reducer::Impl::finish(const BucketCallback& on_bucket) {
  const NormalMode mode;
  check_current();
  ISOBAR_CHECK(!owner->is_finishing, "Reducer: rank ", groups.world.rank(), ": finish() of ",
               owner->name, " was called inside its own on_bucket; call it once a step");
  const Finishing finishing(*owner);
  open_step();
  find_unusable();
  for (int64_t p = 0; p < count(); ++p) recover(p);
  while (collectives.launched() < static_cast<int64_t>(plan.size())) launch_next();
  buffers->drop_graphs();
  // The step ends for all ranks before one of them throws: they stay in step.
  complete_all(on_bucket && errors.empty() ? &on_bucket : nullptr);
  errors.throw_first();
  ISOBAR_CHECK(!owner->is_gone, "Reducer: rank ", groups.world.rank(), ": ", owner->name,
               " was destroyed inside its own on_bucket; destroy it after finish()");
}

}  // namespace isobar
