// SPDX-License-Identifier: Apache-2.0
// What a step of a trainer takes from its samples, and what scaled losses change in it.
#include <isobar/train/trainer.hpp>

#include "core/message_of.hpp"
#include "core/temporary_folder.hpp"

#include <isobar/comm/thread_world.hpp>
#include <isobar/compress/acp_sgd.hpp>
#include <isobar/core/error.hpp>
#include <isobar/train/checkpoint.hpp>
#include <isobar/train/weights.hpp>
#include <ATen/ATen.h>
#include <torch/nn/module.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cmath>
#include <fstream>

namespace isobar::trainer_steps_test {
namespace {

/// Forecasts x(t + 6 h) = a · x(t) + b, as often as there are targets.
struct Line : torch::nn::Module {
  Line() {
    a = register_parameter("a", at::ones({1}));
    b = register_parameter("b", at::zeros({1}));
  }
  at::Tensor forward(const Batch& batch) {
    auto x = batch.state.select(1, batch.state.size(1) - 1);
    std::vector<at::Tensor> steps;
    for (int64_t s = 0; s < batch.target.size(1); ++s) steps.push_back(x = x * a + b);
    return at::stack(steps, 1);
  }
  at::Tensor a, b;
};

Task line_task(std::vector<int64_t>* lengths = nullptr) {
  const auto line = std::make_shared<Line>();
  Task task;
  task.module = line;
  task.loss = [line, lengths](const Batch& b) {
    if (lengths) lengths->push_back(b.target.size(1));
    return (line->forward(b) - b.target).square().mean();
  };
  task.forecast = [line](const Batch& b) { return line->forward(b); };
  return task;
}

std::shared_ptr<const SampleSet> samples(const char* begin, const char* end,
                                         std::vector<int64_t> target_hours) {
  static const auto dataset = std::make_shared<const Dataset>(
      DatasetOptions{.paths = {ISOBAR_EXAMPLE_DATA}, .variables = {"t2m"}});
  const Normalizer normalizer({"t2m"}, compute_statistics(*dataset, {0, 100, 200, 300}));
  return std::make_shared<const SampleSet>(
      dataset, normalizer,
      SampleOptions{.input_hours = {0}, .target_hours = std::move(target_hours)},
      parse_period(begin, end));
}

TrainingData data(std::vector<int64_t> target_hours = {6}) {
  const auto train = samples("2019-03-01", "2019-03-05", std::move(target_hours));
  const auto points = train->dataset().point_latitudes().size(0);
  return {train,
          {samples("2019-03-05", "2019-03-06", {6})},
          at::full({points}, 1.0 / static_cast<double>(points), at::kDouble)};
}

TrainerOptions options() {
  TrainerOptions result;
  result.steps = 6;
  result.batch = 2;
  result.schedule.peak = 0.05;
  result.log_every = 2;
  return result;
}

std::vector<nlohmann::json> steps_of(const std::filesystem::path& folder) {
  std::vector<nlohmann::json> result;
  std::ifstream file(folder / "metrics.jsonl");
  for (std::string line; std::getline(file, line);) {
    auto event = nlohmann::json::parse(line);
    if (event["event"] == "step") result.push_back(std::move(event));
  }
  return result;
}

TEST(TrainerRollout, GivesEachStepTheTargetsThatItNeeds) {
  const test::TemporaryFolder folder;
  auto comm = make_self_communicator();
  const ProcessGrid grid(*comm, 1);
  RunFolder run(*comm, folder.path(), "line");
  auto settings = options();
  settings.accumulate = 2;
  settings.rollout = RolloutSchedule{.start = 1, .every = 2, .maximum = 9};
  std::vector<int64_t> lengths;
  Trainer(line_task(&lengths), data({6, 12, 18}), grid, settings).run(run);
  EXPECT_EQ(lengths, (std::vector<int64_t>{1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3}));
  std::vector<int64_t> shown;
  for (const auto& event : steps_of(run.path())) shown.push_back(event["rollout"]);
  EXPECT_EQ(shown, (std::vector<int64_t>{1, 2, 3}));
}

TEST(TrainerRollout, TakesAllTargetsWhereThereIsNone) {
  const test::TemporaryFolder folder;
  auto comm = make_self_communicator();
  const ProcessGrid grid(*comm, 1);
  RunFolder run(*comm, folder.path(), "line");
  std::vector<int64_t> lengths;
  Trainer(line_task(&lengths), data({6, 12}), grid, options()).run(run);
  EXPECT_EQ(lengths, std::vector<int64_t>(6, 2));
  EXPECT_FALSE(steps_of(run.path())[0].contains("rollout"));
}

TEST(TrainerRollout, RefusesToGrowBeyondTheSamplesTargets) {
  auto comm = make_self_communicator();
  const ProcessGrid grid(*comm, 1);
  auto settings = options();
  settings.rollout = RolloutSchedule{.start = 1, .every = 2, .maximum = 9};
  EXPECT_EQ(test::message_of<UsageError>([&] {
              Trainer(line_task(), data({6, 12}), grid, settings);
            }),
            "train: forecasts grow to 3 steps, but the samples have 2 target hours");
}

/// What a run of two ranks leaves, its parameters among it.
struct Trained {
  std::vector<at::Tensor> parameters;
  TrainingSummary summary;
  std::vector<nlohmann::json> steps;
};

Trained train(const TrainerOptions& settings, const std::filesystem::path& folder) {
  Trained result;
  run_ranks(2, [&](Communicator& comm) {
    const ProcessGrid grid(comm, 1);
    RunFolder run(comm, folder, "line");
    const auto task = line_task();
    const auto summary = Trainer(task, data(), grid, settings).run(run);
    if (comm.rank() == 0) result = {task.module->parameters(), summary, {}};
  });
  result.steps = steps_of(folder / "line");
  return result;
}

// Steps that are no multiple of log_every have a last line of fewer steps.
TEST(TrainerMetrics, TellTheGradientNormOfTheStepThatTheyAreOf) {
  const test::TemporaryFolder folder;
  for (const double clip_value : {0.0, 0.5}) {
    auto settings = options();
    settings.steps = 5;
    settings.clip_value = clip_value;
    settings.log_every = 1;
    const auto every = train(settings, folder.path()).steps;
    settings.log_every = 3;
    const auto some = train(settings, folder.path()).steps;
    ASSERT_EQ(some.size(), 2);
    EXPECT_EQ(some[0]["gradient_norm"], every.at(2)["gradient_norm"]);
    EXPECT_EQ(some[1]["step"], 5);
    EXPECT_EQ(some[1]["gradient_norm"], every.at(4)["gradient_norm"]);
    EXPECT_NE(some[1]["gradient_norm"], some[0]["gradient_norm"]);
  }
}

TEST(TrainerScaling, ChangesNoBitOfWhatIsLearnt) {
  const test::TemporaryFolder folder;
  for (const auto fused : {FusedUpdate::on, FusedUpdate::off}) {
    for (const double clip_norm : {0.0, 0.01}) {
      auto settings = options();
      settings.optimizer.fused = fused;
      settings.clip_norm = clip_norm;
      const auto plain = train(settings, folder.path());
      settings.loss_scaling = GradScalerOptions{};
      const auto scaled = train(settings, folder.path());
      EXPECT_EQ(scaled.summary.skipped_steps, 0);
      for (size_t p = 0; p < 2; ++p) {
        EXPECT_TRUE(at::equal(scaled.parameters[p], plain.parameters[p]));
      }
      for (size_t i = 0; i < plain.steps.size(); ++i) {
        EXPECT_EQ(scaled.steps[i]["loss"], plain.steps[i]["loss"]);
        EXPECT_EQ(scaled.steps[i]["gradient_norm"], plain.steps[i]["gradient_norm"]);
      }
    }
  }
}

TEST(TrainerScaling, LeavesOutStepsThatOverflow) {
  const test::TemporaryFolder folder;
  auto settings = options();
  settings.average_decay = 0.9;
  settings.loss_scaling = GradScalerOptions{.initial = std::ldexp(1.0, 200)};
  const auto result = train(settings, folder.path());
  EXPECT_EQ(result.summary.skipped_steps, 6);
  EXPECT_EQ(result.parameters[0].item<float>(), 1);
  EXPECT_EQ(result.parameters[1].item<float>(), 0);
  EXPECT_EQ(result.steps.back()["skipped_steps"], 6);
  EXPECT_TRUE(result.steps.back()["gradient_norm"].is_null()) << "of a step that overflowed";
  EXPECT_EQ(result.steps.back()["loss_scale"].get<double>(), std::ldexp(1.0, 194));

  WeightAverage average(line_task().module, 0.9);
  GradScaler scaler;
  const auto loaded = load_checkpoint(result.summary.best_checkpoint, {&average, &scaler});
  EXPECT_EQ(loaded.unknown_parts, (std::vector<std::string>{"model", "optimizer"}));
  EXPECT_EQ(scaler.current(), std::ldexp(1.0, 194));
  StateDict state;
  average.save(state);
  EXPECT_EQ(state.integer("updates"), 0);
}

TEST(TrainerScaling, GoesOnOnceTheScaleFits) {
  const test::TemporaryFolder folder;
  auto settings = options();
  // Gradients of about one overflow at 2^128 and above.
  settings.loss_scaling = GradScalerOptions{.initial = std::ldexp(1.0, 131)};
  const auto result = train(settings, folder.path());
  EXPECT_GT(result.summary.skipped_steps, 2);
  EXPECT_LT(result.summary.skipped_steps, 6);
  EXPECT_TRUE(result.steps.front()["gradient_norm"].is_null());
  EXPECT_TRUE(result.steps.back()["gradient_norm"].is_number());
  EXPECT_NE(result.parameters[0].item<float>(), 1);
}

TEST(TrainerScaling, RefusesToCompressScaledGradients) {
  run_ranks(2, [](Communicator& comm) {
    const ProcessGrid grid(comm, 1);
    auto settings = options();
    settings.loss_scaling = GradScalerOptions{};
    settings.ddp.reducer.compressor = make_acp_sgd({});
    EXPECT_NE(test::message_of<UsageError>([&] {
                Trainer(line_task(), data(), grid, settings);
              }).find("cannot be compressed"),
              std::string::npos);
  });
}

}  // namespace
}  // namespace isobar::trainer_steps_test
