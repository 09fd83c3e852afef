// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/process_grid.hpp>
#include <isobar/data/samples.hpp>
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace isobar {

/// Errors of one variable at one lead time, in the variable's own units.
///
/// Each is the square root of the mean, over samples, of the area-weighted mean
/// squared difference over the grid. Points where the truth, or what it is compared
/// with (the analysis, the previous day), is missing do not count.
struct VariableScore {
  std::string variable;
  double rmse = 0;          ///< of the forecast
  double bias = 0;          ///< area-weighted mean of forecast minus truth
  double persistence = 0;   ///< RMSE of the field at analysis time, kept
  double previous_day = 0;  ///< RMSE of the field 24 h before the target; NaN where not known
};

struct LeadScore {
  int64_t lead_hours = 0;
  int64_t samples = 0;
  std::vector<VariableScore> variables;

  /// Mean over the variables of rmse / persistence: below one is skill.
  double ratio() const;
};

struct ScoreOptions {
  std::vector<std::string> variables;  ///< P names
  at::Tensor unit;                     ///< [P]: what one normalised unit is in the variable's own
  at::Tensor area;                     ///< [N]: of this rank's points; all points' sum to 1
  std::vector<int64_t> lead_hours;     ///< S lead times
};

/// Sums up squared errors of forecasts and of two forecasts that cost nothing,
/// and makes scores of them. Sums are in double precision.
class ForecastScores {
 public:
  explicit ForecastScores(ScoreOptions options);

  /// `forecast` is [B, S, N, P], normalised as the batch is. The batch's last
  /// input hour is the analysis; its reference hours, where it has them, are
  /// the hours 24 h before its targets.
  void add(const Batch& batch, const at::Tensor& forecast);

  /// The scores over all replicas' samples, by lead time; the ranks of a model have added
  /// the same samples, each at its own points. Collective over the world; blocks.
  /// Throws DataError on every rank where no rank has added a sample.
  std::vector<LeadScore> reduce(const ProcessGrid& grid) const;

 private:
  ScoreOptions options_;
  at::Tensor sums_;     ///< [4, S, P]: squared errors, error, persistence, previous day
  at::Tensor weights_;  ///< the same: area, over samples, of the points that were summed up
  double samples_ = 0;
};

}  // namespace isobar
