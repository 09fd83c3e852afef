// SPDX-License-Identifier: Apache-2.0
// Called on the caller's thread: by finish(), for each bucket as soon as it is reduced, while later
// ones are under way, or by step() for all of them afterwards. An update touches its own bucket
// alone and communicates with nobody.
//
// Ranks stay equal because each makes the same update of the same gradients: what is updated
// follows from which parameters are frozen and how often each was updated, alike on all ranks.
// Updates are counted by parameter, since one that was frozen has had fewer: where counts differ, a
// bucket is updated in ranges.
#include <isobar/ddp/flat_optimizer.hpp>

#include "ddp/flat_arrays.hpp"
#include "ddp/normal_mode.hpp"
#include "ddp/reducer_access.hpp"

#include <isobar/core/error.hpp>
#include <ATen/Parallel.h>
#include <ATen/ops/_foreach_add.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/add.h>
#include <ATen/ops/full.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <map>

namespace isobar {
namespace {

/// Elements of an sgd update that stay in a core's cache between its operations.
constexpr int64_t kChunk = 16 * 1024;

std::vector<std::string> moment_names(const FlatOptimizerOptions& options) {
  if (options.rule == UpdateRule::adamw) return {"exp_avg", "exp_avg_sq"};
  if (options.momentum != 0) return {"momentum_buffer"};
  return {};
}

/// The operations of torch::optim::SGD, each on the whole range.
void sgd_range(at::Tensor parameters, const at::Tensor& gradients, at::Tensor momentum,
               double learning_rate, const FlatOptimizerOptions& options) {
  auto direction = gradients;
  if (options.weight_decay != 0) {
    direction = at::add(direction, parameters, options.weight_decay);
  }
  if (momentum.defined()) direction = momentum.mul_(options.momentum).add_(direction);
  parameters.add_(direction, -learning_rate);
}

/// The same for 16-bit floats, computed in float32 and rounded once.
void sgd_range_in_float(at::Tensor parameters, const at::Tensor& gradients, at::Tensor momentum,
                        double learning_rate, const FlatOptimizerOptions& options) {
  const auto wide = parameters.to(at::kFloat);
  const auto wide_momentum = momentum.defined() ? momentum.to(at::kFloat) : at::Tensor();
  sgd_range(wide, gradients.to(at::kFloat), wide_momentum, learning_rate, options);
  parameters.copy_(wide);
  if (momentum.defined()) momentum.copy_(wide_momentum);
}

/// In chunks on the CPU: all operations of a chunk read it from memory once.
void sgd(const at::Tensor& parameters, const at::Tensor& gradients, const at::Tensor& momentum,
         double learning_rate, const FlatOptimizerOptions& options) {
  const auto update = parameters.element_size() == 2 ? sgd_range_in_float : sgd_range;
  if (!parameters.is_cpu()) {
    update(parameters, gradients, momentum, learning_rate, options);
    return;
  }
  const int64_t count = parameters.numel();
  const int64_t chunks = (count + kChunk - 1) / kChunk;
  at::parallel_for(0, chunks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) {
      const auto part = [&](const at::Tensor& flat) {
        if (!flat.defined()) return flat;
        return flat.narrow(0, c * kChunk, std::min(kChunk, count - c * kChunk));
      };
      update(part(parameters), part(gradients), part(momentum), learning_rate, options);
    }
  });
}

/// Elements of a bucket that are updated alike: of parameters that are not frozen and have been
/// updated equally often. In most runs a bucket is one range.
struct Range {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t step = 0;

  at::Tensor of(const at::Tensor& flat) const { return flat.narrow(0, begin, end - begin); }
};

/// The arguments of an update of a bucket, by range. Moments go by their number.
struct BucketRanges {
  std::vector<at::Tensor> parameters, gradients;
  std::vector<std::vector<at::Tensor>> moments;
  std::vector<at::Tensor> steps;  ///< adamw: one number each, on the parameters' device
};

std::string message_for(const NamedParameter& parameter, const std::string& what) {
  return "parameter '" + parameter.name + "' " + what;
}

void check_alive(const GradOwner& owner) {
  ISOBAR_CHECK(
      !owner.is_gone && !owner.is_replaced, "FlatOptimizer: ", owner.name,
      owner.is_gone ? " was destroyed" : " was replaced, for its module was wrapped again",
      "; make an optimizer for the reducer of the later wrapper, and load() the state() of "
      "this one");
}

}  // namespace

struct FlatOptimizer::Impl {
  void check_own(const ReducedBucket& reduced) const;
  void prepare(int64_t bucket);
  bool notice_frozen(int64_t bucket);
  void plan_ranges();
  std::vector<Range> ranges_of(int64_t bucket) const;
  BucketRanges arguments_of(int64_t bucket) const;
  void update(int64_t bucket, double learning_rate);
  std::vector<at::Tensor> taken(const ParameterState& state, int64_t parameter) const;

  Reducer& reducer;
  std::shared_ptr<GradOwner> owner;
  FlatOptimizerOptions options;
  std::vector<std::string> names = moment_names(options);
  FlatArrays arrays{reducer, static_cast<int>(names.size())};
  std::vector<int64_t> steps = std::vector<int64_t>(reducer.parameters().size());  ///< by parameter
  std::vector<bool> frozen = std::vector<bool>(reducer.parameters().size());       ///< by parameter
  std::vector<BucketRanges> ranges{};                                              ///< by bucket
};

void FlatOptimizer::Impl::check_own(const ReducedBucket& reduced) const {
  const auto count = static_cast<int64_t>(reducer.plan().size());
  ISOBAR_CHECK(reduced.index < count && reduced.gradients.is_same(reducer.gradients(reduced.index)),
               "FlatOptimizer: on_bucket was given to finish() of another reducer than its own, ",
               owner->name,
               ", whose parameters it updates; give each finish() its own optimizer's");
}

// Other buckets may have been updated in this step already: ranges know how often each parameter
// has been.
void FlatOptimizer::Impl::prepare(int64_t bucket) {
  bool is_other = arrays.follow_plan() || ranges.empty();
  if (!arrays.holds(bucket)) {
    arrays.take_in();
    is_other = true;
  }
  is_other |= notice_frozen(bucket);
  if (is_other) plan_ranges();
}

/// Whether any of the bucket's parameters was frozen or thawed since the last update. One that was
/// frozen after it had accumulated gradients has them still.
bool FlatOptimizer::Impl::notice_frozen(int64_t bucket) {
  bool is_other = false;
  for (const auto& slot : arrays.slots(bucket)) {
    const auto& tensor = arrays.list()[slot.parameter].tensor;
    const bool is_frozen = !tensor.requires_grad() && !tensor.grad().defined();
    is_other |= is_frozen != frozen[slot.parameter];
    frozen[slot.parameter] = is_frozen;
  }
  return is_other;
}

void FlatOptimizer::Impl::plan_ranges() {
  ranges.clear();
  for (int64_t b = 0; b < arrays.buckets(); ++b) ranges.push_back(arguments_of(b));
}

std::vector<Range> FlatOptimizer::Impl::ranges_of(int64_t bucket) const {
  std::vector<Range> result;
  const auto& slots = arrays.slots(bucket);
  for (size_t i = 0; i < slots.size(); ++i) {
    const int64_t p = slots[i].parameter;
    if (frozen[p]) continue;
    const bool is_last = i + 1 == slots.size();
    const int64_t end = is_last ? arrays.parameters(bucket).numel() : slots[i + 1].offset;
    const bool goes_on =
        !result.empty() && result.back().end == slots[i].offset && result.back().step == steps[p];
    if (!goes_on) result.push_back({slots[i].offset, slots[i].offset, steps[p]});
    result.back().end = end;
  }
  return result;
}

BucketRanges FlatOptimizer::Impl::arguments_of(int64_t bucket) const {
  BucketRanges result;
  result.moments.resize(names.size());
  const auto& flat = arrays.parameters(bucket);
  for (const auto& range : ranges_of(bucket)) {
    result.parameters.push_back(range.of(flat));
    result.gradients.push_back(range.of(reducer.gradients(bucket)));
    for (size_t m = 0; m < names.size(); ++m) {
      const auto moment = arrays.moment(static_cast<int64_t>(m), bucket);
      result.moments[m].push_back(range.of(moment));
    }
    // The kernels want it in float32, which counts exactly up to 2^24.
    result.steps.push_back(
        at::full({}, static_cast<double>(range.step), flat.options().dtype(at::kFloat)));
  }
  return result;
}

void FlatOptimizer::Impl::update(int64_t bucket, double learning_rate) {
  c10::NoGradGuard no_grad;
  prepare(bucket);
  auto& r = ranges[bucket];
  if (options.rule == UpdateRule::adamw && !r.parameters.empty()) {
    at::_foreach_add_(r.steps, 1);
    at::_fused_adamw_(r.parameters, r.gradients, r.moments[0], r.moments[1], {}, r.steps,
                      learning_rate, options.beta1, options.beta2, options.weight_decay,
                      options.epsilon, /*amsgrad=*/false, /*maximize=*/false);
  }
  for (size_t i = 0; options.rule == UpdateRule::sgd && i < r.parameters.size(); ++i) {
    const auto momentum = names.empty() ? at::Tensor() : r.moments[0][i];
    sgd(r.parameters[i], r.gradients[i], momentum, learning_rate, options);
  }
  for (const auto& slot : arrays.slots(bucket))
    steps[slot.parameter] += frozen[slot.parameter] ? 0 : 1;
}

std::string FlatOptimizer::obstacle(const std::vector<NamedParameter>& parameters) {
  for (const auto& parameter : parameters) {
    const auto& tensor = parameter.tensor;
    if (!at::isFloatingType(tensor.scalar_type())) {
      return message_for(parameter, detail::join("is of type ", tensor.scalar_type()));
    }
    if (!tensor.is_non_overlapping_and_dense()) {
      return message_for(parameter, "has gaps or overlaps in memory");
    }
    if (!tensor.is_cpu() && !tensor.is_cuda()) {
      return message_for(parameter, "lies on " + tensor.device().str());
    }
  }
  return shared_memory(parameters, {});
}

FlatOptimizer::FlatOptimizer(Reducer& reducer, const FlatOptimizerOptions& options) {
  const NormalMode mode;
  check_alive(*ReducerAccess::owner(reducer));
  const auto reason = obstacle(reducer.parameters());
  ISOBAR_CHECK(reason.empty(), "FlatOptimizer: ", reason,
               "; wanted: floating-point, dense, on a CPU or CUDA device; use an optimizer that "
               "updates each parameter by itself");
  impl_.reset(
      new Impl{.reducer = reducer, .owner = ReducerAccess::owner(reducer), .options = options});
}

FlatOptimizer::~FlatOptimizer() = default;

BucketCallback FlatOptimizer::on_bucket(double learning_rate) {
  return [impl = impl_, learning_rate](const ReducedBucket& reduced) {
    check_alive(*impl->owner);
    impl->check_own(reduced);
    impl->update(reduced.index, learning_rate);
  };
}

void FlatOptimizer::step(double learning_rate) {
  const NormalMode mode;
  Impl& o = *impl_;
  check_alive(*o.owner);
  ISOBAR_CHECK(!ReducerAccess::is_under_way(o.reducer), "FlatOptimizer: step() before finish() of ",
               o.owner->name, " has reduced the gradients; call finish() first");
  if (o.arrays.follow_plan()) o.plan_ranges();
  for (int64_t b = 0; b < o.arrays.buckets(); ++b) {
    o.arrays.take_gradients(b);
    o.update(b, learning_rate);
  }
}

std::vector<ParameterState> FlatOptimizer::state() const {
  const Impl& o = *impl_;
  std::vector<ParameterState> result;
  for (size_t p = 0; p < o.steps.size(); ++p) {
    if (o.steps[p] == 0) continue;
    ParameterState state{o.arrays.list()[p].name, o.steps[p], {}};
    for (size_t m = 0; m < o.names.size(); ++m) {
      state.moments.emplace_back(
          o.names[m], o.arrays.moment_of(static_cast<int64_t>(m), static_cast<int64_t>(p)));
    }
    result.push_back(std::move(state));
  }
  return result;
}

std::vector<at::Tensor> FlatOptimizer::Impl::taken(const ParameterState& state,
                                                   int64_t parameter) const {
  std::vector<at::Tensor> result;
  const auto& wanted = arrays.list()[parameter].tensor;
  for (const auto& name : names) {
    const auto found = std::find_if(state.moments.begin(), state.moments.end(),
                                    [&](const auto& moment) { return moment.first == name; });
    if (found == state.moments.end()) {
      throw DataError(detail::join("optimizer state of '", state.parameter, "' has no ", name));
    }
    if (found->second.sizes() != wanted.sizes()) {
      throw DataError(detail::join("optimizer state '", state.parameter, ".", name, "' has shape ",
                                   found->second.sizes(), ", the parameter ", wanted.sizes()));
    }
    result.push_back(found->second);
  }
  return result;
}

void FlatOptimizer::load(const std::vector<ParameterState>& states) {
  const NormalMode mode;
  Impl& o = *impl_;
  check_alive(*o.owner);
  c10::NoGradGuard no_grad;
  o.arrays.follow_plan();
  std::map<std::string, const ParameterState*> by_name;
  for (const auto& state : states) by_name[state.parameter] = &state;

  std::vector<std::vector<at::Tensor>> loaded(o.steps.size());
  std::vector<int64_t> steps(o.steps.size());
  for (size_t p = 0; p < loaded.size(); ++p) {
    const auto found = by_name.find(o.arrays.list()[p].name);
    if (found == by_name.end()) continue;
    loaded[p] = o.taken(*found->second, static_cast<int64_t>(p));
    steps[p] = found->second->step;
  }
  for (size_t p = 0; p < loaded.size(); ++p) {
    for (size_t m = 0; m < o.names.size(); ++m) {
      auto moment = o.arrays.moment_of(static_cast<int64_t>(m), static_cast<int64_t>(p));
      if (loaded[p].empty()) {
        moment.zero_();
      } else {
        moment.copy_(loaded[p][m]);
      }
    }
  }
  o.steps = std::move(steps);
  o.plan_ranges();
}

}  // namespace isobar
