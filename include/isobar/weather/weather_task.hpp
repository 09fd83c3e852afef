// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/train/task.hpp>
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

namespace isobar {

/// What a network sees of one hour.
struct SeenHour {
  int64_t hour = 0;                ///< from the latest field: an input hour, or the target's
  std::vector<int64_t> variables;  ///< of the prognostic ones; none at the target hour
  std::vector<int64_t> forcings;   ///< of a batch's

  friend bool operator==(const SeenHour&, const SeenHour&) = default;
};

/// How a network forecasts: which columns of a batch it sees, and what its output means. The P
/// variables of a batch are the prognostic ones, then the diagnostic ones.
struct WeatherTaskOptions {
  std::vector<int64_t> input_hours;  ///< as in the batches
  int64_t step_hours = 6;            ///< what one call of the network forecasts
  int64_t prognostic = 0;            ///< variables that are seen and forecast
  int64_t diagnostic = 0;            ///< variables that are forecast only
  std::vector<SeenHour> seen;        ///< the network's input, in this order
  at::Tensor tendency;               ///< [P]: the network's unit, in normalised units
  at::Tensor weights;                ///< [P]: of the variables in the loss
  at::Tensor area;                   ///< [N], of this rank's points; all points' sum to 1
  at::Tensor lower = {};             ///< [P], normalised: forecasts are kept above it
  at::Tensor upper = {};             ///< and below this; both or none
  bool mask_missing = false;         ///< missing targets weigh nothing in the loss
};

/// Columns of the network's input: of each hour the variables, then the forcings.
int64_t input_features(const std::vector<SeenHour>& seen);

/// [B, N, input_features] -> [B, N, P].
using Network = std::function<at::Tensor(const at::Tensor& input)>;

/// A forecast step adds the network's output, in units of the tendency, to the
/// latest field, and keeps the result within the bounds:
///
///     x(t + step) = bound(x(t) + tendency · network(inputs))
///
/// where x(t) is 0 for diagnostic variables, of which the network says the value itself.
/// The loss is the weighted mean square of the errors, in units of the tendency, and the mean
/// over the batch's target hours. Longer forecasts feed prognostic fields back, in the loss
/// with their gradients, and take the forcings of each step's own hours. Missing values of inputs
/// count as 0. `module` owns the network's parameters.
Task make_weather_task(std::shared_ptr<torch::nn::Module> module, Network network,
                       const WeatherTaskOptions& options);

}  // namespace isobar
