// SPDX-License-Identifier: Apache-2.0
// On a grid, a rank compresses its share of what its model's ranks summed.
#include <isobar/comm/process_grid.hpp>
#include <gtest/gtest.h>

#include "compress/gradients.hpp"
#include "compress/methods.hpp"
#include "compress/world.hpp"

namespace isobar::process_grid_test {
namespace {

using namespace test;

constexpr int kModel = 2;
constexpr int64_t kSteps = 10;

/// Of every reduction a matrix that shares cut, and what is not compressed.
std::vector<NamedParameter> mixed_parameters(int64_t columns = 16) {
  std::vector<NamedParameter> list;
  for (const auto& [name, reduction] :
       {std::pair{"replicated", Reduction::replicated}, std::pair{"partial", Reduction::partial},
        std::pair{"sharded", Reduction::sharded}}) {
    list.push_back(parameter(std::string(name) + ".weight", {40, columns}));
    list.push_back(parameter(std::string(name) + ".bias", {9}));
    list.push_back(parameter(std::string(name) + ".empty", {0, 3}));
    for (size_t i = list.size() - 3; i < list.size(); ++i) list[i].reduction = reduction;
  }
  return list;
}

/// Method, replicas.
class CompressedGrid : public testing::TestWithParam<std::tuple<Method, int>> {
 protected:
  static std::shared_ptr<Compressor> compressor(int64_t start_step = 0) {
    return make(std::get<0>(GetParam()),
                {.matrix_approximation_rank = 2, .start_step = start_step, .compare_every = 1});
  }
  static int ranks() { return kModel * std::get<1>(GetParam()); }
};
INSTANTIATE_TEST_SUITE_P(All, CompressedGrid, testing::Combine(kMethods, testing::Values(2, 3)));

/// What the reduction of parameter p should give on this rank.
at::Tensor true_mean(const Gradients& gradients, int64_t step, const ProcessGrid& grid,
                     const CompressedModel& model, size_t p) {
  const auto reduction = model.parameters[p].reduction;
  auto sum = at::zeros(model.parameters[p].tensor.sizes(), at::kDouble);
  for (int r = 0; r < grid.world().size(); ++r) {
    const bool is_part = reduction != Reduction::sharded || r % kModel == grid.model().rank();
    if (is_part) sum += gradients(step, r)[p];
  }
  return sum / (reduction == Reduction::replicated ? grid.world().size() : grid.replicas());
}

/// What all ranks' residuals of a parameter stand for, in its shape.
at::Tensor owed(const Compressor& compressor, const ProcessGrid& grid, const CompressedModel& model,
                size_t p) {
  const auto& [name, tensor, reduction] = model.parameters[p];
  auto whole = at::zeros({tensor.numel()}, at::kDouble);
  const auto residual = remembered(compressor, name + ".residual");
  if (residual.defined()) {
    const int64_t first = compressor.state().counts.at(name + ".first");
    whole.narrow(0, first, residual.numel()).copy_(residual.view({-1}));
  }
  grid.data().allreduce(whole).wait();
  if (reduction != Reduction::sharded) grid.model().allreduce(whole).wait();
  whole /= reduction == Reduction::replicated ? grid.world().size() : grid.replicas();
  return whole.view(tensor.sizes());
}

/// Runs with a change of buckets after step `replan_after`, and checks every step. What a new
/// plan no longer compresses is in no residual, but comes with the next step.
void check_balance(const std::shared_ptr<Compressor>& compressor, Communicator& comm,
                   int64_t replan_after, const BucketCaps& caps, int64_t columns = 16) {
  const ProcessGrid grid(comm, kModel);
  CompressedModel model(mixed_parameters(columns), grid, compressor);
  const auto gradients = random_gradients(model.parameters);
  std::vector<at::Tensor> missing;
  for (const auto& p : model.parameters)
    missing.push_back(at::zeros(p.tensor.sizes(), at::kDouble));
  for (int64_t step = 0; step < kSteps; ++step) {
    if (step == replan_after) model.reducer.replan(caps);
    model.step(gradients(step, comm.rank()));
    for (size_t p = 0; p < missing.size(); ++p) {
      missing[p] += true_mean(gradients, step, grid, model, p) - model.grad(p);
      const auto rest = missing[p] - owed(*compressor, grid, model, p);
      if (step == replan_after && columns != 16) continue;
      EXPECT_LT(rest.norm().item<double>(), 1e-10) << model.parameters[p].name << " " << step;
    }
  }
}

TEST_P(CompressedGrid, LosesNothing) {
  run_ranks(ranks(), [&](Communicator& comm) { check_balance(compressor(2), comm, -1, {}); });
}

// At first a share ends within a row, later between two.
TEST_P(CompressedGrid, KeepsResidualsWhereSharesAreCutElsewhere) {
  run_ranks(ranks(), [&](Communicator& comm) {
    check_balance(compressor(2), comm, 5, {.cap_bytes = 10, .first_cap_bytes = 10});
  });
}

// With 13 columns the later share cuts a row that was whole.
TEST_P(CompressedGrid, SendsWhatANewShareCuts) {
  run_ranks(ranks(), [&](Communicator& comm) {
    check_balance(compressor(2), comm, 5, {.cap_bytes = 10, .first_cap_bytes = 10}, 13);
  });
}

TEST_P(CompressedGrid, GivesTheRanksOfAModelTheSameBits) {
  std::vector<std::vector<at::Tensor>> updates(ranks());
  run_ranks(ranks(), [&](Communicator& comm) {
    const ProcessGrid grid(comm, kModel);
    const auto low_rank = compressor();
    CompressedModel model(mixed_parameters(), grid, low_rank);
    const auto gradients = random_gradients(model.parameters);
    for (int64_t step = 0; step < kSteps; ++step) model.step(gradients(step, comm.rank()));
    for (size_t p = 0; p < model.parameters.size(); ++p) {
      updates[comm.rank()].push_back(model.grad(p).clone());
    }
    EXPECT_EQ(model.reducer.counters().compressed_steps, kSteps);
    EXPECT_TRUE(remembered(*low_rank, "replicated.weight.residual").defined());
  });
  for (int r = 1; r < ranks(); ++r) {
    for (size_t p = 0; p < updates[r].size(); ++p) {
      const int like = p < 6 ? 0 : r % kModel;  // the sharded ones are each rank's own
      EXPECT_TRUE(at::equal(updates[r][p], updates[like][p])) << r << " " << p;
    }
  }
}

TEST_P(CompressedGrid, ContinuesToTheBitFromItsState) {
  run_ranks(ranks(), [&](Communicator& comm) {
    const ProcessGrid grid(comm, kModel);
    const auto before = compressor(), after = compressor();
    CompressedModel model(mixed_parameters(), grid, before);
    const auto gradients = random_gradients(model.parameters);
    for (int64_t step = 0; step < 5; ++step) model.step(gradients(step, comm.rank()));
    CompressedModel fresh(mixed_parameters(), grid, after);
    after->load(before->state());
    for (int64_t step = 5; step < 9; ++step) {
      model.step(gradients(step, comm.rank()));
      fresh.step(gradients(step, comm.rank()));
      for (size_t p = 0; p < model.parameters.size(); ++p) {
        EXPECT_TRUE(at::equal(model.grad(p), fresh.grad(p))) << step << " " << p;
      }
    }
  });
}

}  // namespace
}  // namespace isobar::process_grid_test
