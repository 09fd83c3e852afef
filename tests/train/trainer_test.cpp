// SPDX-License-Identifier: Apache-2.0
#include <isobar/train/trainer.hpp>

#include "compress/world.hpp"
#include "core/message_of.hpp"
#include "core/temporary_folder.hpp"

#include <isobar/comm/thread_world.hpp>
#include <isobar/compress/acp_sgd.hpp>
#include <isobar/core/error.hpp>
#include <isobar/train/checkpoint.hpp>
#include <isobar/train/scoring.hpp>
#include <isobar/train/weights.hpp>
#include <ATen/ATen.h>
#include <torch/nn/module.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <atomic>
#include <barrier>
#include <fstream>
#include <functional>
#include <thread>
#include <vector>

namespace isobar::trainer_test {
namespace {

/// Forecasts x(t + 6 h) = a · x(t) + b.
struct Line : torch::nn::Module {
  Line() {
    a = register_parameter("a", at::ones({1}));
    b = register_parameter("b", at::zeros({1}));
  }
  at::Tensor forward(const Batch& batch) {
    return batch.state.select(1, batch.state.size(1) - 1).unsqueeze(1) * a + b;
  }
  at::Tensor a, b;
};

Task line_task() {
  const auto line = std::make_shared<Line>();
  return {.module = line,
          .reduction = nullptr,
          .loss = [line](const Batch& b) { return (line->forward(b) - b.target).square().mean(); },
          .forecast = [line](const Batch& b) { return line->forward(b); }};
}

/// Adds to x(t) what a network says that has a matrix large enough to be compressed.
struct Network : torch::nn::Module {
  Network() {
    in = register_parameter("in", at::linspace(-1, 1, 24).view({1, 24}));
    matrix = register_parameter("matrix", at::eye(24));
    out = register_parameter("out", at::full({24, 1}, 0.1));
  }
  at::Tensor forward(const Batch& batch) {
    const auto x = batch.state.select(1, batch.state.size(1) - 1).unsqueeze(1);
    return x + x.matmul(in).tanh().matmul(matrix).tanh().matmul(out);
  }
  at::Tensor in, matrix, out;
};

Task network_task() {
  const auto net = std::make_shared<Network>();
  return {.module = net,
          .reduction = nullptr,
          .loss = [net](const Batch& b) { return (net->forward(b) - b.target).square().mean(); },
          .forecast = [net](const Batch& b) { return net->forward(b); }};
}

std::shared_ptr<const SampleSet> samples(const char* begin, const char* end) {
  static const auto dataset = std::make_shared<const Dataset>(
      DatasetOptions{.paths = {ISOBAR_EXAMPLE_DATA}, .variables = {"t2m"}});
  const Normalizer normalizer({"t2m"}, compute_statistics(*dataset, {0, 100, 200, 300}));
  return std::make_shared<const SampleSet>(dataset, normalizer,
                                           SampleOptions{.input_hours = {0}, .target_hours = {6}},
                                           parse_period(begin, end));
}

TrainingData data() {
  const auto train = samples("2019-03-01", "2019-03-05");
  const auto points = train->dataset().point_latitudes().size(0);
  return {train,
          {samples("2019-03-05", "2019-03-06")},
          at::full({points}, 1.0 / static_cast<double>(points), at::kDouble)};
}

TrainerOptions options(int64_t steps = 6) {
  TrainerOptions result;
  result.steps = steps;
  result.batch = 2;
  result.schedule.peak = 0.05;
  result.log_every = 2;
  result.validate_every = 3;
  return result;
}

std::vector<nlohmann::json> events(const std::filesystem::path& folder) {
  std::vector<nlohmann::json> result;
  std::ifstream file(folder / "metrics.jsonl");
  for (std::string line; std::getline(file, line);) result.push_back(nlohmann::json::parse(line));
  return result;
}

int count(const std::vector<nlohmann::json>& events, const std::string& kind) {
  return static_cast<int>(std::count_if(events.begin(), events.end(),
                                        [&](const auto& e) { return e["event"] == kind; }));
}

TEST(Trainer, LeavesMetricsCheckpointsAndABetterModel) {
  const test::TemporaryFolder folder;
  run_ranks(2, [&](Communicator& comm) {
    ProcessGrid grid(comm, 1);
    RunFolder run(comm, folder.path(), "line");
    const auto task = line_task();
    Trainer trainer(task, data(), grid, options());
    const auto summary = trainer.run(run);
    EXPECT_EQ(summary.steps, 6);
    EXPECT_EQ(summary.reducer.steps, 6);
    EXPECT_TRUE(std::filesystem::exists(summary.best_checkpoint / "manifest.json"));
    EXPECT_NE(task.module->named_parameters()["a"].item<double>(), 1.0);
  });
  const auto all = events(folder.path() / "line");
  EXPECT_EQ(count(all, "step"), 3);
  EXPECT_EQ(count(all, "validation"), 2);
  EXPECT_EQ(count(all, "checkpoint"), 2);
  EXPECT_EQ(all[1]["event"], "checkpoint") << "saved before it is scored";
  EXPECT_GT(all[2]["persistence"]["t2m"], 0.5);
}

TEST(Trainer, GivesTheSameWeightsWithAccumulation) {
  const test::TemporaryFolder folder;
  const auto weight = [&](int64_t batch, int64_t accumulate) {
    auto comm = make_self_communicator();
    ProcessGrid grid(*comm, 1);
    RunFolder run(*comm, folder.path(), "line");
    auto settings = options(4);
    settings.batch = batch;
    settings.accumulate = accumulate;
    settings.optimizer.method = "sgd";  // adamw would take gradients of any size
    const auto task = line_task();
    Trainer(task, data(), grid, settings).run(run);
    return task.module->named_parameters()["a"].item<double>();
  };
  EXPECT_NEAR(weight(4, 1), weight(2, 2), 1e-6);
}

TEST(Trainer, GivesTheSameWeightsFusedOrNotClippedOrNot) {
  const test::TemporaryFolder folder;
  const auto weight = [&](FusedUpdate fused, double clip_norm) {
    double result = 0;
    run_ranks(2, [&](Communicator& comm) {
      ProcessGrid grid(comm, 1);
      RunFolder run(comm, folder.path(), "line");
      auto settings = options(4);
      settings.optimizer.fused = fused;
      settings.clip_norm = clip_norm;
      const auto task = line_task();
      Trainer(task, data(), grid, settings).run(run);
      if (comm.rank() == 0) result = task.module->named_parameters()["a"].item<double>();
    });
    return result;
  };
  for (const double clip_norm : {0.0, 0.01}) {
    EXPECT_NEAR(weight(FusedUpdate::on, clip_norm), weight(FusedUpdate::off, clip_norm), 1e-6);
  }
  EXPECT_EQ(events(folder.path() / "line").back()["event"], "validation");
}

TEST(Trainer, ShowsTheNormOfTheGradientsThatItUsed) {
  const test::TemporaryFolder folder;
  const auto norms = [&](FusedUpdate fused) {
    auto comm = make_self_communicator();
    ProcessGrid grid(*comm, 1);
    RunFolder run(*comm, folder.path(), "line");
    auto settings = options(2);
    settings.log_every = 1;
    settings.optimizer.fused = fused;
    Trainer(line_task(), data(), grid, settings).run(run);
    std::vector<double> result;
    for (const auto& event : events(folder.path() / "line")) {
      if (event["event"] == "step") result.push_back(event["gradient_norm"]);
    }
    return result;
  };
  const auto fused = norms(FusedUpdate::on), unfused = norms(FusedUpdate::off);
  ASSERT_EQ(fused.size(), 2);
  EXPECT_EQ(fused[0], unfused[0]);
  EXPECT_NEAR(fused[1], unfused[1], 1e-6);
}

TEST(Trainer, SavesWhatItScored) {
  const test::TemporaryFolder folder;
  auto comm = make_self_communicator();
  ProcessGrid grid(*comm, 1);
  RunFolder run(*comm, folder.path(), "line");
  auto settings = options();
  settings.average_decay = 0.9;
  const auto summary = Trainer(line_task(), data(), grid, settings).run(run);

  const auto task = line_task();
  ModuleWeights weights(task.module, "average");
  const auto loaded = load_checkpoint(summary.best_checkpoint, {&weights});
  EXPECT_EQ(loaded.unknown_parts, (std::vector<std::string>{"model", "optimizer"}));
  const auto scores =
      score_samples(task, data().validation, data().area, grid, 2, c10::Device(c10::kCPU));
  EXPECT_DOUBLE_EQ(scores[0].ratio(), summary.best_ratio);
}

std::vector<std::string> parts_of(const std::filesystem::path& checkpoint) {
  return load_checkpoint(checkpoint, {}).unknown_parts;
}

TEST(Trainer, CompressesGradientsAndSaysWhatItSent) {
  const test::TemporaryFolder folder;
  run_ranks(2, [&](Communicator& comm) {
    ProcessGrid grid(comm, 1);
    RunFolder run(comm, folder.path(), "network");
    auto settings = options();
    settings.ddp.reducer.compressor =
        make_acp_sgd({.matrix_approximation_rank = 2, .start_step = 2});
    const auto summary = Trainer(network_task(), data(), grid, settings).run(run);
    EXPECT_EQ(summary.reducer.compressed_steps, 4);
    EXPECT_LT(summary.reducer.payload_bytes, summary.reducer.gradient_bytes);
  });
  std::vector<int64_t> payload;
  for (const auto& event : events(folder.path() / "network")) {
    if (event["event"] == "step") payload.push_back(event["payload_bytes"]);
  }
  ASSERT_EQ(payload.size(), 3);
  // Two steps of 24 · 24 + 24 + 24 floats, then two of 2 · 24 in the matrix's place.
  EXPECT_EQ(payload[0], 2 * 624 * 4);
  EXPECT_EQ(payload[1] - payload[0], 2 * 96 * 4);
}

TEST(Trainer, SavesTheMeanOfItsCompressorsResiduals) {
  const test::TemporaryFolder folder;
  run_ranks(2, [&](Communicator& comm) {
    ProcessGrid grid(comm, 1);
    RunFolder run(comm, folder.path(), "network");
    auto settings = options();
    const auto compressor = make_acp_sgd({.matrix_approximation_rank = 2, .start_step = 2});
    settings.ddp.reducer.compressor = compressor;
    const auto checkpoint =
        Trainer(network_task(), data(), grid, settings).run(run).best_checkpoint;
    EXPECT_EQ(parts_of(checkpoint), (std::vector<std::string>{"model", "optimizer", "compressor"}));
    const auto residual = test::remembered(*compressor, "matrix.residual");
    auto mean = residual.clone();
    comm.allreduce(mean).wait();
    EXPECT_TRUE(at::equal(mean / 2, residual));
    EXPECT_GT(residual.norm().item<double>(), 0);
  });
}

TEST(Trainer, GivesTimesOfAStepThatAddUpToTheRuns) {
  const test::TemporaryFolder folder;
  TrainingSummary summary;
  run_ranks(2, [&](Communicator& comm) {
    ProcessGrid grid(comm, 1);
    RunFolder run(comm, folder.path(), "line");
    auto task = line_task();
    Trainer trainer(task, data(), grid, options());
    const auto ranks = trainer.run(run);
    if (comm.rank() == 0) summary = ranks;
  });
  double waited = 0;
  for (const auto& event : events(folder.path() / "line")) {
    if (event["event"] != "step") continue;
    // Two samples of a step on either rank.
    EXPECT_NEAR(event["samples_per_s"].get<double>() * event["step_s"].get<double>(), 4, 1e-9);
    waited += 2 * event["data_wait_s"].get<double>();  // log_every is 2
    double parts = 0;
    for (const char* part : {"data_wait_s", "copy_s", "forward_s", "backward_s", "exposed_comm_s",
                             "optimizer_s", "other_s"}) {
      EXPECT_GE(event[part].get<double>(), 0);
      parts += event[part].get<double>();
    }
    EXPECT_NEAR(parts, event["step_s"].get<double>(), 1e-12);
    EXPECT_GT(event["exposed_comm_s"], 0);
  }
  EXPECT_GT(summary.data_wait_seconds, 0);
  EXPECT_GE(waited, summary.data_wait_seconds) << "a batch is taken out, too";
}

TEST(Trainer, TellsTheMeanLossOfAllRanks) {
  const test::TemporaryFolder folder;
  run_ranks(2, [&](Communicator& comm) {
    ProcessGrid grid(comm, 1);
    RunFolder run(comm, folder.path(), "line");
    auto task = line_task();
    const auto loss = task.loss;
    task.loss = [=, rank = comm.rank()](const Batch& b) { return 0 * loss(b) + 1 + 2 * rank; };
    Trainer(task, data(), grid, options()).run(run);
  });
  const auto all = events(folder.path() / "line");
  EXPECT_EQ(count(all, "step"), 3);
  for (const auto& event : all) {
    if (event["event"] == "step") EXPECT_EQ(event["loss"], 2.0);
  }
}

TEST(Trainer, RefusesOptionsThatMakeNoSense) {
  auto comm = make_self_communicator();
  ProcessGrid grid(*comm, 1);
  const auto refuses = [&](const std::function<void(TrainerOptions&)>& change) {
    auto settings = options();
    change(settings);
    EXPECT_THROW(Trainer(line_task(), data(), grid, settings), UsageError);
  };
  refuses([](TrainerOptions& o) { o.steps = 0; });
  refuses([](TrainerOptions& o) { o.accumulate = 0; });
  refuses([](TrainerOptions& o) { o.log_every = 0; });
  refuses([](TrainerOptions& o) { o.validate_every = -1; });
  refuses([](TrainerOptions& o) { o.clip_norm = -1; });
  refuses([](TrainerOptions& o) { o.clip_value = -1; });
  refuses([](TrainerOptions& o) { o.schedule.warmup_steps = o.steps + 1; });
}

TEST(Trainer, LeavesNoFolderOfARunWithoutAStep) {
  const test::TemporaryFolder folder;
  auto comm = make_self_communicator();
  const auto runs = folder.path() / "runs";
  { RunFolder(*comm, runs, "run").log().info("never trained"); }
  EXPECT_FALSE(std::filesystem::exists(runs));
  { RunFolder(*comm, runs, "run").keep(); }
  EXPECT_TRUE(std::filesystem::exists(runs / "run" / "metrics.jsonl"));
}

TEST(Trainer, BringsBackAnEarlierRunWhenTheNextMakesNoStep) {
  const test::TemporaryFolder folder;
  auto comm = make_self_communicator();
  { RunFolder(*comm, folder.path(), "run").metric({{"event", "first"}}); }
  { RunFolder(*comm, folder.path(), "run").log().info("never trained"); }
  EXPECT_EQ(events(folder.path() / "run").at(0)["event"], "first");
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "run.1"));
}

TEST(Trainer, MovesAnEarlierRunAside) {
  const test::TemporaryFolder folder;
  auto comm = make_self_communicator();
  { RunFolder(*comm, folder.path(), "run").metric({{"event", "first"}}); }
  RunFolder second(*comm, folder.path(), "run");
  EXPECT_EQ(events(folder.path() / "run").size(), 0);
  EXPECT_EQ(events(folder.path() / "run.1").at(0)["event"], "first");
}

TEST(Trainer, GivesItsFolderTheRightsOfAnyOther) {
  namespace fs = std::filesystem;
  const test::TemporaryFolder folder;
  fs::permissions(folder.path(), fs::perms::all | fs::perms::sticky_bit);
  auto comm = make_self_communicator();
  RunFolder(*comm, folder.path(), "run").keep();
  fs::create_directory(folder.path() / "other");
  EXPECT_EQ(fs::status(folder.path() / "run").permissions(),
            fs::status(folder.path() / "other").permissions());
}

TEST(Trainer, RefusesAFolderWhoseRunGoesOn) {
  const test::TemporaryFolder folder;
  auto comm = make_self_communicator();
  const auto path = folder.path() / "run";
  {
    RunFolder first(*comm, folder.path(), "run");
    first.metric({{"event", "first"}});
    const auto message =
        test::message_of<UsageError>([&] { RunFolder(*comm, folder.path(), "run"); });
    EXPECT_NE(message.find("is another run's, which goes on (process "), std::string::npos);
    EXPECT_EQ(events(path).size(), 1) << "untouched";
  }
  EXPECT_FALSE(std::filesystem::exists(path / "run.lock"));
  // Of a run that was killed the file stays, and nobody holds it.
  std::ofstream(path / "run.lock") << "process 1";
  RunFolder(*comm, folder.path(), "run").metric({{"event", "second"}});
  EXPECT_EQ(events(path).at(0)["event"], "second");
  EXPECT_EQ(events(folder.path() / "run.1").at(0)["event"], "first");
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "run.1" / "run.lock"));
  int entries = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
    entries += entry.exists() ? 1 : 0;
  }
  EXPECT_EQ(entries, 2) << "nothing is left of the one that was refused";
}

TEST(Trainer, GivesAFolderToOneOfSeveralRunsThatStartAtOnce) {
  const test::TemporaryFolder folder;
  std::ofstream(folder.path() / "run") << "of that name, and no folder";
  std::atomic<int> made = 0, refused = 0;
  std::barrier together(4);
  std::vector<std::thread> runs;
  for (int i = 0; i < 4; ++i) {
    runs.emplace_back([&] {
      auto comm = make_self_communicator();
      together.arrive_and_wait();
      try {
        RunFolder run(*comm, folder.path(), "run");
        ++made;
        together.arrive_and_wait();
      } catch (const UsageError&) {
        ++refused;
        together.arrive_and_wait();
      }
    });
  }
  for (auto& run : runs) run.join();
  EXPECT_EQ(made, 1);
  EXPECT_EQ(refused, 3);
}

TEST(Trainer, RefusesABatchLargerThanTheDataOnEveryRank) {
  run_ranks(2, [&](Communicator& comm) {
    ProcessGrid grid(comm, 1);
    auto settings = options();
    settings.batch = 1000;
    EXPECT_THROW(Trainer(line_task(), data(), grid, settings), UsageError);
  });
}

TEST(Trainer, StopsEveryRankWhenTheLossIsNoNumber) {
  const test::TemporaryFolder folder;
  run_ranks(2, [&](Communicator& comm) {
    ProcessGrid grid(comm, 1);
    RunFolder run(comm, folder.path(), "line");
    auto task = line_task();
    const auto loss = task.loss;
    const bool culprit = comm.rank() == 1;
    task.loss = [=](const Batch& b) { return culprit ? loss(b) / 0.0 - loss(b) / 0.0 : loss(b); };
    EXPECT_THROW(Trainer(task, data(), grid, options()).run(run), Error);
  });
}

}  // namespace
}  // namespace isobar::trainer_test
