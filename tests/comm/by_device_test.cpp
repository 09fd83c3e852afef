// SPDX-License-Identifier: Apache-2.0
#include "comm/devices/by_device.hpp"

#include <isobar/comm/agreement.hpp>
#include <isobar/comm/device_order.hpp>
#include <isobar/comm/make_communicator.hpp>
#include <isobar/comm/thread_world.hpp>
#include <isobar/core/error.hpp>
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

#include "comm/backend/communicator_access.hpp"
#include "comm/backend/first_cause.hpp"
#include "comm/carried_communicator.hpp"
#include "comm/device_double.hpp"
#include "comm/devices/staged.hpp"
#include "comm/expect_error.hpp"
#include "comm/nccl_double.hpp"
#include "comm/scenarios.hpp"
#include "comm/shared_memory/shared_memory.hpp"

namespace isobar::test::by_device_test {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kTimeout{20'000};

using RankBody = std::function<void(int rank)>;

void on_ranks(int size, const RankBody& body) {
  std::vector<std::thread> threads;
  for (int r = 0; r < size; ++r) {
    threads.emplace_back([&, r] {
      at::set_num_threads(1);
      try {
        body(r);
      } catch (const std::exception& error) {
        ADD_FAILURE() << "rank " << r << ": " << error.what();
      }
    });
  }
  for (auto& thread : threads) thread.join();
}

/// CPU tensors over one segment of shared memory, those of a device double over another.
void run_on_segments(int size, const std::function<void(Communicator&, DeviceDouble&)>& body) {
  static std::atomic<int> worlds{0};
  const auto name = detail::join("isobar-by-device-", getpid(), "-", worlds++);
  on_ranks(size, [&](int rank) {
    const auto cause = std::make_shared<FirstCause>();
    const auto segment = [&](const char* side) {
      return make_shared_memory_communicator({name + side, rank, size, kTimeout, cause});
    };
    DeviceDouble device;
    auto cpu = segment("-cpu");
    auto staged = make_staged_communicator(segment("-device"), device.api(), 0);
    const auto world = make_by_device_communicator(std::move(cpu), std::move(staged));
    body(*world, device);
  });
}

class ByDeviceScenarios : public testing::TestWithParam<Scenario> {};

TEST_P(ByDeviceScenarios, Behave) {
  for (const int every : {1, 2}) {
    for (const int size : {1, 2, 3}) {
      SCOPED_TRACE("world of " + std::to_string(size) + ", every " + std::to_string(every));
      run_on_segments(size, [&](Communicator& world, DeviceDouble& device) {
        // A communicator of its own: run_on_segments keeps the world.
        GetParam().run(*carried(world.split(0, world.rank()), carrier_of(device), every));
      });
    }
  }
}

INSTANTIATE_TEST_SUITE_P(OverDoubles, ByDeviceScenarios, testing::ValuesIn(scenarios()),
                         [](const auto& info) { return std::string(info.param.name); });

/// A world over ranks as threads and a double of NCCL, whose tensors are those of a device
/// double.
struct NcclRank {
  DeviceDouble device;
  std::unique_ptr<Communicator> world;

  at::Tensor put(int64_t count, float value) const { return device.put(at::full({count}, value)); }

  float first_of(const at::Tensor& tensor) const { return device.get(tensor)[0].item<float>(); }
};

void run_on_nccl(int size, const std::function<void(NcclRank&)>& body) {
  NcclDouble nccl(size);
  auto threads = make_thread_world(size, kTimeout);
  on_ranks(size, [&](int r) {
    NcclRank rank;
    auto cpu = std::move(threads[r]);
    auto api = std::make_shared<NcclApi>(*nccl.api(r));
    api->device_type = at::DeviceType::PrivateUse1;
    NcclOptions options{.rank = r, .size = size, .timeout = kTimeout, .unique_id = {'w'}};
    auto device = make_nccl_communicator(options, BackendAccess::first_cause(*cpu),
                                         std::make_shared<NcclQueue>(api, 0));
    rank.world = make_by_device_communicator(std::move(cpu), std::move(device));
    body(rank);
    rank.world.reset();
  });
  EXPECT_EQ(nccl.violations(), std::vector<std::string>());
  EXPECT_EQ(nccl.communicators(), 0);
}

TEST(ByDevice, EachTensorTakesItsSide) {
  run_on_nccl(3, [](NcclRank& rank) {
    auto on_device = rank.put(7, 1);
    auto on_cpu = at::ones({7});
    auto first = rank.world->allreduce(on_device);
    rank.world->allreduce(on_cpu).wait();
    rank.world->barrier().wait();
    first.wait();
    EXPECT_EQ(rank.first_of(on_device), 3);
    EXPECT_EQ(on_cpu[6].item<float>(), 3);
    EXPECT_EQ(rank.world->backend(), "nccl");
  });
}

TEST(ByDevice, TheDevicesTensorsAloneHaveAnOrder) {
  run_on_nccl(2, [](NcclRank& rank) {
    EXPECT_EQ(DeviceOrder::of(*rank.world, c10::Device(c10::kCPU)), nullptr);
    auto on_device = rank.put(7, 1);
    const auto order = DeviceOrder::of(*rank.world, on_device.device());
    ASSERT_NE(order, nullptr);
    const auto own = rank.world->split(0, 0);
    auto task = order->push("a sum", [&] { own->allreduce(on_device).wait(); });
    rank.world->barrier().wait();
    task.synchronize();
    EXPECT_EQ(rank.first_of(on_device), 2);
  });
}

TEST(ByDevice, RanksAgreeAsTheyDoOnCpus) {
  run_on_nccl(3, [](NcclRank& rank) {
    const int me = rank.world->rank();
    EXPECT_EQ(gather_texts(*rank.world, std::string(me, 'x')).at(2), "xx");
    const auto error = error_of<DataError>([&] {
      run_agreed(*rank.world, [&] {
        if (me == 1) throw DataError("no such file");
      });
    });
    EXPECT_EQ(error, "rank 1 of 3: no such file");
    const auto differs = error_of<UsageError>(
        [&] { require_equal(*rank.world, "configuration", {"a=" + std::to_string(me % 2)}); });
    expect_contains(differs, "rank 1 has 'a=1'");
  });
}

TEST(ByDevice, ASplitSplitsBothSidesInTheSameWay) {
  run_on_nccl(4, [](NcclRank& rank) {
    const int me = rank.world->rank();
    const auto half = rank.world->split(me % 2, -me);
    ASSERT_EQ(half->size(), 2);
    EXPECT_EQ(half->rank(), me < 2 ? 1 : 0);
    auto on_device = rank.put(3, static_cast<float>(me));
    auto on_cpu = at::full({3}, me);
    half->broadcast(on_device, 0).wait();
    half->broadcast(on_cpu, 0).wait();
    EXPECT_EQ(rank.first_of(on_device), static_cast<float>(2 + me % 2));
    EXPECT_EQ(on_cpu[0].item<int>(), 2 + me % 2);
    EXPECT_EQ(rank.world->split(-1, 0), nullptr);
  });
}

TEST(ByDevice, SendsMessagesOfTheCpuSideAlone) {
  run_on_nccl(2, [](NcclRank& rank) {
    const bool sends = rank.world->rank() == 0;
    auto on_cpu = at::full({4}, sends ? 9 : 0);
    (sends ? rank.world->send(on_cpu, 1) : rank.world->receive(on_cpu, 0)).wait();
    EXPECT_EQ(on_cpu[0].item<int>(), 9);
    auto on_device = rank.put(4, 9);
    EXPECT_THROW((void)rank.world->send(on_device, 1 - rank.world->rank()), UsageError);
  });
}

TEST(ByDevice, AnAbortReachesBothSides) {
  run_on_nccl(2, [](NcclRank& rank) {
    if (rank.world->rank() == 0) return rank.world->abort("the sea has boiled away");
    auto buffer = rank.put(4, 1);
    const auto error = error_of<CommError>([&] { rank.world->allreduce(buffer).synchronize(); });
    expect_contains(error, "the sea has boiled away");
    auto on_cpu = at::ones({1});
    EXPECT_EQ(error_of<CommError>([&] { rank.world->allreduce(on_cpu).wait(); }), error);
  });
}

TEST(ByDevice, OneOrderOfNumbersServesBothSides) {
  run_on_nccl(2, [](NcclRank& rank) {
    for (int i = 0; i < 3; ++i) rank.world->allreduce(rank.put(4, 1)).wait();
    auto on_cpu = at::ones({4 + rank.world->rank()});
    const auto error = error_of<CommError>([&] { rank.world->allreduce(on_cpu).wait(); });
    expect_contains(error, "collective #3:");
  });
}

TEST(RankDevice, IsTheCpuOrAGpuThatIsThere) {
  EXPECT_EQ(rank_device("cpu"), at::Device(at::kCPU));
  EXPECT_THROW((void)rank_device("tpu"), UsageError);
  if (at::detail::getCUDAHooks().deviceCount() == 0) {
    const auto error = error_of<UsageError>([] { (void)rank_device("cuda"); });
    expect_contains(error, "no GPU is usable here");
  }
}

TEST(ByDevice, SidesOfTwoWorldsAreRefused) {
  const auto error = error_of<UsageError>([] {
    (void)make_by_device_communicator(make_self_communicator(), make_self_communicator());
  });
  expect_contains(error, "one first cause");
}

}  // namespace
}  // namespace isobar::test::by_device_test
