// SPDX-License-Identifier: Apache-2.0
#include <isobar/train/forecast_scores.hpp>

#include <isobar/comm/thread_world.hpp>
#include <isobar/core/error.hpp>
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace isobar::forecast_scores_test {
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
  const auto score = scores.reduce(ProcessGrid(*comm, 1)).at(0).variables.at(0);
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
    return scores.reduce(ProcessGrid(comm, 1)).at(0);
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

TEST(ForecastScores, AddsUpThePointsOfAModelsRanksAndCountsASampleOnce) {
  const std::vector<double> analyses{1, 2, 3, 5, 8};
  const auto forecast = at::arange(10, at::kFloat).sin().view({5, 1, 2, 1});
  auto self = make_self_communicator();
  ForecastScores all(options(2));
  all.add(batch_of(analyses, 3), forecast);
  const auto whole = all.reduce(ProcessGrid(*self, 1)).at(0);
  for (const int world : {2, 4}) {
    run_ranks(world, [&](Communicator& comm) {
      const ProcessGrid grid(comm, 2);
      const auto own = [&](const at::Tensor& tensor, int64_t dim) {
        return tensor.narrow(dim, grid.model().rank(), 1);
      };
      auto mine = options(2);
      mine.area = own(mine.area, 0);
      ForecastScores scores(mine);
      for (size_t i = grid.data().rank(); i < analyses.size(); i += grid.data().size()) {
        auto batch = batch_of({analyses[i]}, 3);
        for (auto* field : {&batch.state, &batch.target, &batch.reference}) *field = own(*field, 2);
        scores.add(batch, own(forecast.narrow(0, static_cast<int64_t>(i), 1), 2));
      }
      const auto shared = scores.reduce(grid).at(0);
      EXPECT_EQ(shared.samples, 5);
      EXPECT_NEAR(shared.variables[0].rmse, whole.variables[0].rmse, 1e-14);
      EXPECT_NEAR(shared.variables[0].bias, whole.variables[0].bias, 1e-14);
      EXPECT_NEAR(shared.variables[0].persistence, whole.variables[0].persistence, 1e-14);
      EXPECT_NEAR(shared.variables[0].previous_day, whole.variables[0].previous_day, 1e-14);
    });
  }
}

TEST(ForecastScores, CountsEachSampleAtTheLeadTimesItIsSaidToBeScoredAt) {
  at::manual_seed(3);
  Batch batch;
  batch.state = at::randn({3, 1, 2, 1});
  batch.target = at::randn({3, 2, 2, 1});
  const auto forecast = at::randn({3, 2, 2, 1}), mean = at::randn({3, 2, 2, 1}, at::kDouble);
  const auto some = at::tensor({1, 0, 0, 1, 0, 0}).to(at::kBool).view({3, 2});
  auto comm = make_self_communicator();
  const ProcessGrid grid(*comm, 1);
  const auto options_of_both = [] {
    auto both = options(2);
    both.lead_hours = {6, 12};
    return both;
  };
  ForecastScores all(options_of_both()), parts(options_of_both()), first(options_of_both());
  all.add(batch, forecast, mean);
  first.add(batch, forecast, mean, some);
  parts.add(batch, forecast, mean, some);
  parts.add(batch, forecast, mean, some.logical_not());
  const auto wanted = all.reduce(grid), found = parts.reduce(grid), one = first.reduce(grid);
  for (size_t s = 0; s < 2; ++s) {
    EXPECT_EQ(found[s].samples, 3);
    EXPECT_EQ(one[s].samples, 1);
    const auto &a = found[s].variables[0], &b = wanted[s].variables[0];
    EXPECT_NEAR(a.rmse, b.rmse, 1e-12);  // sums in another order
    EXPECT_NEAR(a.bias, b.bias, 1e-12);
    EXPECT_NEAR(a.persistence, b.persistence, 1e-12);
    EXPECT_NEAR(a.acc, b.acc, 1e-12);
    const auto lead = static_cast<int64_t>(s);  // the one sample that is scored there
    const auto error = (forecast[lead][lead] - batch.target[lead][lead]).select(1, 0);
    const auto square = (error.square().to(at::kDouble) * options().area).sum();
    EXPECT_NEAR(one[s].variables[0].rmse, 2 * std::sqrt(square.item<double>()), 1e-12);
  }
  EXPECT_THROW(first.add(batch, forecast, mean, some.t()), UsageError);
}

TEST(ForecastScores, LeavesOutWhatIsMissing) {
  auto comm = make_self_communicator();
  const double nan = std::nan("");
  ForecastScores scores(options());
  auto batch = batch_of({1, 5}, 3);
  batch.target = at::zeros({2, 1, 2, 1});
  batch.target[0][0][0] = nan;  // the first sample counts with its second point
  batch.state = batch.state.clone();
  batch.state[1][0][1] = nan;     // persistence of the second with its first
  batch.reference[1].fill_(nan);  // the previous day without the second
  scores.add(batch, at::tensor({9.0F, 1.0F, 2.0F, 4.0F}).view({2, 1, 2, 1}));
  const auto score = scores.reduce(ProcessGrid(*comm, 1)).at(0).variables.at(0);
  EXPECT_DOUBLE_EQ(score.rmse, std::sqrt((0.75 * 1 + 0.25 * 4 + 0.75 * 16) / 1.75));
  EXPECT_DOUBLE_EQ(score.bias, (0.75 * 1 + 0.25 * 2 + 0.75 * 4) / 1.75);
  EXPECT_DOUBLE_EQ(score.persistence, std::sqrt((0.75 * 1 + 0.25 * 25) / 1.0));
  EXPECT_DOUBLE_EQ(score.previous_day, 3);
}

TEST(ForecastScores, DoesNotHideAForecastThatIsNoNumber) {
  auto comm = make_self_communicator();
  ForecastScores scores(options());
  const auto batch = batch_of({1}, 3);
  scores.add(batch, at::full({1, 1, 2, 1}, std::nan("")));
  EXPECT_TRUE(std::isnan(scores.reduce(ProcessGrid(*comm, 1)).at(0).variables[0].rmse));
}

TEST(ForecastScores, SaysThatThePreviousDayIsNotKnown) {
  auto comm = make_self_communicator();
  ForecastScores scores(options());
  auto batch = batch_of({1}, 0);
  batch.reference = at::Tensor();
  scores.add(batch, batch.target);
  EXPECT_TRUE(std::isnan(scores.reduce(ProcessGrid(*comm, 1)).at(0).variables[0].previous_day));
}

TEST(ForecastScores, RefusesToScoreNothing) {
  run_ranks(2, [](Communicator& comm) {
    EXPECT_THROW(ForecastScores(options()).reduce(ProcessGrid(comm, 1)), DataError);
    EXPECT_THROW(ForecastScores(options()).reduce(ProcessGrid(comm, 2)), DataError);
  });
}

TEST(LeadScore, IsTheMeanOverVariablesThatChange) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const auto ratio = [](std::vector<VariableScore> variables) {
    return LeadScore{6, 1, std::move(variables)}.ratio();
  };
  const VariableScore half{.variable = "t", .rmse = 1, .persistence = 2};
  const VariableScore still{.variable = "lsm", .rmse = 1, .persistence = 0};
  const VariableScore unknown{.variable = "sst", .rmse = nan, .persistence = nan};
  EXPECT_DOUBLE_EQ(ratio({half, still, unknown}), 0.5);
  EXPECT_TRUE(std::isnan(ratio({still, unknown})));
  EXPECT_TRUE(std::isnan(ratio({half, {.variable = "u", .rmse = nan, .persistence = 1}})));
}

}  // namespace
}  // namespace isobar::forecast_scores_test
