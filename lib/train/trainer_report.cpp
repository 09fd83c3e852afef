// SPDX-License-Identifier: Apache-2.0
// What a trainer leaves in its run's folder: metrics, scores, checkpoints.
#include "train/trainer_impl.hpp"

#include <isobar/comm/agreement.hpp>
#include <isobar/core/error.hpp>
#include <isobar/train/checkpoint.hpp>
#include <isobar/train/compressor_part.hpp>
#include <isobar/train/scoring.hpp>
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cmath>

namespace isobar {

/// Of all ranks since the last log line.
double Trainer::Impl::mean_loss(double steps) {
  auto mean = (loss_sum / (steps * grid.data().size())).to(at::kCPU).view({1});
  grid.data().allreduce(mean).wait();
  grid.model().allreduce(mean).wait();
  return mean.item<double>();
}

void Trainer::Impl::log_step(RunFolder& folder, const Loader& loader, Progress& progress) {
  const auto steps = static_cast<double>(step - logged_step);
  const double loss = mean_loss(steps);
  if (!std::isfinite(loss)) {
    throw Error(detail::join("train: step ", step, ": the loss is ", loss,
                             "; try a smaller learning rate or clip_norm"));
  }
  const double seconds = since_log.restart();
  const double waited = loader.stalled() - logged_wait_s;
  const auto samples = steps * options.batch * options.accumulate * grid.data().size();
  const double rate = options.schedule.at(step - 1);
  const auto& counters = parallel->reducer().counters();
  nlohmann::json event{{"event", "step"},
                       {"step", step},
                       {"loss", loss},
                       {"learning_rate", rate},
                       {"gradient_norm", norm},
                       {"step_s", seconds / steps},
                       {"samples_per_s", samples / seconds},
                       {"data_wait_s", waited / steps},
                       {"exposed_comm_s", (counters.exposed_seconds - logged_exposed_s) / steps},
                       {"payload_bytes", counters.payload_bytes}};
  if (options.rollout) event["rollout"] = options.rollout->at(step - 1);
  if (scaler) {
    event["loss_scale"] = scaler->current();
    event["skipped_steps"] = scaler->skipped();
  }
  folder.metric(event);
  folder.log().set_step(step);
  progress.update(step, {{"loss", loss}, {"samples/s", samples / seconds}});
  loss_sum = at::Tensor();
  logged_step = step;
  logged_wait_s += waited;
  logged_exposed_s = counters.exposed_seconds;
}

void Trainer::Impl::log_rollout(RunFolder& folder) {
  if (!options.rollout) return;
  const auto length = options.rollout->at(step);
  if (step > 0 && options.rollout->at(step - 1) == length) return;
  folder.log().info("the loss covers forecasts of {} step{}", length, length == 1 ? "" : "s");
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

/// The parts that may be sharded, to be saved by one rank.
void Trainer::Impl::collect(std::deque<ShardedPart>& whole) {
  whole.emplace_back(*weights, task.rows, grid);
  whole.emplace_back(*optimizer, task.rows, grid);
  if (average) whole.emplace_back(*average, task.rows, grid);
  for (auto& part : whole) part.collect();
}

void Trainer::Impl::save(RunFolder& folder) {
  std::deque<ShardedPart> whole;
  collect(whole);
  std::optional<CompressorPart> compressor;
  if (options.ddp.compressor) {
    compressor.emplace(options.ddp.compressor, parallel->reducer(), grid);
    compressor->collect();
  }
  run_agreed(grid.world(), [&] {
    if (grid.world().rank() != 0) return;
    std::vector<const Stateful*> parts;
    for (const auto& part : whole) parts.push_back(&part);
    if (compressor) parts.push_back(&*compressor);
    if (scaler) parts.push_back(&*scaler);
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

}  // namespace isobar
