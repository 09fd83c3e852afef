// SPDX-License-Identifier: Apache-2.0
// What must hold for every world, plan and mode: gradients are those of one process that sees all
// samples, to the bit, and replicas stay equal.
#include <isobar/ddp/reducer.hpp>

#include <gtest/gtest.h>

#include <chrono>
#include <mutex>
#include <random>
#include <thread>

#include "ddp/exact.hpp"

namespace isobar::reducer_properties_test {
namespace {

using namespace test;

constexpr int64_t kSamples = 4;  // of a replica in a step

/// A small network of integers in float64: every sum in it is exact.
struct Net {
  at::Tensor inner = start({3, 6}), outer = start({6, 2}), bias = start({2});

  static at::Tensor start(at::IntArrayRef sizes) {
    const int64_t count = c10::multiply_integers(sizes);
    return (at::arange(count, at::kDouble).reshape(sizes) % 5 - 2).set_requires_grad(true);
  }
  std::vector<NamedParameter> parameters(Reduction reduction = Reduction::replicated) const {
    return {{"inner", inner, reduction}, {"outer", outer, reduction}, {"bias", bias, reduction}};
  }
  std::vector<at::Tensor> tensors() const { return {inner, outer, bias}; }

  /// Summed over the samples, divided by a replica's number of them.
  at::Tensor loss(const at::Tensor& samples) const {
    const auto hidden = samples.mm(inner).pow(2);
    return (hidden.mm(outer) + bias).pow(2).sum() / kSamples;
  }
  /// Moves every weight by one, so that it stays an integer.
  void update() const {
    for (auto tensor : tensors()) tensor.detach().sub_(tensor.grad().sign());
  }
};

/// All samples of a step, those of replica r from row r · kSamples on.
at::Tensor samples_of(int step, int replicas) {
  const auto count = replicas * kSamples * 3;
  return ((at::arange(count, at::kDouble) * 7 + step) % 5 - 2).reshape({-1, 3});
}

at::Tensor share_of(const at::Tensor& samples, int replica) {
  return samples.narrow(0, replica * kSamples, kSamples);
}

/// The gradients of one process after each of three steps.
std::vector<std::vector<at::Tensor>> single_process(int replicas) {
  const Net net;
  std::vector<std::vector<at::Tensor>> gradients;
  for (int step = 0; step < 3; ++step) {
    for (auto tensor : net.tensors()) tensor.mutable_grad() = at::Tensor();
    net.loss(samples_of(step, replicas)).backward();
    gradients.emplace_back();
    for (auto tensor : net.tensors()) {
      tensor.grad().div_(replicas);
      gradients.back().push_back(tensor.grad().clone());
    }
    net.update();
  }
  return gradients;
}

void expect_gradients(const Net& net, const std::vector<at::Tensor>& expected) {
  const auto tensors = net.tensors();
  for (size_t i = 0; i < tensors.size(); ++i) {
    EXPECT_TRUE(at::equal(tensors[i].grad(), expected[i])) << "parameter " << i;
  }
}

std::vector<ReducerOptions> all_modes() {
  std::vector<ReducerOptions> modes;
  const BucketCaps last{.cap_bytes = 64, .first_cap_bytes = 8, .last_cap_bytes = 32};
  for (const auto& caps :
       {BucketCaps{}, kOneTensorABucket, last, BucketCaps{.cap_list = {8, 64}}}) {
    for (const auto launch : {Launch::first_gradient, Launch::counted, Launch::at_finish}) {
      modes.push_back({.caps = caps, .launch = launch});
    }
  }
  return modes;
}

class ReducerProperties : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Worlds, ReducerProperties, testing::Values(1, 2, 3, 4));

TEST_P(ReducerProperties, GradientsAreThoseOfOneProcessInEveryModeAndPlan) {
  const auto expected = single_process(GetParam());
  run_ranks(GetParam(), [&](Communicator& comm) {
    for (const auto& mode : all_modes()) {
      const Net net;
      Reducer reducer(net.parameters(), comm, mode);
      for (int step = 0; step < 3; ++step) {
        reducer.zero_grad();
        net.loss(share_of(samples_of(step, comm.size()), comm.rank())).backward();
        reducer.finish();
        expect_gradients(net, expected[step]);
        net.update();
      }
    }
  });
}

TEST_P(ReducerProperties, MicroBatchesAddUpToOneBatchWithOneSetOfCollectives) {
  const auto expected = single_process(GetParam());
  run_ranks(GetParam(), [&](Communicator& comm) {
    for (const auto& mode : all_modes()) {
      const Net net;
      Reducer reducer(net.parameters(), comm, mode);
      int64_t planned = 0;
      for (int step = 0; step < 3; ++step) {
        planned += static_cast<int64_t>(reducer.plan().size());
        reducer.zero_grad();
        const auto share = share_of(samples_of(step, comm.size()), comm.rank());
        const auto last = net.loss(share.narrow(0, 3, 1));  // forward outside, or inside, of scopes
        {
          const auto scope = reducer.accumulate();
          net.loss(share.narrow(0, 0, 1)).backward();
          { const auto nested = reducer.accumulate(); }
          net.loss(share.narrow(0, 1, 2)).backward();
        }
        last.backward();
        reducer.finish();
        expect_gradients(net, expected[step]);
        net.update();
      }
      EXPECT_EQ(reducer.counters().collectives, planned);
    }
  });
}

/// A step on a grid whose model-parallel groups split a replica's samples.
void step_on_grid(const ProcessGrid& grid, const Net& net, Reducer& reducer, int step) {
  const auto replica = share_of(samples_of(step, grid.replicas()), grid.data().rank());
  const auto rows = kSamples / grid.model().size();
  reducer.zero_grad();
  net.loss(replica.narrow(0, rows * grid.model().rank(), rows)).backward();
  reducer.finish();
}

TEST(ReducerInvariants, GradientsOfAGridAreThoseOfOneProcess) {
  const std::vector<std::pair<int, int>> grids{{2, 1}, {4, 1}, {2, 2}, {2, 3}, {4, 2}};
  for (const auto& [model_size, replicas] : grids) {
    const auto expected = single_process(replicas);
    run_ranks(model_size * replicas, [&, model_size = model_size](Communicator& comm) {
      const ProcessGrid grid(comm, model_size);
      for (auto mode : all_modes()) {
        for (const auto levels : {GridLevels::flat, GridLevels::two}) {
          mode.levels = levels;
          const Net net;
          Reducer reducer(net.parameters(Reduction::partial), grid, mode);
          for (int step = 0; step < 3; ++step) {
            step_on_grid(grid, net, reducer, step);
            expect_gradients(net, expected[step]);
            net.update();
          }
        }
      }
    });
  }
}

/// The weights of every rank after five steps of inexact training.
std::vector<at::Tensor> trained(int size, const ReducerOptions& mode) {
  std::vector<at::Tensor> weights(size);
  run_ranks(size, [&](Communicator& comm) {
    const Net net;
    Reducer reducer(net.parameters(), comm, mode);
    for (int step = 0; step < 5; ++step) {
      reducer.zero_grad();
      net.loss(at::sin(share_of(samples_of(step, size), comm.rank()))).backward();
      reducer.finish();
      for (auto tensor : net.tensors()) tensor.detach().sub_(tensor.grad(), 0.001);
    }
    std::vector<at::Tensor> flat;
    for (const auto& tensor : net.tensors()) flat.push_back(tensor.detach().flatten());
    weights[comm.rank()] = at::cat(flat);
  });
  return weights;
}

TEST_P(ReducerProperties, ReplicasStayEqualAndRunsRepeatToTheBit) {
  const auto first = trained(GetParam(), {});
  EXPECT_TRUE(first.front().isfinite().all().item<bool>());
  for (const auto& mode : all_modes()) {
    for (const auto& weights : trained(GetParam(), mode)) {
      EXPECT_TRUE(at::equal(weights, first.front()));
    }
  }
}

TEST_P(ReducerProperties, RanksThatPauseAtRandomChangeNoBit) {
  const auto expected = single_process(GetParam());
  run_ranks(GetParam(), [&](Communicator& comm) {
    std::mt19937 random(comm.rank());
    const auto pause = [&random] {
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 1000));
    };
    for (const auto& mode : all_modes()) {
      const Net net;
      for (auto tensor : net.tensors()) tensor.register_hook([&](const at::Tensor&) { pause(); });
      Reducer reducer(net.parameters(), comm, mode);
      for (int step = 0; step < 3; ++step) {
        reducer.zero_grad();
        net.loss(share_of(samples_of(step, comm.size()), comm.rank())).backward();
        pause();
        reducer.finish();
        expect_gradients(net, expected[step]);
        net.update();
      }
    }
  });
}

TEST(ReducerInvariants, PlansRepeat) {
  std::mutex mutex;
  std::vector<std::string> plans;
  for (int run = 0; run < 3; ++run) {
    run_ranks(3, [&](Communicator& comm) {
      const Net net;
      Reducer reducer(net.parameters(), comm, {.caps = {.cap_bytes = 64, .first_cap_bytes = 8}});
      net.loss(samples_of(0, 1)).backward();
      reducer.finish();
      std::string plan;
      for (const auto& bucket : reducer.plan()) {
        for (const int64_t p : bucket.parameters) plan += std::to_string(p) + " ";
        plan += "| ";
      }
      const std::lock_guard lock(mutex);
      plans.push_back(plan);
    });
  }
  for (const auto& plan : plans) EXPECT_EQ(plan, plans.front());
}

}  // namespace
}  // namespace isobar::reducer_properties_test
