// SPDX-License-Identifier: Apache-2.0
// The control connection at full size: rank 0 and 2,047 others in one process.
#include "comm/control/control.hpp"

#include "comm/control/reports.hpp"
#include "comm/control_members.hpp"
#include "comm/control_world.hpp"
#include "comm/expect_error.hpp"

#include <gtest/gtest.h>

#include <filesystem>

namespace isobar::control_scale_test {
namespace {

using namespace std::chrono_literals;
using test::control_options;
using test::ControlMembers;
using test::expect_contains;

constexpr int kRanks = 2048;

bool comes(const std::function<bool()>& done) {
  const auto end = std::chrono::steady_clock::now() + 60s;
  while (!done() && std::chrono::steady_clock::now() < end) std::this_thread::sleep_for(1ms);
  return done();
}

int64_t open_files() {
  const std::filesystem::directory_iterator entries("/proc/self/fd");
  return std::distance(begin(entries), end(entries));
}

/// Rank 0 of a large world, after the three rounds of a start.
struct LargeWorld {
  LargeWorld() {
    auto listener = std::make_unique<ControlListener>();
    options = control_options(0, kRanks, listener->port());
    options.addresses.clear();
    options.silence_limit = 60s;
    members = std::make_unique<ControlMembers>(options);
    control = Control::open(options, std::move(listener), cause);
    EXPECT_FALSE(control->all_equal("node1000"));
    EXPECT_EQ(control->gather("infiniband"), std::vector<std::string>(kRanks, "infiniband"));
    EXPECT_EQ(control->gather(""), std::vector<std::string>(kRanks, ""));
    EXPECT_TRUE(comes([&] { return members->gathered() == kRanks - 1; }));
  }

  ControlOptions options;
  std::shared_ptr<FirstCause> cause = std::make_shared<FirstCause>();
  std::unique_ptr<ControlMembers> members;
  std::shared_ptr<Control> control;
};

/// Not what grows with the square of the ranks: 348 MB, were each told of all.
TEST(ControlAtFullSize, StartsWithFewBytesARank) {
  const auto before = open_files();
  {
    LargeWorld world;
    EXPECT_EQ(world.members->welcomed(), kRanks - 1);
    EXPECT_LT(world.members->bytes_received(), 1024 * kRanks);
    EXPECT_EQ(world.members->wrong(), "");
    EXPECT_GE(open_files() - before, 2 * (kRanks - 1));
  }
  EXPECT_LE(open_files(), before + 2);
}

TEST(ControlAtFullSize, TellsAllOneCauseOfAKill) {
  LargeWorld world;
  std::vector<std::unique_ptr<Watch>> watches;
  for (const auto& one : test::communicators_of(0, kRanks)) {
    watches.push_back(world.control->watch(one.id, one.rank, one.size));
  }
  world.members->kill(1234);
  ASSERT_TRUE(comes([&] { return world.members->judged() == kRanks - 2; }));
  const auto verdicts = world.members->verdicts();
  ASSERT_EQ(verdicts.size(), 1U);
  expect_contains(verdicts.begin()->first, "rank 1234 of 2048 on node1308 (pid ");
  expect_contains(verdicts.begin()->first, " is gone: its control connection closed");
  EXPECT_EQ(test::cause_within(*world.cause, 10s), verdicts.begin()->first);
}

TEST(Reports, OfCallsOnAllCommunicatorsAreOneMessage) {
  control::Reports reports;
  for (uint64_t id = 0; id < 5; ++id) reports.watch({.id = id, .rank = 3, .size = kRanks});
  for (int64_t sequence = 0; sequence < 100; ++sequence) {
    for (uint64_t id = 0; id < 5; ++id) reports.issued(id, sequence, {});
  }
  const auto messages = reports.take();
  ASSERT_EQ(messages.size(), 1);
  const auto& report = std::get<control::Report>(messages.front());
  ASSERT_EQ(report.calls.size(), 5);
  for (const auto& calls : report.calls) EXPECT_EQ(calls.calls.size(), 100);
  EXPECT_TRUE(reports.take().empty());
}

TEST(Reports, HaveRowBalancesBesideTheirCalls) {
  control::Reports reports;
  constexpr int64_t kCalls = 10'000;  // more than one message takes
  for (int64_t sequence = 0; sequence < kCalls; ++sequence) {
    const auto rows = sequence % 2 == 0 ? std::nullopt : std::optional<uint64_t>(sequence);
    reports.issued(5, sequence, {}, rows);
    reports.issued(6, sequence, {});
  }
  std::vector<uint64_t> balances;
  for (const auto& message : reports.take()) {
    for (const auto& calls : std::get<control::Report>(message).calls) {
      const auto& own = calls.row_balances;
      EXPECT_EQ(own.size(), calls.id == 5 ? calls.calls.size() / 2 : 0);
      balances.insert(balances.end(), own.begin(), own.end());
    }
  }
  ASSERT_EQ(balances.size(), kCalls / 2);
  for (uint64_t i = 0; i < balances.size(); ++i) EXPECT_EQ(balances[i], 2 * i + 1);
}

}  // namespace
}  // namespace isobar::control_scale_test
