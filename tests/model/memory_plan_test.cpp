// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/error.hpp>
#include <isobar/model/loss.hpp>
#include <isobar/model/memory_plan.hpp>
#include <ATen/ATen.h>
#include <c10/core/CPUAllocator.h>
#include <gtest/gtest.h>

#include <atomic>
#include <tuple>

#include "graph/axes.hpp"

namespace isobar::memory_plan_test {
namespace {

/// Counts what LibTorch's CPU allocator holds, as long as it lives.
class CountingAllocator final : public c10::Allocator {
 public:
  CountingAllocator() : below_(c10::GetCPUAllocator()) {
    current = this;
    c10::SetCPUAllocator(this, /*priority=*/100);
  }
  ~CountingAllocator() override {
    c10::SetCPUAllocator(below_, 100);
    current = nullptr;
  }

  c10::DataPtr allocate(size_t bytes) override {
    auto held = std::make_unique<Block>(Block{below_->allocate(bytes), bytes});
    void* const data = held->data.get();
    const auto now = live_ += static_cast<int64_t>(bytes);
    auto peak = peak_.load();
    while (now > peak && !peak_.compare_exchange_weak(peak, now)) {
    }
    return {data, held.release(), &release, c10::Device(c10::kCPU)};
  }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }

  void restart() { peak_ = live_.load(); }
  int64_t live() const { return live_; }
  int64_t peak() const { return peak_; }

 private:
  struct Block {
    c10::DataPtr data;
    size_t bytes;
  };
  static void release(void* context) {
    auto* const block = static_cast<Block*>(context);
    if (current) current->live_ -= static_cast<int64_t>(block->bytes);
    delete block;
  }

  static inline CountingAllocator* current = nullptr;
  c10::Allocator* below_;
  std::atomic<int64_t> live_{0};
  std::atomic<int64_t> peak_{0};
};

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
  CountingAllocator memory;
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

TEST(MemoryPlan, RejectsOptionsOutOfRange) {
  EXPECT_THROW(plan_memory({.features_in = 1, .features_out = 1}, {}, {.batch = 0}), UsageError);
}

}  // namespace
}  // namespace isobar::memory_plan_test
