// SPDX-License-Identifier: Apache-2.0
// The loop of a training run, on one thread a rank; batches come from the loader's thread.
// trainer_report.cpp has what a run leaves in its folder.
//
// All ranks call the same collectives in the same order, since what decides about one is equal on
// all: options, the number of the step, how many batches there are, and whether a scaled step
// counts, which unscale() agrees on. What fails on one rank only (a file that cannot be read,
// memory) leaves run() in the middle of a step; the caller then has to fail the world
// (run_or_abort), or the other ranks wait until their time limit.
#include "train/trainer_impl.hpp"

#include "train/training_batches.hpp"

#include <isobar/comm/agreement.hpp>
#include <isobar/core/error.hpp>
#include <isobar/core/stopwatch.hpp>
#include <isobar/ddp/gradient_norm.hpp>
#include <isobar/train/compressor_part.hpp>
#include <ATen/ATen.h>
#include <torch/nn/module.h>

#include <limits>

namespace isobar {
namespace {

/// Null in JSON.
constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

void check_options(const TrainerOptions& options) {
  ISOBAR_CHECK(options.steps > 0 && options.accumulate > 0 && options.log_every > 0,
               "train: steps, accumulate and log_every must be positive, got ", options.steps, ", ",
               options.accumulate, " and ", options.log_every);
  ISOBAR_CHECK(options.validate_every >= 0 && options.clip_norm >= 0 && options.clip_value >= 0,
               "train: validate_every, clip_norm and clip_value must not be negative");
  ISOBAR_CHECK(
      !options.loss_scaling || !options.ddp.reducer.compressor,
      "train: gradients that are scaled for float16 cannot be compressed: what a step that "
      "overflows leaves in a compressor's memory would not be what the next one is owed");
  ISOBAR_CHECK(options.profile.warmup_steps >= 0 && options.profile.peak_flop_per_s >= 0,
               "train: profile.warmup_steps and profile.peak_flop_per_s must not be negative");
  options.schedule.at(0);  // throws where the schedule makes no sense
}

}  // namespace

Trainer::Impl::Impl(Task task_, TrainingData data_, const ProcessGrid& grid_,
                    TrainerOptions options_, CheckpointExtras extras_)
    : task(std::move(task_)),
      data(std::move(data_)),
      grid(grid_),
      options(std::move(options_)),
      extras(std::move(extras_)) {
  options.schedule.total_steps = options.steps;
  options.ddp.reduction = task.reduction;
  run_agreed(grid.world(), [&] {
    check_options(options);
    batches = batches_of_run(*data.train, options, grid);
  });
  parallel = std::make_unique<DataParallel>(*task.module, grid, options.ddp);
  check_sharded_rows(parameters(), task.rows, grid);
  run_agreed(grid.world(), [&] {
    if (options.ddp.reducer.compressor) {  // refuses now what could not be saved later
      CompressorPart(options.ddp.reducer.compressor, parallel->reducer(), grid, task.rows);
    }
    optimizer = std::make_unique<Optimizer>(parallel->reducer(), options.optimizer);
    weights = std::make_unique<ModuleWeights>(task.module);
    if (options.average_decay > 0) average.emplace(task.module, options.average_decay);
    if (options.loss_scaling) scaler.emplace(*options.loss_scaling);
  });
}

at::Tensor Trainer::Impl::backward_passes(Loader& loader) {
  at::Tensor total = at::zeros({}, at::TensorOptions().dtype(at::kDouble).device(options.device));
  lap(StepPart::other);
  for (int64_t pass = 0; pass < options.accumulate; ++pass) {
    const auto loaded = loader.next();
    lap(StepPart::data_wait);
    const auto batch = to_device(*loaded, options.device);
    lap(StepPart::copy);
    const auto loss = task.loss(batch) / static_cast<double>(options.accumulate);
    const auto scaled = scaler ? scaler->scale(loss) : loss;
    lap(StepPart::forward);
    if (pass + 1 < options.accumulate) {
      auto scope = parallel->accumulate();
      scaled.backward();
    } else {
      scaled.backward();
    }
    lap(StepPart::backward);
    total += loss.detach();
  }
  return total;
}

// The norm costs a pass over the gradients and waits for the device, so it is taken only where
// it is used or shown, and never kept: a log line tells of its own step.
double Trainer::Impl::clip() {
  if (options.clip_value > 0) clip_by_value(parameters(), options.clip_value);
  const bool shown = (step + 1) % options.log_every == 0 || step + 1 == options.steps;
  if (options.clip_norm <= 0 && !shown) return kUnknown;
  const double found = gradient_norm(parameters(), grid);
  if (options.clip_norm > 0) clip_by_norm(parameters(), found, options.clip_norm);
  return found;
}

// A step's collectives, apart from the task's own, on each rank in this order: buckets, in that of
// the plan, during the last backward pass and in finish(), which then compares what is due; the
// scaler's; the norm's. Which of them there are follows from options and the step's number.
void Trainer::Impl::update(Loader& loader) {
  parallel->zero_grad();
  parallel->begin_step(step);
  const auto loss = backward_passes(loader);
  const double rate = options.schedule.at(step);
  if (scaler) {
    finish_scaled(rate);
  } else if (options.clip_norm > 0 || options.clip_value > 0) {
    finish_clipped(rate);
  } else {
    finish_by_bucket(rate);
  }
  if (average && !left_out) average->update();
  lap(StepPart::optimizer);
  ++step;
  note(loss);
}

// Whether a step counts is known once all gradients are there, so no bucket is updated before.
void Trainer::Impl::finish_scaled(double rate) {
  parallel->finish();
  lap(StepPart::other);
  left_out = !scaler->unscale(parameters(), grid.world());
  norm = left_out ? kUnknown : clip();
  if (!left_out) optimizer->step(rate);
}

void Trainer::Impl::finish_clipped(double rate) {
  parallel->finish();
  lap(StepPart::other);
  norm = clip();
  optimizer->step(rate);
}

// A fused update goes on while later buckets are under way; between its buckets is the reducer.
void Trainer::Impl::finish_by_bucket(double rate) {
  if (const auto update_bucket = optimizer->on_bucket(rate)) {
    parallel->finish([&](const ReducedBucket& bucket) {
      lap(StepPart::other);
      update_bucket(bucket);
      lap(StepPart::optimizer);
    });
    lap(StepPart::other);
  } else {
    parallel->finish();
    lap(StepPart::other);
    optimizer->step(rate);
  }
  norm = clip();  // an update leaves gradients as they are
}

Trainer::Trainer(Task task, TrainingData data, const ProcessGrid& grid, TrainerOptions options,
                 CheckpointExtras extras)
    : impl_(std::make_unique<Impl>(std::move(task), std::move(data), grid, std::move(options),
                                   std::move(extras))) {}

Trainer::~Trainer() = default;

TrainingSummary Trainer::run(RunFolder& folder) {
  Impl& t = *impl_;
  Loader loader(batch_source(t.data.train, t.options), t.batches, {.prefetch = t.options.prefetch});
  Progress progress({.rank = t.grid.world().rank(), .label = "training", .total = t.options.steps});
  const Stopwatch clock;
  t.profiler.emplace(t.grid, t.options);
  t.profiler->resume();
  while (t.step < t.options.steps) {
    t.log_rollout(folder);
    t.update(loader);
    folder.keep();
    const bool last = t.step == t.options.steps;
    if (last || t.step % t.options.log_every == 0) t.log_step(folder, progress);
    t.profiler->end_step(t.step);
    const bool due = t.options.validate_every > 0 && t.step % t.options.validate_every == 0;
    if (!last && !due) continue;
    t.profiler->pause();
    t.validate(folder);
    t.profiler->resume();  // validation is no part of a step
  }
  t.save_profile(folder);
  progress.finish();
  t.summary.steps = t.step;
  t.summary.skipped_steps = t.scaler ? t.scaler->skipped() : 0;
  t.summary.seconds = clock.elapsed_s();
  t.summary.data_wait_seconds = loader.stalled();
  t.summary.reducer = t.parallel->reducer().counters();
  return t.summary;
}

}  // namespace isobar
