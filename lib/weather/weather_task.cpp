// SPDX-License-Identifier: Apache-2.0
#include <isobar/weather/weather_task.hpp>

#include <isobar/model/loss.hpp>
#include <ATen/ATen.h>
#include <torch/nn/module.h>

#include <map>
#include <utility>

namespace isobar {
namespace {

/// The fields of one batch by hour from its analysis, as far as they are known.
using Fields = std::map<int64_t, at::Tensor>;

at::Tensor filled(const at::Tensor& values) { return values.masked_fill(values.isnan(), 0); }

/// Appends these columns of a field, those that stand side by side as one view.
void add_columns(std::vector<at::Tensor>& parts, const at::Tensor& field,
                 const std::vector<int64_t>& columns) {
  for (size_t first = 0, end = 0; first < columns.size(); first = end) {
    end = first + 1;
    while (end < columns.size() && columns[end] == columns[end - 1] + 1) ++end;
    parts.push_back(field.narrow(-1, columns[first], static_cast<int64_t>(end - first)));
  }
}

class WeatherTask {
 public:
  WeatherTask(Network network, WeatherTaskOptions options)
      : network_(std::move(network)), options_(std::move(options)) {
    // An error in units of the tendency: its square is divided by the tendency's.
    loss_weights_ = options_.weights / options_.tendency.square();
  }

  at::Tensor loss(const Batch& batch) const {
    const int64_t steps = batch.target.size(1);
    at::Tensor sum;
    roll_out(batch, [&](int64_t s, const at::Tensor& field) {
      const auto step = weighted_mse(field, batch.target.select(1, s), options_.area, loss_weights_,
                                     {.mask_missing = options_.mask_missing});
      sum = s == 0 ? step : sum + step;
    });
    return steps == 1 ? sum : sum / static_cast<double>(steps);
  }

  at::Tensor forecast(const Batch& batch) const {
    std::vector<at::Tensor> steps;
    roll_out(batch, [&](int64_t, const at::Tensor& field) { steps.push_back(field); });
    return at::stack(steps, 1);
  }

 private:
  /// Calls visit(s, field) with every step's fields [B, N, P].
  template <typename Visit>
  void roll_out(const Batch& batch, const Visit& visit) const {
    const auto forcings = forcings_of(batch);
    auto fields = fields_of(batch.state);
    for (int64_t s = 0; s < batch.target.size(1); ++s) {
      const int64_t from = s * options_.step_hours;
      const auto field = step(fields, forcings, from);
      fields[from + options_.step_hours] = field.narrow(-1, 0, options_.prognostic);
      visit(s, field);
    }
  }

  at::Tensor step(const Fields& fields, const Fields& forcings, int64_t from) const {
    const auto& latest = fields.at(from);
    const auto on = [&](const at::Tensor& tensor) { return tensor.to(latest.options()); };
    const auto output = network_(input(fields, forcings, from)) * on(options_.tendency);
    auto field = latest + output.narrow(-1, 0, options_.prognostic);
    if (options_.diagnostic > 0) {
      const auto own = output.narrow(-1, options_.prognostic, options_.diagnostic);
      field = at::cat({field, own}, -1);
    }
    if (!options_.lower.defined()) return field;
    return at::clamp(field, on(options_.lower), on(options_.upper));
  }

  Fields fields_of(const at::Tensor& state) const {
    Fields fields;
    for (size_t i = 0; i < options_.input_hours.size(); ++i) {
      const auto field = state.select(1, static_cast<int64_t>(i));
      fields[options_.input_hours[i]] = filled(field.narrow(-1, 0, options_.prognostic));
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
      fields[hour] = filled(batch.forcing.select(1, i));
    }
    return fields;
  }

  at::Tensor input(const Fields& state, const Fields& forcings, int64_t from) const {
    std::vector<at::Tensor> parts;
    for (const SeenHour& seen : options_.seen) {
      const int64_t hour = from + seen.hour;
      if (!seen.variables.empty()) add_columns(parts, state.at(hour), seen.variables);
      if (!seen.forcings.empty()) add_columns(parts, forcings.at(hour), seen.forcings);
    }
    return at::cat(parts, -1);
  }

  Network network_;
  WeatherTaskOptions options_;
  at::Tensor loss_weights_;
};

}  // namespace

int64_t input_features(const std::vector<SeenHour>& seen) {
  size_t columns = 0;
  for (const auto& [hour, variables, forcings] : seen)
    columns += variables.size() + forcings.size();
  return static_cast<int64_t>(columns);
}

Task make_weather_task(std::shared_ptr<torch::nn::Module> module, Network network,
                       const WeatherTaskOptions& options) {
  const auto task = std::make_shared<WeatherTask>(std::move(network), options);
  return {.module = std::move(module),
          .reduction = nullptr,
          .rows = nullptr,
          .loss = [task](const Batch& batch) { return task->loss(batch); },
          .forecast = [task](const Batch& batch) { return task->forecast(batch); }};
}

}  // namespace isobar
