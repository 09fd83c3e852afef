// SPDX-License-Identifier: Apache-2.0
#include <isobar/train/forecast_scores.hpp>

#include <isobar/comm/thread_world.hpp>
#include <isobar/core/error.hpp>
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

namespace isobar {
namespace {

/// One variable on two points, one lead time; the truth is zero.
Batch batch_of(const std::vector<double>& analyses, double previous_day) {
  const auto samples = static_cast<int64_t>(analyses.size());
  Batch batch;
  batch.state =
      at::tensor(analyses, at::kFloat).view({samples, 1, 1, 1}).expand({samples, 1, 2, 1});
  batch.target = at::zeros({samples, 1, 2, 1});
  batch.reference = at::full({samples, 1, 2, 1}, previous_day);
  return batch;
}

ScoreOptions options(double unit = 1) {
  return {{"t2m"}, at::full({1}, unit), at::tensor({0.25, 0.75}, at::kDouble), {6}};
}

TEST(ForecastScores, WeighsPointsByAreaAndGivesPhysicalUnits) {
  auto comm = make_self_communicator();
  ForecastScores scores(options(2));
  scores.add(batch_of({1}, 3), at::tensor({2.0F, 0.0F}).view({1, 1, 2, 1}));
  const auto score = scores.reduce(*comm).at(0).variables.at(0);
  EXPECT_DOUBLE_EQ(score.rmse, 2 * std::sqrt(0.25 * 4));
  EXPECT_DOUBLE_EQ(score.bias, 2 * 0.25 * 2);
  EXPECT_DOUBLE_EQ(score.persistence, 2);
  EXPECT_DOUBLE_EQ(score.previous_day, 6);
}

TEST(ForecastScores, IsTheSameHoweverSamplesAreShared) {
  const std::vector<double> analyses{1, 2, 3, 5, 8};
  const auto score = [&](Communicator& comm) {
    ForecastScores scores(options());
    for (size_t i = comm.rank(); i < analyses.size(); i += comm.size()) {
      const auto batch = batch_of({analyses[i]}, 1);
      scores.add(batch, at::full({1, 1, 2, 1}, analyses[i] / 2));
    }
    return scores.reduce(comm).at(0);
  };
  auto self = make_self_communicator();
  const auto whole = score(*self);
  EXPECT_EQ(whole.samples, 5);
  EXPECT_DOUBLE_EQ(whole.ratio(), 0.5);
  run_ranks(3, [&](Communicator& comm) {
    const auto shared = score(comm);
    EXPECT_EQ(shared.samples, 5);
    EXPECT_DOUBLE_EQ(shared.variables[0].rmse, whole.variables[0].rmse);
    EXPECT_DOUBLE_EQ(shared.variables[0].persistence, whole.variables[0].persistence);
  });
}

TEST(ForecastScores, SaysThatThePreviousDayIsNotKnown) {
  auto comm = make_self_communicator();
  ForecastScores scores(options());
  auto batch = batch_of({1}, 0);
  batch.reference = at::Tensor();
  scores.add(batch, batch.target);
  EXPECT_TRUE(std::isnan(scores.reduce(*comm).at(0).variables[0].previous_day));
}

TEST(ForecastScores, RefusesToScoreNothing) {
  run_ranks(2, [](Communicator& comm) {
    EXPECT_THROW(ForecastScores(options()).reduce(comm), DataError);
  });
}

}  // namespace
}  // namespace isobar
