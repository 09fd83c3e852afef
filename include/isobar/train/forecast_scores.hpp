// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/process_grid.hpp>
#include <isobar/data/samples.hpp>
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <limits>
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
  double previous_day = 0;  ///< RMSE of the batch's reference, see add(); NaN where not known
  /// Anomaly correlation, see ForecastScores; NaN where the climatology is not known.
  double acc = std::numeric_limits<double>::quiet_NaN();
  double known = 1;  ///< share of the truth, over area and samples, that is not missing

  /// Whether rmse / persistence says anything: not where nothing changes, or nothing is known.
  bool has_ratio() const;
};

struct LeadScore {
  int64_t lead_hours = 0;
  int64_t samples = 0;
  std::vector<VariableScore> variables;

  /// Mean over the variables that have one of rmse / persistence: below one is skill. NaN where
  /// none has, or a forecast is no number.
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
///
/// The anomaly correlation is not centred, and is a mean over samples:
///
///     ACC = mean of  sum a f' o' / sqrt(sum a f'^2 · sum a o'^2)
///
/// with area a, f' the forecast and o' the truth less the climatology, and sums over the points
/// where truth and climatology are known. So defines it WeatherBench 2 (S. Rasp et al., J. Adv.
/// Model. Earth Syst. 16, e2023MS004019, 2024); a centred one would also take off the
/// mean anomalies. Samples without an anomaly, or a point where it is known, do not count.
class ForecastScores {
 public:
  explicit ForecastScores(ScoreOptions options);

  /// `forecast` is [B, S, N, P], normalised as the batch is. The batch's last
  /// input hour is the analysis; its reference hours, where it has them, are one for each
  /// target: the last known one of the same time of day. `climatology` is what to expect at the
  /// targets, [B, S, N, P] and normalised as the batch is; undefined, here or in any other call,
  /// there is no ACC. `scored`, [B, S] bool, says which samples count at which lead time;
  /// undefined, all do.
  void add(const Batch& batch, const at::Tensor& forecast, const at::Tensor& climatology = {},
           const at::Tensor& scored = {});

  /// The scores over all replicas' samples, by lead time; the ranks of a model have added
  /// the same samples, each at its own points. Collective over the world; blocks.
  /// Throws DataError on every rank where no rank has added a sample.
  std::vector<LeadScore> reduce(const ProcessGrid& grid) const;

 private:
  void add_anomalies(const at::Tensor& truth, const at::Tensor& forecast,
                     const at::Tensor& climatology, const at::Tensor& counted);
  at::Tensor correlations(const ProcessGrid& grid) const;

  ScoreOptions options_;
  at::Tensor sums_;     ///< [4, S, P]: squared errors, error, persistence, previous day
  at::Tensor weights_;  ///< the same: area, over samples, of the points that were summed up
  /// For each add(), [3, B, S, P]: sums of a f' o', a f'^2 and a o'^2 over this rank's points.
  /// Kept by sample, since the ranks of a model first have to add theirs up.
  std::vector<at::Tensor> anomalies_;
  bool climatology_known_ = true;
  at::Tensor samples_;  ///< [S, 1]
};

}  // namespace isobar
