// SPDX-License-Identifier: Apache-2.0
#include <isobar/train/compressor_part.hpp>

#include "compress/world.hpp"
#include "core/message_of.hpp"
#include "core/temporary_folder.hpp"

#include <isobar/comm/thread_world.hpp>
#include <isobar/compress/acp_sgd.hpp>
#include <isobar/compress/block_int8.hpp>
#include <isobar/compress/half_precision.hpp>
#include <isobar/compress/power_sgd.hpp>
#include <isobar/core/error.hpp>
#include <isobar/ddp/data_parallel.hpp>
#include <isobar/train/checkpoint.hpp>
#include <isobar/train/optimizer.hpp>
#include <isobar/train/weights.hpp>
#include <ATen/ATen.h>
#include <torch/nn/module.h>
#include <gtest/gtest.h>

#include <optional>
#include <ostream>

namespace isobar::compressor_part_test {
namespace {

using test::draw;
using test::remembered;

enum class Method { acp, power };

/// Two matrices and a vector.
std::shared_ptr<torch::nn::Module> make_module(int64_t rows) {
  auto module = std::make_shared<torch::nn::Module>("module");
  module->register_parameter("square", at::ones({rows, 40}, at::kDouble));
  module->register_parameter("wide", at::ones({16, 64}, at::kDouble));
  module->register_parameter("vector", at::ones({16}, at::kDouble));
  return module;
}

std::shared_ptr<Compressor> make_compressor(Method method) {
  const LowRankOptions options{
      .matrix_approximation_rank = 3, .start_step = 2, .refresh_every = 3, .compare_every = 2};
  return method == Method::acp ? make_acp_sgd(options) : make_power_sgd(options);
}

/// What one rank trains, by gradients drawn at random, and the parts of its checkpoints.
struct Replica {
  Replica(Communicator& world, Method method, int model_size = 1,
          Reduction reduction = Reduction::replicated, int64_t rows = 40)
      : grid(world, model_size),
        module(make_module(rows)),
        reduction(reduction),
        compressor(make_compressor(method)),
        parallel(*module, grid,
                 // Two buckets; on a grid one a parameter, half of which ends with a row.
                 {.reducer = {.caps = {.cap_bytes = model_size == 1 ? 8000 : 1},
                              .compressor = compressor},
                  .reduction = [reduction](const std::string&) { return reduction; }}),
        optimizer(parallel.reducer(), {}),
        weights(module),
        part(compressor, parallel.reducer(), grid) {}

  at::Tensor gradient(int64_t step, int64_t rank, size_t parameter) const {
    return draw(module->parameters()[parameter].sizes(), parameter, step, rank);
  }

  /// What the step's gradients of the first matrix would be uncompressed, less what they are.
  at::Tensor step(int64_t step) {
    const auto parameters = module->parameters();
    auto loss = at::zeros({}, at::kDouble);
    for (size_t p = 0; p < parameters.size(); ++p) {
      loss = loss + (parameters[p] * gradient(step, grid.world().rank(), p)).sum();
    }
    parallel.zero_grad();
    loss.backward();
    optimizer.finish(parallel, 0.01);
    at::Tensor sum = at::zeros_like(parameters[0]);
    for (int r = 0; r < grid.world().size(); ++r) sum += gradient(step, r, 0);
    const bool is_mean = reduction == Reduction::replicated;
    return (sum / (is_mean ? grid.world().size() : grid.data().size()) - parameters[0].grad())
        .detach();
  }

  void save(const std::filesystem::path& folder, int64_t step) {
    part.collect();
    if (grid.world().rank() == 0) save_checkpoint(folder, step, {&weights, &optimizer, &part});
    grid.world().barrier().wait();
  }

  /// The ranks' common residual of the first matrix, as the checkpoint holds it.
  at::Tensor collected() {
    part.collect();
    StateDict state;
    part.save(state);
    return state.tensor("square.residual");
  }

  ProcessGrid grid;
  std::shared_ptr<torch::nn::Module> module;
  Reduction reduction;
  std::shared_ptr<Compressor> compressor;
  DataParallel parallel;
  Optimizer optimizer;
  ModuleWeights weights;
  CompressorPart part;
};

class CompressorPartRuns : public testing::TestWithParam<std::tuple<Method, int, int>> {};

TEST_P(CompressorPartRuns, GoOnFromACheckpointAsIfNothingHadHappened) {
  const auto [method, ranks, saved_at] = GetParam();
  const test::TemporaryFolder folder;
  run_ranks(ranks, [&, method = method, saved_at = saved_at](Communicator& comm) {
    Replica whole(comm, method);
    for (int step = 0; step < saved_at; ++step) whole.step(step);
    whole.save(folder.path(), saved_at);
    Replica resumed(comm, method);
    load_checkpoint(*find_latest(folder.path()),
                    {&resumed.weights, &resumed.optimizer, &resumed.part});
    for (int step = saved_at; step < 12; ++step) {
      whole.step(step);
      resumed.step(step);
    }
    for (size_t p = 0; p < whole.module->parameters().size(); ++p) {
      EXPECT_TRUE(at::equal(whole.module->parameters()[p], resumed.module->parameters()[p])) << p;
    }
    EXPECT_TRUE(at::equal(remembered(*whole.compressor, "wide.residual"),
                          remembered(*resumed.compressor, "wide.residual")));
  });
}

// After 1 step: uncompressed; 5 and 6: an odd and an even number of compressed ones.
INSTANTIATE_TEST_SUITE_P(All, CompressorPartRuns,
                         testing::Combine(testing::Values(Method::acp, Method::power),
                                          testing::Values(2, 3), testing::Values(1, 5, 6)));

/// A world that saves and another that goes on, and how their models lie on ranks.
struct Change {
  Reduction reduction;
  int ranks_before, model_before;
  int ranks_after, model_after;
};

void PrintTo(const Change& change, std::ostream* out) {
  *out << to_string(change.reduction) << ", " << change.ranks_before << " ranks, "
       << change.model_before << " a model, then " << change.ranks_after << ", "
       << change.model_after;
}

class CompressorPartWorlds : public testing::TestWithParam<Change> {};

// Σ (mean gradient - update) is what is owed; float64 leaves 1e-16 of each of 40 additions.
TEST_P(CompressorPartWorlds, OweWhatTheWorldBeforeOwed) {
  const auto change = GetParam();
  const test::TemporaryFolder folder;
  at::Tensor owed = at::zeros({40, 40}, at::kDouble);
  const auto train = [&](Communicator& comm, int model_size, int begin, int end) {
    Replica replica(comm, Method::acp, model_size, change.reduction);
    if (begin > 0) load_checkpoint(*find_latest(folder.path()), {&replica.part});
    for (int step = begin; step < end; ++step) {
      const auto left_out = replica.step(step);
      if (comm.rank() == 0) owed += left_out;
    }
    replica.save(folder.path(), end);
    const auto residual = replica.collected();
    if (comm.rank() != 0) return;
    EXPECT_GT(owed.norm().item<double>(), 1);
    EXPECT_TRUE(at::allclose(residual, owed, 1e-12, 1e-12)) << end;
  };
  run_ranks(change.ranks_before, [&](Communicator& c) { train(c, change.model_before, 0, 7); });
  run_ranks(change.ranks_after, [&](Communicator& c) { train(c, change.model_after, 7, 12); });
}

INSTANTIATE_TEST_SUITE_P(All, CompressorPartWorlds,
                         testing::Values(Change{Reduction::replicated, 3, 1, 2, 1},
                                         Change{Reduction::replicated, 2, 1, 4, 1},
                                         Change{Reduction::replicated, 4, 2, 4, 2},
                                         Change{Reduction::replicated, 4, 2, 2, 1},
                                         Change{Reduction::replicated, 2, 1, 4, 2},
                                         Change{Reduction::partial, 4, 2, 2, 1},
                                         Change{Reduction::partial, 2, 1, 4, 2}));

TEST(CompressorPart, RefusesToSaveWhatWasNotCollected) {
  auto comm = make_self_communicator();
  Replica replica(*comm, Method::acp);
  StateDict state;
  EXPECT_EQ(test::message_of<UsageError>([&] { replica.part.save(state); }),
            "CompressorPart: call collect() on every rank before a checkpoint is saved");
}

TEST(CompressorPart, RefusesResidualsOfAnotherShapeAndChangesNothing) {
  run_ranks(2, [](Communicator& comm) {
    Replica saved(comm, Method::acp), smaller(comm, Method::acp, 1, Reduction::replicated, 32);
    for (int step = 0; step < 4; ++step) saved.step(step), smaller.step(step);
    saved.part.collect();
    StateDict state;
    saved.part.save(state);
    const auto before = remembered(*smaller.compressor, "wide.residual");
    EXPECT_THROW(smaller.part.load(state, 1), DataError);
    EXPECT_TRUE(at::equal(remembered(*smaller.compressor, "wide.residual"), before));
  });
}

TEST(CompressorPart, RefusesShardedParametersWhoseRowsNobodyKnows) {
  run_ranks(4, [](Communicator& comm) {
    EXPECT_THROW(Replica(comm, Method::acp, 2, Reduction::sharded), UsageError);
    EXPECT_NO_THROW(Replica(comm, Method::acp, 1, Reduction::sharded));
  });
}

/// A table of 41 rows, shared by the ranks of a model in turn, beside a matrix that they all have.
struct Table {
  Table(Communicator& world, int model_size, std::shared_ptr<Compressor> method)
      : grid(world, model_size),
        rows(at::arange(grid.model().rank(), 41, model_size, at::kLong)),
        compressor(std::move(method)),
        parallel(*module, grid,
                 {.reducer = {.compressor = compressor},
                  .reduction =
                      [](const std::string& name) {
                        return name == "table" ? Reduction::sharded : Reduction::partial;
                      }}),
        part(compressor, parallel.reducer(), grid, [this](const std::string& name) {
          return name == "table" ? std::optional(ShardedRows{rows, 41}) : std::nullopt;
        }) {}

  std::shared_ptr<torch::nn::Module> make() {
    auto result = std::make_shared<torch::nn::Module>("module");
    result->register_parameter("table", at::ones({rows.numel(), 24}, at::kDouble));
    result->register_parameter("matrix", at::ones({32, 40}, at::kDouble));
    return result;
  }

  /// Of the rows that this rank owns the gradients are the same on any layout.
  void step(int64_t number) {
    parallel.zero_grad();
    const auto parameters = module->parameters();
    const auto table = draw({41, 24}, 0, number, grid.data().rank()).index_select(0, rows);
    const auto matrix = draw({32, 40}, 1, number, grid.world().rank());
    ((parameters[0] * table).sum() + (parameters[1] * matrix).sum()).backward();
    parallel.finish();
  }

  StateDict collected() {
    part.collect();
    StateDict state;
    part.save(state);
    return state;
  }

  ProcessGrid grid;
  at::Tensor rows;
  std::shared_ptr<torch::nn::Module> module = make();
  std::shared_ptr<Compressor> compressor;
  DataParallel parallel;
  CompressorPart part;
};

std::shared_ptr<Compressor> make_table_compressor(const std::string& method) {
  if (method == "acp_sgd") return make_acp_sgd({.matrix_approximation_rank = 2, .start_step = 0});
  if (method == "power_sgd") {
    return make_power_sgd({.matrix_approximation_rank = 2, .start_step = 0});
  }
  return method == "bf16" ? make_half_precision({}) : make_block_int8();
}

TEST(CompressorPart, GathersTheResidualsOfTablesWhoseRowsAreShared) {
  for (const std::string method : {"acp_sgd", "power_sgd", "int8", "bf16"}) {
    run_ranks(4, [&](Communicator& world) {
      Table shared(world, 2, make_table_compressor(method));
      for (int64_t step = 0; step < 3; ++step) shared.step(step);
      const auto saved = shared.collected();
      if (method == "bf16") {
        EXPECT_TRUE(saved.tensors().empty());
        return;
      }
      const auto own = remembered(*shared.compressor, "table.residual").view({-1, 24});
      const auto whole = saved.tensor("table.residual").view({-1, 24});
      EXPECT_GT(own.norm().item<double>(), 0) << method;
      ASSERT_EQ(whole.size(0), 41) << method;
      EXPECT_TRUE(at::equal(whole.index_select(0, shared.rows), own)) << method;
      // On the same layout, and on one with a whole model on each rank.
      for (const int model_size : {2, 1}) {
        Table loaded(world, model_size, make_table_compressor(method));
        loaded.step(0);
        loaded.part.load(saved, 1);
        const auto taken = remembered(*loaded.compressor, "table.residual").view({-1, 24});
        EXPECT_TRUE(at::equal(taken, whole.index_select(0, loaded.rows))) << method << model_size;
      }
    });
  }
}

}  // namespace
}  // namespace isobar::compressor_part_test
