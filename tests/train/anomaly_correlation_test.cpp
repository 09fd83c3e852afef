// SPDX-License-Identifier: Apache-2.0
#include <isobar/train/forecast_scores.hpp>

#include <isobar/comm/thread_world.hpp>
#include <isobar/core/error.hpp>
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

namespace isobar::anomaly_correlation_test {
namespace {

constexpr int64_t kSamples = 5, kLeads = 2, kPoints = 12, kVariables = 3;

/// Random fields on random areas; some truths and some of the climatology are missing.
struct Case {
  at::Tensor truth, forecast, climatology, area;
};

Case random_case() {
  at::manual_seed(7);
  const std::vector<int64_t> sizes{kSamples, kLeads, kPoints, kVariables};
  Case c{at::randn(sizes), at::randn(sizes), 0.5 * at::randn(sizes, at::kDouble),
         at::rand({kPoints}, at::kDouble)};
  c.forecast += c.truth;
  c.area /= c.area.sum();
  c.truth.masked_fill_(at::rand(sizes) < 0.2, std::nan(""));
  c.climatology.masked_fill_(at::rand(sizes) < 0.1, std::nan(""));
  c.truth.select(0, 3).select(-1, 1).fill_(std::nan(""));  // a sample without this variable
  return c;
}

/// The definition, loop by loop.
double reference(const Case& c, int64_t lead, int64_t variable) {
  double sum = 0, samples = 0;
  for (int64_t b = 0; b < kSamples; ++b) {
    double fo = 0, ff = 0, oo = 0;
    for (int64_t n = 0; n < kPoints; ++n) {
      const auto at = [&](const at::Tensor& field) {
        return field[b][lead][n][variable].item<double>();
      };
      if (std::isnan(at(c.truth)) || std::isnan(at(c.climatology))) continue;
      const double a = c.area[n].item<double>();
      const double f = at(c.forecast) - at(c.climatology), o = at(c.truth) - at(c.climatology);
      fo += a * f * o;
      ff += a * f * f;
      oo += a * o * o;
    }
    if (ff == 0 || oo == 0) continue;
    sum += fo / std::sqrt(ff * oo);
    ++samples;
  }
  return sum / samples;
}

/// The part of the samples and points that a rank has, batch by batch.
std::vector<LeadScore> scores_of(const Case& c, const ProcessGrid& grid) {
  const int64_t members = grid.model().size(), own = kPoints / members;
  const auto points = [&](const at::Tensor& field, int64_t dim) {
    return field.narrow(dim, own * grid.model().rank(), own);
  };
  ForecastScores scores(
      {{"a", "b", "c"}, at::tensor({1.0, 2.0, -3.0}), points(c.area, 0), {6, 12}});
  for (int64_t b = grid.data().rank(); b < kSamples; b += grid.data().size()) {
    const auto sample = [&](const at::Tensor& field) { return points(field.narrow(0, b, 1), 2); };
    Batch batch;
    batch.target = sample(c.truth);
    batch.state = at::zeros_like(batch.target);
    scores.add(batch, sample(c.forecast), sample(c.climatology));
  }
  return scores.reduce(grid);
}

TEST(AnomalyCorrelation, IsItsDefinitionOnAnyNumberOfRanks) {
  const auto c = random_case();
  for (const auto& [world, members] : {std::pair{1, 1}, {2, 1}, {4, 1}, {2, 2}, {4, 2}, {4, 4}}) {
    run_ranks(world, [&, members = members](Communicator& comm) {
      const auto scores = scores_of(c, ProcessGrid(comm, members));
      for (int64_t s = 0; s < kLeads; ++s) {
        for (int64_t p = 0; p < kVariables; ++p) {
          // Sums of a few dozen products, in another order.
          EXPECT_NEAR(scores[s].variables[p].acc, reference(c, s, p), 1e-13) << s << " " << p;
        }
      }
    });
  }
}

double acc_of(const Case& c) {
  auto comm = make_self_communicator();
  return scores_of(c, ProcessGrid(*comm, 1))[0].variables[0].acc;
}

TEST(AnomalyCorrelation, IsOneForThePerfectForecastAndMinusOneForItsMirrorImage) {
  auto c = random_case();
  c.truth = at::randn_like(c.truth);
  c.climatology = at::randn_like(c.truth);
  c.forecast = c.truth;
  EXPECT_NEAR(acc_of(c), 1, 1e-15);
  c.forecast = (2 * c.climatology - c.truth.to(at::kDouble));
  EXPECT_NEAR(acc_of(c), -1, 1e-15);
}

TEST(AnomalyCorrelation, IsNotCentred) {
  auto c = random_case();
  c.truth = at::ones_like(c.truth);
  c.climatology = at::zeros_like(c.truth);
  c.forecast = c.truth + 0.5 * at::randn_like(c.truth);
  EXPECT_GT(acc_of(c), 0.8) << "a centred one has no anomaly of the truth to correlate with";
}

TEST(AnomalyCorrelation, DoesNotHideAForecastThatIsNoNumber) {
  auto c = random_case();
  c.forecast[2].fill_(std::nan(""));
  EXPECT_TRUE(std::isnan(acc_of(c)));
}

TEST(AnomalyCorrelation, IsUnknownOnEveryRankWhereOneHasNoClimatology) {
  const auto c = random_case();
  run_ranks(2, [&](Communicator& comm) {
    ForecastScores scores({{"a", "b", "c"}, at::ones({3}), c.area, {6, 12}});
    Batch batch;
    batch.target = c.truth;
    batch.state = at::zeros_like(c.truth);
    scores.add(batch, c.forecast, comm.rank() == 0 ? c.climatology : at::Tensor());
    const auto score = scores.reduce(ProcessGrid(comm, 1))[0].variables[0];
    EXPECT_TRUE(std::isnan(score.acc));
    EXPECT_FALSE(std::isnan(score.rmse));
  });
}

TEST(AnomalyCorrelation, RefusesAClimatologyOfOtherPoints) {
  const auto c = random_case();
  ForecastScores scores({{"a", "b", "c"}, at::ones({3}), c.area, {6, 12}});
  Batch batch;
  batch.target = c.truth;
  batch.state = at::zeros_like(c.truth);
  EXPECT_THROW(scores.add(batch, c.forecast, c.climatology.narrow(2, 0, 3)), UsageError);
}

}  // namespace
}  // namespace isobar::anomaly_correlation_test
