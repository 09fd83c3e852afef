// SPDX-License-Identifier: Apache-2.0
// Called by a reducer: launch() and advance() from hooks too, in the middle of a backward pass,
// where neither blocks; the rest from finish().
//
// With tasks, start_all() runs on the thread that issues NCCL's operations: for bucket after
// bucket, while hooks fill later ones. It touches its bucket, the communicators that are the tasks'
// own, the compressor and the traffic, which hooks leave alone from the bucket's launch on, and
// finish() until all tasks have run.
//
// Without, when a bucket's stage ends differs from rank to rank, and so does the order in which
// ranks start stages. Yet each communicator sees one order everywhere: it serves one stage, and a
// stage goes through the buckets in the order of the plan (started_[stage] only counts up). No wait
// is for ever: complete() waits in one order of (stage, bucket) on every rank, and a rank starts
// what comes at a place in it having waited only for what comes before; stage 0 of all buckets is
// started without any wait. So what the first of all waiting ranks waits for, all others have
// started or will.
#include "ddp/reducer_collectives.hpp"

#include "ddp/bucket_pieces.hpp"

#include <isobar/comm/census.hpp>
#include <isobar/core/stopwatch.hpp>
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <bit>

namespace isobar {
namespace {

constexpr const char* kGradients = "gradients";

/// What the sum over the group is divided by; see Reduction for the formulas.
int divisor_of(Reduction reduction, const ReducerGroups& groups) {
  return reduction == Reduction::replicated ? groups.world.size() : groups.data.size();
}

/// Made once: dividing by a number makes a tensor of it in every step.
at::Tensor make_divisor(int divisor, at::ScalarType type) {
  if (divisor == 1) return {};
  return at::scalar_tensor(divisor, at::TensorOptions().dtype(type));
}

std::shared_ptr<Communicator> copy_of(Communicator& group) { return group.split(0, group.rank()); }

void divide_values(at::Tensor values, const at::Tensor& divisor) {
  if (!divisor.defined()) return;
  c10::NoGradGuard no_grad;
  values.div_(divisor);
}

}  // namespace

BucketCollectives::BucketCollectives(const ReducerGroups& groups, GridLevels levels,
                                     Compressor* compressor, const c10::Device& device)
    : groups_(groups), two_levels_(levels == GridLevels::two), compressor_(compressor) {
  if (!device.is_cpu()) waits_.emplace(device);
  across_.resize(compressor_ ? compressor_->stages() : 1);
  const bool has_later_stages = two_levels_ || across_.size() > 1;
  auto order = has_later_stages ? DeviceOrder::of(groups.world, device) : nullptr;
  // In one order there is nothing for a second communicator to keep apart. It is the tasks' own:
  // while they run, the caller goes on with the group's.
  if (order) {
    tasks_.emplace(std::move(order));
    across_.assign(across_.size(), copy_of(groups.data));
  }
  for (size_t stage = 1; stage < across_.size(); ++stage) {
    if (!tasks_) across_[stage] = copy_of(groups.data);
  }
  if (!two_levels_) return;
  // Of its own: the model's halo exchanges go on over the group's communicator in the same
  // backward pass, and where they fall between buckets differs over its ranks.
  scatter_ = copy_of(*groups.model);
  gather_ = tasks_ ? scatter_ : copy_of(*groups.model);
}

// 16-bit floats are divided where they are summed, before they are rounded: of 2,048 ranks a sum of
// float16s would be infinite from a mean of 32 on, and what is divided before it is summed loses
// small values. Inside a model's ranks, whose sum is rounded as well, only copies of one gradient
// are divided, by a power of two, which changes no bit of a normal number: what these ranks have
// parts of is, added, the gradient that one rank a model would have.
void BucketCollectives::set_divisors(Reduced& bucket, Reduction reduction) const {
  const int divisor = divisor_of(reduction, groups_);
  const auto type = bucket.values.scalar_type();
  if (!has_rounded_sums(type)) {
    bucket.divisor = make_divisor(divisor, type);
    return;
  }
  if (two_levels_ && reduction == Reduction::replicated) {
    bucket.divisor_inside_model = std::bit_ceil(static_cast<unsigned>(groups_.model_size()));
  }
  bucket.divisor_across = divisor / bucket.divisor_inside_model;
}

BucketCollectives::Reduced BucketCollectives::prepare(const at::Tensor& gradients,
                                                      Reduction reduction) {
  c10::NoGradGuard no_grad;
  Reduced bucket;
  bucket.values = real_values(gradients);
  set_divisors(bucket, reduction);
  if (reduction == Reduction::sharded || two_levels_) {
    bucket.across = &groups_.data;
  } else {
    bucket.across = &groups_.world;
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
  any_order_ =
      parameters.empty() || parameters[0].tensor.is_cpu() || (across_.size() == 1 && !two_levels_);
  for (size_t b = 0; b < plan.size(); ++b) {
    const auto first = plan[b].parameters.front();
    buckets_.push_back(
        prepare(buffers.bucket(static_cast<int64_t>(b)), parameters[first].reduction));
    buckets_.back().bytes = plan[b].bytes;
    buckets_.back().slots = piece_slots(parameters, plan[b], buffers);
  }
  if (!compressor_) return;
  c10::NoGradGuard no_grad;
  compressor_->set_plan(parameters, pieces(), two_levels_ ? gather_.get() : nullptr);
}

std::vector<BucketPiece> BucketCollectives::pieces() const {
  std::vector<BucketPiece> pieces;
  for (const auto& bucket : buckets_) {
    const double divisor =
        bucket.divisor.defined() ? bucket.divisor.item<double>() : bucket.divisor_across;
    if (!bucket.share.defined()) {
      pieces.push_back({bucket.values, bucket.slots, divisor});
      continue;
    }
    const int64_t begin = bucket.share.numel() * groups_.model->rank();
    const int64_t end = begin + bucket.share.numel();
    pieces.push_back({bucket.share, cut(bucket.slots, begin, end), divisor});
  }
  return pieces;
}

// With one replica nothing is sent, so that compressing would lose and save nothing.
void BucketCollectives::begin_step() {
  c10::NoGradGuard no_grad;
  is_compressed_ = compressor_ && groups_.data.size() > 1 && compressor_->begin_step();
  across_stages_ = is_compressed_ ? compressor_->stages() : 1;
  compressed_steps_ += is_compressed_ ? 1 : 0;
  started_.assign(stages(), 0);
  for (auto& bucket : buckets_) bucket.works.assign(stages(), Work());
}

void BucketCollectives::take_sources(Reduced& bucket, std::vector<at::Tensor> sources) {
  c10::NoGradGuard no_grad;
  bucket.sources = std::move(sources);
  if (is_compressed_ && !two_levels_ && compressor_->reads_in_place()) return;
  for (size_t i = 0; i < bucket.sources.size(); ++i) {
    if (!bucket.sources[i].defined()) continue;
    const auto& slot = bucket.slots[i];
    bucket.values.narrow(0, slot.offset, slot.elements).copy_(bucket.sources[i]);
  }
  bucket.sources.clear();
}

void BucketCollectives::launch(const BucketMark& mark, std::vector<at::Tensor> sources) {
  const CollectiveAsker asker(kGradients);
  if (launched_ == 0) begin_step();
  buckets_[launched_].mark = mark;
  take_sources(buckets_[launched_], std::move(sources));
  ++launched_;
  advance();
}

bool BucketCollectives::can_start(int stage) const {
  const int64_t bucket = started_[stage];
  if (bucket >= launched_) return false;
  return stage == 0 ||
         (started_[stage - 1] > bucket && buckets_[bucket].works[stage - 1].is_completed());
}

// Never waits: a stage starts where the one before is over, which differs from rank to rank. Over
// host memory a GPU's values are there only once somebody has waited for them: there this starts
// stage 0 alone, and complete() the others. What NCCL carries has to be issued in one order on all
// ranks (NCCL's user guide, "Using multiple NCCL communicators concurrently"): by tasks.
void BucketCollectives::advance() {
  if (tasks_) return push_tasks();
  const CollectiveAsker asker(kGradients);
  for (int stage = 0; stage < static_cast<int>(started_.size()); ++stage) {
    if (stage > 0 && !any_order_) return;
    while (can_start(stage)) {
      if (stage > 0) before(stage).wait();  // throws what has ended badly
      start_next(stage);
    }
  }
}

/// What the stage's next bucket waits for.
Work& BucketCollectives::before(int stage) { return buckets_[started_[stage]].works[stage - 1]; }

void BucketCollectives::start_next(int stage) {
  auto& bucket = buckets_[started_[stage]];
  bucket.works[stage] = start(bucket, stage);
  bucket.sources.clear();
  ++started_[stage];
}

Work BucketCollectives::start(Reduced& bucket, int stage) {
  c10::NoGradGuard no_grad;
  if (!two_levels_) return start_across(bucket, stage);
  const bool has_share = bucket.share.defined();
  if (stage == 0) {
    if (!has_share) return {};
    return scatter_->reduce_scatter(bucket.share, bucket.values,
                                    {.mark = bucket.mark, .divisor = bucket.divisor_inside_model});
  }
  if (stage <= across_stages_) return start_across(bucket, stage - 1);
  end_across(bucket);
  if (!has_share) return {};
  return gather_->all_gather(bucket.values, bucket.share, bucket.mark);
}

void BucketCollectives::push_tasks() {
  while (tasks_->pushed() < launched_) {
    tasks_->push([this, bucket = tasks_->pushed()] { start_all(buckets_[bucket]); });
  }
}

/// As a task, where a wait orders its stream.
void BucketCollectives::start_all(Reduced& bucket) {
  const CollectiveAsker asker(kGradients);
  for (int stage = 0; stage < stages(); ++stage) {
    if (stage > 0) bucket.works[stage - 1].wait();
    bucket.works[stage] = start(bucket, stage);
  }
}

Communicator& BucketCollectives::across(const Reduced& bucket, int stage) const {
  return across_[stage] ? *across_[stage] : *bucket.across;
}

Work BucketCollectives::start_across(Reduced& bucket, int stage) {
  const int64_t index = &bucket - buckets_.data();
  BucketChannel channel(across(bucket, stage), bucket.mark, traffic_, bucket.sources);
  if (is_compressed_) {
    return compressor_->start(index, stage, channel);
  }
  const double divisor = bucket.divisor_across;
  if (!bucket.share.defined()) return channel.allreduce(bucket.values, bucket.bytes, divisor);
  return channel.allreduce(bucket.share, bucket.bytes / groups_.model_size(), divisor);
}

void BucketCollectives::end_across(Reduced& bucket) {
  c10::NoGradGuard no_grad;
  if (is_compressed_) {
    compressor_->complete(&bucket - buckets_.data());
  } else {
    divide_values(bucket.share.defined() ? bucket.share : bucket.values, bucket.divisor);
  }
}

void BucketCollectives::complete(int64_t bucket) {
  const CollectiveAsker asker(kGradients);
  await_end(bucket);
  if (!two_levels_) end_across(buckets_[bucket]);
  buckets_[bucket].sources.clear();
  advance();
}

// All that crosses the network first: what else there is to wait for does not. A stage waits for
// the one before, so the first bucket to be completed takes all buckets through these stages, one
// stage after the other. An all-gather inside a model's ranks is then started bucket by bucket, so
// that the first buckets are handed over while later ones are under way.
void BucketCollectives::await_end(int64_t bucket) {
  if (tasks_) return await_task(bucket);
  const int last = stages() - 1;
  const int first_inside = two_levels_ ? last : stages();
  const auto start_up_to = [this](int stage, int64_t end) {
    while (started_[stage] < end) {
      if (stage > 0) timed([&] { before(stage).wait(); });
      start_next(stage);
    }
  };
  for (int stage = 0; stage < first_inside; ++stage) start_up_to(stage, launched_);
  if (two_levels_) start_up_to(last, bucket + 1);
  timed([&] { buckets_[bucket].works[last].wait(); });
}

void BucketCollectives::await_task(int64_t bucket) {
  push_tasks();  // where a launch threw
  timed([&] {
    tasks_->wait(bucket);
    buckets_[bucket].works.back().wait();
  });
}

void BucketCollectives::timed(const std::function<void()>& wait) {
  if (waits_) return waits_->measure(wait);
  const Stopwatch watch;
  wait();
  waited_seconds_ += watch.elapsed_s();
}

void BucketCollectives::clear() {
  if (tasks_) tasks_->clear();
  for (auto& bucket : buckets_) bucket.works.clear();
  launched_ = 0;
  started_.clear();
}

}  // namespace isobar
