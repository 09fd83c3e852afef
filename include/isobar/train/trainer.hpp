// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/process_grid.hpp>
#include <isobar/data/sampler.hpp>
#include <isobar/data/samples.hpp>
#include <isobar/ddp/data_parallel.hpp>
#include <isobar/train/optimizer.hpp>
#include <isobar/train/run_folder.hpp>
#include <isobar/train/schedule.hpp>
#include <isobar/train/task.hpp>
#include <c10/core/Device.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace isobar {

struct TrainerOptions {
  int64_t steps = 0;       ///< optimizer updates
  int64_t batch = 1;       ///< samples a rank and backward pass
  int64_t accumulate = 1;  ///< backward passes an update
  SamplerPolicy sampler = SamplerPolicy::shared;
  uint64_t seed = 0;
  int64_t prefetch = 2;
  OptimizerOptions optimizer;
  LearningRateSchedule schedule;  ///< total_steps is taken from `steps`
  double clip_norm = 0;           ///< 0 is off
  double clip_value = 0;          ///< 0 is off
  double average_decay = 0;       ///< of the exponential average of weights; 0 is off
  int64_t log_every = 10;
  int64_t validate_every = 0;  ///< 0: at the end only; each validation saves a checkpoint
  int keep_checkpoints = 3;
  std::string checkpoints = "checkpoints";  ///< folder in the run's folder
  c10::Device device = c10::Device(c10::kCPU);
  DataParallelOptions ddp;
};

/// What a run came to.
struct TrainingSummary {
  int64_t steps = 0;
  double seconds = 0;            ///< of training, validation included
  double data_wait_seconds = 0;  ///< the loop waited for the loader
  ReducerCounters reducer;
  int64_t best_step = 0;
  double best_ratio = 0;  ///< mean of rmse / persistence at the best validation
  std::filesystem::path best_checkpoint;
};

/// What a Trainer learns from and is judged by.
struct TrainingData {
  std::shared_ptr<const SampleSet> train;
  /// See score_samples. Without any, the last checkpoint counts as the best.
  std::vector<std::shared_ptr<const SampleSet>> validation;
  at::Tensor area;  ///< [N], sums to 1
};

/// What a checkpoint holds beside the trainer's own parts (model, average,
/// optimizer, compressor).
struct CheckpointExtras {
  std::vector<const Stateful*> parts;
  std::map<std::string, std::string> metadata;
};

/// Trains a task data-parallel: steps, learning rate, clipping, averages,
/// metrics, validation, checkpoints.
///
/// Every backward pass but the last of an update only accumulates; the loss is
/// divided by their number, so that an update sees the mean over all samples.
class Trainer {
 public:
  /// Collective over the grid's world; blocks. `grid` and the parts in `extras`
  /// must outlive the trainer.
  Trainer(Task task, TrainingData data, const ProcessGrid& grid, TrainerOptions options,
          CheckpointExtras extras = {});
  ~Trainer();

  /// Runs all steps, and leaves metrics and checkpoints in `folder`. Collective;
  /// blocks. Throws Error on every rank where the loss is no longer a finite
  /// number.
  TrainingSummary run(RunFolder& folder);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace isobar
