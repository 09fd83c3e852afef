// SPDX-License-Identifier: Apache-2.0
#include <isobar/comm/device_order.hpp>

#include <isobar/comm/thread_world.hpp>
#include <isobar/core/error.hpp>
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "comm/expect_error.hpp"
#include "comm/nccl_double.hpp"
#include "comm/signal_flag.hpp"

namespace isobar::test::nccl_task_test {
namespace {

using std::chrono::milliseconds;

std::unique_ptr<DeviceOrder> order_of(Communicator& comm) {
  return DeviceOrder::of(comm, c10::Device(c10::kCPU));
}

TEST(NcclTask, IssuesItsOperationsBeforeWhatWasPushedAfterIt) {
  NcclDouble nccl(3, {.answers_in_progress = 5});
  run_on_double(nccl, 3, {}, [](Communicator& world) {
    const auto inside = world.split(0, 0);
    const auto order = order_of(world);
    auto first = at::ones({3}), second = at::ones({3}), outside = at::ones({3});
    for (int i = 0; i < 5; ++i) {
      auto task = order->push("two sums", [&] {
        auto work = inside->allreduce(first);
        work.wait();
        (void)inside->broadcast(second, 0);
      });
      auto after = world.reduce_scatter(outside.narrow(0, 0, 1), first.new_ones({3}));
      after.wait();
      task.wait();
    }
  });
  const auto issued = nccl.issued(0);
  ASSERT_GE(issued.size(), 15);
  const std::vector<std::string> last(issued.end() - 3, issued.end());
  EXPECT_EQ(last,
            (std::vector<std::string>{"allreduce on 1", "broadcast on 1", "reduce_scatter on 0"}));
  EXPECT_EQ(nccl.issued(1), issued);
  EXPECT_EQ(nccl.issued(2), issued);
  EXPECT_TRUE(nccl.violations().empty());
}

// Rank 1 comes only when rank 0 has pushed the task, which waits for its first sum, and two sums
// after it.
TEST(NcclTask, IsPushedWithoutWaitingAndWaitsForNobodyItself) {
  NcclDouble nccl(2, {.answers_in_progress = 20});
  SignalFlag pushed, waited;
  run_on_double(nccl, 2, {}, [&](Communicator& world) {
    const auto order = order_of(world);
    auto a = at::ones({3}), b = at::ones({3}), c = at::ones({3});
    if (world.rank() == 1) {
      waited.await();
      EXPECT_TRUE(pushed.is_raised() && waited.is_raised());
    }
    auto task = order->push("two sums", [&] {
      world.allreduce(a).wait();
      (void)world.allreduce(b);
      if (world.rank() == 0) waited.raise();
    });
    if (world.rank() == 0) pushed.raise();
    order->await_tasks();
    auto last = world.allreduce(c);
    task.wait();
    last.wait();
    EXPECT_EQ(b[2].item<float>(), 2);
    EXPECT_EQ(c[2].item<float>(), 2);
  });
}

TEST(NcclTask, RunsBehindTheCallersStreamAndAheadOfWhoWaits) {
  NcclDouble nccl(2);
  run_on_double(nccl, 2, {}, [&](Communicator& world) {
    CallerStream stream(nccl, world.rank());
    const auto api = nccl.api(world.rank());
    const auto order = order_of(world);
    auto buffer = at::zeros({3}), doubled = at::zeros({3}), seen = at::zeros({3});
    SignalFlag pushed;
    stream.put([&] {
      pushed.await();
      buffer.fill_(1);
    });
    auto task = order->push("a sum and its double", [&] {
      const auto own = api->current_stream(0);
      world.allreduce(buffer).wait();
      api->compute(0, own, [&] { doubled.copy_(buffer * 2); });
    });
    task.wait();
    stream.put([&] { seen.copy_(doubled); });
    pushed.raise();
    world.barrier().wait();  // behind all of it
    EXPECT_EQ(seen[2].item<float>(), 4);
  });
}

TEST(NcclTask, FailsTheWorldWithWhatItThrows) {
  NcclDouble nccl(2);
  std::vector<std::string> errors(2);
  SignalFlag pushed;
  run_on_double(nccl, 2, {}, [&](Communicator& world) {
    const auto order = order_of(world);
    auto buffer = at::ones({3});
    auto task = order->push("gradients of bucket 2", [&] {
      pushed.await();
      if (world.rank() == 1) throw std::runtime_error("no memory");
      world.allreduce(buffer).synchronize();
    });
    if (world.rank() == 0) pushed.raise();
    errors[world.rank()] = error_of<CommError>([&] { task.wait(); });
    EXPECT_EQ(error_of<CommError>([&] { (void)order->push("more", [] {}); }), errors[world.rank()]);
    EXPECT_THROW(order->await_tasks(), CommError);
  });
  EXPECT_EQ(errors[0], "gradients of bucket 2 on rank 1 of 2: no memory");
  EXPECT_EQ(errors[1], errors[0]);
}

TEST(NcclTask, AFailedOperationEndsItWithThatError) {
  NcclDouble nccl(2, {.failing_rank = 1, .failing_operation = 1, .tasks_on_host = true});
  std::vector<std::string> errors(2);
  run_on_double(nccl, 2, {}, [&](Communicator& world) {
    const auto order = order_of(world);
    auto buffer = at::ones({3});
    auto task = order->push("sums", [&] {
      for (int i = 0; i < 3; ++i) world.allreduce(buffer).wait();
      ADD_FAILURE() << "went on";
    });
    errors[world.rank()] = error_of<CommError>([&] {
      order->push("next", [] { ADD_FAILURE() << "ran in a world that has failed"; }).wait();
    });
    EXPECT_EQ(error_of<CommError>([&] { task.synchronize(); }), errors[world.rank()]);
  });
  EXPECT_EQ(errors[0],
            "allreduce #1 on rank 1 of 2: remote process exited or there was a network error");
  EXPECT_EQ(errors[1], errors[0]);
  EXPECT_EQ(nccl.communicators(), 0);
}

TEST(NcclTask, AHangingOperationIsNamedInTime) {
  NcclDouble nccl(2, {.hanging_rank = 1, .hanging_operation = 1, .tasks_on_host = true});
  const auto start = std::chrono::steady_clock::now();
  const DoubleWorldOptions options{.timeout = milliseconds(400), .causes = Causes::own};
  run_on_double(nccl, 2, options, [&](Communicator& world) {
    const auto order = order_of(world);
    auto buffer = at::ones({3});
    auto task = order->push("sums", [&] {
      for (int i = 0; i < 3; ++i) world.allreduce(buffer).wait();
    });
    const auto error = error_of<CommError>([&] { task.wait(); });
    EXPECT_EQ(error, "allreduce #1 on rank " + std::to_string(world.rank()) +
                         " of 2: no answer in 400 ms (allreduce sum float32[3])");
  });
  EXPECT_LT(std::chrono::steady_clock::now() - start, milliseconds(30'000));
}

TEST(NcclTask, ACallThatDoesNotReturnHoldsNobody) {
  std::atomic<bool> went_on{false};
  {
    NcclDouble nccl(2, {.stuck_rank = 1});
    run_on_double(nccl, 2, {.timeout = milliseconds(300)}, [&](Communicator& world) {
      const auto order = order_of(world);
      auto task = order->push("sums", [&world, &went_on] {
        (void)world.allreduce(at::ones({3}));
        if (world.rank() == 1) went_on = true;
      });
      const auto error = error_of<CommError>([&] {
        task.wait();
        world.barrier().wait();
      });
      expect_contains(error, "no answer in 300 ms");
    });
  }  // the call returns
  EXPECT_FALSE(went_on);
}

TEST(NcclTask, IsRefusedWhileTheStreamCaptures) {
  NcclDouble nccl(2);
  run_on_double(nccl, 2, {}, [&](Communicator& world) {
    CallerStream stream(nccl, world.rank());
    const auto order = order_of(world);
    stream.capture(true);
    const auto error = error_of<UsageError>([&] { (void)order->push("sums", [] {}); });
    expect_contains(error, "sums on rank");
    expect_contains(error, "captures a CUDA graph");
    stream.capture(false);
  });
}

TEST(DeviceOrder, IsNcclsAlone) {
  run_ranks(2, [](Communicator& world) { EXPECT_EQ(order_of(world), nullptr); });
  NcclDouble nccl(2);
  run_on_double(nccl, 2, {}, [](Communicator& world) {
    EXPECT_NE(order_of(world), nullptr);
    EXPECT_EQ(DeviceOrder::of(world, c10::Device(c10::kMeta)), nullptr);
    EXPECT_EQ(order_of(*world.split(world.rank(), 0)), nullptr) << "a world of one";
  });
}

}  // namespace
}  // namespace isobar::test::nccl_task_test
