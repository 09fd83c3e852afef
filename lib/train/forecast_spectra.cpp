// SPDX-License-Identifier: Apache-2.0
#include <isobar/train/forecast_spectra.hpp>

#include <isobar/core/error.hpp>
#include <ATen/ATen.h>

#include <utility>

namespace isobar {
namespace {

std::vector<double> values_of(const at::Tensor& tensor) {
  const auto values = tensor.contiguous();
  const auto* begin = values.const_data_ptr<double>();
  return {begin, begin + values.numel()};
}

}  // namespace

ForecastSpectra::ForecastSpectra(SpectraOptions options) : options_(std::move(options)) {
  const auto variables = std::ssize(options_.variables);
  ISOBAR_CHECK(variables > 0 && options_.unit.numel() == variables, "ForecastSpectra: got ",
               variables, " variables and units for ", options_.unit.numel(), " of them");
  ISOBAR_CHECK(options_.power && options_.points > 0, "ForecastSpectra: no points, or no power");
  const auto leads = std::ssize(options_.lead_hours);
  const int64_t wavenumbers = options_.power(at::zeros({options_.points, 1}, at::kDouble)).size(0);
  sums_ = at::zeros({2, leads, variables, wavenumbers}, at::kDouble);
  samples_ = at::zeros({leads, variables}, at::kDouble);
}

void ForecastSpectra::add(const Batch& batch, const at::Tensor& forecast, Communicator& model,
                          const at::Tensor& scored) {
  ISOBAR_CHECK(forecast.sizes() == batch.target.sizes(), "ForecastSpectra: forecast is ",
               forecast.sizes(), ", the batch's target ", batch.target.sizes());
  const auto variables =
      at::arange(model.rank(), std::ssize(options_.variables), model.size(), at::kLong);
  for (int64_t b = 0; b < forecast.size(0); ++b) {
    for (int64_t s = 0; s < forecast.size(1); ++s) {
      if (scored.defined() && !scored[b][s].item<bool>()) continue;
      add_fields(s, gathered(batch.target[b][s], model), gathered(forecast[b][s], model),
                 variables);
    }
  }
}

/// [points, P] of the [n, P] that each rank owns. A sum with zeros keeps the bits.
at::Tensor ForecastSpectra::gathered(const at::Tensor& own, Communicator& model) const {
  auto values = own.to(at::kCPU, at::kFloat);
  if (!options_.rows.defined()) return values;
  auto whole = at::zeros({options_.points, own.size(1)}, at::kFloat);
  whole.index_copy_(0, options_.rows, values);
  model.allreduce(whole).wait();
  return whole;
}

void ForecastSpectra::add_fields(int64_t lead, const at::Tensor& truth, const at::Tensor& forecast,
                                 const at::Tensor& variables) {
  if (variables.numel() == 0) return;
  const auto own = [&](const at::Tensor& field) {
    return field.index_select(1, variables).to(at::kDouble);
  };
  const auto known = own(truth).isnan().any(0).logical_not();  // [C]
  const auto power_of = [&](const at::Tensor& fields) {
    return at::where(known, options_.power(fields), 0.0).t();
  };
  sums_[0][lead].index_add_(0, variables, power_of(own(forecast)));
  sums_[1][lead].index_add_(0, variables, power_of(own(truth)));
  samples_[lead].index_add_(0, variables, known.to(at::kDouble));
}

std::vector<LeadSpectra> ForecastSpectra::reduce(const ProcessGrid& grid) const {
  auto sums = sums_.clone(), samples = samples_.clone();
  for (auto* comm : {&grid.data(), &grid.model()}) {
    comm->allreduce(sums).wait();
    comm->allreduce(samples).wait();
  }
  const auto unit = options_.unit.to(at::kDouble).view({-1, 1}).square();
  const auto means = sums * unit / samples.unsqueeze(-1);
  std::vector<LeadSpectra> result;
  for (int64_t s = 0; s < samples.size(0); ++s) {
    LeadSpectra lead{options_.lead_hours[s], {}};
    for (int64_t p = 0; p < samples.size(1); ++p) {
      lead.variables.push_back({options_.variables[p], samples[s][p].to(at::kLong).item<int64_t>(),
                                values_of(means[0][s][p]), values_of(means[1][s][p])});
    }
    result.push_back(std::move(lead));
  }
  return result;
}

}  // namespace isobar
