// SPDX-License-Identifier: Apache-2.0
#include "ddp/reducer_collectives.hpp"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <chrono>

namespace isobar {
namespace {

/// What the sum over the group is divided by; see Reduction for the formulas.
int divisor_of(Reduction reduction, const ReducerGroups& groups) {
  return reduction == Reduction::replicated ? groups.world.size() : groups.data.size();
}

/// Made once: dividing by a number makes a tensor of it in every step. 16-bit floats divide in
/// float32, and a divisor in 16 bits would be rounded.
at::Tensor make_divisor(int divisor, at::ScalarType type) {
  if (divisor == 1) return {};
  const bool is_short = type == at::kHalf || type == at::kBFloat16;
  return at::scalar_tensor(divisor, at::TensorOptions().dtype(is_short ? at::kFloat : type));
}

void divide(at::Tensor& values, const at::Tensor& divisor) {
  if (!divisor.defined()) return;
  c10::NoGradGuard no_grad;
  values.div_(divisor);
}

}  // namespace

BucketCollectives::BucketCollectives(const ReducerGroups& groups, GridLevels levels)
    : groups_(groups), two_levels_(levels == GridLevels::two) {
  if (!two_levels_) return;
  // Of its own: the model's halo exchanges go on over the group's communicator in the same
  // backward pass, and where they fall between buckets differs over its ranks.
  scatter_ = groups.model->split(0, groups.model->rank());
  gather_ = groups.model->split(0, groups.model->rank());
}

BucketCollectives::Reduced BucketCollectives::prepare(const at::Tensor& gradients,
                                                      Reduction reduction) {
  c10::NoGradGuard no_grad;
  Reduced bucket;
  bucket.values = gradients.is_complex() ? at::view_as_real(gradients).view({-1}) : gradients;
  bucket.divisor = make_divisor(divisor_of(reduction, groups_), bucket.values.scalar_type());
  if (reduction == Reduction::sharded || two_levels_) {
    bucket.allreduce_over = &groups_.data;
  } else {
    bucket.allreduce_over = &groups_.world;
  }
  if (reduction != Reduction::sharded && two_levels_) {
    const auto length = bucket.values.numel() / groups_.model_size();
    bucket.share = at::empty({length}, bucket.values.options());
  }
  return bucket;
}

void BucketCollectives::set_plan(const std::vector<NamedParameter>& parameters,
                                 const BucketPlan& plan, const GradientBuffers& buffers) {
  clear();
  buckets_.clear();
  any_order_ = !two_levels_ || parameters.empty() || parameters.front().tensor.is_cpu();
  for (size_t b = 0; b < plan.size(); ++b) {
    buckets_.push_back(prepare(buffers.bucket(static_cast<int64_t>(b)),
                               parameters[plan[b].parameters.front()].reduction));
  }
}

void BucketCollectives::launch() {
  auto& bucket = buckets_[launched_];
  if (bucket.share.defined())
    bucket.scatter = scatter_->reduce_scatter(bucket.share, bucket.values);
  ++launched_;
  advance();
}

void BucketCollectives::advance() {
  if (!any_order_) return;
  while (allreduced_ < launched_ && buckets_[allreduced_].scatter.is_completed()) {
    start_allreduce();
  }
  while (gathered_ < allreduced_ &&
         (!buckets_[gathered_].share.defined() || buckets_[gathered_].allreduce.is_completed())) {
    start_gather();
  }
}

void BucketCollectives::start_allreduce() {
  auto& bucket = buckets_[allreduced_];
  wait(bucket.scatter);
  auto& values = bucket.share.defined() ? bucket.share : bucket.values;
  bucket.allreduce =
      bucket.allreduce_over->allreduce(values, {.bucket = static_cast<int32_t>(allreduced_)});
  ++allreduced_;
}

void BucketCollectives::start_gather() {
  auto& bucket = buckets_[gathered_];
  if (bucket.share.defined()) {
    wait(bucket.allreduce);
    divide(bucket.share, bucket.divisor);
    bucket.gather = gather_->all_gather(bucket.values, bucket.share);
  }
  ++gathered_;
}

// The allreduces first: they cross the network, and what they wait for does not.
void BucketCollectives::complete(int64_t bucket) {
  while (allreduced_ < launched_) start_allreduce();
  while (gathered_ <= bucket) start_gather();
  auto& reduced = buckets_[bucket];
  if (reduced.share.defined()) {
    wait(reduced.gather);
  } else {
    wait(reduced.allreduce);
    divide(reduced.values, reduced.divisor);
  }
  advance();
}

void BucketCollectives::wait(Work& work) {
  const auto begin = std::chrono::steady_clock::now();
  work.wait();
  waited_seconds_ +=
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

void BucketCollectives::clear() {
  for (auto& bucket : buckets_) bucket.scatter = bucket.allreduce = bucket.gather = Work();
  launched_ = allreduced_ = gathered_ = 0;
}

}  // namespace isobar
