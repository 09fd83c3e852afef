// SPDX-License-Identifier: Apache-2.0
#include "cli/auto_compression.hpp"
#include "cli/commands.hpp"
#include "cli/weather_setup.hpp"

#include <isobar/comm/agreement.hpp>
#include <isobar/core/error.hpp>
#include <isobar/core/record.hpp>
#include <isobar/train/checkpoint.hpp>
#include <isobar/train/scoring.hpp>
#include <isobar/train/sharded_part.hpp>
#include <isobar/train/weights.hpp>
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <numeric>
#include <optional>

namespace isobar {
namespace {

namespace fs = std::filesystem;

/// Reads the experiment before there is a world to agree in: the file names the backend. What
/// went wrong is kept until every rank can be told.
struct Reading {
  std::optional<Experiment> experiment;
  std::exception_ptr error;
};

Reading read(const TrainArguments& arguments) {
  try {
    return {read_experiment(load_config(arguments.experiment, arguments.overrides)), nullptr};
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

class TrainingRun {
 public:
  TrainingRun(Communicator& world, const Experiment& experiment, const TrainArguments& arguments)
      : world_(world),
        experiment_(experiment),
        grid_(make_process_grid(world, experiment)),
        folder_(world, experiment.run_folder, experiment.run_name),
        record_({.command = arguments.command, .ranks = world.size(), .config = experiment.yaml}) {
    scale_learning_rate();
    say_warmup();
  }

  void run() {
    write_record();
    look_through();
    auto summary = fit(/*validate=*/true, "training");
    if (experiment_.refit) summary = refit(summary);
    test(summary);
  }

 private:
  /// By the number of model instances, whose samples a step takes together.
  void scale_learning_rate() {
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
  void look_through() {
    data_.emplace(experiment_, grid_);
    run_agreed(world_, [&] {
      for (const auto& line : data_->report()) folder_.log().info("{}", line);
      for (const auto& line : data_->warnings()) folder_.log().warn("{}", line);
      record_.set("data", data_->record());
    });
    write_record();
  }

  void say_warmup() {
    const auto steps = experiment_.trainer.steps;
    auto& warmup = experiment_.trainer.schedule.warmup_steps;
    warmup = warmup_within(experiment_.given_warmup_steps, steps);
    if (warmup == experiment_.given_warmup_steps) return;
    folder_.log().warn(
        "optimizer.warmup_steps, {}, is more than the {} steps of this training: the learning rate "
        "warms up over {}",
        experiment_.given_warmup_steps, steps, warmup);
  }

  void build() {
    run_agreed(world_, [&] {
      setup_.emplace(experiment_, grid_, *data_);
      experiment_.trainer.device = setup_->device();
    });
    folder_.log().info("{} on {} ranks ({})", setup_->summary(), world_.size(), world_.backend());
    if (!setup_->graph_warning().empty()) folder_.log().warn("{}", setup_->graph_warning());
    folder_.log().info("{}", describe_plan(setup_->planned()));
    if (setup_->graph().uncovered > 0) {
      folder_.log().warn("{} data nodes have no encoder edge: their values are not seen",
                         setup_->graph().uncovered);
    }
  }

  /// A compressor serves one fit.
  void compress(const std::shared_ptr<const SampleSet>& samples) {
    auto& options = experiment_.compress;
    if (options.method == kAutoCompression) decide(samples);
    auto& compressor = experiment_.trainer.ddp.compressor;
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

  void decide(const std::shared_ptr<const SampleSet>& samples) {
    Batch batch;
    run_agreed(world_, [&] {
      std::vector<int64_t> first(std::min(experiment_.trainer.batch, samples->size()));
      std::iota(first.begin(), first.end(), 0);
      const auto& rollout = experiment_.trainer.rollout;
      batch = to_device(samples->get(first, rollout ? rollout->at(0) : 1), setup_->device());
    });
    const auto reason = choose_compression(experiment_.compress, setup_->task(), batch,
                                           experiment_.trainer.ddp, grid_);
    folder_.log().info("{}", reason);
    record_.set("compression", {{"method", experiment_.compress.method}, {"reason", reason}});
  }

  TrainingSummary fit(bool validate, const std::string& section) {
    build();
    TrainingData data;
    run_agreed(world_, [&] {
      data = {setup_->training_samples(), {}, setup_->area()};
      if (validate) data.validation = setup_->scoring_samples("validation");
    });
    compress(data.train);
    Trainer trainer(setup_->task(), data, grid_, experiment_.trainer,
                    {{&setup_->scales()}, {{"experiment", experiment_.yaml}}});
    const auto summary = trainer.run(folder_);
    log_saving(summary.reducer);
    record_memory();
    record_.set(section, totals(summary, fs::relative(summary.best_checkpoint, folder_.path())));
    write_record();
    return summary;
  }

  /// The largest of the ranks', of which each has planned its own part of the network.
  void record_memory() {
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

  void log_saving(const ReducerCounters& counters) {
    if (!experiment_.trainer.ddp.compressor) return;
    const auto line = describe_saving(experiment_.compress, counters, grid_.data().size());
    if (counters.compressed_steps > 0) {
      folder_.log().info("{}", line);
    } else {
      folder_.log().warn("{}", line);
    }
  }

  /// Once the validation period has chosen the number of steps it is worth more as training data,
  /// the latest there are: the same from the beginning, with it.
  TrainingSummary refit(const TrainingSummary& chosen) {
    experiment_.train = refit_period(experiment_, data_->dataset()->calendar());
    folder_.log().info("training again from {} to {}, {} steps", experiment_.train.begin,
                       experiment_.train.end, chosen.best_step);
    experiment_.validation = {};
    experiment_.trainer.steps = chosen.best_step;
    say_warmup();
    experiment_.trainer.validate_every = 0;
    experiment_.trainer.checkpoints = "checkpoints/refit";
    return fit(/*validate=*/false, "refit");
  }

  /// The test period plays no part before this; what is scored is the checkpoint on disk.
  void test(const TrainingSummary& summary) {
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
    if (world_.rank() == 0) {
      fmt::print("test period {} to {}, checkpoint of step {}\n{}", experiment_.test.begin,
                 experiment_.test.end, summary.best_step, scores_table(scores));
      std::fflush(stdout);
    }
  }

  void write_record() {
    run_agreed(world_, [&] {
      if (world_.rank() == 0) record_.write(folder_.path() / "record.json");
    });
  }

  Communicator& world_;
  Experiment experiment_;
  ProcessGrid grid_;
  RunFolder folder_;
  RunRecord record_;
  std::optional<WeatherData> data_;
  std::optional<WeatherSetup> setup_;
};

}  // namespace

int run_train(const TrainArguments& arguments) {
  const auto reading = read(arguments);
  const auto world =
      make_communicator(reading.experiment ? reading.experiment->comm : CommunicatorOptions{});
  run_agreed(*world, [&] {
    if (reading.error) std::rethrow_exception(reading.error);
  });
  require_equal(*world, "configuration", reading.experiment->lines);
  run_or_abort(*world, [&] { TrainingRun(*world, *reading.experiment, arguments).run(); });
  return 0;
}

}  // namespace isobar
