// SPDX-License-Identifier: Apache-2.0
// What a trainer keeps, and calls the best, where something goes wrong.
#include <isobar/train/trainer.hpp>

#include "core/message_of.hpp"
#include "core/temporary_folder.hpp"
#include "data/nc_writer.hpp"

#include <isobar/comm/thread_world.hpp>
#include <isobar/core/error.hpp>
#include <isobar/train/checkpoint.hpp>
#include <isobar/train/weights.hpp>
#include <ATen/ATen.h>
#include <torch/nn/module.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <chrono>
#include <fstream>
#include <limits>
#include <numeric>
#include <thread>

namespace isobar::trainer_checks_test {
namespace {

/// Forecasts x(t + 1 h) = x(t) + b.
struct Shift : torch::nn::Module {
  Shift() { b = register_parameter("b", at::zeros({1})); }
  at::Tensor forward(const Batch& batch) { return batch.state + b; }
  at::Tensor b;
};

class TrainerChecks : public testing::Test {
 protected:
  TrainerChecks() {
    test::WeatherFile weather{.hours = std::vector<double>(48)};
    std::iota(weather.hours.begin(), weather.hours.end(), 0);
    test::write_weather(folder_ / "a.nc", weather);
  }

  std::shared_ptr<const SampleSet> samples(const char* begin, const char* end) const {
    const auto dataset = std::make_shared<const Dataset>(
        DatasetOptions{.paths = {(folder_ / "a.nc").string()}, .variables = {"t"}});
    return std::make_shared<const SampleSet>(
        dataset, Normalizer({"t"}, {{.mean = 500, .stdev = 2}}),
        SampleOptions{.input_hours = {0}, .target_hours = {1}}, parse_period(begin, end));
  }

  TrainingData data() const {
    return {samples("2019-03-01", "2019-03-02"),
            {samples("2019-03-02", "2019-03-02T04:00")},
            at::full({6}, 1.0 / 6, at::kDouble)};
  }

  static TrainerOptions options(int64_t steps, int64_t validate_every, int64_t log_every) {
    TrainerOptions result;
    result.steps = steps;
    result.batch = 1;
    result.schedule.peak = 0.05;
    result.optimizer.method = "sgd";
    result.log_every = log_every;
    result.validate_every = validate_every;
    return result;
  }

  Task task() const {
    return {
        .module = shift_,
        .reduction = nullptr,
        .loss = [s = shift_](const Batch& b) { return (s->forward(b) - b.target).square().mean(); },
        .forecast = [s = shift_](const Batch& b) { return s->forward(b); }};
  }

  TrainingSummary train(const Task& task, const TrainerOptions& options) {
    RunFolder run(*comm_, folder_.path(), "run");
    return Trainer(task, data(), grid_, options).run(run);
  }

  std::vector<nlohmann::json> events(const std::string& kind) const {
    std::vector<nlohmann::json> result;
    std::ifstream file(folder_ / "run" / "metrics.jsonl");
    for (std::string line; std::getline(file, line);) {
      auto event = nlohmann::json::parse(line);
      if (event["event"] == kind) result.push_back(std::move(event));
    }
    return result;
  }

  std::string log() const {
    std::ifstream file(folder_ / "run" / "log" / "rank_0000.log");
    return {std::istreambuf_iterator<char>(file), {}};
  }

  std::vector<std::string> checkpoints() const {
    std::vector<std::string> names;
    std::error_code none;
    for (const auto& entry :
         std::filesystem::directory_iterator(folder_ / "run" / "checkpoints", none)) {
      names.push_back(entry.path().filename().string());
    }
    std::sort(names.begin(), names.end());
    return names;
  }

  test::TemporaryFolder folder_;
  std::shared_ptr<Shift> shift_ = std::make_shared<Shift>();
  std::unique_ptr<Communicator> comm_ = make_self_communicator();
  ProcessGrid grid_{*comm_, 1};
};

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

TEST_F(TrainerChecks, SeeALossThatIsNoNumberBeforeAnythingIsSaved) {
  auto bad = task();
  bad.loss = [loss = bad.loss, step = 0](const Batch& b) mutable {
    return ++step == 5 ? loss(b) * kNan : loss(b);
  };
  const auto message = test::message_of<Error>([&] { train(bad, options(20, 3, 20)); });
  EXPECT_NE(message.find("the loss of step 5 is not a finite number, seen at step 6"),
            std::string::npos)
      << message;
  EXPECT_EQ(checkpoints(), std::vector<std::string>{"step_00000003"});
}

TEST_F(TrainerChecks, NameTheSameStepOnEveryRank) {
  run_ranks(2, [&](Communicator& comm) {
    const ProcessGrid grid(comm, 1);
    RunFolder run(comm, folder_.path(), "run");
    const auto shift = std::make_shared<Shift>();
    auto bad = task();
    bad.module = shift;
    bad.loss = [shift, rank = comm.rank(), step = 0](const Batch& b) mutable {
      const auto loss = (shift->forward(b) - b.target).square().mean();
      return ++step == 2 && rank == 1 ? loss / 0.0 : loss;
    };
    EXPECT_NE(test::message_of<Error>([&] {
                Trainer(bad, data(), grid, options(6, 0, 5)).run(run);
              }).find("the loss of step 2 is not a finite number, seen at step 5"),
              std::string::npos);
  });
}

TEST_F(TrainerChecks, SaveNoWeightThatIsNoNumber) {
  auto bad = task();
  // The loss is finite, its slope at 0 is not.
  bad.loss = [s = shift_, loss = bad.loss, step = 0](const Batch& b) mutable {
    return ++step == 3 ? loss(b) + (s->b - s->b.detach()).sqrt().sum() : loss(b);
  };
  const auto message = test::message_of<Error>([&] { train(bad, options(3, 0, 1)); });
  EXPECT_NE(message.find("parameter 'b' is not finite after step 3"), std::string::npos) << message;
  EXPECT_TRUE(checkpoints().empty());
}

/// Where a step's sums end in an abort, what is in its gradients is no mean of anything.
TEST_F(TrainerChecks, SaveNothingOnceARankIsLost) {
  const auto train_until_lost = [&](Communicator& comm) {
    const ProcessGrid grid(comm, 1);
    RunFolder run(comm, folder_.path(), "run");
    const auto shift = std::make_shared<Shift>();
    auto lost = task();
    lost.module = shift;
    lost.loss = [shift, rank = comm.rank(), step = 0](const Batch& b) mutable {
      if (++step == 4 && rank == 1) throw DataError("the file is gone");
      return (shift->forward(b) - b.target).square().mean();
    };
    Trainer(lost, data(), grid, options(6, 2, 1)).run(run);
  };
  EXPECT_THROW(run_ranks(2, train_until_lost), DataError);
  EXPECT_EQ(checkpoints(), std::vector<std::string>{"step_00000002"});
}

/// Whose n-th validation goes through `change`; a validation forecasts four times.
Task with_validation(Task task, const std::function<at::Tensor(int, const at::Tensor&)>& change) {
  task.forecast = [change, forecast = task.forecast, calls = 0](const Batch& b) mutable {
    return change(calls++ / 4, forecast(b));
  };
  return task;
}

TEST_F(TrainerChecks, NeverCallAScoreThatIsNotFiniteTheBest) {
  const auto some =
      with_validation(task(), [](int n, const at::Tensor& x) { return n == 1 ? x : x * kNan; });
  const auto summary = train(some, options(3, 1, 1));
  EXPECT_EQ(summary.best_step, 2);
  EXPECT_EQ(summary.best_checkpoint.filename(), "step_00000002");
  EXPECT_NE(log().find("the score is nan, so this checkpoint is not the best"), std::string::npos);
}

TEST_F(TrainerChecks, TakeTheLastCheckpointWhereNoScoreIsFinite) {
  const auto none = with_validation(task(), [](int, const at::Tensor& x) { return x * kNan; });
  const auto summary = train(none, options(3, 1, 1));
  EXPECT_EQ(summary.best_step, 3);
  EXPECT_TRUE(std::filesystem::exists(summary.best_checkpoint / "manifest.json"));
  EXPECT_NE(log().find("for want of another"), std::string::npos);
}

TEST_F(TrainerChecks, KeepTheCheckpointOfAValidationThatFails) {
  const auto failing = with_validation(task(), [](int n, const at::Tensor& x) {
    if (n == 1) throw DataError("a chunk is damaged");
    return x;
  });
  EXPECT_THROW(train(failing, options(4, 2, 1)), DataError);
  EXPECT_EQ(checkpoints(), (std::vector<std::string>{"step_00000002", "step_00000004"}));
}

TEST_F(TrainerChecks, KeepNoMoreCheckpointsThanAskedForBesideTheBest) {
  auto settings = options(4, 1, 1);
  settings.keep_checkpoints = 1;
  // The second is the best, then the last.
  const auto order = with_validation(task(), [](int n, const at::Tensor& x) {
    return x + std::vector<double>{3000, 1000, 2000, 500}.at(n);
  });
  EXPECT_EQ(train(order, settings).best_step, 4);
  EXPECT_EQ(checkpoints(), std::vector<std::string>{"step_00000004"});
  EXPECT_EQ(events("checkpoint").size(), 4);
}

// The time before a validation is a step's as much as that after it.
TEST_F(TrainerChecks, CountAllTimeOfTheStepsBetweenTwoLogLines) {
  auto slow = task();
  slow.loss = [loss = slow.loss](const Batch& b) {
    std::this_thread::sleep_for(std::chrono::milliseconds(4));
    return loss(b);
  };
  train(slow, options(8, 3, 4));
  const auto steps = events("step");
  ASSERT_EQ(steps.size(), 2);
  for (const auto& event : steps) {
    EXPECT_GE(event["step_s"].get<double>(), 0.004);
    EXPECT_LE(event["samples_per_s"].get<double>(), 250);
  }
}

TEST_F(TrainerChecks, TellTheTimeOfTheStepsSinceTheLineBefore) {
  auto slow_at_first = task();
  slow_at_first.loss = [loss = slow_at_first.loss, step = 0](const Batch& b) mutable {
    if (step++ == 0) std::this_thread::sleep_for(std::chrono::milliseconds(40));
    return loss(b);
  };
  train(slow_at_first, options(8, 0, 4));
  const auto steps = events("step");
  ASSERT_EQ(steps.size(), 2);
  EXPECT_LT(steps[1]["step_s"], steps[0]["step_s"]);
  EXPECT_LT(steps[1]["forward_s"], steps[0]["forward_s"]);
}

}  // namespace
}  // namespace isobar::trainer_checks_test
