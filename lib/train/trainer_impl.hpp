// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/core/progress.hpp>
#include <isobar/data/loader.hpp>
#include <isobar/train/sharded_part.hpp>
#include <isobar/train/trainer.hpp>
#include <isobar/train/weights.hpp>

#include <deque>
#include <optional>

#include "train/step_profiler.hpp"

namespace isobar {

struct Trainer::Impl {
  Impl(Task task, TrainingData data, const ProcessGrid& grid, TrainerOptions options,
       CheckpointExtras extras);

  const std::vector<NamedParameter>& parameters() { return parallel->reducer().parameters(); }

  at::Tensor backward_passes(Loader& loader);
  double clip();
  void update(Loader& loader);
  void finish_scaled(double rate);
  void finish_clipped(double rate);
  void finish_by_bucket(double rate);
  void note(const at::Tensor& loss);
  void check_losses();
  void check_weights();
  double mean_loss(double steps);
  nlohmann::json times_of(const StepParts& seconds, double steps) const;
  void log_step(RunFolder& folder, Progress& progress);
  void log_rollout(RunFolder& folder);
  double validation_score(RunFolder& folder);
  void validate(RunFolder& folder);
  void judge(RunFolder& folder, double score);
  std::string checkpoint_name() const;
  void collect(std::deque<ShardedPart>& whole);
  void save(RunFolder& folder);
  void save_profile(RunFolder& folder);
  void lap(StepPart part) { profiler->timer().lap(part); }

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
  std::optional<GradScaler> scaler;

  int64_t step = 0;
  // Since the last log line; on the device, which nobody waits for before they are asked for.
  at::Tensor loss_sum;
  at::Tensor first_bad;   ///< the first step that counts and whose loss was not finite, int64
  double norm = 0;        ///< of the last step's gradients; NaN where it was not taken
  bool left_out = false;  ///< the last step, by the scaler
  std::optional<StepProfiler> profiler;  ///< while run() goes on
  bool warned_of_persistence = false;
  int64_t logged_step = 0;
  StepParts logged{};  ///< totals at the last log line
  TrainingSummary summary;
};

}  // namespace isobar
