// SPDX-License-Identifier: Apache-2.0
// What a trainer leaves in its run's folder: metrics, scores, checkpoints. Called by run() on every
// rank, on the loop's thread. Metrics and checkpoints are written by rank 0, but all ranks take
// part: losses are summed over them, scores too, and parts of a checkpoint are collected.
//
// Losses and weights are looked at before anything is told or saved of them, by all ranks together:
// so all stop at the same step with the same error, and the newest checkpoint is one that training
// can go on from.
#include "train/trainer_impl.hpp"

#include <isobar/comm/agreement.hpp>
#include <isobar/comm/census.hpp>
#include <isobar/core/atomic_file.hpp>
#include <isobar/core/error.hpp>
#include <isobar/train/checkpoint.hpp>
#include <isobar/train/compressor_part.hpp>
#include <isobar/train/scoring.hpp>
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

namespace isobar {

namespace {

constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

/// What every rank throws at the same point.
[[noreturn]] void stop(const std::string& what) {
  Error error("train: " + what);
  error.set_known_to_all();
  throw error;
}

/// The same on all ranks: the least of what they have.
int64_t least(const at::Tensor& own, Communicator& world) {
  auto number = own.to(at::kCPU).view({1});
  world.allreduce(number, ReduceOp::minimum).wait();
  return number.item<int64_t>();
}

}  // namespace

void Trainer::Impl::note(const at::Tensor& loss) {
  loss_sum = loss_sum.defined() ? loss_sum + loss : loss;
  if (left_out) return;
  const auto bad = at::where(loss.isfinite(), kNever, step).to(at::kLong);
  first_bad = first_bad.defined() ? at::minimum(first_bad, bad) : bad;
}

/// Before the losses are told, and before anything is saved.
void Trainer::Impl::check_losses() {
  if (!first_bad.defined()) return;
  const auto first = least(first_bad, grid.world());
  if (first == kNever) return;
  stop(detail::join("the loss of step ", first, " is not a finite number, seen at step ", step,
                    "; nothing of it is saved. Try a smaller learning rate or clip_norm, and look "
                    "at what was said of the data at the start"));
}

/// A gradient can overflow where the loss is finite yet.
void Trainer::Impl::check_weights() {
  std::vector<at::Tensor> finite;
  for (const auto& parameter : parameters()) finite.push_back(parameter.tensor.isfinite().all());
  if (finite.empty()) return;
  const auto bad = at::stack(finite).logical_not().to(at::kCPU).nonzero();
  const auto own = bad.numel() > 0 ? bad[0][0].item<int64_t>() : kNever;
  const auto first = least(at::full({1}, own, at::kLong), grid.world());
  if (first == kNever) return;
  stop(detail::join("parameter '", parameters()[first].name, "' is not finite after step ", step,
                    "; nothing of it is saved. Try a smaller learning rate or clip_norm"));
}

/// Of all ranks since the last log line.
double Trainer::Impl::mean_loss(double steps) {
  auto mean = (loss_sum / (steps * grid.data().size())).to(at::kCPU).view({1});
  grid.data().allreduce(mean).wait();
  grid.model().allreduce(mean).wait();
  return mean.item<double>();
}

/// What went by since the last log line, a step.
nlohmann::json Trainer::Impl::times_of(const StepParts& seconds, double steps) const {
  nlohmann::json times;
  for (int part = 0; part < kStepParts; ++part) {
    const std::string name = name_of(static_cast<StepPart>(part));
    times[name + "_s"] = (seconds[part] - logged[part]) / steps;
  }
  return times;
}

void Trainer::Impl::log_step(RunFolder& folder, Progress& progress) {
  profiler->check_budget();
  profiler->read_energy();
  const CollectiveAsker asker("loss");
  check_losses();
  const auto steps = static_cast<double>(step - logged_step);
  const double loss = mean_loss(steps);
  lap(StepPart::other);
  const auto total = profiler->timer().total();
  double seconds = 0;
  for (int part = 0; part < kStepParts; ++part) seconds += total[part] - logged[part];
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
                       {"payload_bytes", counters.payload_bytes}};
  event.update(times_of(total, steps));
  if (options.rollout) event["rollout"] = options.rollout->at(step - 1);
  if (scaler) {
    event["loss_scale"] = scaler->current();
    event["skipped_steps"] = scaler->skipped();
  }
  folder.metric(event);
  folder.log().set_step(step);
  progress.update(step, {{"loss", loss}, {"samples/s", samples / seconds}});
  loss_sum = first_bad = at::Tensor();
  logged_step = step;
  logged = total;
}

void Trainer::Impl::log_rollout(RunFolder& folder) {
  if (!options.rollout) return;
  const auto length = options.rollout->at(step);
  if (step > 0 && options.rollout->at(step - 1) == length) return;
  folder.log().info("the loss covers forecasts of {} step{}", length, length == 1 ? "" : "s");
}

double Trainer::Impl::validation_score(RunFolder& folder) {
  if (average) average->swap();
  const auto scores =
      score_samples(task, data.validation, data.area, grid, options.batch, options.device);
  if (average) average->swap();
  write_scores(folder, "validation", step, scores);
  double score = 0;
  for (const auto& lead : scores) {
    score += lead.ratio() / static_cast<double>(scores.size());
    for (const auto& variable : lead.variables) {
      if (variable.has_ratio() || warned_of_persistence) continue;
      folder.log().warn(
          "validation: '{}' has an RMSE of persistence of {} at {} h, so the choice of the best "
          "checkpoint leaves it out",
          variable.variable, variable.persistence, lead.lead_hours);
    }
  }
  warned_of_persistence = true;
  folder.log().info("validation: {:.3f} of persistence's RMSE over {} samples", score,
                    scores.front().samples);
  return score;
}

/// A checkpoint is saved first: what goes wrong in a validation is not to cost the training before
/// it.
void Trainer::Impl::validate(RunFolder& folder) {
  profiler->check_budget();
  const CollectiveAsker asker("validation");
  check_losses();
  check_weights();
  if (data.validation.empty()) summary.best_step = step;
  save(folder);
  judge(folder, data.validation.empty() ? 0 : validation_score(folder));
}

void Trainer::Impl::judge(RunFolder& folder, double score) {
  const bool finite = std::isfinite(score);
  const bool last = step == options.steps;
  if (!finite) {
    folder.log().warn("validation: the score is {}, so this checkpoint is not the best{}", score,
                      last && summary.best_step == 0 ? " but for want of another" : "");
  }
  const bool first = summary.best_step == 0 || data.validation.empty();
  if (finite ? !first && score >= summary.best_ratio : !(first && last)) return;
  summary.best_step = step;
  summary.best_ratio = score;
  summary.best_checkpoint = folder.path() / checkpoint_name();
  run_agreed(grid.world(), [&] {
    if (grid.world().rank() != 0) return;
    remove_checkpoints(folder.path() / options.checkpoints,
                       {.metadata = {}, .keep = options.keep_checkpoints, .protected_step = step});
  });
}

std::string Trainer::Impl::checkpoint_name() const {
  return options.checkpoints + fmt::format("/step_{:08d}", step);
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
  if (options.ddp.reducer.compressor) {
    compressor.emplace(options.ddp.reducer.compressor, parallel->reducer(), grid, task.rows);
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
  folder.metric({{"event", "checkpoint"}, {"step", step}, {"path", checkpoint_name()}});
}

/// At the end of a run, when every step has been measured.
void Trainer::Impl::save_profile(RunFolder& folder) {
  summary.profile = profiler->gather();
  profiler.reset();
  run_agreed(grid.world(), [&] {
    if (grid.world().rank() != 0) return;
    write_file_atomically(folder.path() / "profile.json",
                          profile_json(summary.profile).dump(2) + "\n");
  });
}

}  // namespace isobar
