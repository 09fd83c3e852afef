// SPDX-License-Identifier: Apache-2.0
#include <isobar/ddp/reducer.hpp>

#include "ddp/grad_hook.hpp"
#include "ddp/gradient_buffers.hpp"

#include <isobar/comm/agreement.hpp>
#include <isobar/core/error.hpp>
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <chrono>
#include <deque>
#include <optional>

namespace isobar {
namespace {

/// The ranks whose gradients are summed, and what the sum is divided by.
struct ReductionGroup {
  Communicator* comm;
  int divisor;
};

/// See Reduction for the formulas.
ReductionGroup group_of(Reduction reduction, Communicator& world, Communicator& data) {
  switch (reduction) {
    case Reduction::replicated:
      return {&world, world.size()};
    case Reduction::partial:
      return {&world, data.size()};
    case Reduction::sharded:
      break;
  }
  return {&data, data.size()};
}

std::string describe(const NamedParameter& parameter, bool with_shape) {
  std::string text = detail::join(parameter.name, " ", at::toString(parameter.tensor.scalar_type()),
                                  " ", c10::DeviceTypeName(parameter.tensor.device().type(), true),
                                  " ", to_string(parameter.reduction));
  if (with_shape) text += detail::join(" ", parameter.tensor.sizes());
  return text;
}

void check_leaf(const NamedParameter& parameter, int rank) {
  const auto& tensor = parameter.tensor;
  ISOBAR_CHECK(tensor.defined() && tensor.is_leaf() && tensor.requires_grad(), "Reducer: rank ",
               rank, ": parameter '", parameter.name,
               "' must be a defined leaf tensor that requires a gradient");
  ISOBAR_CHECK(tensor.layout() == at::kStrided, "Reducer: rank ", rank, ": parameter '",
               parameter.name, "' has layout ", tensor.layout(), ", only strided ones are reduced");
}

/// Names, types and reductions over the world; shapes where ranks hold the same
/// rows. A rank's own mistakes come first, so that no rank waits for one that threw.
void check_agreement(const std::vector<NamedParameter>& parameters, const BucketCaps& caps,
                     Communicator& world, Communicator& data) {
  run_agreed(world, [&] {
    for (const auto& parameter : parameters) check_leaf(parameter, world.rank());
  });
  std::vector<std::string> common{
      detail::join("bucket caps ", caps.cap_bytes, " and ", caps.first_cap_bytes, " bytes")};
  std::vector<std::string> sharded;
  for (const auto& parameter : parameters) {
    const bool is_sharded = parameter.reduction == Reduction::sharded;
    common.push_back(describe(parameter, !is_sharded));
    if (is_sharded) sharded.push_back(describe(parameter, true));
  }
  require_equal(world, "Reducer: parameters", common);
  require_equal(data, "Reducer: sharded parameters", sharded);
}

/// Rank 0's value on every rank. Every rank plans from the same order and, for
/// shards of unequal size, from the same bucket boundaries.
std::vector<int64_t> agree_on(Communicator& world, std::vector<int64_t> values) {
  auto length = at::tensor({static_cast<int64_t>(values.size())});
  world.broadcast(length, 0).wait();
  values.resize(length.item<int64_t>());
  auto tensor = at::tensor(values, at::kLong);
  world.broadcast(tensor, 0).wait();
  return {tensor.data_ptr<int64_t>(), tensor.data_ptr<int64_t>() + tensor.numel()};
}

/// Rank 0 plans for all: parameter counts per bucket, then the indices.
BucketPlan agree_on_plan(Communicator& world, const std::vector<NamedParameter>& parameters,
                         const std::vector<int64_t>& order, const BucketCaps& caps) {
  std::vector<int64_t> lengths, indices;
  for (const auto& bucket : plan_buckets(parameters, order, caps)) {
    lengths.push_back(static_cast<int64_t>(bucket.parameters.size()));
    indices.insert(indices.end(), bucket.parameters.begin(), bucket.parameters.end());
  }
  lengths = agree_on(world, lengths);
  indices = agree_on(world, indices);
  BucketPlan plan;
  auto next = indices.begin();
  for (const int64_t length : lengths) {
    Bucket bucket{{next, next + length}, 0};
    for (const int64_t p : bucket.parameters) {
      bucket.bytes += static_cast<int64_t>(parameters[p].tensor.nbytes());
    }
    plan.push_back(std::move(bucket));
    next += length;
  }
  return plan;
}

}  // namespace

struct Reducer::Impl {
  Impl(std::vector<NamedParameter> list, Communicator& world, Communicator& data, BucketCaps caps)
      : parameters(std::move(list)), world(world), data(data), caps(caps) {
    check_agreement(parameters, caps, world, data);
    set_plan(reverse_order(static_cast<int64_t>(parameters.size())));
  }

  void set_plan(const std::vector<int64_t>& order);
  void attach_hooks();
  void check_attached() const;
  void before_gradient(int64_t parameter) const;
  void after_gradient(int64_t parameter);
  void launch_ready();
  void launch(int64_t bucket);
  void wait_and_divide();
  void start_step();

  std::vector<NamedParameter> parameters;
  Communicator& world;
  Communicator& data;
  BucketCaps caps;

  BucketPlan plan;
  std::vector<int64_t> bucket_of;  ///< by parameter
  std::optional<GradientBuffers> buffers;
  std::vector<GradHook> hooks;

  // The step under way.
  std::vector<bool> arrived;      ///< by parameter
  std::vector<int64_t> missing;   ///< gradients that a bucket still waits for
  std::vector<int64_t> arrivals;  ///< parameters in the order of their gradients
  std::deque<Work> works;         ///< by bucket, launched so far

  int64_t accumulation_scopes = 0;
  ReducerCounters counters;
};

void Reducer::Impl::set_plan(const std::vector<int64_t>& order) {
  plan = agree_on_plan(world, parameters, order, caps);
  bucket_of.resize(parameters.size());
  for (size_t b = 0; b < plan.size(); ++b) {
    for (const int64_t p : plan[b].parameters) bucket_of[p] = static_cast<int64_t>(b);
  }
  buffers.emplace(parameters, plan);
  start_step();
}

void Reducer::Impl::attach_hooks() {
  for (size_t i = 0; i < parameters.size(); ++i) {
    const auto p = static_cast<int64_t>(i);
    hooks.emplace_back(
        parameters[i].tensor, [this, p] { before_gradient(p); }, [this, p] { after_gradient(p); });
  }
}

void Reducer::Impl::start_step() {
  arrived.assign(parameters.size(), false);
  arrivals.clear();
  works.clear();
  missing.clear();
  for (const auto& bucket : plan) {
    missing.push_back(static_cast<int64_t>(bucket.parameters.size()));
  }
}

void Reducer::Impl::check_attached() const {
  for (size_t i = 0; i < parameters.size(); ++i) {
    ISOBAR_CHECK(hooks[i].is_attached(parameters[i].tensor), "Reducer: rank ", world.rank(),
                 ": parameter '", parameters[i].name,
                 "' was moved or retyped after it was wrapped and has lost its hook; wrap the "
                 "module after module.to(...)");
  }
}

// A hook after accumulation would be too late: the buffer in flight is then already corrupt.
void Reducer::Impl::before_gradient(int64_t parameter) const {
  ISOBAR_CHECK(bucket_of[parameter] >= static_cast<int64_t>(works.size()), "Reducer: rank ",
               world.rank(), ": a gradient of '", parameters[parameter].name,
               "' arrived after its bucket was sent; call finish() after each backward pass, or "
               "run the earlier passes of a step inside accumulate()");
}

void Reducer::Impl::after_gradient(int64_t parameter) {
  if (buffers->bind(parameter)) ++counters.copies;
  if (accumulation_scopes > 0 || arrived[parameter]) return;
  arrived[parameter] = true;
  arrivals.push_back(parameter);
  --missing[bucket_of[parameter]];
  const auto before = works.size();
  launch_ready();
  counters.launched_in_backward += static_cast<int64_t>(works.size() - before);
}

// Strictly in the plan's order: a full bucket waits for those before it, so that every rank
// issues the same collectives in the same order whatever order its gradients arrive in.
void Reducer::Impl::launch_ready() {
  while (works.size() < plan.size() && missing[works.size()] == 0) {
    launch(static_cast<int64_t>(works.size()));
  }
}

void Reducer::Impl::launch(int64_t bucket) {
  const Reduction reduction = parameters[plan[bucket].parameters.front()].reduction;
  works.push_back(
      group_of(reduction, world, data)
          .comm->allreduce(buffers->bucket(bucket), {.bucket = static_cast<int32_t>(bucket)}));
  ++counters.collectives;
  counters.payload_bytes += plan[bucket].bytes;
}

void Reducer::Impl::wait_and_divide() {
  const auto begin = std::chrono::steady_clock::now();
  for (auto& work : works) work.wait();
  counters.exposed_seconds +=
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  c10::NoGradGuard no_grad;
  for (size_t b = 0; b < plan.size(); ++b) {
    const Reduction reduction = parameters[plan[b].parameters.front()].reduction;
    const int divisor = group_of(reduction, world, data).divisor;
    if (divisor > 1) buffers->bucket(static_cast<int64_t>(b)).div_(divisor);
  }
}

Reducer::Reducer(std::vector<NamedParameter> parameters, const ProcessGrid& grid, BucketCaps caps)
    : impl_(std::make_unique<Impl>(std::move(parameters), grid.world(), grid.data(), caps)) {
  impl_->attach_hooks();
}

Reducer::Reducer(std::vector<NamedParameter> parameters, Communicator& world, BucketCaps caps)
    : impl_(std::make_unique<Impl>(std::move(parameters), world, world, caps)) {
  impl_->attach_hooks();
}

Reducer::~Reducer() = default;

void Reducer::finish() {
  Impl& r = *impl_;
  r.check_attached();
  for (size_t p = 0; p < r.parameters.size(); ++p) {
    // Unused here, or dropped by zero_grad since: a bucket in flight is left alone.
    if (r.bucket_of[p] >= static_cast<int64_t>(r.works.size()) &&
        r.buffers->bind(static_cast<int64_t>(p))) {
      ++r.counters.copies;
    }
  }
  while (r.works.size() < r.plan.size()) r.launch(static_cast<int64_t>(r.works.size()));
  r.wait_and_divide();
  if (r.counters.steps++ == 0) {
    auto order = r.arrivals;
    for (size_t p = 0; p < r.parameters.size(); ++p) {
      if (!r.arrived[p]) order.push_back(static_cast<int64_t>(p));
    }
    r.set_plan(order);
  } else {
    r.start_step();
  }
}

void Reducer::zero_grad() {
  impl_->check_attached();
  ISOBAR_CHECK(impl_->works.empty(), "Reducer: zero_grad on rank ", impl_->world.rank(),
               " while gradients are being reduced; call finish() first");
  impl_->buffers->zero();
}

const BucketPlan& Reducer::plan() const noexcept { return impl_->plan; }
const ReducerCounters& Reducer::counters() const noexcept { return impl_->counters; }
const std::vector<NamedParameter>& Reducer::parameters() const noexcept {
  return impl_->parameters;
}

AccumulationScope::AccumulationScope(Reducer& reducer) : reducer_(reducer) {
  ++reducer_.impl_->accumulation_scopes;
}
AccumulationScope::~AccumulationScope() { --reducer_.impl_->accumulation_scopes; }

}  // namespace isobar
