// SPDX-License-Identifier: Apache-2.0
#include <isobar/train/trainer.hpp>

#include <isobar/comm/agreement.hpp>
#include <isobar/core/error.hpp>
#include <isobar/core/progress.hpp>
#include <isobar/core/stopwatch.hpp>
#include <isobar/data/loader.hpp>
#include <isobar/ddp/gradient_norm.hpp>
#include <isobar/train/checkpoint.hpp>
#include <isobar/train/compressor_part.hpp>
#include <isobar/train/scoring.hpp>
#include <isobar/train/weights.hpp>
#include <ATen/ATen.h>
#include <torch/nn/module.h>
#include <nlohmann/json.hpp>

#include <cmath>
#include <optional>

namespace isobar {
namespace {

/// The batches of all backward passes of a run, epoch after epoch.
Batches batches_of_run(const Sampler& sampler, int64_t passes) {
  Batches all;
  for (int64_t epoch = 0; static_cast<int64_t>(all.size()) < passes; ++epoch) {
    for (auto& batch : sampler.batches(epoch)) all.push_back(std::move(batch));
  }
  all.resize(passes);
  return all;
}

SamplerOptions sampler_options(const TrainerOptions& options, const ProcessGrid& grid) {
  return {.batch = options.batch,
          .rank = grid.data().rank(),
          .size = grid.data().size(),
          .seed = options.seed,
          .policy = options.sampler,
          .order = SampleOrder::shuffled};
}

void check(const TrainerOptions& options) {
  ISOBAR_CHECK(options.steps > 0 && options.accumulate > 0 && options.log_every > 0,
               "train: steps, accumulate and log_every must be positive, got ", options.steps, ", ",
               options.accumulate, " and ", options.log_every);
  ISOBAR_CHECK(options.validate_every >= 0 && options.clip_norm >= 0 && options.clip_value >= 0,
               "train: validate_every, clip_norm and clip_value must not be negative");
  options.schedule.at(0);  // throws where the schedule makes no sense
}

void check_unsharded(const std::vector<NamedParameter>& parameters, const ProcessGrid& grid) {
  for (const auto& parameter : parameters) {
    ISOBAR_CHECK(parameter.reduction != Reduction::sharded || grid.model().size() == 1,
                 "train: parameter '", parameter.name,
                 "' is sharded over a model-parallel group; its checkpoint would hold one shard");
  }
}

}  // namespace

struct Trainer::Impl {
  Impl(Task task_, TrainingData data_, const ProcessGrid& grid_, TrainerOptions options_,
       CheckpointExtras extras_)
      : task(std::move(task_)),
        data(std::move(data_)),
        grid(grid_),
        options(std::move(options_)),
        extras(std::move(extras_)) {
    options.schedule.total_steps = options.steps;
    options.ddp.reduction = task.reduction;
    run_agreed(grid.world(), [&] {
      check(options);
      batches = batches_of_run(Sampler(data.train->size(), sampler_options(options, grid)),
                               options.steps * options.accumulate);
    });
    parallel = std::make_unique<DataParallel>(*task.module, grid, options.ddp);
    run_agreed(grid.world(), [&] {
      check_unsharded(parameters(), grid);
      optimizer = std::make_unique<Optimizer>(parallel->reducer(), options.optimizer);
      weights = std::make_unique<ModuleWeights>(task.module);
      if (options.average_decay > 0) average.emplace(task.module, options.average_decay);
    });
  }

  const std::vector<NamedParameter>& parameters() { return parallel->reducer().parameters(); }

  at::Tensor backward_passes(Loader& loader);
  double clip();
  void update(Loader& loader);
  void log_step(RunFolder& folder, const Loader& loader, Progress& progress);
  double validation_ratio(RunFolder& folder);
  void validate(RunFolder& folder);
  void save(RunFolder& folder);

  Task task;
  TrainingData data;
  const ProcessGrid& grid;
  TrainerOptions options;
  CheckpointExtras extras;
  Batches batches;  ///< of the whole run
  std::unique_ptr<DataParallel> parallel;
  std::unique_ptr<Optimizer> optimizer;
  std::unique_ptr<ModuleWeights> weights;
  std::optional<WeightAverage> average;

  int64_t step = 0;
  at::Tensor loss_sum;  ///< since the last log line; stays on the device
  double norm = 0;
  Stopwatch since_log;
  int64_t logged_step = 0;
  TrainingSummary summary;
};

at::Tensor Trainer::Impl::backward_passes(Loader& loader) {
  at::Tensor total = at::zeros({}, at::TensorOptions().dtype(at::kDouble).device(options.device));
  for (int64_t pass = 0; pass < options.accumulate; ++pass) {
    const auto batch = to_device(*loader.next(), options.device);
    const auto loss = task.loss(batch) / static_cast<double>(options.accumulate);
    if (pass + 1 < options.accumulate) {
      auto scope = parallel->accumulate();
      loss.backward();
    } else {
      loss.backward();
    }
    total += loss.detach();
  }
  return total;
}

// The norm costs a pass over the gradients and waits for the device, so it is taken only where
// it is used or shown.
double Trainer::Impl::clip() {
  if (options.clip_value > 0) clip_by_value(parameters(), options.clip_value);
  const bool shown = (step + 1) % options.log_every == 0;
  if (options.clip_norm <= 0 && !shown) return norm;
  const double found = gradient_norm(parameters(), grid);
  if (options.clip_norm > 0) clip_by_norm(parameters(), found, options.clip_norm);
  return found;
}

void Trainer::Impl::update(Loader& loader) {
  parallel->zero_grad();
  const auto loss = backward_passes(loader);
  loss_sum = loss_sum.defined() ? loss_sum + loss : loss;
  const double rate = options.schedule.at(step);
  if (options.clip_norm > 0 || options.clip_value > 0) {
    parallel->finish();
    norm = clip();
    optimizer->step(rate);
  } else {
    optimizer->finish(*parallel, rate);
    norm = clip();  // an update leaves gradients as they are
  }
  if (average) average->update();
  ++step;
}

void Trainer::Impl::log_step(RunFolder& folder, const Loader& loader, Progress& progress) {
  const auto steps = static_cast<double>(step - logged_step);
  auto mean = (loss_sum / (steps * grid.data().size())).to(at::kCPU).view({1});
  grid.data().allreduce(mean).wait();
  const double loss = mean.item<double>();
  if (!std::isfinite(loss)) {
    throw Error(detail::join("train: step ", step, ": the loss is ", loss,
                             "; try a smaller learning rate or clip_norm"));
  }
  const double seconds = since_log.restart();
  const auto samples = steps * options.batch * options.accumulate * grid.data().size();
  const double rate = options.schedule.at(step - 1);
  const auto& counters = parallel->reducer().counters();
  folder.metric({{"event", "step"},
                 {"step", step},
                 {"loss", loss},
                 {"learning_rate", rate},
                 {"gradient_norm", norm},
                 {"step_s", seconds / steps},
                 {"samples_per_s", samples / seconds},
                 {"data_wait_s", loader.stalled()},
                 {"exposed_comm_s", counters.exposed_seconds},
                 {"payload_bytes", counters.payload_bytes}});
  folder.log().set_step(step);
  progress.update(step, {{"loss", loss}, {"samples/s", samples / seconds}});
  loss_sum = at::Tensor();
  logged_step = step;
}

double Trainer::Impl::validation_ratio(RunFolder& folder) {
  if (average) average->swap();
  const auto scores =
      score_samples(task, data.validation, data.area, grid, options.batch, options.device);
  if (average) average->swap();
  write_scores(folder, "validation", step, scores);
  double ratio = 0;
  for (const auto& lead : scores) ratio += lead.ratio() / static_cast<double>(scores.size());
  folder.log().info("validation: {:.3f} of persistence's RMSE over {} samples", ratio,
                    scores.front().samples);
  return ratio;
}

void Trainer::Impl::validate(RunFolder& folder) {
  const double ratio = data.validation.empty() ? 0 : validation_ratio(folder);
  if (data.validation.empty() || summary.best_step == 0 || ratio < summary.best_ratio) {
    summary.best_step = step;
    summary.best_ratio = ratio;
  }
  save(folder);
}

void Trainer::Impl::save(RunFolder& folder) {
  std::optional<CompressorPart> compressor;
  if (options.ddp.compressor) {
    compressor.emplace(options.ddp.compressor, parallel->reducer(), grid);
    compressor->collect();
  }
  run_agreed(grid.world(), [&] {
    if (grid.world().rank() != 0) return;
    std::vector<const Stateful*> parts{weights.get(), optimizer.get()};
    if (average) parts.push_back(&*average);
    if (compressor) parts.push_back(&*compressor);
    parts.insert(parts.end(), extras.parts.begin(), extras.parts.end());
    save_checkpoint(folder.path() / options.checkpoints, step, parts,
                    {.metadata = extras.metadata,
                     .keep = options.keep_checkpoints,
                     .protected_step = summary.best_step});
  });
  const auto name = options.checkpoints + fmt::format("/step_{:08d}", step);
  if (summary.best_step == step) summary.best_checkpoint = folder.path() / name;
  folder.metric({{"event", "checkpoint"}, {"step", step}, {"path", name}});
}

Trainer::Trainer(Task task, TrainingData data, const ProcessGrid& grid, TrainerOptions options,
                 CheckpointExtras extras)
    : impl_(std::make_unique<Impl>(std::move(task), std::move(data), grid, std::move(options),
                                   std::move(extras))) {}

Trainer::~Trainer() = default;

TrainingSummary Trainer::run(RunFolder& folder) {
  Impl& t = *impl_;
  Loader loader(t.data.train, t.batches, {.prefetch = t.options.prefetch});
  Progress progress({.rank = t.grid.world().rank(), .label = "training", .total = t.options.steps});
  const Stopwatch clock;
  t.since_log.restart();
  while (t.step < t.options.steps) {
    t.update(loader);
    const bool last = t.step == t.options.steps;
    if (last || t.step % t.options.log_every == 0) t.log_step(folder, loader, progress);
    const bool due = t.options.validate_every > 0 && t.step % t.options.validate_every == 0;
    if (!last && !due) continue;
    t.validate(folder);
    t.since_log.restart();  // validation is no part of a step's time
  }
  progress.finish();
  t.summary.steps = t.step;
  t.summary.seconds = clock.elapsed_s();
  t.summary.data_wait_seconds = loader.stalled();
  t.summary.reducer = t.parallel->reducer().counters();
  return t.summary;
}

}  // namespace isobar
