// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/process_grid.hpp>
#include <isobar/data/sampler.hpp>
#include <isobar/data/samples.hpp>
#include <isobar/ddp/data_parallel.hpp>
#include <isobar/train/grad_scaler.hpp>
#include <isobar/train/optimizer.hpp>
#include <isobar/train/run_folder.hpp>
#include <isobar/train/schedule.hpp>
#include <isobar/train/step_profile.hpp>
#include <isobar/train/task.hpp>
#include <c10/core/Device.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace isobar {

struct TrainerOptions {
  int64_t steps = 0;       ///< optimizer updates, those that loss scaling leaves out included
  int64_t batch = 1;       ///< samples a replica and backward pass
  int64_t accumulate = 1;  ///< backward passes an update
  SamplerPolicy sampler = SamplerPolicy::shared;
  uint64_t seed = 0;
  int64_t prefetch = 2;
  OptimizerOptions optimizer;
  LearningRateSchedule schedule;  ///< total_steps is taken from `steps`
  /// Target hours that a step's batches have; without it all of them.
  std::optional<RolloutSchedule> rollout = {};
  /// For a network that computes in float16; not together with a compressor.
  std::optional<GradScalerOptions> loss_scaling = {};
  double clip_norm = 0;      ///< 0 is off
  double clip_value = 0;     ///< 0 is off
  double average_decay = 0;  ///< of the exponential average of weights; 0 is off
  int64_t log_every = 10;
  int64_t validate_every = 0;  ///< 0: at the end only; each validation saves a checkpoint
  int keep_checkpoints = 3;
  std::string checkpoints = "checkpoints";  ///< folder in the run's folder
  c10::Device device = c10::Device(c10::kCPU);
  DataParallelOptions ddp;
  ProfileOptions profile;
};

/// How this rank's batches are drawn from the training samples, by the ranks of its data-parallel
/// group together. A Sampler of these throws UsageError where a step takes more samples than there
/// are.
SamplerOptions sampler_options(const TrainerOptions& options, const ProcessGrid& grid);

/// What a run came to.
struct TrainingSummary {
  int64_t steps = 0;
  int64_t skipped_steps = 0;     ///< that loss scaling left out
  double seconds = 0;            ///< of training, validation included
  double data_wait_seconds = 0;  ///< the loop waited for the loader
  ReducerCounters reducer;
  StepProfile profile;  ///< also in the folder, as profile.json
  int64_t best_step = 0;
  /// Mean of rmse / persistence at the best validation; not finite where no validation's was.
  double best_ratio = 0;
  std::filesystem::path best_checkpoint;
};

/// What a Trainer learns from and is judged by.
struct TrainingData {
  std::shared_ptr<const SampleSet> train;
  /// See score_samples. Without any, the last checkpoint counts as the best.
  std::vector<std::shared_ptr<const SampleSet>> validation;
  at::Tensor area;  ///< [N], of this rank's points; all points' sum to 1
};

/// What a checkpoint holds beside the trainer's own parts (model, average,
/// optimizer, compressor, grad_scaler).
struct CheckpointExtras {
  std::vector<const Stateful*> parts;
  std::map<std::string, std::string> metadata;
};

/// Trains a task data-parallel: steps, learning rate, clipping, averages,
/// metrics, validation, checkpoints.
///
/// Every backward pass but the last of an update only accumulates; the loss is
/// divided by their number, so that an update sees the mean over all samples.
///
/// On a grid with several ranks a model, these hold one sample's points together: samples are
/// shared over the data-parallel group, losses and scores summed over the model-parallel group,
/// and checkpoints hold whole tables (see Task::rows), as those of one rank a model do.
class Trainer {
 public:
  /// Collective over the grid's world; blocks. `grid` and the parts in `extras`
  /// must outlive the trainer. Throws UsageError on every rank where a sharded parameter's rows
  /// are not as check_sharded_rows() wants them, or a compressor cannot serve.
  Trainer(Task task, TrainingData data, const ProcessGrid& grid, TrainerOptions options,
          CheckpointExtras extras = {});
  ~Trainer();

  /// Runs all steps, and leaves metrics and checkpoints in `folder`. Collective;
  /// blocks. Throws Error on every rank where a loss or a weight is no longer a finite
  /// number, before anything of it is saved, and at a log line after a step that made more
  /// collectives than options.profile allows. The best checkpoint is that of the least finite
  /// score; where no score was finite, the last one.
  TrainingSummary run(RunFolder& folder);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace isobar
