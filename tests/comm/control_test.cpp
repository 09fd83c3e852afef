// SPDX-License-Identifier: Apache-2.0
#include "comm/control/control.hpp"

#include <isobar/core/error.hpp>

#include "comm/control/admission.hpp"
#include "comm/control_world.hpp"
#include "comm/expect_error.hpp"

#include <ATen/ops/empty.h>

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <numeric>
#include <optional>

namespace isobar::control_test {
namespace {

using namespace std::chrono_literals;
using control::Connection;
using test::cause_within;
using test::control_options;
using test::ControlRank;
using test::error_of;
using test::expect_contains;
using test::open_world;

Operation allreduce(int64_t sequence, int64_t count = 8) {
  Operation operation;
  operation.kind = OperationKind::allreduce;
  operation.output = at::empty({count});
  operation.sequence = sequence;
  return operation;
}

/// Every rank gives the same cause in time; returns it.
std::string common_cause(const std::vector<ControlRank>& world,
                         std::chrono::milliseconds limit = 30s) {
  const auto first = cause_within(*world.front().cause, limit);
  for (const auto& rank : world) EXPECT_EQ(cause_within(*rank.cause, limit), first);
  return first;
}

void expect_no_cause(const std::vector<ControlRank>& world, std::chrono::milliseconds time) {
  std::this_thread::sleep_for(time);
  for (const auto& rank : world) EXPECT_EQ(rank.cause->message(), "");
}

/// A world of `size` whose last rank is only a connection to rank 0 in this test's hand.
struct WorldWithPuppet {
  explicit WorldWithPuppet(int size) : listener(std::make_unique<ControlListener>()) {
    const int port = listener->port();
    std::vector<std::future<ControlRank>> opening;
    for (int r = 0; r + 1 < size; ++r) {
      opening.push_back(std::async(std::launch::async, [=, this] {
        ControlRank rank;
        rank.control = Control::open(control_options(r, size, port),
                                     r == 0 ? std::move(listener) : nullptr, rank.cause);
        return rank;
      }));
    }
    puppet.emplace(
        std::move(control::join_rank_0(control_options(size - 1, size, port)).connections[0]));
    for (auto& one : opening) ranks.push_back(one.get());
  }

  std::unique_ptr<ControlListener> listener;
  std::vector<ControlRank> ranks;
  std::optional<Connection> puppet;
};

TEST(Control, OpensAWorldOfOneWithoutASocket) {
  auto cause = std::make_shared<FirstCause>();
  const auto control = Control::open(ControlOptions(), nullptr, cause);
  EXPECT_EQ(control->gather("mine"), std::vector<std::string>{"mine"});
  control->watch(1, 0, 1)->issued(allreduce(0));
  cause->suspect("something");
  EXPECT_EQ(cause->message(), "something");
}

TEST(Control, GathersEveryRanksTextInOrder) {
  for (const int size : {1, 2, 3, 4}) {
    const auto world = open_world(size);
    std::vector<std::thread> threads;
    for (int r = 0; r < size; ++r) {
      threads.emplace_back([&, r] {
        for (int round = 0; round < 3; ++round) {
          const auto texts = world[r].control->gather(std::to_string(10 * round + r));
          ASSERT_EQ(std::ssize(texts), size);
          for (int from = 0; from < size; ++from) {
            EXPECT_EQ(texts[from], std::to_string(10 * round + from));
          }
        }
      });
    }
    for (auto& thread : threads) thread.join();
  }
}

TEST(Control, OpensOverBothFamiliesAndTriesTheNextAddress) {
  for (const std::string address : {"127.0.0.1", "::1"}) {
    const auto world = open_world(3, [&](ControlOptions& options) {
      options.addresses = {"256.1.1.1", "127.0.0.2x", address};
    });
    for (const auto& rank : world) EXPECT_EQ(rank.control->own_address(), address);
  }
}

TEST(Control, OpensAWorldOf64) {
  auto world = open_world(64);
  std::vector<std::future<size_t>> sizes;
  for (auto& rank : world) {
    sizes.push_back(
        std::async(std::launch::async, [&rank] { return rank.control->gather("x").size(); }));
  }
  for (auto& size : sizes) EXPECT_EQ(size.get(), 64u);
}

TEST(Control, EndsInAnyOrderWithoutAFailure) {
  for (const int first : {0, 1, 2}) {
    auto world = open_world(3);
    for (int i = 0; i < 3; ++i) {
      world[(first + i) % 3].control.reset();
      expect_no_cause(world, 60ms);
    }
  }
}

TEST(Control, NamesARankWhoseConnectionBreaksOnEveryRank) {
  WorldWithPuppet world(4);
  world.puppet.reset();
  expect_contains(common_cause(world.ranks), "rank 3 of 4 on n3 (pid ");
}

TEST(Control, NamesRank0OnEveryRankWhenItEnds) {
  const auto listener = control::listen_on(0);
  const int port = control::port_of(listener.fd());
  std::vector<std::future<ControlRank>> opening;
  for (int r = 1; r < 3; ++r) {
    opening.push_back(std::async(std::launch::async, [=] {
      ControlRank rank;
      rank.control = Control::open(control_options(r, 3, port), nullptr, rank.cause);
      return rank;
    }));
  }
  const auto options = control_options(0, 3, port);
  control::Acceptor acceptor(listener.fd(), control::credentials_of(options, options.port));
  auto joined = control::admit_all(options, control::make_hello(options), acceptor);
  std::vector<ControlRank> others;
  for (auto& one : opening) others.push_back(one.get());
  joined.connections.clear();
  expect_contains(common_cause(others), "rank 0 of 3 on n0 (pid ");
}

TEST(Control, DropsARankThatSendsGarbage) {
  WorldWithPuppet world(3);
  world.puppet->send_frame("no message at all");
  expect_contains(common_cause(world.ranks), "rank 2 of 3 on n2");
}

TEST(Control, DropsARankWhoseMessageIsTooLong) {
  WorldWithPuppet world(3);
  auto frame = control::encode(control::Alive{});
  frame[7] = '\x7f';
  world.puppet->send_frame(frame);
  expect_contains(common_cause(world.ranks), "rank 2 of 3 on n2");
}

TEST(Control, NamesARankThatFallsSilent) {
  const auto before = std::chrono::steady_clock::now();
  auto listener = std::make_unique<ControlListener>();
  auto options = control_options(0, 2, listener->port());
  options.silence_limit = 1s;
  ControlRank rank_0;
  auto opening = std::async(std::launch::async, [&] {
    rank_0.control = Control::open(options, std::move(listener), rank_0.cause);
  });
  const auto puppet = control::join_rank_0(control_options(1, 2, options.port));
  opening.get();
  const auto cause = cause_within(*rank_0.cause, 30s);
  // Not before the limit has passed, however slow the machine: it was heard after `before`.
  EXPECT_GE(std::chrono::steady_clock::now() - before, options.silence_limit);
  EXPECT_EQ(cause, "rank 1 of 2 on n1 (pid " + std::to_string(getpid()) +
                       ") has been silent for 1 s (stopped, swapped out or cut off)");
}

TEST(Control, NamesCallsThatDiffer) {
  const auto world = open_world(4);
  std::vector<std::unique_ptr<Watch>> watches;
  for (int r = 0; r < 4; ++r) watches.push_back(world[r].control->watch(1, r, 4));
  for (int r = 0; r < 4; ++r) {
    watches[r]->issued(allreduce(0));
    watches[r]->issued(allreduce(1, r == 2 ? 2048 : 1024));
  }
  EXPECT_EQ(
      common_cause(world),
      "collective #1: rank 0 of 4 calls 'allreduce sum float32[1024]', rank 2 calls "
      "'allreduce sum float32[2048]' (rank 2 differs from the 3 others); all ranks must issue "
      "the same collectives in the same order");
}

TEST(Control, HasNothingToSayOfCallsThatAgree) {
  const auto world = open_world(3);
  std::vector<std::thread> threads;
  for (int r = 0; r < 3; ++r) {
    threads.emplace_back([&, r] {
      for (uint64_t id = 1; id < 4; ++id) {
        const auto watch = world[r].control->watch(id, r, 3);
        for (int64_t i = 0; i < 20'000; ++i) watch->issued(allreduce(i, i % 3 + 1));
      }
    });
  }
  for (auto& thread : threads) thread.join();
  expect_no_cause(world, 300ms);
}

TEST(Control, GivesEveryRankTheFirstSuspicion) {
  const auto world = open_world(3);
  world[1].cause->suspect("connection to rank 2 is broken");
  EXPECT_EQ(common_cause(world), "connection to rank 2 is broken");
}

TEST(Control, GivesEveryRankACauseThatOneHasRecorded) {
  for (const int from : {0, 2}) {
    const auto world = open_world(3);
    world[from].cause->record("DataError: no such file");
    EXPECT_EQ(common_cause(world), "DataError: no such file");
  }
}

TEST(Control, TellsACauseEvenIfItsProcessEndsAtOnce) {
  auto world = open_world(3);
  world[2].cause->record("DataError: no such file");
  world[2].control.reset();
  EXPECT_EQ(common_cause(world), "DataError: no such file");
}

TEST(Control, NamesARankThatLeftEarly) {
  auto world = open_world(3);
  std::vector<std::unique_ptr<Watch>> watches;
  for (int r = 0; r < 3; ++r) watches.push_back(world[r].control->watch(1, r, 3));
  watches[2].reset();
  world[2].control.reset();
  watches[0]->issued(allreduce(0));
  world.pop_back();
  expect_contains(common_cause(world), "left before allreduce #0 (allreduce sum float32[8]): ");
}

TEST(Control, NamesRank0ThatLeftEarly) {
  auto world = open_world(3);
  std::vector<std::unique_ptr<Watch>> watches;
  for (int r = 0; r < 3; ++r) watches.push_back(world[r].control->watch(1, r, 3));
  for (auto& watch : watches) watch->issued(allreduce(0));
  std::this_thread::sleep_for(100ms);
  watches[0].reset();
  world[0].control.reset();
  world.erase(world.begin());
  expect_no_cause(world, 200ms);
  for (int r = 1; r < 3; ++r) watches[r]->issued(allreduce(1));
  expect_contains(common_cause(world), "rank 0 of 3 on n0 (pid ");
  expect_contains(common_cause(world), ") left before collective #1");
}

TEST(Control, RecordsSuspicionsItselfAfterRank0Left) {
  auto world = open_world(3);
  world[0].control.reset();
  std::this_thread::sleep_for(50ms);
  world[1].cause->suspect("connection to rank 2 is broken");
  EXPECT_EQ(cause_within(*world[1].cause, 30s), "connection to rank 2 is broken");
}

TEST(Control, FailsAGatherWithTheFirstCause) {
  WorldWithPuppet world(3);
  auto waiting = std::async(std::launch::async, [&] {
    return error_of<CommError>([&] { world.ranks[1].control->gather("x"); });
  });
  std::this_thread::sleep_for(50ms);
  world.puppet.reset();
  expect_contains(waiting.get(), "rank 2 of 3 on n2");
}

}  // namespace
}  // namespace isobar::control_test
