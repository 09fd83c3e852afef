// SPDX-License-Identifier: Apache-2.0
// A job of full size, 512 models on four ranks each, as threads of this process.
#include <isobar/comm/process_grid.hpp>
#include <isobar/comm/thread_world.hpp>
#include <isobar/ddp/gradient_norm.hpp>
#include <isobar/ddp/reducer.hpp>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <fstream>
#include <string>

namespace isobar::test::full_size_test {
namespace {

constexpr int kRanks = 2048;
constexpr int kModelRanks = 4;
constexpr int kReplicas = kRanks / kModelRanks;
constexpr int kSteps = 3;
constexpr int64_t kElements = 64;

/// What rank r's loss gives each element of a parameter of that reduction.
double gradient_of(Reduction reduction, int rank) {
  const int member = rank % kModelRanks;
  const int replica = rank / kModelRanks;
  if (reduction == Reduction::replicated) return replica % 8 + 1;
  if (reduction == Reduction::partial) return member + 1 + replica % 2;
  return 16 * member + replica % 4;
}

/// Its mean, by the formulas of Reduction, on rank r.
double mean_of(Reduction reduction, int rank) {
  double sum = 0;
  for (int other = 0; other < kRanks; ++other) {
    const bool counts =
        reduction != Reduction::sharded || other % kModelRanks == rank % kModelRanks;
    if (counts) sum += gradient_of(reduction, other);
  }
  return sum / (reduction == Reduction::replicated ? kRanks : kReplicas);
}

/// Of all elements once: replicated and partial ones, and each member's own.
double norm_of_means() {
  double squares = 0;
  for (const auto reduction : {Reduction::replicated, Reduction::partial}) {
    squares += std::pow(mean_of(reduction, 0), 2);
  }
  for (int member = 0; member < kModelRanks; ++member) {
    squares += std::pow(mean_of(Reduction::sharded, member), 2);
  }
  return std::sqrt(kElements * squares);
}

int64_t resident_mib() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmRSS:")) return std::stoll(line.substr(6)) / 1024;
  }
  return 0;
}

class FullSize : public testing::TestWithParam<GridLevels> {};
INSTANTIATE_TEST_SUITE_P(Levels, FullSize, testing::Values(GridLevels::flat, GridLevels::two),
                         [](const auto& info) {
                           return info.param == GridLevels::flat ? "flat" : "two";
                         });

TEST_P(FullSize, MeansNormsAndCollectivesAreThoseOfTheFormulas) {
  std::atomic<int> wrong = 0;
  std::atomic<int64_t> collectives = 0;
  int64_t resident = 0;
  run_ranks(kRanks, [&](Communicator& world) {
    const ProcessGrid grid(world, kModelRanks);
    std::vector<NamedParameter> parameters;
    for (const auto reduction : {Reduction::replicated, Reduction::partial, Reduction::sharded}) {
      parameters.push_back({.name = "p" + std::to_string(parameters.size()),
                            .tensor = at::zeros({kElements}).set_requires_grad(true),
                            .reduction = reduction});
    }
    Reducer reducer(parameters, grid, {.levels = GetParam()});
    for (int step = 0; step < kSteps; ++step) {
      reducer.zero_grad();
      auto loss = at::zeros({});
      for (const auto& p : parameters) {
        loss = loss + (p.tensor * gradient_of(p.reduction, world.rank())).sum();
      }
      loss.backward();
      reducer.finish();
      for (const auto& p : parameters) {
        const auto mean = at::full({kElements}, mean_of(p.reduction, world.rank()));
        if (!at::allclose(p.tensor.grad(), mean, 1e-6)) ++wrong;
      }
    }
    const double norm = gradient_norm(reducer.parameters(), grid);
    if (std::abs(norm / norm_of_means() - 1) > 1e-6) ++wrong;
    collectives += reducer.counters().collectives;
    world.barrier().wait();
    if (world.rank() == 0) resident = resident_mib();
  });
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(collectives, 3 * kSteps * kRanks) << "a bucket of each reduction, in each step";
  EXPECT_LT(resident, 2048) << "MiB of all ranks together";
  RecordProperty("resident_mib", std::to_string(resident));
}

}  // namespace
}  // namespace isobar::test::full_size_test
