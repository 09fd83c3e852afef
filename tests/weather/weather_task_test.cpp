// SPDX-License-Identifier: Apache-2.0
#include <isobar/weather/weather_task.hpp>

#include <ATen/ATen.h>
#include <torch/nn/module.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace isobar::weather_task_test {
namespace {

constexpr int64_t kSteps = 3, kPoints = 4, kSamples = 2;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// Two prognostic variables and a diagnostic one; input hours -6 and 0; one of two computed
/// forcings and a forcing variable seen at them.
WeatherTaskOptions options() {
  return {.input_hours = {-6, 0},
          .step_hours = 6,
          .prognostic = 2,
          .diagnostic = 1,
          .seen = {{-6, {0, 1}, {1, 2}}, {0, {0, 1}, {1, 2}}, {6, {}, {0, 1}}},
          .tendency = at::tensor({0.5, 0.25, 1.0}, at::kDouble),
          .weights = at::tensor({1.0, 2.0, 3.0}, at::kDouble),
          .area = at::tensor({0.1, 0.2, 0.3, 0.4}, at::kDouble)};
}

at::Tensor numbers(at::IntArrayRef sizes, double seed) {
  return at::arange(c10::multiply_integers(sizes), at::kDouble).add(seed).sin().view(sizes);
}

Batch batch_of(int64_t steps = kSteps) {
  Batch batch;
  batch.state = numbers({kSamples, 2, kPoints, 3}, 1);
  batch.forcing = numbers({kSamples, 2 + kSteps, kPoints, 3}, 2).narrow(1, 0, 2 + steps);
  batch.target = numbers({kSamples, kSteps, kPoints, 3}, 3).narrow(1, 0, steps);
  batch.times = {0, 1};
  return batch;
}

/// A network without depth, one for all points: tanh(x · weight).
struct Plain : torch::nn::Module {
  Plain() { weight = register_parameter("weight", numbers({10, 3}, 4) * 0.3); }
  at::Tensor weight;
};

struct Example {
  explicit Example(const WeatherTaskOptions& options = weather_task_test::options())
      : task(make_weather_task(
            net, [net = net](const at::Tensor& x) { return x.matmul(net->weight).tanh(); },
            options)) {}
  double loss(const Batch& batch) const { return task.loss(batch).item<double>(); }

  std::shared_ptr<Plain> net = std::make_shared<Plain>();
  Task task;
};

/// The fields of all steps by the formula of weather_task.hpp, written out.
at::Tensor forecast_written_out(const at::Tensor& weight, const Batch& batch) {
  std::vector<at::Tensor> fields{batch.state.select(1, 0).narrow(-1, 0, 2),
                                 batch.state.select(1, 1).narrow(-1, 0, 2)};
  std::vector<at::Tensor> result;
  for (int64_t s = 0; s < batch.target.size(1); ++s) {
    const auto forcing = [&](int64_t index) { return batch.forcing.select(1, index); };
    const auto x = at::cat({fields[s], forcing(s).narrow(-1, 1, 2), fields[s + 1],
                            forcing(s + 1).narrow(-1, 1, 2), forcing(s + 2).narrow(-1, 0, 2)},
                           -1);
    const auto output = x.matmul(weight).tanh() * options().tendency;
    fields.push_back(fields[s + 1] + output.narrow(-1, 0, 2));
    result.push_back(at::cat({fields.back(), output.narrow(-1, 2, 1)}, -1));
  }
  return at::stack(result, 1);
}

TEST(WeatherTask, ShowsTheNetworkFieldsAndForcingsInTheirOrder) {
  EXPECT_EQ(input_features(options().seen), 10);
  const Example example;
  const auto batch = batch_of();
  EXPECT_TRUE(at::allclose(example.task.forecast(batch),
                           forecast_written_out(example.net->weight, batch), 1e-14, 1e-14));
}

TEST(WeatherTask, LosesTheMeanOverTheStepsInUnitsOfTheTendency) {
  const Example example;
  const auto batch = batch_of();
  const auto error =
      (forecast_written_out(example.net->weight, batch) - batch.target) / options().tendency;
  const auto weights = options().area.view({kPoints, 1}) * options().weights;
  // Summed over points; the mean over samples, steps and variables.
  const double wanted = (error.square() * weights).sum().item<double>() / (kSamples * kSteps * 3.0);
  EXPECT_NEAR(example.loss(batch), wanted, 1e-13);
  double mean = 0;
  for (int64_t steps = 1; steps <= kSteps; ++steps) {
    const double shorter = example.loss(batch_of(steps));
    EXPECT_NE(shorter, mean);
    mean = shorter;
  }
  EXPECT_EQ(mean, example.loss(batch)) << "a batch with fewer hours has a shorter forecast";
}

TEST(WeatherTask, SendsGradientsThroughAllSteps) {
  const Example example;
  const auto batch = batch_of();
  example.task.loss(batch).backward();
  const auto gradient = example.net->weight.grad().clone();
  constexpr double kDelta = 1e-6;
  for (const int64_t i : {0, 7, 14, 20, 29}) {
    const auto loss_at = [&](double delta) {
      c10::NoGradGuard no_grad;
      auto flat = example.net->weight.view({-1});
      flat[i] += delta;
      const double loss = example.loss(batch);
      flat[i] -= delta;
      return loss;
    };
    EXPECT_NEAR(gradient.view({-1})[i].item<double>(),
                (loss_at(kDelta) - loss_at(-kDelta)) / (2 * kDelta), 1e-7)
        << i;
  }
}

TEST(WeatherTask, FeedsNoDiagnosticBack) {
  const Example example;
  auto batch = batch_of();
  const auto before = example.task.forecast(batch);
  batch.state.narrow(-1, 2, 1).fill_(1e9);
  EXPECT_TRUE(at::equal(example.task.forecast(batch), before));
  EXPECT_LT(before.narrow(-1, 2, 1).abs().max().item<double>(), 1) << "tanh, without a residual";
}

TEST(WeatherTask, TakesTheForcingsOfEachStepFromTheBatch) {
  const Example example;
  auto batch = batch_of();
  const auto before = example.task.forecast(batch);
  batch.forcing = batch.forcing.clone();
  batch.forcing.select(1, 3).add_(0.5);  // 12 h, the target of the second step
  const auto after = example.task.forecast(batch);
  EXPECT_TRUE(at::equal(after.select(1, 0), before.select(1, 0)));
  EXPECT_FALSE(at::equal(after.select(1, 1), before.select(1, 1)));
}

TEST(WeatherTask, ShowsEveryStepOfAForecastTheHoursThatWereChosen) {
  auto chosen = options();
  chosen.seen = {{-6, {1}, {2}}, {0, {0, 1}, {0, 1}}, {6, {}, {2, 0}}};
  EXPECT_EQ(input_features(chosen.seen), 8);
  std::vector<at::Tensor> inputs;
  const auto network = [&](const at::Tensor& x) {
    inputs.push_back(x);
    return x.narrow(-1, 0, 3).tanh();
  };
  const auto batch = batch_of();
  const auto forecast =
      make_weather_task(std::make_shared<torch::nn::Module>(), network, chosen).forecast(batch);
  // By hour: -6, 0, 6 and so on.
  const auto states = at::cat({batch.state, forecast}, 1);
  for (int64_t s = 0; s < kSteps; ++s) {
    const auto state = [&](int64_t hour, int64_t p) {
      return states.select(1, s + hour).narrow(-1, p, 1);
    };
    const auto forcing = [&](int64_t hour, int64_t f) {
      return batch.forcing.select(1, s + hour).narrow(-1, f, 1);
    };
    const auto wanted = at::cat({state(0, 1), forcing(0, 2), state(1, 0), state(1, 1),
                                 forcing(1, 0), forcing(1, 1), forcing(2, 2), forcing(2, 0)},
                                -1);
    EXPECT_TRUE(at::equal(inputs.at(s), wanted)) << "step " << s;
  }
}

TEST(WeatherTask, KeepsForecastsWithinTheirBounds) {
  auto bounded = options();
  bounded.lower = at::tensor({-kInfinity, -0.1, 0.0}, at::kDouble);
  bounded.upper = at::tensor({kInfinity, 0.2, kInfinity}, at::kDouble);
  const Example free, kept(bounded);
  const auto first = batch_of(1);
  const auto wanted = free.task.forecast(first);
  const auto got = kept.task.forecast(first);
  EXPECT_TRUE(at::equal(got.select(-1, 0), wanted.select(-1, 0)));
  // The residual first, then the bounds.
  EXPECT_TRUE(at::equal(got.select(-1, 1), wanted.select(-1, 1).clamp(-0.1, 0.2)));
  EXPECT_TRUE(at::equal(got.select(-1, 2), wanted.select(-1, 2).relu()));
  EXPECT_GT(wanted.select(-1, 1).max().item<double>(), 0.2) << "a bound that holds back nothing";
  EXPECT_LT(wanted.select(-1, 2).min().item<double>(), 0);

  const auto batch = batch_of();
  const auto error = (kept.task.forecast(batch) - batch.target) / options().tendency;
  const auto weights = options().area.view({kPoints, 1}) * options().weights;
  EXPECT_NEAR(kept.loss(batch), (error.square() * weights).sum().item<double>() / (kSamples * 9.0),
              1e-13)
      << "the loss is that of what is forecast";
}

TEST(WeatherTask, CountsMissingInputsAsTheMean) {
  const Example example;
  auto filled = batch_of(), missing = batch_of();
  filled.forcing = filled.forcing.clone();
  missing.forcing = missing.forcing.clone();
  filled.state[0][1][2][0] = 0;
  filled.forcing[1][0][3][2] = 0;
  missing.state[0][1][2][0] = std::nan("");
  missing.forcing[1][0][3][2] = std::nan("");
  EXPECT_TRUE(at::equal(example.task.forecast(missing), example.task.forecast(filled)));
}

TEST(WeatherTask, LearnsNothingFromMissingTargets) {
  auto masking = options();
  masking.mask_missing = true;
  const Example example(masking);
  auto batch = batch_of();
  batch.target[0][1][2][0] = std::nan("");
  const auto loss = example.task.loss(batch);
  loss.backward();
  EXPECT_TRUE(std::isfinite(loss.item<double>()));
  EXPECT_TRUE(example.net->weight.grad().isfinite().all().item<bool>());

  // As much less as the missing value weighed.
  const double value = 0.4;
  auto known = batch;
  known.target = batch.target.clone();
  known.target[0][1][2][0] = value;
  const double forecast = example.task.forecast(batch)[0][1][2][0].item<double>();
  const double weight = 0.3 * 1.0 / (0.5 * 0.5) / (kSamples * kSteps * 3.0);
  EXPECT_NEAR(example.loss(known) - loss.item<double>(),
              weight * (forecast - value) * (forecast - value), 1e-13);
  EXPECT_TRUE(std::isnan(Example().loss(batch))) << "unless it is asked for, it is not hidden";
}

TEST(WeatherTask, OfSomePointsLosesTheirShare) {
  const Example whole;
  const auto batch = batch_of();
  double sum = 0;
  for (const int64_t first : {0, 1}) {
    const auto rows = at::arange(first, kPoints, 2);
    auto mine = options();
    mine.area = mine.area.index_select(0, rows);
    auto share = batch;
    for (auto* field : {&share.state, &share.forcing, &share.target}) {
      *field = field->index_select(2, rows);
    }
    sum += Example(mine).loss(share);
  }
  EXPECT_NEAR(sum, whole.loss(batch), 1e-13);
}

}  // namespace
}  // namespace isobar::weather_task_test
