// SPDX-License-Identifier: Apache-2.0
#include <isobar/train/sharded_part.hpp>

#include "core/message_of.hpp"
#include "core/temporary_folder.hpp"

#include <isobar/comm/thread_world.hpp>
#include <isobar/core/error.hpp>
#include <isobar/ddp/data_parallel.hpp>
#include <isobar/train/checkpoint.hpp>
#include <isobar/train/optimizer.hpp>
#include <isobar/train/weights.hpp>
#include <ATen/ATen.h>
#include <torch/nn/module.h>
#include <gtest/gtest.h>

#include <array>
#include <functional>
#include <map>
#include <mutex>
#include <set>

namespace isobar::sharded_part_test {
namespace {

constexpr int64_t kRows = 7;

/// Rows of `total` that rank `rank` of `size` owns: neither neighbours nor in order, unequal in
/// number.
at::Tensor owned(int64_t total, int rank, int size) {
  std::vector<int64_t> rows;
  for (int64_t row = total - 1; row >= 0; --row) {
    if (row % size == rank) rows.push_back(row);
  }
  return at::tensor(rows, at::kLong);
}

/// A table and a matrix that all ranks have: x -> Σ over rows of (table · matrix · x)².
struct Sharded {
  Sharded(Communicator& world, int model_ranks, const std::string& method = "adamw",
          FusedUpdate fused = FusedUpdate::on)
      : grid(world, model_ranks),
        rows(owned(kRows, grid.model().rank(), model_ranks)),
        module(std::make_shared<torch::nn::Module>("module")),
        part(module->register_module("part", std::make_shared<torch::nn::Module>("part"))),
        table(part->register_parameter("table", initial_table().index_select(0, rows))),
        matrix(part->register_parameter("matrix", at::linspace(-1, 1, 6).view({3, 2}))),
        frozen(module->register_parameter("frozen", at::arange(4, at::kFloat), false)),
        parallel(*module, grid, data_parallel_options()),
        optimizer(parallel.reducer(), {.method = method, .momentum = 0.9, .fused = fused}),
        weights(module),
        average(module, 0.9),
        parts{ShardedPart(weights, rows_of(), grid), ShardedPart(optimizer, rows_of(), grid),
              ShardedPart(average, rows_of(), grid)} {}

  static at::Tensor initial_table() {
    return at::arange(3 * kRows, at::kFloat).sin().view({kRows, 3});
  }

  static Reduction reduction(const std::string& name) {
    return name == "part.table" ? Reduction::sharded : Reduction::partial;
  }

  static DataParallelOptions data_parallel_options() {
    DataParallelOptions options;
    options.reducer.caps.cap_bytes = 32;
    options.reduction = reduction;
    options.single_replica = SingleReplica::allowed;
    return options;
  }

  RowsOf rows_of() const {
    return [own = rows](const std::string& name) {
      return name == "part.table" ? std::optional(ShardedRows{own, kRows}) : std::nullopt;
    };
  }

  void step(int64_t number) {
    const auto x = at::tensor(
        {1.0F + static_cast<float>(number), static_cast<float>(grid.data().rank()) - 0.5F});
    parallel.zero_grad();
    table.matmul(matrix).matmul(x).square().sum().backward();
    optimizer.finish(parallel, 0.01);
    average.update();
  }

  void save(const std::filesystem::path& folder) {
    for (auto& part : parts) part.collect();
    if (grid.world().rank() == 0) save_checkpoint(folder, 1, {&parts[0], &parts[1], &parts[2]});
    grid.world().barrier().wait();
  }

  void load(const std::filesystem::path& folder) {
    load_checkpoint(*find_latest(folder), {&parts[0], &parts[1], &parts[2]});
  }

  ProcessGrid grid;
  at::Tensor rows;
  std::shared_ptr<torch::nn::Module> module, part;
  at::Tensor table, matrix, frozen;
  DataParallel parallel;
  Optimizer optimizer;
  ModuleWeights weights;
  WeightAverage average;
  std::array<ShardedPart, 3> parts;
};

struct Layout {
  int world;
  int model_ranks;
};

/// What the parts of a checkpoint hold, as one rank would load it.
std::map<std::string, at::Tensor> tensors_of(const std::filesystem::path& folder) {
  std::map<std::string, at::Tensor> result;
  for (const std::string part : {"model", "optimizer", "average"}) {
    const auto file = *find_latest(folder) / (part + ".safetensors");
    for (const auto& [key, tensor] : read_safetensors(file).tensors) {
      result[part + "/" + key] = tensor;
    }
  }
  return result;
}

std::map<std::string, at::Tensor> trained(const Layout& layout, const std::string& method = "adamw",
                                          FusedUpdate fused = FusedUpdate::on) {
  const test::TemporaryFolder folder;
  run_ranks(layout.world, [&](Communicator& world) {
    Sharded run(world, layout.model_ranks, method, fused);
    for (int64_t s = 0; s < 4; ++s) run.step(s);
    run.save(folder.path());
  });
  return tensors_of(folder.path());
}

TEST(ShardedPart, MakesTheCheckpointThatOneRankAModelMakes) {
  for (const char* method : {"adamw", "sgd"}) {
    for (const FusedUpdate fused : {FusedUpdate::on, FusedUpdate::off}) {
      for (const int replicas : {1, 2}) {
        const auto whole = trained({replicas, 1}, method, fused);
        EXPECT_EQ(whole.at("model/part.table").sizes(), (std::vector<int64_t>{kRows, 3}));
        for (const int model_ranks : {2, 3}) {
          const auto sharded = trained({replicas * model_ranks, model_ranks}, method, fused);
          ASSERT_EQ(sharded.size(), whole.size());
          for (const auto& [key, tensor] : whole) {
            EXPECT_TRUE(at::allclose(sharded.at(key), tensor, 1e-5, 1e-7))
                << key << " on " << replicas << " x " << model_ranks;
          }
        }
      }
    }
  }
}

TEST(ShardedPart, IsLoadedOnAnyNumberOfRanks) {
  for (const Layout& saver : {Layout{3, 3}, Layout{4, 2}, Layout{1, 1}}) {
    const test::TemporaryFolder folder;
    run_ranks(saver.world, [&](Communicator& world) {
      Sharded run(world, saver.model_ranks);
      for (int64_t s = 0; s < 3; ++s) run.step(s);
      run.save(folder / "first");
    });
    for (const Layout& loader :
         {Layout{1, 1}, Layout{2, 2}, Layout{3, 3}, Layout{4, 4}, Layout{4, 2}}) {
      run_ranks(loader.world, [&](Communicator& world) {
        Sharded run(world, loader.model_ranks);
        run.load(folder / "first");
        run.save(folder / "second");
      });
      const auto first = tensors_of(folder / "first"), second = tensors_of(folder / "second");
      ASSERT_EQ(first.size(), second.size());
      for (const auto& [key, tensor] : first) {
        EXPECT_TRUE(at::equal(tensor, second.at(key))) << key << " on " << loader.world;
      }
    }
  }
}

TEST(ShardedPart, GoesOnAsIfNothingHadHappened) {
  const test::TemporaryFolder folder;
  run_ranks(3, [&](Communicator& world) {
    Sharded run(world, 3);
    for (int64_t s = 0; s < 2; ++s) run.step(s);
    run.save(folder.path());
    Sharded resumed(world, 3);
    resumed.load(folder.path());
    for (int64_t s = 2; s < 5; ++s) {
      run.step(s);
      resumed.step(s);
    }
    EXPECT_TRUE(at::equal(run.table, resumed.table));
    EXPECT_TRUE(at::equal(run.matrix, resumed.matrix));
  });
}

TEST(ShardedPart, KeepsEveryBit) {
  const test::TemporaryFolder folder;
  run_ranks(2, [&](Communicator& world) {
    Sharded run(world, 2);
    {
      c10::NoGradGuard no_grad;
      run.table.fill_(-0.0);
      run.table[0][0] = std::nan("");
    }
    run.save(folder.path());
  });
  const auto table = tensors_of(folder.path()).at("model/part.table");
  EXPECT_EQ(table.isnan().sum().item<int64_t>(), 2);
  EXPECT_EQ(table.signbit().sum().item<int64_t>(), 3 * kRows - 2);
}

TEST(ShardedPart, SavesOnTheFirstRankAndOnceCollected) {
  run_ranks(2, [](Communicator& world) {
    Sharded run(world, 2);
    StateDict state;
    EXPECT_THROW(run.parts[0].save(state), UsageError);
    run.parts[0].collect();
    if (world.rank() == 0) {
      run.parts[0].save(state);
      EXPECT_EQ(state.tensor("part.table").size(0), kRows);
    } else {
      EXPECT_THROW(run.parts[0].save(state), UsageError);
    }
  });
}

TEST(ShardedPart, RefusesATableOfAnotherNumberOfRows) {
  auto comm = make_self_communicator();
  Sharded run(*comm, 1);
  StateDict state;
  state.put("part.table", at::zeros({kRows + 1, 3}));
  state.put("part.matrix", at::zeros({3, 2}));
  state.put("frozen", at::zeros({4}));
  const auto before = run.table.detach().clone();
  EXPECT_EQ(test::message_of<DataError>([&] { run.parts[0].load(state, 1); }),
            "checkpoint part 'model': 'part.table' has shape [8, 3], the model has 7 rows on all "
            "ranks together");
  EXPECT_TRUE(at::equal(run.table, before));
}

TEST(ShardedPart, IsThePartItselfWhereNothingIsSharded) {
  auto module = std::make_shared<torch::nn::Module>("module");
  module->register_parameter("weight", at::ones({3}));
  auto comm = make_self_communicator();
  const ProcessGrid grid(*comm, 1);
  ModuleWeights weights(module);
  const ShardedPart part(weights, nullptr, grid);
  StateDict state;
  part.save(state);
  EXPECT_TRUE(state.tensor("weight").is_alias_of(module->parameters()[0]));
}

/// What check_sharded_rows says of a table of four rows, two a rank, on every rank of two.
std::string complaint(const std::function<std::optional<ShardedRows>(int rank)>& rows,
                      Reduction reduction = Reduction::sharded) {
  std::mutex mutex;
  std::set<std::string> messages;
  run_ranks(2, [&](Communicator& world) {
    const ProcessGrid grid(world, 2);
    const std::vector<NamedParameter> parameters{{"table", at::zeros({2, 3}), reduction}};
    const auto message = test::message_of<UsageError>([&] {
      check_sharded_rows(
          parameters, [&](const std::string&) { return rows(world.rank()); }, grid);
    });
    const std::scoped_lock lock(mutex);
    messages.insert(message);
  });
  EXPECT_EQ(messages.size(), 1) << "every rank says the same";
  return *messages.begin();
}

ShardedRows rows_of(std::vector<int64_t> rows, int64_t total = 4) {
  return {at::tensor(rows, at::kLong), total};
}

TEST(ShardedRows, AreComplainedOfWhereTheyAreNotEachRowOnce) {
  EXPECT_EQ(
      complaint([](int rank) {
        return rank == 0 ? rows_of({0, 1}) : rows_of({3, 1});
      }),
      "parameter 'table': 2 of 4 rows are owned by no rank of the model-parallel group, or by "
      "several; the first is row 1, owned by 2");
  EXPECT_NE(complaint([](int rank) {
              return rank == 0 ? rows_of({0, 1}) : rows_of({2, 4});
            }).find("owns a row that is not one of 4"),
            std::string::npos);
  EXPECT_NE(complaint([](int rank) {
              return rank == 0 ? rows_of({0, 1}) : rows_of({2});
            }).find("of shape [2, 3] owns 1 rows"),
            std::string::npos);
  EXPECT_NE(complaint([](int rank) {
              return rows_of({0, 1}, 4 + rank);
            }).find("rows of sharded"),
            std::string::npos);
}

TEST(ShardedRows, BelongToShardedParametersAndToNoOther) {
  const auto none = [](int) { return std::optional<ShardedRows>(); };
  const auto good = [](int rank) { return rows_of({rank, rank + 2}); };
  EXPECT_NE(complaint(none).find("nothing says which rows a rank owns"), std::string::npos);
  EXPECT_NE(complaint(good, Reduction::partial).find("wanted sharded"), std::string::npos);
  run_ranks(2, [&](Communicator& world) {
    const ProcessGrid grid(world, 2);
    const std::vector<NamedParameter> parameters{{"table", at::zeros({2, 3}), Reduction::sharded},
                                                 {"other", at::zeros({2}), Reduction::partial}};
    check_sharded_rows(
        parameters,
        [&](const std::string& name) {
          return name == "table" ? std::optional(good(world.rank())) : std::nullopt;
        },
        grid);
  });
}

}  // namespace
}  // namespace isobar::sharded_part_test
