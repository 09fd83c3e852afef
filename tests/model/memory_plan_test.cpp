// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/error.hpp>
#include <isobar/model/loss.hpp>
#include <isobar/model/memory_plan.hpp>
#include <isobar/model/tensor_memory.hpp>
#include <ATen/ATen.h>
#include <c10/core/CPUAllocator.h>
#include <gtest/gtest.h>

#include <thread>
#include <tuple>

#include "graph/axes.hpp"

namespace isobar::memory_plan_test {
namespace {

/// A latitude-longitude grid of so many rows, and a network on it.
struct Size {
  int64_t rows, hidden, channels, layers;
};
using Case = std::tuple<Size, int64_t, Activations>;
class Plan : public testing::TestWithParam<Case> {};

/// Gradients and two moments for each parameter, which training has from its first update on.
std::vector<at::Tensor> optimizer_state(const WeatherGnn& network) {
  std::vector<at::Tensor> state;
  for (const auto& parameter : network.parameters()) {
    parameter.mutable_grad() = at::zeros_like(parameter);
    for (int i = 0; i < 2; ++i) state.push_back(at::zeros_like(parameter));
  }
  return state;
}

TEST_P(Plan, IsWithinATenthOfWhatTensorsTake) {
  const auto& [size, rollout, activations] = GetParam();
  const double spacing = 180.0 / static_cast<double>(size.rows);
  const auto graph = build_graph(make_latlon_grid(test::axis(90 - spacing / 2, -spacing, size.rows),
                                                  test::axis(0, spacing, 2 * size.rows)),
                                 {.hidden_level = size.hidden});
  const WeatherGnnOptions options{.features_in = 24,
                                  .features_out = 10,
                                  .channels = size.channels,
                                  .layers = size.layers,
                                  .activations = activations};
  const auto predicted =
      plan_memory(options, sizes_of(make_shard(graph)), {.rollout = rollout}).peak_bytes;
  TensorMemory memory(at::kCPU);
  {
    const WeatherGnn network(options, graph);
    const auto state = optimizer_state(network);
    const auto target = at::ones({1, graph.data_nodes(), 10}), weights = at::ones({10});
    auto fields = at::rand({1, graph.data_nodes(), 24});
    memory.restart();
    at::Tensor loss = at::zeros({});
    for (int64_t step = 0; step < rollout; ++step) {
      const auto forecast = network.forward(fields) + fields.narrow(2, 0, 10);
      loss = loss + weighted_mse(forecast, target, graph.data.area, weights);
      fields = at::cat({forecast, fields.narrow(2, 10, 14)}, 2);
    }
    loss.backward();
  }
  const auto measured = static_cast<double>(memory.peak());

  EXPECT_NEAR(static_cast<double>(predicted) / measured, 1, 0.1) << predicted << ' ' << measured;
}

INSTANTIATE_TEST_SUITE_P(
    MemoryPlan, Plan,
    testing::Combine(testing::Values(Size{30, 2, 32, 3}, Size{50, 3, 64, 4}, Size{80, 4, 64, 8}),
                     testing::Values(1, 2, 4),
                     testing::Values(Activations::keep, Activations::recompute)));

TEST(TensorMemory, CountsWhatLivesAndTheMostThatDid) {
  auto before = at::ones({1000});
  const TensorMemory memory(at::kCPU);
  const auto kept = at::ones({10});
  { const auto dropped = at::ones({100}); }
  before.reset();
  EXPECT_EQ(memory.live(), 40);
  EXPECT_EQ(memory.peak(), 440);
}

TEST(TensorMemory, IsOfOneThreadWhoeverFreesIt) {
  TensorMemory memory(at::kCPU);
  auto moved = at::ones({10});
  at::Tensor others;
  std::thread([&] {
    others = at::ones({100});
    moved.reset();
  }).join();
  EXPECT_EQ(memory.live(), 0);
  EXPECT_EQ(memory.peak(), 40);
  memory.restart();
  EXPECT_EQ(memory.peak(), 0);
}

TEST(TensorMemory, IsOutlivedByTensors) {
  at::Tensor kept;
  {
    const TensorMemory memory(at::kCPU);
    kept = at::ones({10});
  }
  const TensorMemory next(at::kCPU);
  kept.reset();
  EXPECT_EQ(next.live(), 0) << "what another one counted";
}

/// oneDNN's scratch memory comes so where a processor multiplies 16-bit values.
TEST(TensorMemory, CountsBlocksThatAreAskedForWithoutATensor) {
  auto& allocator = *c10::GetCPUAllocator();
  void* const older = allocator.raw_allocate(50);
  const TensorMemory memory(at::kCPU);
  auto& counting = *c10::GetCPUAllocator();
  void* const block = counting.raw_allocate(100);
  EXPECT_EQ(memory.live(), 100);
  counting.raw_deallocate(block);
  counting.raw_deallocate(older);
  counting.raw_deallocate(counting.raw_allocate(0));
  EXPECT_EQ(memory.live(), 0);
}

TEST(TensorMemory, CountsProductsOf16Bits) {
  const TensorMemory memory(at::kCPU);
  for (const auto type : {at::kBFloat16, at::kHalf}) {
    const auto a = at::ones({96, 64}, type);
    EXPECT_TRUE(at::equal(a.mm(a.t()), at::full({96, 96}, 64, type))) << type;
  }
  EXPECT_GT(memory.peak(), 96 * 64 * 2);
}

TEST(MemoryPlan, CountsTheAifsNetwork) {
  // Sizes of N320 with a hidden mesh of level 6.
  const GraphSizes sizes{542080, 40962, 852824, 327600, 1626240, 0, 0, 0};
  const auto plan =
      plan_memory({.features_in = 198, .features_out = 88, .channels = 1024, .layers = 16}, sizes);

  EXPECT_EQ(plan.network_parameters, 183015512);
  EXPECT_EQ(plan.network_parameters + plan.table_parameters, 210133160);
  EXPECT_NEAR(plan.forward_flops, 75e12, 10e12);
}

TEST(MemoryPlan, TakesWhatIsFastestAndFits) {
  const GraphSizes sizes{50000, 2562, 60000, 20400, 150000, 0, 0, 0};
  const WeatherGnnOptions network{
      .features_in = 24, .features_out = 10, .channels = 256, .layers = 4};
  const auto peak = [&](const WeatherGnnOptions& options) {
    return plan_memory(options, sizes).peak_bytes;
  };
  auto recompute = network;
  recompute.activations = Activations::recompute;

  EXPECT_EQ(fit_memory(network, sizes, {}, peak(network)).activations, Activations::keep);
  const auto fitted = fit_memory(network, sizes, {}, peak(recompute));
  EXPECT_EQ(fitted.activations, Activations::recompute);
  EXPECT_EQ(fitted.chunk_edges, 0);
  const auto least = fit_memory(network, sizes, {}, 1);
  EXPECT_EQ(least.chunk_edges, 256);
  EXPECT_LE(peak(least), peak(recompute));
  EXPECT_LT(peak(recompute), peak(network) / 2);
}

// One of four GPUs that share N320. By chunks of a processor's cache a step would launch a million
// operations; WeatherGnn/Passes.LaunchFewOperationsALayerOnADevice has what a chunk takes.
TEST(MemoryPlan, TakesChunksOfADevicesMemory) {
  const GraphSizes sizes{135520, 10241, 213206, 81900, 406560, 2559, 1041, 646};
  WeatherGnnOptions network{.features_in = 198,
                            .features_out = 88,
                            .channels = 1024,
                            .layers = 16,
                            .compute = at::kBFloat16,
                            .activations = Activations::recompute};
  EXPECT_EQ(chunk_edges_of(network), 256) << "on a processor";
  const auto on_processor = plan_memory(network, sizes).peak_bytes;
  network.device_memory_bytes = int64_t{64} << 30;
  const int64_t chunk = chunk_edges_of(network);
  const auto chunks = [&](int64_t edges) { return (edges + chunk - 1) / chunk; };
  const int64_t all = chunks(sizes.encoder_edges) + 16 * chunks(sizes.processor_edges) +
                      chunks(sizes.decoder_edges);

  EXPECT_LE(180 * all, 10'000) << "launches";
  EXPECT_LE(plan_memory(network, sizes).peak_bytes - on_processor, network.device_memory_bytes / 8);
}

TEST(MemoryPlan, RejectsOptionsOutOfRange) {
  EXPECT_THROW(plan_memory({.features_in = 1, .features_out = 1}, {}, {.batch = 0}), UsageError);
}

}  // namespace
}  // namespace isobar::memory_plan_test
