// SPDX-License-Identifier: Apache-2.0
#include "comm/backend/first_cause.hpp"

#include <isobar/core/error.hpp>

#include "comm/expect_error.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <thread>
#include <vector>

namespace isobar::first_cause_test {
namespace {

using test::error_of;

TEST(FirstCause, KeepsTheFirstMessageOnly) {
  FirstCause cause;
  EXPECT_FALSE(cause.failed());
  EXPECT_TRUE(cause.record("rank 1 is gone"));
  EXPECT_FALSE(cause.record("rank 2 is gone"));
  EXPECT_EQ(cause.message(), "rank 1 is gone");
  EXPECT_EQ(error_of<CommError>([&] { cause.check(); }), "rank 1 is gone");
}

TEST(FirstCause, KeepsOneOfManyThreadsMessages) {
  FirstCause cause;
  std::atomic<int> kept = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] { kept += cause.record("thread " + std::to_string(t)); });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(kept, 1);
}

TEST(FirstCause, WakesItsSubscribersOnce) {
  FirstCause cause;
  int woken = 0;
  cause.subscribe([&] { ++woken; });
  const int left = cause.subscribe([&] { woken += 100; });
  cause.unsubscribe(left);
  cause.record("first");
  cause.record("second");
  EXPECT_EQ(woken, 1);
}

// An owner whose constructor throws is never destroyed, its members are.
TEST(FirstCause, ForgetsASubscriberWhoseOwnerWasNeverMade) {
  struct Owner {
    Owner(const std::shared_ptr<FirstCause>& cause, int& woken)
        : subscription(cause, [&woken] { ++woken; }) {
      throw Error("no thread is to be had");
    }
    CauseSubscription subscription;
  };
  const auto cause = std::make_shared<FirstCause>();
  int woken = 0;
  EXPECT_THROW(Owner(cause, woken), Error);
  const CauseSubscription lasting(cause, [&woken] { woken += 100; });
  cause->record("first");
  EXPECT_EQ(woken, 100);
}

TEST(FirstCause, WakesWhoSubscribesTooLateAtOnce) {
  FirstCause cause;
  cause.record("first");
  bool woken = false;
  cause.subscribe([&] { woken = true; });
  EXPECT_TRUE(woken);
}

TEST(FirstCause, TakesASuspicionForTheCauseWithoutAnArbiter) {
  FirstCause cause;
  cause.suspect("connection to rank 1 closed");
  EXPECT_EQ(cause.message(), "connection to rank 1 closed");
}

TEST(FirstCause, LetsTheArbiterDecide) {
  FirstCause cause;
  cause.set_arbiter(
      [&](const std::string& suspicion) { cause.record("arbiter on: " + suspicion); });
  cause.suspect("broken pipe");
  EXPECT_EQ(cause.message(), "arbiter on: broken pipe");
}

TEST(FirstCause, FailsWithTheVerdictOfALaterThread) {
  FirstCause cause;
  std::thread arbiter;
  cause.set_arbiter([&](const std::string&) {
    arbiter = std::thread([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      cause.record("rank 2 is gone");
    });
  });
  EXPECT_EQ(error_of<CommError>([&] { cause.fail("broken pipe"); }), "rank 2 is gone");
  arbiter.join();
}

TEST(FirstCause, AsksNobodyOnceTheArbiterIsGone) {
  FirstCause cause;
  cause.set_arbiter([](const std::string&) { FAIL() << "asked"; });
  cause.set_arbiter(nullptr);
  cause.suspect("broken pipe");
  EXPECT_EQ(cause.message(), "broken pipe");
}

}  // namespace
}  // namespace isobar::first_cause_test
