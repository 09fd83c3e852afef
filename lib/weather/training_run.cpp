// SPDX-License-Identifier: Apache-2.0
// `isobar train`, on every rank, by the thread that made the world. What reads, allocates or writes
// runs in run_agreed(), so that the ranks stay in step: one that cannot go on ends all with its
// error. Collectives are outside of it, since a rank that threw in the middle of one would leave
// the others in it.
#include <isobar/weather/training_run.hpp>

#include "weather/evaluate_checks.hpp"

#include <isobar/comm/agreement.hpp>
#include <isobar/compress/make_compressor.hpp>
#include <isobar/core/error.hpp>
#include <isobar/launch/environment.hpp>
#include <isobar/train/checkpoint.hpp>
#include <isobar/train/scoring.hpp>
#include <isobar/train/sharded_part.hpp>
#include <isobar/train/weights.hpp>
#include <isobar/weather/choose_compression.hpp>
#include <ATen/ATen.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <exception>
#include <filesystem>
#include <numeric>
#include <utility>

namespace isobar {
namespace {

namespace fs = std::filesystem;

/// Read before there is a world to agree in: the experiment names the backend. What went wrong is
/// kept until every rank can be told.
struct Reading {
  std::optional<Experiment> experiment;
  std::exception_ptr error;
};

Reading keep_error(const std::function<Experiment()>& read) {
  try {
    return {read(), nullptr};
  } catch (const std::exception&) {
    return {std::nullopt, std::current_exception()};
  }
}

/// `best` is the best checkpoint's path in the run's folder.
nlohmann::json totals(const TrainingSummary& summary, const std::filesystem::path& best) {
  return {{"steps", summary.steps},
          {"skipped_steps", summary.skipped_steps},
          {"seconds", summary.seconds},
          {"data_wait_s", summary.data_wait_seconds},
          {"exposed_comm_s", summary.reducer.exposed_seconds},
          {"collectives", summary.reducer.collectives},
          {"launched_in_backward", summary.reducer.launched_in_backward},
          {"gradient_bytes", summary.reducer.gradient_bytes},
          {"payload_bytes", summary.reducer.payload_bytes},
          {"sent_bytes", summary.reducer.sent_bytes},
          {"compressed_steps", summary.reducer.compressed_steps},
          {"gradient_copies", summary.reducer.copies},
          {"best_step", summary.best_step},
          {"best_ratio_to_persistence", summary.best_ratio},
          {"best_checkpoint", best.string()}};
}

/// A script that forgot srun trains all the same, and wastes a job.
void warn_of_lone_rank(const Communicator& world, Logger& log) {
  if (world.size() > 1) return;
  const auto doubt = lone_rank_doubt(read_launch_environment());
  if (!doubt.empty()) log.warn("{}", doubt);
}

}  // namespace

StartedExperiment start_experiment(const std::function<Experiment()>& read) {
  auto reading = keep_error(read);
  auto& experiment = reading.experiment;
  auto world = make_communicator(experiment ? experiment->comm : CommunicatorOptions{});
  run_agreed(*world, [&] {
    if (reading.error) std::rethrow_exception(reading.error);
  });
  require_equal(*world, "configuration", experiment->lines);
  return {std::move(*experiment), std::move(world)};
}

StartedExperiment start_experiment(const std::string& path,
                                   const std::vector<std::string>& overrides) {
  return start_experiment([&] { return read_experiment(load_config(path, overrides)); });
}

TrainingRun::TrainingRun(Communicator& world, const Experiment& experiment,
                         std::vector<std::string> command)
    : world_(world),
      experiment_(experiment),
      grid_(make_process_grid(world, experiment)),
      folder_(world, experiment.run_folder, experiment.run_name),
      record_({.command = std::move(command), .ranks = world.size(), .config = experiment.yaml}) {
  warn_of_lone_rank(world_, folder_.log());
  scale_learning_rate();
  shorten_warmup();
}

void TrainingRun::record(const std::string& section, const nlohmann::json& value) {
  record_.set(section, value);
}

TrainingResult TrainingRun::run() {
  TrainingResult result;
  run_or_abort(world_, [&] {
    write_record();
    look_through();
    result.summary = fit(/*validate=*/true, "training");
    if (experiment_.refit) result.summary = refit(result.summary);
    result.scores = test(result.summary);
  });
  return result;
}

/// By the number of model instances, whose samples a step takes together.
void TrainingRun::scale_learning_rate() {
  if (!experiment_.scale_by_replicas) return;
  auto& schedule = experiment_.trainer.schedule;
  schedule.peak *= grid_.replicas();
  schedule.final *= grid_.replicas();
  folder_.log().info("learning rate {:g} (final {:g}): the experiment's times {} replicas",
                     schedule.peak, schedule.final, grid_.replicas());
  record_.set("learning_rate", {{"peak", schedule.peak},
                                {"final", schedule.final},
                                {"scaled_by_replicas", grid_.replicas()}});
}

/// Before the first step: what is wrong with the data is not to end a run that has trained.
void TrainingRun::look_through() {
  data_.emplace(experiment_, grid_);
  run_agreed(world_, [&] {
    for (const auto& line : data_->report()) folder_.log().info("{}", line);
    for (const auto& line : data_->warnings()) folder_.log().warn("{}", line);
    record_.set("data", data_->record());
  });
  write_record();
}

void TrainingRun::shorten_warmup() {
  const auto steps = experiment_.trainer.steps;
  auto& warmup = experiment_.trainer.schedule.warmup_steps;
  warmup = warmup_within(experiment_.given_warmup_steps, steps);
  if (warmup == experiment_.given_warmup_steps) return;
  folder_.log().warn(
      "optimizer.warmup_steps, {}, is more than the {} steps of this training: the learning rate "
      "warms up over {}",
      experiment_.given_warmup_steps, steps, warmup);
}

void TrainingRun::build() {
  run_agreed(world_, [&] {
    // Of a fine mesh minutes go by before the next line.
    const auto points = make_data_grid(experiment_, *data_->dataset());
    folder_.log().info("building the graph: about {} hidden nodes for {} data points",
                       estimate_sizes(points, experiment_.graph).hidden_nodes, points.size());
    setup_.emplace(experiment_, grid_, *data_);
    experiment_.trainer.device = setup_->device();
    // A backward pass takes twice the forward one; what is computed again is no work of the model.
    experiment_.trainer.profile.flop_per_pass = 3 * setup_->planned().memory.forward_flops /
                                                static_cast<double>(experiment_.longest_rollout());
  });
  folder_.log().info("{} on {} ranks ({})", setup_->summary(), world_.size(), world_.backend());
  for (const auto& line : setup_->graph_warnings()) folder_.log().warn("{}", line);
  folder_.log().info("{}", describe_plan(setup_->planned()));
}

/// A compressor serves one fit.
void TrainingRun::compress(const std::shared_ptr<const SampleSet>& samples) {
  auto& options = experiment_.compress;
  if (options.method == kAutoCompression) choose_method(samples);
  auto& compressor = experiment_.trainer.ddp.reducer.compressor;
  compressor = make_compressor(options);
  if (!compressor) return;
  folder_.log().info("compressing by {}; start_step {}: {}", compressor->description(),
                     options.low_rank.start_step, experiment_.start_step_from);
  if (options.low_rank.start_step >= experiment_.trainer.steps) {
    folder_.log().warn(
        "compress.start_step, {}, is not below the {} steps of this training: "
        "nothing will be compressed",
        options.low_rank.start_step, experiment_.trainer.steps);
  }
}

void TrainingRun::choose_method(const std::shared_ptr<const SampleSet>& samples) {
  Batch batch;
  run_agreed(world_, [&] {
    std::vector<int64_t> first(std::min(experiment_.trainer.batch, samples->size()));
    std::iota(first.begin(), first.end(), 0);
    const auto& rollout = experiment_.trainer.rollout;
    batch = to_device(samples->get(first, rollout ? rollout->at(0) : 1), setup_->device());
  });
  const auto reason = choose_compression(experiment_.compress, setup_->task(), batch,
                                         experiment_.trainer.ddp.reducer.caps, grid_);
  folder_.log().info("{}", reason);
  record_.set("compression", {{"method", experiment_.compress.method}, {"reason", reason}});
}

TrainingSummary TrainingRun::fit(bool validate, const std::string& section) {
  build();
  TrainingData data;
  run_agreed(world_, [&] {
    data = {setup_->training_samples(), {}, setup_->area()};
    if (validate) data.validation = setup_->scoring_samples("validation");
  });
  compress(data.train);
  Trainer trainer(setup_->task(), data, grid_, experiment_.trainer,
                  {{&setup_->scales()},
                   {{"experiment", experiment_.yaml},
                    {"trained_from", experiment_.train.begin},
                    {"trained_until", experiment_.train.end}}});
  const auto summary = trainer.run(folder_);
  log_saving(summary.reducer);
  record_memory();
  record_.set(section, totals(summary, fs::relative(summary.best_checkpoint, folder_.path())));
  write_record();
  return summary;
}

/// The largest of the ranks', of which each has planned its own part of the network.
void TrainingRun::record_memory() {
  const auto& planned = setup_->planned();
  auto bytes = at::tensor({planned.memory.peak_bytes, setup_->memory().peak()}, at::kLong);
  world_.allreduce(bytes, ReduceOp::maximum).synchronize();
  const auto predicted = bytes[0].item<int64_t>(), measured = bytes[1].item<int64_t>();
  record_.set("memory", {{"activations", name_of(planned.options.activations)},
                         {"chunk_edges", chunk_edges_of(planned.options)},
                         {"predicted_peak_bytes", predicted},
                         {"measured_peak_bytes", measured},
                         {"step_flops", planned.memory.step_flops}});
  folder_.log().info("tensors of a rank took {:.3f} GiB at the highest, {:.0f} % of the plan",
                     static_cast<double>(measured) / (1 << 30),
                     100.0 * static_cast<double>(measured) / static_cast<double>(predicted));
}

void TrainingRun::log_saving(const ReducerCounters& counters) {
  if (!experiment_.trainer.ddp.reducer.compressor) return;
  const auto line = describe_saving(experiment_.compress, counters, grid_.data().size());
  if (counters.compressed_steps > 0) {
    folder_.log().info("{}", line);
  } else {
    folder_.log().warn("{}", line);
  }
}

/// Once the validation period has chosen the number of steps it is worth more as training data,
/// the latest there are: the same from the beginning, with it.
TrainingSummary TrainingRun::refit(const TrainingSummary& chosen) {
  experiment_.train = refit_period(experiment_, data_->dataset()->calendar());
  folder_.log().info("training again from {} to {}, {} steps", experiment_.train.begin,
                     experiment_.train.end, chosen.best_step);
  experiment_.validation = {};
  experiment_.trainer.steps = chosen.best_step;
  shorten_warmup();
  experiment_.trainer.validate_every = 0;
  experiment_.trainer.checkpoints = "checkpoints/refit";
  return fit(/*validate=*/false, "refit");
}

/// The test period plays no part before this; what is scored is the checkpoint on disk.
std::vector<LeadScore> TrainingRun::test(const TrainingSummary& summary) {
  const bool averaged = experiment_.trainer.average_decay > 0;
  std::vector<std::shared_ptr<const SampleSet>> sets;
  run_agreed(world_, [&] {
    ModuleWeights weights(setup_->task().module, averaged ? "average" : "model");
    ShardedPart own(weights, setup_->task().rows, grid_);
    load_checkpoint(summary.best_checkpoint, {&own});
    sets = setup_->scoring_samples("test");
  });
  const auto scores = score_samples(setup_->task(), sets, setup_->area(), grid_,
                                    experiment_.trainer.batch, experiment_.trainer.device);
  write_scores(folder_, "test", summary.best_step, scores);
  run_agreed(world_, [&] {
    for (const auto& line : check_scores(scores, experiment_.test.key)) {
      folder_.log().warn("{}", line);
    }
  });
  return scores;
}

void TrainingRun::write_record() {
  run_agreed(world_, [&] {
    if (world_.rank() == 0) record_.write(folder_.path() / "record.json");
  });
}

}  // namespace isobar
