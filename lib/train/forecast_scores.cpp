// SPDX-License-Identifier: Apache-2.0
#include <isobar/train/forecast_scores.hpp>

#include <isobar/core/error.hpp>
#include <ATen/ATen.h>

#include <cmath>
#include <limits>

namespace isobar {
namespace {

enum Row { kSquared, kError, kPersistence, kPreviousDay, kRows };

}  // namespace

bool VariableScore::has_ratio() const { return std::isfinite(persistence) && persistence > 0; }

double LeadScore::ratio() const {
  double sum = 0, count = 0;
  for (const auto& score : variables) {
    if (!score.has_ratio()) continue;
    sum += score.rmse / score.persistence;
    ++count;
  }
  return sum / count;
}

ForecastScores::ForecastScores(ScoreOptions options) : options_(std::move(options)) {
  const auto variables = static_cast<int64_t>(options_.variables.size());
  ISOBAR_CHECK(variables > 0 && options_.unit.numel() == variables, "ForecastScores: got ",
               variables, " variables and units for ", options_.unit.numel(), " of them");
  sums_ =
      at::zeros({kRows, static_cast<int64_t>(options_.lead_hours.size()), variables}, at::kDouble);
  weights_ = at::zeros_like(sums_);
  samples_ = at::zeros({sums_.size(1), 1}, at::kDouble);
}

void ForecastScores::add(const Batch& batch, const at::Tensor& forecast,
                         const at::Tensor& climatology, const at::Tensor& scored) {
  ISOBAR_CHECK(forecast.sizes() == batch.target.sizes(), "ForecastScores: forecast is ",
               forecast.sizes(), ", the batch's target ", batch.target.sizes());
  const auto pairs = forecast.sizes().slice(0, 2);
  const auto counted = scored.defined() ? scored : at::ones(pairs, at::kBool);
  ISOBAR_CHECK(counted.sizes() == pairs, "ForecastScores: scored is ", counted.sizes(),
               ", the forecast ", forecast.sizes());
  const auto area = options_.area.to(at::kDouble).to(forecast.device()).view({-1, 1});
  // [B, S, N, P] -> [S, P], in the variables' own units after `unit` in reduce().
  const auto add = [&](Row row, const at::Tensor& values, const at::Tensor& known) {
    const auto counted = at::where(known, values.to(at::kDouble), 0.0);
    sums_[row] += (counted * area).sum(2).sum(0).cpu();
    weights_[row] += (known * area).sum(2).sum(0).cpu();
  };
  const auto error = forecast - batch.target;
  const auto of_scored = counted.view({pairs[0], pairs[1], 1, 1}).to(forecast.device());
  const auto known = batch.target.isnan().logical_not().logical_and(of_scored);
  add(kSquared, error.square(), known);
  add(kError, error, known);
  const auto against = [&](Row row, const at::Tensor& other) {
    add(row, (other - batch.target).square(), known.logical_and(other.isnan().logical_not()));
  };
  against(kPersistence, batch.state.select(1, batch.state.size(1) - 1).unsqueeze(1));
  if (batch.reference.defined()) {
    against(kPreviousDay, batch.reference);
  } else {
    sums_[kPreviousDay].fill_(std::numeric_limits<double>::quiet_NaN());
  }
  if (climatology.defined()) {
    ISOBAR_CHECK(climatology.sizes() == forecast.sizes(), "ForecastScores: climatology is ",
                 climatology.sizes(), ", the forecast ", forecast.sizes());
    add_anomalies(batch.target, forecast, climatology, of_scored);
  }
  climatology_known_ &= climatology.defined();
  samples_ += counted.to(at::kDouble).sum(0).unsqueeze(1);
}

void ForecastScores::add_anomalies(const at::Tensor& truth, const at::Tensor& forecast,
                                   const at::Tensor& climatology, const at::Tensor& counted) {
  const auto mean = climatology.to(truth.device(), at::kDouble);
  const auto area = options_.area.to(at::kDouble).to(truth.device()).view({-1, 1});
  const auto known = truth.isnan().logical_or(mean.isnan()).logical_not().logical_and(counted);
  const auto anomaly = [&](const at::Tensor& field) { return at::where(known, field - mean, 0.0); };
  const auto f = anomaly(forecast), o = anomaly(truth);
  const auto sum = [&](const at::Tensor& product) { return (product * area).sum(2).cpu(); };
  anomalies_.push_back(at::stack({sum(f * o), sum(f * f), sum(o * o)}));
}

/// [S, P]
at::Tensor ForecastScores::correlations(const ProcessGrid& grid) const {
  const auto& sizes = sums_.sizes();
  auto sums = at::zeros({2, sizes[1], sizes[2]}, at::kDouble);  // of correlations, of samples
  if (!anomalies_.empty()) {
    auto products = at::cat(anomalies_, 1);
    grid.model().allreduce(products).wait();
    const auto counted = (products[1] != 0).logical_and(products[2] != 0);
    const auto acc = products[0] / (products[1] * products[2]).sqrt();
    sums = at::stack({at::where(counted, acc, 0.0).sum(0), counted.to(at::kDouble).sum(0)});
  }
  if (!climatology_known_) sums.fill_(std::numeric_limits<double>::quiet_NaN());
  grid.data().allreduce(sums).wait();
  return sums[0] / sums[1];
}

std::vector<LeadScore> ForecastScores::reduce(const ProcessGrid& grid) const {
  auto samples = samples_.clone();
  auto all = at::stack({sums_, weights_});
  grid.data().allreduce(samples).wait();
  grid.data().allreduce(all).wait();
  grid.model().allreduce(all).wait();
  if (samples.eq(0).all().item<bool>()) {
    throw DataError("ForecastScores: no sample to score on any rank");
  }
  const auto sums = all[0] / all[1];
  const auto known = all[1][kSquared] / samples;
  const auto acc = correlations(grid);

  std::vector<LeadScore> result;
  for (int64_t s = 0; s < sums.size(1); ++s) {
    LeadScore lead{options_.lead_hours[s], samples[s].to(at::kLong).item<int64_t>(), {}};
    for (int64_t p = 0; p < sums.size(2); ++p) {
      const double unit = options_.unit[p].item<double>();
      const auto value = [&](Row row) { return sums[row][s][p].item<double>(); };
      lead.variables.push_back({options_.variables[p], unit * std::sqrt(value(kSquared)),
                                unit * value(kError), unit * std::sqrt(value(kPersistence)),
                                unit * std::sqrt(value(kPreviousDay)), acc[s][p].item<double>(),
                                known[s][p].item<double>()});
    }
    result.push_back(std::move(lead));
  }
  return result;
}

}  // namespace isobar
