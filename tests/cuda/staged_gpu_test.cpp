// SPDX-License-Identifier: Apache-2.0
// GPU tensors over host memory on a real GPU: ranks are threads that share it.
#include "comm/devices/staged.hpp"

#include <isobar/comm/thread_world.hpp>
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "comm/carried_communicator.hpp"
#include "comm/scenarios.hpp"

namespace isobar::test {
namespace {

constexpr int kSkipped = 77;

int gpus() { return c10::impl::VirtualGuardImpl(c10::kCUDA).deviceCount(); }

at::TensorOptions on_gpu() { return at::TensorOptions().device(at::kCUDA, 0); }

using Body = std::function<void(std::unique_ptr<Communicator>)>;

void run_rank(std::unique_ptr<Communicator> threads, const Body& body) {
  at::set_num_threads(1);
  try {
    body(make_staged_communicator(std::move(threads), staging_api(), 0));
  } catch (const std::exception& error) {
    ADD_FAILURE() << error.what();
  }
}

void run_staged(int size, const Body& body) {
  std::vector<std::thread> threads;
  for (auto& comm : make_thread_world(size, std::chrono::seconds(60))) {
    threads.emplace_back(run_rank, std::move(comm), std::cref(body));
  }
  for (auto& thread : threads) thread.join();
}

class StagedGpuScenarios : public testing::TestWithParam<Scenario> {};

TEST_P(StagedGpuScenarios, Behave) {
  for (const int every : {1, 2}) {
    SCOPED_TRACE("every " + std::to_string(every));
    run_staged(2, [&](std::unique_ptr<Communicator> world) {
      GetParam().run(*carried(std::move(world), gpu_carrier(0), every));
    });
  }
}

INSTANTIATE_TEST_SUITE_P(OnGpu, StagedGpuScenarios, testing::ValuesIn(scenarios()),
                         [](const auto& info) { return std::string(info.param.name); });

/// Keeps the current stream busy for a good while.
at::Tensor busy() {
  auto x = at::full({2048, 2048}, 1e-4, on_gpu());
  for (int i = 0; i < 50; ++i) x = x.matmul(x) * 1e-4;
  return x;
}

TEST(StagedOnGpu, AnOperationWaitsForItsInputAndTheStreamForTheResult) {
  run_staged(2, [](const std::unique_ptr<Communicator>& world) {
    const c10::impl::VirtualGuardImpl guard(c10::kCUDA);
    const c10::StreamGuard stream(guard.getStreamFromGlobalPool(on_gpu().device(), false));
    for (int i = 0; i < 20; ++i) {
      auto buffer = at::zeros({1 << 20}, on_gpu());
      buffer.add_(busy().sum() * 0 + 1);  // there once the device has worked a while
      world->allreduce(buffer).wait();
      const auto doubled = buffer * 2;  // nothing but the stream's order protects it
      EXPECT_EQ(doubled.min().item<float>(), 4);
    }
  });
}

TEST(StagedOnGpu, MemoryInFlightIsNotUsedAnew) {
  run_staged(2, [](const std::unique_ptr<Communicator>& world) {
    for (int i = 0; i < 50; ++i) {
      auto source = at::full({1 << 18}, static_cast<double>(i), on_gpu());
      auto result = at::empty({(1 << 18) * world->size()}, on_gpu());
      auto work = world->all_gather(result, source);
      source = at::Tensor();
      auto scribble = at::full({1 << 18}, -1.0, on_gpu());  // would take the freed memory
      work.wait();
      EXPECT_EQ(result.min().item<float>(), static_cast<float>(i));
      EXPECT_EQ(result.max().item<float>(), static_cast<float>(i));
    }
  });
}

}  // namespace
}  // namespace isobar::test

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (isobar::test::gpus() == 0) {
    std::puts("skipped: no GPU is usable here");
    return isobar::test::kSkipped;
  }
  return RUN_ALL_TESTS();
}
