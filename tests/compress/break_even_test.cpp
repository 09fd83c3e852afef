// SPDX-License-Identifier: Apache-2.0
#include <isobar/compress/break_even.hpp>
#include <isobar/core/error.hpp>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "compress/allreduce_times.hpp"
#include "compress/methods.hpp"
#include "compress/world.hpp"

namespace isobar::break_even_test {
namespace {

using namespace test;

std::vector<NamedParameter> layers() {
  return {parameter("a", {64, 64}, at::kFloat), parameter("b", {64}, at::kFloat),
          parameter("c", {64, 32}, at::kFloat)};
}

BucketPlan two_buckets() { return plan_buckets(layers(), {0, 1, 2}, {.cap_bytes = 64 * 64 * 4}); }

CompressionCost cost_of(Compressor* compressor, int ranks) {
  return measure_compression(layers(), two_buckets(), compressor, ranks, 2);
}

int64_t bytes_of(const CompressionCost& cost) {
  int64_t bytes = 0;
  for (const auto& bucket : cost.buckets) {
    for (const auto& stage : bucket.stages) bytes += stage.bytes;
  }
  return bytes;
}

TEST(MeasureCompression, CountsGradientsAsTheyAre) {
  const auto cost = cost_of(nullptr, 4);
  const int64_t gradients = 4 * (64 * 64 + 64 + 64 * 32);
  EXPECT_EQ(cost.traffic.payload_bytes, gradients);
  EXPECT_EQ(cost.traffic.sent_bytes, 2 * 3 * gradients / 4);
  EXPECT_EQ(bytes_of(cost), gradients);
}

TEST(MeasureCompression, CountsWhatAReducerWouldSend) {
  for (const auto method : {Method::acp, Method::power}) {
    const LowRankOptions options{
        .matrix_approximation_rank = 2, .start_step = 0, .compare_every = 0};
    const auto cost = cost_of(make(method, options).get(), 2);
    int64_t payload = 0;
    run_ranks(2, [&](Communicator& comm) {
      CompressedModel model(layers(), comm, make(method, options),
                            {.caps = {.cap_bytes = 64 * 64 * 4}});
      for (int64_t step = 0; step < 2; ++step) {
        model.step({draw({64, 64}, 1, step), draw({64}, 2, step), draw({64, 32}, 3, step)});
      }
      if (comm.rank() == 0) payload = model.reducer.counters().payload_bytes;
    });
    EXPECT_EQ(cost.traffic.payload_bytes, payload / 2);
    // An allreduce of two ranks sends what it is given.
    EXPECT_NEAR(static_cast<double>(bytes_of(cost)), static_cast<double>(payload) / 2, 4);
  }
}

TEST(MeasureCompression, RefusesOneThatBeginsLater) {
  const auto compressor = make(Method::acp, {.start_step = 3});
  EXPECT_THROW(cost_of(compressor.get(), 2), UsageError);
  EXPECT_THROW(measure_compression(layers(), two_buckets(), nullptr, 2, 3), UsageError);
}

TEST(MeasureAllreduce, FitsWhatRanksMeasure) {
  run_ranks(3, [](Communicator& comm) {
    const auto cost = measure_allreduce(comm);
    EXPECT_GT(cost.bytes_per_s, 0);
    EXPECT_GE(cost.latency_s, 0);
    EXPECT_GT(measure_allreduce(comm, at::kBFloat16).bytes_per_s, 0);
  });
  run_ranks(1, [](Communicator& comm) { EXPECT_EQ(measure_allreduce(comm).seconds(100, 1), 0); });
}

/// Asked sizes in the order of asking, and what was made of them.
struct Asked {
  std::vector<int64_t> bytes;
  AllreduceCost cost;
};

Asked ask(const std::function<double(double)>& seconds) {
  Asked result;
  result.cost = cost_of_allreduces(
      [&](int64_t bytes) {
        result.bytes.push_back(bytes);
        return seconds(static_cast<double>(bytes));
      },
      2);
  return result;
}

TEST(MeasureAllreduce, AsksForNoMoreThanItNeeds) {
  const auto asked = ask([](double bytes) { return 1e-4 + bytes / 1e9; });
  EXPECT_EQ(asked.bytes.back(), 4 << 20);
  EXPECT_NEAR(asked.cost.latency_s, 1e-4, 1e-9);
  EXPECT_NEAR(asked.cost.bytes_per_s, 1e9, 1);
}

TEST(MeasureAllreduce, AsksForLargerOnesWhereAWaitHidesTheWire) {
  const auto asked = ask([](double bytes) { return std::max(0.02 - bytes / 1e10, bytes / 1e9); });
  EXPECT_EQ(asked.bytes.back(), 64 << 20);
  EXPECT_NEAR(asked.cost.seconds(64 << 20, 2), (64 << 20) / 1e9, 0.5 * (64 << 20) / 1e9);
}

TEST(MeasureAllreduce, IsNotTooGoodWhereNothingGrows) {
  const auto asked = ask([](double bytes) { return 0.02 - bytes / 1e10; });
  EXPECT_EQ(asked.bytes.size(), 6);
  for (const int64_t bytes : asked.bytes) {
    EXPECT_GE(asked.cost.seconds(bytes, 2), 0.02 - static_cast<double>(bytes) / 1e10) << bytes;
  }
}

TEST(SlowestCost, TakesTheLargestOfEachTime) {
  run_ranks(2, [](Communicator& comm) {
    const double own = comm.rank() == 0 ? 1 : 2, other = comm.rank() == 0 ? 5 : 3;
    CompressionCost cost{{{.stages = {{own, 10}, {other, 20}}, .complete_s = own}}, {}};
    const auto all = slowest(cost, comm).buckets[0];
    EXPECT_EQ(all.stages[0].compute_s, 2);
    EXPECT_EQ(all.stages[1].compute_s, 5);
    EXPECT_EQ(all.stages[1].bytes, 20);
    EXPECT_EQ(all.complete_s, 2);
  });
}

/// Two buckets of one stage each.
CompressionChoice choice(const std::string& name, double compute_s, int64_t bytes) {
  return {name, {{{.stages = {{compute_s, bytes}}}, {.stages = {{compute_s, bytes}}}}, {}}, {}};
}

std::vector<CompressionChoice> predicted(double bytes_per_s) {
  std::vector<CompressionChoice> choices{choice("none", 0, 1'000'000), choice("small", 0.01, 1000)};
  predict_choices(choices, {.forward_s = 0.1, .backward_s = 0.2, .optimizer_s = 0, .buckets = {}},
                  {0.1, 0.2}, {.latency_s = 0.001, .bytes_per_s = bytes_per_s}, 2);
  return choices;
}

TEST(Advice, TakesWhatPaysOnASlowLink) {
  const auto choices = predicted(1e6);
  EXPECT_GT(choices[0].step.step_s, 2 * choices[1].step.step_s);
  const auto advice = advise_compression(choices);
  EXPECT_EQ(advice.choice, 1u);
  EXPECT_NE(advice.reason.find("small is predicted to take"), std::string::npos) << advice.reason;
}

TEST(Advice, PredictsAMethodOnTheWireOfTheValuesThatItSends) {
  std::vector<CompressionChoice> choices{choice("none", 0, 1000), choice("bf16", 0, 1000)};
  choices[1].wire = AllreduceCost{.latency_s = 0.5, .bytes_per_s = 1e9};
  predict_choices(choices, {.forward_s = 0.1, .backward_s = 0.2, .optimizer_s = 0, .buckets = {}},
                  {0.1, 0.2}, {.latency_s = 0.001, .bytes_per_s = 1e9}, 2);
  EXPECT_LT(choices[0].step.step_s, 0.31);
  EXPECT_GT(choices[1].step.step_s, 1);
}

TEST(Advice, StaysOffOnAFastLinkAndSaysWhy) {
  const auto advice = advise_compression(predicted(1e10));
  EXPECT_EQ(advice.choice, 0u);
  EXPECT_NE(advice.reason.find("stays off"), std::string::npos) << advice.reason;
  EXPECT_EQ(advice.reason.find('\n'), std::string::npos);
}

TEST(Advice, WantsTheMargin) {
  auto choices = predicted(1e6);
  choices[0].step.step_s = 1;
  choices[1].step.step_s = 0.95;
  EXPECT_EQ(advise_compression(choices, 0.1).choice, 0u);
  EXPECT_EQ(advise_compression(choices, 0.04).choice, 1u);
  EXPECT_THROW(advise_compression({}, 0.1), UsageError);
  EXPECT_THROW(advise_compression(choices, 1), UsageError);
}

}  // namespace
}  // namespace isobar::break_even_test
