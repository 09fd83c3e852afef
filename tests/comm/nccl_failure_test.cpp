// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/error.hpp>
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <functional>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "comm/backend/communicator_access.hpp"
#include "comm/control_world.hpp"
#include "comm/expect_error.hpp"
#include "comm/nccl/communicator.hpp"
#include "comm/nccl_double.hpp"

namespace isobar::test::nccl_failure_test {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

/// What each of `size` ranks is told when it works on until something fails.
std::vector<std::string> errors_of(NcclDouble& nccl, int size, const DoubleWorldOptions& options,
                                   bool by_synchronize = false) {
  std::vector<std::string> errors(size);
  run_on_double(nccl, size, options, [&](Communicator& world) {
    errors[world.rank()] = error_of<CommError>([&] {
      for (int i = 0; i < 10; ++i) {
        auto buffer = at::ones({6});
        auto work = world.allreduce(buffer);
        by_synchronize ? work.synchronize() : work.wait();
        EXPECT_EQ(buffer[5].item<float>(), static_cast<float>(size)) << "a wrong sum";
      }
    });
    const auto again = error_of<CommError>([&] { (void)world.barrier(); });
    EXPECT_EQ(again, errors[world.rank()]);
  });
  return errors;
}

TEST(NcclFailure, AnErrorOfOneRankIsEveryonesFirstCause) {
  NcclDouble nccl(3, {.failing_rank = 1, .failing_operation = 4});
  const auto errors = errors_of(nccl, 3, {});
  EXPECT_EQ(errors[0],
            "allreduce #4 on rank 1 of 3: remote process exited or there was a network error");
  EXPECT_EQ(errors[1], errors[0]);
  EXPECT_EQ(errors[2], errors[0]);
  EXPECT_EQ(nccl.communicators(), 0);
  EXPECT_TRUE(nccl.violations().empty());
}

TEST(NcclFailure, AHangingRankIsAnErrorOnEveryRankInTime) {
  for (const bool by_synchronize : {false, true}) {
    NcclDouble nccl(3, {.hanging_rank = 2, .hanging_operation = 3});
    const auto start = Clock::now();
    const DoubleWorldOptions options{.timeout = milliseconds(400), .causes = Causes::own};
    const auto errors = errors_of(nccl, 3, options, by_synchronize);
    EXPECT_LT(Clock::now() - start, milliseconds(30'000));
    for (int r = 0; r < 3; ++r) {
      EXPECT_EQ(errors[r], "allreduce #3 on rank " + std::to_string(r) +
                               " of 3: no answer in 400 ms (allreduce sum float32[6])");
    }
    EXPECT_EQ(nccl.communicators(), 0);
  }
}

TEST(NcclFailure, AnOperationThatNobodyWaitsForIsAbortedInTime) {
  NcclDouble nccl(2, {.hanging_rank = 1, .hanging_operation = 0});
  run_on_double(nccl, 2, {.timeout = milliseconds(200)}, [](Communicator& world) {
    auto buffer = at::ones({2});
    const auto dropped = world.allreduce(buffer);
    for (int i = 0; i < 30'000 && !dropped.is_completed(); ++i) {
      std::this_thread::sleep_for(milliseconds(1));
    }
    const auto error = error_of<CommError>([&] { (void)world.barrier(); });
    expect_contains(error, "no answer in 200 ms");
  });
}

TEST(NcclFailure, AnAbortThatHangsHoldsNobody) {
  NcclDouble nccl(2, {.hanging_rank = 0, .hanging_operation = 1, .abort_hangs = true});
  const auto start = Clock::now();
  const auto errors = errors_of(nccl, 2, {.timeout = milliseconds(300)}, true);
  EXPECT_LT(Clock::now() - start, milliseconds(15'000));
  expect_contains(errors[0], "allreduce #1 on rank");
  EXPECT_EQ(errors[1], errors[0]);
}

TEST(NcclFailure, ACallThatDoesNotReturnHoldsNobody) {
  NcclDouble nccl(2, {.stuck_rank = 1});
  const auto start = Clock::now();
  const auto errors = errors_of(nccl, 2, {.timeout = milliseconds(300)});
  EXPECT_LT(Clock::now() - start, milliseconds(15'000));
  expect_contains(errors[0], "no answer in 300 ms");
  EXPECT_EQ(errors[1], errors[0]);
}

TEST(NcclFailure, AFailureEndsAllCommunicatorsOfTheWorld) {
  NcclDouble nccl(2, {.hanging_rank = 1, .hanging_operation = 1});
  run_on_double(nccl, 2, {.timeout = milliseconds(400)}, [](Communicator& world) {
    const auto group = world.split(0, 0);
    auto buffer = at::ones({2});
    const auto error = error_of<CommError>([&] { group->allreduce(buffer).synchronize(); });
    EXPECT_EQ(error_of<CommError>([&] { (void)world.barrier(); }), error);
    EXPECT_EQ(error_of<CommError>([&] { (void)world.split(0, 0); }), error);
  });
  EXPECT_EQ(nccl.communicators(), 0);
}

TEST(NcclFailure, AnotherPartsFailureWakesTheWaiters) {
  NcclDouble nccl(2);
  const auto cause = std::make_shared<FirstCause>();
  const auto queue = std::make_shared<NcclQueue>(nccl.api(0), 0);
  std::thread peer([&] {
    const auto other = std::make_shared<NcclQueue>(nccl.api(1), 0);
    const auto world =
        make_nccl_communicator({.rank = 1, .size = 2, .unique_id = {'w'}}, cause, other);
    std::this_thread::sleep_for(milliseconds(100));
    cause->record("rank 1 of 2 on n7: its connection closed");
  });
  const auto world =
      make_nccl_communicator({.rank = 0, .size = 2, .unique_id = {'w'}}, cause, queue);
  auto buffer = at::ones({2});
  auto work = world->allreduce(buffer);
  const auto error = error_of<CommError>([&] { work.synchronize(); });
  EXPECT_EQ(error, "rank 1 of 2 on n7: its connection closed");
  EXPECT_TRUE(work.is_completed());
  peer.join();
}

/// Runs `body` on each of three ranks over the double, each with a control connection and a cause
/// of its own.
void run_under_control(const std::function<void(Communicator& world)>& body) {
  constexpr int kSize = 3;
  NcclDouble nccl(kSize);
  auto ranks = open_world(kSize);
  std::vector<std::thread> threads;
  for (int r = 0; r < kSize; ++r) {
    threads.emplace_back([&, r] {
      const NcclOptions options{
          .rank = r, .size = kSize, .timeout = std::chrono::seconds(20), .unique_id = {'w'}};
      const auto world = make_nccl_communicator(options, ranks[r].cause,
                                                std::make_shared<NcclQueue>(nccl.api(r), 0));
      BackendAccess::set_watch(*world, ranks[r].control->watch(0, r, kSize, RowCounts::by_control));
      body(*world);
    });
  }
  for (auto& thread : threads) thread.join();
}

/// An all_to_all of a row to each; rank 1 expects none of rank 2 where it is `wrong`.
Work exchange_rows(Communicator& world, bool wrong) {
  const int size = world.size();
  std::vector<int64_t> expected(size, 1);
  if (wrong && world.rank() == 1) expected[2 % size] = 0;
  const auto rows = std::accumulate(expected.begin(), expected.end(), int64_t{0});
  return world.all_to_all(at::empty({rows, 2}), at::ones({size, 2}), expected,
                          std::vector<int64_t>(size, 1));
}

TEST(NcclFailure, ThePairWhoseRowCountsDifferIsNamedOnEveryRank) {
  const auto start = Clock::now();
  run_under_control([](Communicator& world) {
    exchange_rows(world, false).synchronize();
    const auto error = error_of<CommError>([&] {
      exchange_rows(world, true).synchronize();  // rank 2 alone waits for ever
      world.barrier().synchronize();
    });
    expect_contains(error,
                    "all_to_all #1 (all_to_all float32 rows of 2): rank 2 of 3 sends 1 row more to "
                    "rank 1 than that expects");
  });
  EXPECT_LT(Clock::now() - start, milliseconds(15'000));  // before the time limit
}

TEST(NcclFailure, RowCountsThatAgreeAreNoFailureInPartsOfAWorldEither) {
  run_under_control([](Communicator& world) {
    const auto part = world.split(world.rank() / 2, -world.rank());
    for (int i = 0; i < 20; ++i) {
      exchange_rows(world, false).synchronize();
      exchange_rows(*part, false).synchronize();
    }
    world.barrier().synchronize();
    std::this_thread::sleep_for(milliseconds(300));  // all has been reported
    world.barrier().synchronize();
  });
}

TEST(NcclFailure, SlowInitIsWaitedFor) {
  NcclDouble nccl(2, {.init_delay = milliseconds(300)});
  run_on_double(nccl, 2, {}, [](Communicator& world) { world.barrier().wait(); });
  EXPECT_TRUE(nccl.violations().empty());
}

TEST(NcclFailure, ARankThatDoesNotComeIsAnErrorInTime) {
  NcclDouble nccl(2);
  const auto queue = std::make_shared<NcclQueue>(nccl.api(0), 0);
  const NcclOptions options{.rank = 0, .size = 2, .timeout = milliseconds(300), .unique_id = {'w'}};
  const auto error = error_of<CommError>(
      [&] { (void)make_nccl_communicator(options, std::make_shared<FirstCause>(), queue); });
  EXPECT_EQ(error, "make_nccl_communicator on rank 0 of 2: no answer in 300 ms");
}

}  // namespace
}  // namespace isobar::test::nccl_failure_test
