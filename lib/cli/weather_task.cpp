// SPDX-License-Identifier: Apache-2.0
#include "cli/weather_task.hpp"

#include <isobar/core/error.hpp>
#include <isobar/model/loss.hpp>
#include <ATen/ATen.h>

#include <map>

namespace isobar {
namespace {

/// The fields of one batch by hour from its analysis, as far as they are known.
using Fields = std::map<int64_t, at::Tensor>;

class WeatherTask {
 public:
  WeatherTask(std::shared_ptr<WeatherGnn> network, WeatherTaskOptions options)
      : network_(std::move(network)), options_(std::move(options)) {}

  at::Tensor loss(const Batch& batch) const {
    const auto tendency = options_.tendency.to(batch.state.options());
    const auto state = fields_of(batch.state);
    const auto increment = network_->forward(input(state, forcings_of(batch), 0));
    const auto target = (batch.target.select(1, 0) - state.at(0)) / tendency;
    return weighted_mse(increment, target, options_.area.to(increment.options()),
                        options_.weights.to(increment.options()));
  }

  at::Tensor forecast(const Batch& batch) const {
    const auto tendency = options_.tendency.to(batch.state.options());
    const auto forcings = forcings_of(batch);
    auto fields = fields_of(batch.state);
    std::vector<at::Tensor> steps;
    for (int64_t s = 0; s < batch.target.size(1); ++s) {
      const int64_t from = s * options_.step_hours;
      const auto increment = network_->forward(input(fields, forcings, from));
      fields[from + options_.step_hours] = fields.at(from) + tendency * increment;
      steps.push_back(fields.at(from + options_.step_hours));
    }
    return at::stack(steps, 1);
  }

 private:
  Fields fields_of(const at::Tensor& state) const {
    Fields fields;
    for (size_t i = 0; i < options_.input_hours.size(); ++i) {
      fields[options_.input_hours[i]] = state.select(1, static_cast<int64_t>(i));
    }
    return fields;
  }

  /// The batch's forcings are at its input hours, then at its target hours, which are the steps.
  Fields forcings_of(const Batch& batch) const {
    Fields fields;
    const auto inputs = static_cast<int64_t>(options_.input_hours.size());
    for (int64_t i = 0; i < batch.forcing.size(1); ++i) {
      const int64_t hour =
          i < inputs ? options_.input_hours[i] : (i - inputs + 1) * options_.step_hours;
      fields[hour] = batch.forcing.select(1, i);
    }
    return fields;
  }

  at::Tensor input(const Fields& state, const Fields& forcings, int64_t from) const {
    std::vector<at::Tensor> columns;
    for (const int64_t hour : options_.input_hours) {
      columns.push_back(state.at(from + hour));
      for (const int64_t f : options_.input_forcings) {
        columns.push_back(forcings.at(from + hour).narrow(-1, f, 1));
      }
    }
    columns.push_back(forcings.at(from + options_.step_hours));
    return at::cat(columns, -1);
  }

  std::shared_ptr<WeatherGnn> network_;
  WeatherTaskOptions options_;
};

}  // namespace

int64_t input_features(const WeatherTaskOptions& options, int64_t variables) {
  const auto hours = static_cast<int64_t>(options.input_hours.size());
  const auto forcings = static_cast<int64_t>(options.input_forcings.size());
  return hours * (variables + forcings) + options.forcings;
}

Task make_weather_task(std::shared_ptr<WeatherGnn> network, const WeatherTaskOptions& options) {
  const auto task = std::make_shared<WeatherTask>(network, options);
  return {.module = network,
          .reduction = nullptr,
          .loss = [task](const Batch& batch) { return task->loss(batch); },
          .forecast = [task](const Batch& batch) { return task->forecast(batch); }};
}

}  // namespace isobar
