// SPDX-License-Identifier: Apache-2.0
// The same eight samples a step, whoever computes them: 1 x 8, 2 x 4 and 4 x 2 (ranks x batch)
// give the same weights. Gradient sums over ranks round differently, hence the tolerances.
#include <isobar/comm/thread_world.hpp>
#include <isobar/data/sampler.hpp>
#include <isobar/data/samples.hpp>
#include <isobar/ddp/data_parallel.hpp>
#include <isobar/graph/weather_graph.hpp>
#include <isobar/model/loss.hpp>
#include <isobar/model/weather_gnn.hpp>
#include <isobar/train/optimizer.hpp>
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <mutex>

namespace isobar::layout_test {
namespace {

constexpr int kSteps = 20;
constexpr int64_t kStepSamples = 8;

struct Case {
  const char* method;
  at::ScalarType type;
  double rate;
  double tolerance;
};

/// Two days of the example data: two input hours, and the change over six hours to learn.
const SampleSet& samples() {
  static const SampleSet set = [] {
    const auto dataset = std::make_shared<const Dataset>(
        DatasetOptions{.paths = {ISOBAR_EXAMPLE_DATA}, .variables = {"t2m"}});
    const Normalizer normalizer({"t2m"}, compute_statistics(*dataset, {0, 12, 24, 36}));
    return SampleSet(dataset, normalizer, {.input_hours = {-6, 0}, .target_hours = {6}},
                     parse_period("2019-03-02", "2019-03-04"));
  }();
  return set;
}

const WeatherGraph& graph() {
  static const WeatherGraph graph = build_graph(
      make_latlon_grid(samples().dataset().latitudes(), samples().dataset().longitudes()),
      {.hidden_level = 6, .min_level = 5});
  return graph;
}

/// Gives tensors that begin at zero, tables and LayerNorm's biases, other values: what they learn
/// in a few steps is of the size of rounding errors, which a ratio to it would show and nothing
/// else.
void leave_zero(WeatherGnn& model) {
  for (auto& parameter : model.parameters()) {
    auto values = parameter.detach();
    if (values.count_nonzero().item<int64_t>() > 0) continue;
    values.copy_((at::arange(values.numel(), at::kDouble) + 1).sin().mul(0.1).view(values.sizes()));
  }
}

/// The weights that this rank ends with.
std::vector<at::Tensor> train(Communicator& comm, const Case& c) {
  WeatherGnn model({.features_in = 2, .features_out = 1, .channels = 8, .layers = 2, .seed = 7},
                   graph());
  leave_zero(model);
  model.to(c.type);
  DataParallel parallel(model, comm,
                        {.reducer = {.caps = {.cap_bytes = 4096, .first_cap_bytes = 512}}});
  Optimizer optimizer(parallel.reducer().parameters(), {.method = c.method});
  const Sampler sampler(
      samples().size(),
      {.batch = kStepSamples / comm.size(), .rank = comm.rank(), .size = comm.size(), .seed = 3});
  const auto weights = at::ones({1}, c.type);
  for (int step = 0; step < kSteps; ++step) {
    const auto batches = sampler.batches(step / sampler.steps());
    const auto batch = samples().get(batches[step % sampler.steps()]);
    const auto state = batch.state.to(c.type);
    const auto change = batch.target.select(1, 0).to(c.type) - state.select(1, 1);
    const auto forecast = model.forward(at::cat({state.select(1, 0), state.select(1, 1)}, -1));
    parallel.zero_grad();
    weighted_mse(forecast, change, graph().data.area, weights).backward();
    parallel.finish();
    optimizer.step(c.rate);
  }
  std::vector<at::Tensor> result;
  for (const auto& parameter : model.parameters()) result.push_back(parameter.detach());
  return result;
}

/// Trains on `ranks` ranks and checks that all end with the same bits.
std::vector<at::Tensor> train_on(int ranks, const Case& c) {
  std::vector<std::vector<at::Tensor>> weights(ranks);
  run_ranks(ranks, [&](Communicator& comm) { weights[comm.rank()] = train(comm, c); });
  for (int r = 1; r < ranks; ++r) {
    for (size_t i = 0; i < weights[0].size(); ++i) {
      EXPECT_TRUE(at::equal(weights[r][i], weights[0][i])) << "rank " << r << ", tensor " << i;
    }
  }
  return weights[0];
}

/// The largest ‖a - b‖ / ‖a‖ over the tensors.
double largest_difference(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) {
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double norm = a[i].to(at::kDouble).norm().item<double>();
    const double difference = (a[i] - b[i]).to(at::kDouble).norm().item<double>();
    EXPECT_GT(norm, 0) << "tensor " << i << " was not trained";
    largest = std::max(largest, difference / norm);
  }
  return largest;
}

class Layouts : public testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(Optimizers, Layouts,
                         testing::Values(Case{"sgd", at::kFloat, 0.01, 1e-6},
                                         Case{"sgd", at::kDouble, 0.01, 1e-12},
                                         Case{"adamw", at::kDouble, 1e-3, 1e-12}));

TEST_P(Layouts, GiveTheSameWeights) {
  const auto whole = train_on(1, GetParam());
  for (const int ranks : {2, 4}) {
    const double difference = largest_difference(whole, train_on(ranks, GetParam()));
    std::printf("%s %s, 1 x 8 against %d x %d: %.2e\n", GetParam().method,
                at::toString(GetParam().type), ranks, 8 / ranks, difference);
    EXPECT_LE(difference, GetParam().tolerance);
    EXPECT_GT(difference, 0) << "the ranks computed nothing apart";
  }
}

}  // namespace
}  // namespace isobar::layout_test
