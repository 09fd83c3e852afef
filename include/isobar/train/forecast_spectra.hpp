// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/process_grid.hpp>
#include <isobar/data/samples.hpp>
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace isobar {

/// Power of one variable at one lead time by wavenumber, from 1 on, in the square of the
/// variable's units: means over `samples`, those whose truth has no missing value.
struct VariableSpectrum {
  std::string variable;
  int64_t samples = 0;
  std::vector<double> forecast;
  std::vector<double> truth;
};

struct LeadSpectra {
  int64_t lead_hours = 0;
  std::vector<VariableSpectrum> variables;
};

/// Of whole fields, [N, C] float64 on the CPU, by wavenumber: [K, C] float64.
using PowerOf = std::function<at::Tensor(const at::Tensor& fields)>;

struct SpectraOptions {
  std::vector<std::string> variables;  ///< P names
  at::Tensor unit;                     ///< [P]: what one normalised unit is in the variable's own
  std::vector<int64_t> lead_hours;     ///< S lead times
  at::Tensor rows = {};                ///< this rank's points among all; undefined for all
  int64_t points = 0;                  ///< of all ranks of a model
  PowerOf power;
};

/// Sums up the power of forecasts and of their truth.
class ForecastSpectra {
 public:
  /// Throws UsageError where the options do not fit together.
  explicit ForecastSpectra(SpectraOptions options);

  /// `forecast` is [B, S, n, P], normalised as the batch is, at this rank's n points. A field's
  /// points are gathered, one lead time at a time, and a rank transforms every M-th variable.
  /// `scored`, [B, S] bool and the same on all of them, says which samples count at which lead
  /// time; undefined, all do. Collective over `model`, the M ranks that share the points; blocks.
  void add(const Batch& batch, const at::Tensor& forecast, Communicator& model,
           const at::Tensor& scored = {});

  /// The means over all replicas' samples, by lead time. Collective over the world; blocks.
  std::vector<LeadSpectra> reduce(const ProcessGrid& grid) const;

 private:
  at::Tensor gathered(const at::Tensor& own, Communicator& model) const;
  void add_fields(int64_t lead, const at::Tensor& truth, const at::Tensor& forecast,
                  const at::Tensor& variables);

  SpectraOptions options_;
  at::Tensor sums_;     ///< [2, S, P, K]: of the forecast's power, of the truth's
  at::Tensor samples_;  ///< [S, P]
};

}  // namespace isobar
