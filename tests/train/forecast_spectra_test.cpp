// SPDX-License-Identifier: Apache-2.0
#include <isobar/train/forecast_spectra.hpp>

#include <isobar/comm/thread_world.hpp>
#include <isobar/core/error.hpp>
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

namespace isobar::forecast_spectra_test {
namespace {

constexpr int64_t kSamples = 5, kLeads = 2, kPoints = 8, kVariables = 3, kWavenumbers = 3;

/// Stands for a transform: depends on the order of the points, and is quadratic.
at::Tensor power_of(const at::Tensor& fields) {
  const auto n = at::arange(fields.size(0), at::kDouble);
  std::vector<at::Tensor> rows;
  for (int64_t k = 1; k <= kWavenumbers; ++k) {
    const auto wave = (static_cast<double>(k) * n).cos().unsqueeze(1);
    rows.push_back((fields * wave).sum(0).square());
  }
  return at::stack(rows);
}

struct Fields {
  at::Tensor truth, forecast;
};

/// Variable 1 is missing at a point of the third sample, at the second lead time.
Fields random_fields() {
  at::manual_seed(5);
  const std::vector<int64_t> sizes{kSamples, kLeads, kPoints, kVariables};
  Fields fields{at::randn(sizes), at::randn(sizes)};
  fields.truth[2][1][6][1] = std::nan("");
  return fields;
}

SpectraOptions options(const at::Tensor& rows = {}) {
  return {{"a", "b", "c"}, at::tensor({1.0, 2.0, -3.0}), {6, 12}, rows, kPoints, power_of};
}

double reference(const at::Tensor& field, double unit, int64_t s, int64_t p, int64_t k) {
  double sum = 0, samples = 0;
  for (int64_t b = 0; b < kSamples; ++b) {
    if (b == 2 && s == 1 && p == 1) continue;
    const auto values = unit * field[b][s].narrow(1, p, 1).to(at::kDouble);
    sum += power_of(values)[k][0].item<double>();
    ++samples;
  }
  return sum / samples;
}

std::vector<LeadSpectra> spectra_of(const Fields& fields, const ProcessGrid& grid) {
  auto& model = grid.model();
  // Every M-th point: not in the order of the whole once they are put together.
  const auto rows = at::arange(model.rank(), kPoints, model.size(), at::kLong).flip(0);
  ForecastSpectra spectra(options(model.size() > 1 ? rows : at::Tensor()));
  for (int64_t b = grid.data().rank(); b < kSamples; b += grid.data().size()) {
    const auto own = [&](const at::Tensor& field) {
      const auto sample = field.narrow(0, b, 1);
      return model.size() > 1 ? sample.index_select(2, rows) : sample;
    };
    Batch batch;
    batch.target = own(fields.truth);
    spectra.add(batch, own(fields.forecast), model);
  }
  return spectra.reduce(grid);
}

TEST(ForecastSpectra, AreMeansOfWholeFieldsOnAnyNumberOfRanks) {
  const auto fields = random_fields();
  const std::vector<double> unit{1, 2, -3};
  for (const auto& [world, members] : {std::pair{1, 1}, {2, 1}, {4, 1}, {2, 2}, {4, 2}, {4, 4}}) {
    run_ranks(world, [&, members = members](Communicator& comm) {
      const auto spectra = spectra_of(fields, ProcessGrid(comm, members));
      ASSERT_EQ(spectra.size(), kLeads);
      EXPECT_EQ(spectra[1].lead_hours, 12);
      EXPECT_EQ(spectra[1].variables[1].samples, kSamples - 1);
      EXPECT_EQ(spectra[0].variables[1].samples, kSamples);
      for (int64_t s = 0; s < kLeads; ++s) {
        for (int64_t p = 0; p < kVariables; ++p) {
          const auto& own = spectra[s].variables[p];
          ASSERT_EQ(own.forecast.size(), kWavenumbers);
          for (int64_t k = 0; k < kWavenumbers; ++k) {
            // Sums of five numbers, in another order.
            EXPECT_NEAR(own.truth[k], reference(fields.truth, unit[p], s, p, k), 1e-11);
            EXPECT_NEAR(own.forecast[k], reference(fields.forecast, unit[p], s, p, k), 1e-11);
          }
        }
      }
    });
  }
}

TEST(ForecastSpectra, DoNotHideAForecastThatIsNoNumber) {
  auto fields = random_fields();
  fields.forecast[0][0][3][2] = std::nan("");
  auto comm = make_self_communicator();
  const auto spectra = spectra_of(fields, ProcessGrid(*comm, 1));
  EXPECT_TRUE(std::isnan(spectra[0].variables[2].forecast[0]));
  EXPECT_FALSE(std::isnan(spectra[0].variables[2].truth[0]));
}

TEST(ForecastSpectra, RefuseOptionsThatDoNotFit) {
  auto wrong = options();
  wrong.unit = at::ones({2});
  EXPECT_THROW(ForecastSpectra{wrong}, UsageError);
  auto without = options();
  without.power = nullptr;
  EXPECT_THROW(ForecastSpectra{without}, UsageError);
}

}  // namespace
}  // namespace isobar::forecast_spectra_test
