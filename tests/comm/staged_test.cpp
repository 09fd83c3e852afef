// SPDX-License-Identifier: Apache-2.0
#include "comm/devices/staged.hpp"

#include <isobar/comm/agreement.hpp>
#include <isobar/comm/thread_world.hpp>
#include <isobar/core/error.hpp>
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <future>
#include <thread>
#include <vector>

#include "comm/backend/communicator_access.hpp"
#include "comm/backend/first_cause.hpp"
#include "comm/carried_communicator.hpp"
#include "comm/device_double.hpp"
#include "comm/expect_error.hpp"
#include "comm/scenarios.hpp"

namespace isobar::test::staged_test {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

/// A rank of a staged world over ranks as threads, with a device of its own.
struct Rank {
  DeviceDouble device;
  std::unique_ptr<Communicator> world;
};

using Body = std::function<void(Rank&)>;

void run_rank(std::unique_ptr<Communicator> threads, const Body& body) {
  at::set_num_threads(1);
  Rank rank;
  try {
    rank.world = make_staged_communicator(std::move(threads), rank.device.api(), 0);
    body(rank);
  } catch (const std::exception& error) {
    ADD_FAILURE() << error.what();
  }
  rank.device.release();
  rank.world.reset();
  EXPECT_EQ(rank.device.violations(), std::vector<std::string>());
}

void run_staged(int size, const Body& body, milliseconds timeout = milliseconds(20'000)) {
  std::vector<std::thread> threads;
  for (auto& comm : make_thread_world(size, timeout)) {
    threads.emplace_back(run_rank, std::move(comm), std::cref(body));
  }
  for (auto& thread : threads) thread.join();
}

at::Tensor ones(Rank& rank, int64_t count = 5) { return rank.device.put(at::ones({count})); }

float first_of(Rank& rank, const at::Tensor& tensor) {
  return rank.device.get(tensor)[0].item<float>();
}

// --- what every backend does

class StagedScenarios : public testing::TestWithParam<Scenario> {};

/// With every operation on the device, and with every second.
TEST_P(StagedScenarios, Behave) {
  for (const int every : {1, 2}) {
    for (const int size : {1, 2, 3, 4}) {
      SCOPED_TRACE("world of " + std::to_string(size) + ", every " + std::to_string(every));
      run_staged(size, [&](Rank& rank) {
        rank.device.set_delay(microseconds(rank.world->rank() % 2 == 0 ? 0 : 20));
        auto world = carried(std::move(rank.world), carrier_of(rank.device), every);
        GetParam().run(*world);
      });
    }
  }
}

INSTANTIATE_TEST_SUITE_P(OverADouble, StagedScenarios, testing::ValuesIn(scenarios()),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(Staged, EveryTypeAndCollectiveGivesTheReference) {
  run_staged(3, [](Rank& rank) {
    check_sizes(*carried(std::move(rank.world), carrier_of(rank.device)), {1, 1000});
  });
}

// --- order

TEST(Staged, ACpuCollectiveKeepsItsPlaceBehindOneOfTheDevice) {
  run_staged(2, [](Rank& rank) {
    auto on_device = ones(rank);
    auto on_cpu = at::full({3}, rank.world->rank());
    if (rank.world->rank() == 1) rank.device.hold(Direction::to_host);
    auto first = rank.world->allreduce(on_device);
    auto second = rank.world->broadcast(on_cpu, 1);
    EXPECT_FALSE(second.is_completed());
    rank.device.release();
    second.wait();
    first.wait();
    EXPECT_EQ(first_of(rank, on_device), 2);
    EXPECT_EQ(on_cpu[2].item<int>(), 1);
  });
}

TEST(Staged, StartingNeverBlocks) {
  run_staged(2, [](Rank& rank) {
    rank.device.hold(Direction::to_host);
    std::vector<at::Tensor> buffers;
    std::vector<Work> works;
    for (int i = 0; i < 10; ++i) {
      works.push_back(rank.world->allreduce(buffers.emplace_back(ones(rank))));
    }
    for (auto& work : works) EXPECT_FALSE(work.is_completed());
    rank.device.release();
    for (auto& work : works) work.wait();
    for (auto& buffer : buffers) EXPECT_EQ(first_of(rank, buffer), 2);
  });
}

TEST(Staged, WaitingOrdersTheCallersStreamAndNotTheHost) {
  run_staged(2, [](Rank& rank) {
    DeviceStreamOfCaller stream(rank.device);
    auto buffer = ones(rank);
    float seen = 0;
    rank.device.hold(Direction::to_device);
    auto work = rank.world->allreduce(buffer);
    work.wait();  // returns though the result cannot come
    EXPECT_FALSE(work.is_completed());
    stream.put([&] { seen = first_of(rank, buffer); });
    rank.device.release();
    stream.synchronize();
    EXPECT_EQ(seen, 2);
    EXPECT_TRUE(work.is_completed());
  });
}

TEST(Staged, RefusesAStreamThatCapturesAGraphAndGoesOnAfterwards) {
  run_staged(2, [](Rank& rank) {
    DeviceStreamOfCaller stream(rank.device);
    auto buffer = ones(rank);
    stream.capture(true);
    const auto error = error_of<UsageError>([&] { rank.world->allreduce(buffer); });
    expect_contains(error, "captures a CUDA graph");
    stream.capture(false);
    rank.world->allreduce(buffer).synchronize();
    EXPECT_EQ(first_of(rank, buffer), 2);
  });
}

TEST(Staged, SynchronizeBlocksUntilTheResultIsThere) {
  run_staged(2, [](Rank& rank) {
    DeviceStreamOfCaller stream(rank.device);  // which nobody waits for
    rank.device.set_delay(milliseconds(50));
    auto buffer = ones(rank);
    rank.world->allreduce(buffer).synchronize();
    EXPECT_EQ(first_of(rank, buffer), 2);
  });
}

TEST(Staged, AnOperationWaitsForWhatTheCallersStreamDoesBefore) {
  run_staged(2, [](Rank& rank) {
    DeviceStreamOfCaller stream(rank.device);
    auto buffer = rank.device.put(at::zeros({5}));
    std::promise<void> go;
    stream.put([&, start = go.get_future().share()] {
      start.wait();
      static_cast<float*>(buffer.data_ptr())[0] = 3;
    });
    auto work = rank.world->allreduce(buffer);
    rank.device.await_copies(1);
    std::this_thread::sleep_for(milliseconds(20));  // for a copy that does not wait
    EXPECT_FALSE(work.is_completed());
    go.set_value();
    work.synchronize();
    EXPECT_EQ(first_of(rank, buffer), 6);
  });
}

TEST(Staged, AResultWaitsForWhatTheCallersStreamDoesBefore) {
  run_staged(2, [](Rank& rank) {
    auto buffer = ones(rank);
    if (rank.world->rank() == 0) {
      return rank.world->send(rank.device.put(at::full({5}, 9.0F)), 1).wait();
    }
    DeviceStreamOfCaller stream(rank.device);
    float read = 0;
    std::promise<void> go;
    stream.put([&, start = go.get_future().share()] {
      start.wait();
      read = first_of(rank, buffer);  // the old value: nobody may write before
    });
    auto work = rank.world->receive(buffer, 0);
    work.wait();
    EXPECT_FALSE(work.is_completed());
    go.set_value();
    work.synchronize();
    stream.synchronize();
    EXPECT_EQ(read, 1);
    EXPECT_EQ(first_of(rank, buffer), 9);
  });
}

TEST(Staged, AMessageThatIsLateHoldsUpNothing) {
  run_staged(2, [](Rank& rank) {
    auto late = ones(rank);
    auto sum = ones(rank);
    Work message;
    if (rank.world->rank() == 0) message = rank.world->receive(late, 1);
    rank.world->allreduce(sum).synchronize();
    rank.world->allreduce(sum).synchronize();
    if (rank.world->rank() == 1) {
      message = rank.world->send(rank.device.put(at::full({5}, 9.0F)), 0);
    }
    message.synchronize();
    EXPECT_EQ(first_of(rank, sum), 4);
    EXPECT_EQ(first_of(rank, late), rank.world->rank() == 0 ? 9 : 1);
  });
}

// --- memory

TEST(Staged, TensorsLiveUntilTheDeviceHasPassedThem) {
  run_staged(2, [](Rank& rank) {
    DeviceStreamOfCaller stream(rank.device);
    if (rank.world->rank() == 0) {
      rank.world->send(ones(rank), 1).wait();
    } else {
      rank.device.hold(Direction::to_device);
      rank.world->receive(ones(rank), 0).wait();
      rank.device.release();
      stream.synchronize();
    }
    rank.device.hold(Direction::to_device);
    rank.world->allreduce(ones(rank)).wait();
    rank.device.release();  // violations are looked for at the end
  });
}

TEST(Staged, ASteadyStateAllocatesNothing) {
  constexpr int kFlying = 4;
  run_staged(2, [](Rank& rank) {
    for (int step = 0; step < 50; ++step) {
      std::vector<Work> works;
      for (int i = 0; i < kFlying; ++i) works.push_back(rank.world->allreduce(ones(rank, 100 + i)));
      for (auto& work : works) work.synchronize();
    }
    // One of the step before may still be on its way back to the pool.
    EXPECT_LE(rank.device.host_allocations(), kFlying + 1);
  });
}

// --- failures

TEST(Staged, AnErrorOfTheTransportIsThatOfEveryWait) {
  run_staged(2, [](Rank& rank) {
    auto buffer = ones(rank, 5 + rank.world->rank());
    auto second = at::ones({1});
    auto work = rank.world->allreduce(buffer);
    const auto error = error_of<CommError>([&] { work.wait(); });
    expect_contains(error, "collective #0");
    expect_contains(error, "allreduce sum float32[6]");
    EXPECT_EQ(error_of<CommError>([&] { work.synchronize(); }), error);
    EXPECT_EQ(error_of<CommError>([&] { rank.world->allreduce(second).wait(); }), error);
    EXPECT_TRUE(work.is_completed());
  });
}

TEST(Staged, AnErrorOfTheDeviceIsTheWorlds) {
  run_staged(2, [](Rank& rank) {
    auto buffer = ones(rank);
    if (rank.world->rank() == 1) rank.device.fail("an illegal memory access was encountered");
    const auto error = error_of<CommError>([&] { rank.world->allreduce(buffer).wait(); });
    expect_contains(error, "illegal memory access");
  });
}

TEST(Staged, ADeviceThatDoesNotComeToAnOperationIsAnErrorInTime) {
  const auto body = [](Rank& rank) {
    if (rank.world->rank() == 1) rank.device.hold(Direction::to_host);
    auto buffer = ones(rank);
    auto work = rank.world->allreduce(buffer);
    expect_contains(error_of<CommError>([&] { work.wait(); }), "allreduce #0 on rank ");
  };
  run_staged(2, body, milliseconds(300));
}

TEST(Staged, AnAbortEndsEveryWait) {
  run_staged(2, [](Rank& rank) {
    if (rank.world->rank() == 0) return rank.world->abort("the sea has boiled away");
    auto buffer = ones(rank);
    const auto error = error_of<CommError>([&] { rank.world->allreduce(buffer).wait(); });
    expect_contains(error, "the sea has boiled away");
  });
}

TEST(Staged, ATensorOfAnotherDeviceIsRefused) {
  run_staged(2, [](Rank& rank) {
    auto elsewhere = at::empty({3}, at::TensorOptions().device(at::kMeta));
    const auto error = error_of<UsageError>([&] { (void)rank.world->allreduce(elsewhere); });
    expect_contains(error, "allreduce #0 on rank ");
    expect_contains(error, "the tensor is on meta");
  });
}

// --- numbers

/// Keeps the numbers that are reported.
class NumbersWatch final : public Watch {
 public:
  explicit NumbersWatch(std::vector<int64_t>& numbers) : numbers_(numbers) {}

  void issued(const Operation& operation) noexcept override {
    numbers_.push_back(operation.sequence);
  }

  std::unique_ptr<Watch> split(int64_t, int, int, int) override { return nullptr; }

 private:
  std::vector<int64_t>& numbers_;
};

TEST(Staged, NumbersGoOnWithoutAGapAcrossASplitAndAreTheTransports) {
  run_staged(2, [](Rank& rank) {
    std::vector<int64_t> numbers;
    BackendAccess::set_watch(*rank.world, std::make_unique<NumbersWatch>(numbers));
    rank.world->barrier().wait();
    const auto half = rank.world->split(0, 0);
    auto sum = ones(rank);
    rank.world->allreduce(sum).wait();
    const int64_t next = static_cast<int64_t>(numbers.size());
    for (int64_t i = 0; i < next; ++i) EXPECT_EQ(numbers[i], i);
    auto wrong = ones(rank, 5 + rank.world->rank());
    const auto error = error_of<CommError>([&] { rank.world->allreduce(wrong).wait(); });
    expect_contains(error, "collective #" + std::to_string(next) + ":");
  });
}

}  // namespace
}  // namespace isobar::test::staged_test
