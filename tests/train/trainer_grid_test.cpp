// SPDX-License-Identifier: Apache-2.0
// A trainer whose ranks share the points of a model gives what one rank a model gives.
#include <isobar/train/trainer.hpp>

#include "core/message_of.hpp"
#include "core/temporary_folder.hpp"

#include <isobar/comm/thread_world.hpp>
#include <isobar/compress/block_int8.hpp>
#include <isobar/core/error.hpp>
#include <isobar/train/checkpoint.hpp>
#include <isobar/train/scoring.hpp>
#include <isobar/train/sharded_part.hpp>
#include <isobar/train/weights.hpp>
#include <ATen/ATen.h>
#include <torch/nn/module.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <fstream>
#include <mutex>

namespace isobar::trainer_grid_test {
namespace {

/// How a world's ranks are shared: all of them, and those of a model.
struct Layout {
  int world = 1;
  int model_ranks = 1;
};

/// Forecasts x(t + 6 h) = a · x(t) + b + what the point's row of a table says.
struct Points : torch::nn::Module {
  explicit Points(const at::Tensor& rows) {
    a = register_parameter("a", at::ones({1}));
    b = register_parameter("b", at::zeros({1}));
    table = register_parameter("table", rows.to(at::kFloat).sin().mul(0.1).view({-1, 1}));
  }
  at::Tensor forward(const Batch& batch) const {
    return batch.state.select(1, batch.state.size(1) - 1).unsqueeze(1) * a + b + table;
  }
  at::Tensor a, b, table;
};

std::shared_ptr<const Dataset> dataset() {
  static const auto set = std::make_shared<const Dataset>(
      DatasetOptions{.paths = {ISOBAR_EXAMPLE_DATA}, .variables = {"t2m"}});
  return set;
}

int64_t points() { return dataset()->point_latitudes().size(0); }

/// Areas that differ from point to point and sum to 1.
at::Tensor areas() {
  const auto weights = dataset()->point_latitudes().mul(0.0174).cos();
  return weights / weights.sum();
}

std::shared_ptr<const SampleSet> samples(const char* begin, const char* end,
                                         const at::Tensor& rows) {
  const Normalizer normalizer({"t2m"}, compute_statistics(*dataset(), {0, 100, 200, 300}));
  return std::make_shared<const SampleSet>(
      dataset(), normalizer, SampleOptions{.input_hours = {0}, .target_hours = {6}, .rows = rows},
      parse_period(begin, end));
}

/// A rank's share of a run.
struct Share {
  explicit Share(const ProcessGrid& grid)
      : grid(grid), rows(at::arange(grid.model().rank(), points(), grid.model().size())) {
    const auto own = area();
    task.module = net;
    task.reduction = [](const std::string& name) {
      return name == "table" ? Reduction::sharded : Reduction::partial;
    };
    task.rows = [own = rows](const std::string& name) {
      return name == "table" ? std::optional(ShardedRows{own, points()}) : std::nullopt;
    };
    task.loss = [net = net, own](const Batch& b) {
      const auto error = (net->forward(b) - b.target).square();
      return (error * own.to(at::kFloat).view({-1, 1})).sum(2).mean();
    };
    task.forecast = [net = net](const Batch& b) { return net->forward(b); };
  }

  at::Tensor area() const { return areas().index_select(0, rows); }

  TrainingData data() const {
    return {samples("2019-03-01", "2019-03-05", rows),
            {samples("2019-03-05", "2019-03-06", rows)},
            area()};
  }

  const ProcessGrid& grid;
  at::Tensor rows;
  std::shared_ptr<Points> net = std::make_shared<Points>(rows);
  Task task;
};

TrainerOptions options(int64_t batch) {
  TrainerOptions result;
  result.steps = 6;
  result.batch = batch;
  result.schedule.peak = 0.02;
  result.log_every = 2;
  result.validate_every = 3;
  result.clip_norm = 0.5;
  result.average_decay = 0.9;
  result.ddp.single_replica = SingleReplica::allowed;
  return result;
}

std::vector<nlohmann::json> events(const std::filesystem::path& folder) {
  std::vector<nlohmann::json> result;
  std::ifstream file(folder / "metrics.jsonl");
  for (std::string line; std::getline(file, line);) result.push_back(nlohmann::json::parse(line));
  return result;
}

/// What a run of four samples a step leaves.
struct Result {
  std::vector<nlohmann::json> events;
  std::map<std::string, at::Tensor> tensors;  ///< of the checkpoint, by part and key
};

Result run(const Layout& layout, const TrainerOptions& options) {
  const test::TemporaryFolder folder;
  std::filesystem::path checkpoint;
  run_ranks(layout.world, [&](Communicator& comm) {
    ProcessGrid grid(comm, layout.model_ranks);
    RunFolder leaves(comm, folder.path(), "run");
    const Share share(grid);
    const auto summary = Trainer(share.task, share.data(), grid, options).run(leaves);
    if (comm.rank() == 0) checkpoint = summary.best_checkpoint;
  });
  Result result{events(folder.path() / "run"), {}};
  for (const std::string part : {"model", "optimizer", "average"}) {
    for (const auto& [key, tensor] :
         read_safetensors(checkpoint / (part + ".safetensors")).tensors) {
      result.tensors[part + "/" + key] = tensor;
    }
  }
  return result;
}

class GridTrainers : public testing::TestWithParam<Layout> {};
INSTANTIATE_TEST_SUITE_P(Layouts, GridTrainers,
                         testing::Values(Layout{2, 2}, Layout{3, 3}, Layout{4, 2}));

TEST_P(GridTrainers, GiveTheLossesScoresAndCheckpointsOfOneRankAModel) {
  const auto [world, model_ranks] = GetParam();
  const auto whole = run({1, 1}, options(4));
  const auto shared = run(GetParam(), options(4 / (world / model_ranks)));
  ASSERT_EQ(shared.events.size(), whole.events.size());
  for (size_t i = 0; i < whole.events.size(); ++i) {
    const auto& a = whole.events[i];
    const auto& b = shared.events[i];
    ASSERT_EQ(a["event"], b["event"]);
    if (a["event"] == "step") {
      EXPECT_NEAR(b["loss"], a["loss"], 1e-5 * a["loss"].get<double>());
      EXPECT_NEAR(b["gradient_norm"], a["gradient_norm"], 1e-5);
    }
    if (a["event"] != "validation") continue;
    EXPECT_EQ(b["samples"], a["samples"]) << "counted once a replica";
    for (const auto* score : {"rmse", "bias", "persistence"}) {
      EXPECT_NEAR(b[score]["t2m"], a[score]["t2m"], 1e-4) << score;
    }
  }
  ASSERT_EQ(shared.tensors.size(), whole.tensors.size());
  for (const auto& [key, tensor] : whole.tensors) {
    EXPECT_TRUE(at::allclose(shared.tensors.at(key), tensor, 1e-3, 1e-5)) << key;
  }
}

TEST(GridTrainer, ScoresACheckpointOnAnotherNumberOfRanks) {
  const test::TemporaryFolder folder;
  std::filesystem::path checkpoint;
  double ratio = 0;
  run_ranks(3, [&](Communicator& comm) {
    ProcessGrid grid(comm, 3);
    RunFolder leaves(comm, folder.path(), "run");
    const Share share(grid);
    const auto summary = Trainer(share.task, share.data(), grid, options(4)).run(leaves);
    if (comm.rank() != 0) return;
    checkpoint = summary.best_checkpoint;
    ratio = summary.best_ratio;
  });
  for (const Layout layout : {Layout{1, 1}, Layout{2, 2}, Layout{2, 1}}) {
    run_ranks(layout.world, [&](Communicator& comm) {
      ProcessGrid grid(comm, layout.model_ranks);
      Share share(grid);
      ModuleWeights weights(share.net, "average");
      ShardedPart own(weights, share.task.rows, grid);
      load_checkpoint(checkpoint, {&own});
      const auto scores = score_samples(share.task, share.data().validation, share.area(), grid, 2,
                                        c10::Device(c10::kCPU));
      EXPECT_NEAR(scores[0].ratio(), ratio, 1e-6);
    });
  }
}

TEST(GridTrainer, RefusesShardedParametersWhoseRowsNobodyKnows) {
  run_ranks(2, [](Communicator& comm) {
    ProcessGrid grid(comm, 2);
    Share share(grid);
    share.task.rows = nullptr;
    EXPECT_NE(test::message_of<UsageError>([&] {
                Trainer(share.task, share.data(), grid, options(2));
              }).find("'table' is sharded over a model-parallel group"),
              std::string::npos);
  });
}

TEST(GridTrainer, CompressesWhereRanksShareATableAndSavesWhatIsOwed) {
  const test::TemporaryFolder folder;
  run_ranks(4, [&](Communicator& comm) {
    ProcessGrid grid(comm, 2);
    RunFolder leaves(comm, folder.path(), "run");
    const Share share(grid);
    auto settings = options(2);
    settings.ddp.reducer.compressor = make_block_int8();
    const auto summary = Trainer(share.task, share.data(), grid, settings).run(leaves);
    EXPECT_EQ(summary.reducer.compressed_steps, summary.steps);
    const auto parts = load_checkpoint(summary.best_checkpoint, {}).unknown_parts;
    EXPECT_EQ(std::count(parts.begin(), parts.end(), "compressor"), 1);
  });
}

}  // namespace
}  // namespace isobar::trainer_grid_test
