// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/model/weather_gnn.hpp>
#include <isobar/train/task.hpp>
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

namespace isobar {

/// How a WeatherGnn forecasts: which columns of a batch it sees, and what its
/// output means.
struct WeatherTaskOptions {
  std::vector<int64_t> input_hours;     ///< as in the batches
  int64_t step_hours = 6;               ///< what one call of the network forecasts
  std::vector<int64_t> input_forcings;  ///< columns of the forcings seen at the input hours
  int64_t forcings = 0;                 ///< F, all of which are seen at the target hour
  at::Tensor tendency;                  ///< [P]: the network's unit, in normalised units
  at::Tensor weights;                   ///< [P]: of the variables in the loss
  at::Tensor area;                      ///< [N], sums to 1
};

/// Columns of the network's input: the variables and forcings at each input
/// hour, then the forcings at the target hour.
int64_t input_features(const WeatherTaskOptions& options, int64_t variables);

/// A forecast step adds the network's output, in units of the tendency, to the
/// latest field: x(t + step) = x(t) + tendency · gnn(inputs). The loss is the
/// weighted mean square of the first step's error, in the same units. Longer
/// forecasts feed fields back.
Task make_weather_task(std::shared_ptr<WeatherGnn> network, const WeatherTaskOptions& options);

}  // namespace isobar
