// SPDX-License-Identifier: Apache-2.0
// How a world comes to be, and how it does not.
#include "comm/control/join.hpp"

#include <isobar/core/error.hpp>

#include "comm/control_world.hpp"
#include "comm/expect_error.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace isobar::control_start_test {
namespace {

using namespace std::chrono_literals;
using test::control_options;
using test::ControlRank;
using test::error_of;
using test::expect_contains;
using test::opening;

/// Opens one rank in a thread; the message of the `E` that it throws.
template <typename E>
std::future<std::string> refusal(const ControlOptions& options,
                                 std::unique_ptr<ControlListener> listener = nullptr) {
  return std::async(
      std::launch::async,
      [options](std::unique_ptr<ControlListener> socket) {
        return error_of<E>(
            [&] { Control::open(options, std::move(socket), std::make_shared<FirstCause>()); });
      },
      std::move(listener));
}

TEST(ControlListener, NamesAPortThatIsTaken) {
  const ControlListener first;
  const auto text = error_of<CommError>([&] { ControlListener second(first.port()); });
  expect_contains(text, std::to_string(first.port()));
  expect_contains(text, "Address already in use");
}

TEST(ControlStart, NamesTheRanksThatHaveNotComeOnEveryRank) {
  auto listener = std::make_unique<ControlListener>();
  const int port = listener->port();
  auto options = control_options(0, 5, port);
  options.start_timeout = 500ms;
  auto rank_0 = refusal<CommError>(options, std::move(listener));
  options.rank = 2;
  auto rank_2 = refusal<CommError>(options);
  const auto text = rank_0.get();
  expect_contains(text, "control connection on rank 0 of 5: ranks 1, 3, 4 have not come in 500 ms");
  EXPECT_EQ(rank_2.get(), text);
}

TEST(ControlStart, SaysForWhomItWaits) {
  auto listener = std::make_unique<ControlListener>();
  auto options = control_options(0, 3, listener->port());
  options.notice = 100ms;
  options.start_timeout = 700ms;
  testing::internal::CaptureStderr();
  auto rank_0 = refusal<CommError>(options, std::move(listener));
  rank_0.get();
  const auto said = testing::internal::GetCapturedStderr();
  expect_contains(said, "1 of 3 ranks have come, waiting for ranks 1, 2, ");
  EXPECT_LT(std::count(said.begin(), said.end(), '\n'), 7) << said;
}

TEST(ControlStart, NamesBothProcessesThatCallThemselvesTheSame) {
  auto listener = std::make_unique<ControlListener>();
  auto options = control_options(0, 4, listener->port());
  auto rank_0 = refusal<UsageError>(options, std::move(listener));
  options.rank = 1;
  auto rank_1 = refusal<UsageError>(options);
  options.rank = 2;
  options.host = "a";
  auto one = refusal<UsageError>(options);
  options.host = "b";
  auto other = refusal<UsageError>(options);
  const auto text = rank_0.get();
  expect_contains(text, "rank 2 of 4 is there twice, on ");
  expect_contains(text, "on a (pid ");
  expect_contains(text, "on b (pid ");
  for (auto* rank : {&rank_1, &one, &other}) EXPECT_EQ(rank->get(), text);
}

TEST(ControlStart, NamesBothOfTwoThatCallThemselvesRank0) {
  auto listener = std::make_unique<ControlListener>();
  const int port = listener->port();
  auto options = control_options(0, 2, port);
  options.addresses.clear();
  auto first = refusal<UsageError>(options, std::move(listener));
  // On the same machine it finds the port taken, and asks; on another it looks there by itself.
  options.host = "same";
  const auto text = error_of<UsageError>([&] { Control::ask_who_is_there(options); });
  expect_contains(text, "rank 0 of 2 is there twice, on n0 (pid ");
  expect_contains(text, " and on same (pid ");
  EXPECT_EQ(first.get(), text);
}

TEST(ControlStart, FindsAnotherRank0WhereAllLookForOne) {
  auto listener = std::make_unique<ControlListener>();
  auto elsewhere = std::make_unique<ControlListener>();
  auto options = control_options(0, 3, listener->port());
  options.host = "elsewhere";
  auto member = refusal<UsageError>(control_options(1, 3, elsewhere->port()));
  auto second = refusal<UsageError>(options, std::move(elsewhere));
  options.host = "n0";
  options.addresses.clear();
  auto first = refusal<UsageError>(options, std::move(listener));
  const auto text = first.get();
  expect_contains(text, "rank 0 of 3 is there twice, on n0 (pid ");
  expect_contains(text, " and on elsewhere (pid ");
  EXPECT_EQ(second.get(), text);
  EXPECT_EQ(member.get(), text);
}

TEST(ControlStart, DoesNotTakeItselfForAnother) {
  auto listener = std::make_unique<ControlListener>();
  const int port = listener->port();
  auto rank_0 = opening(control_options(0, 2, port), std::move(listener));
  std::this_thread::sleep_for(50ms);  // it has looked by then
  auto rank_1 = opening(control_options(1, 2, port));
  EXPECT_TRUE(rank_1.get());
  EXPECT_TRUE(rank_0.get());
}

TEST(ControlStart, TellsTwoJobsOnOnePortApart) {
  auto listener = std::make_unique<ControlListener>();
  auto options = control_options(0, 2, listener->port());
  options.job = "/bin/train a.yaml in /a";
  auto rank_0 = opening(options, std::move(listener));
  auto other = options;
  other.job = "/bin/train a.yaml in /b";
  for (const int rank : {1, 0}) {
    other.rank = rank;
    const auto text = rank == 1 ? refusal<UsageError>(other).get()
                                : error_of<UsageError>([&] { Control::ask_who_is_there(other); });
    expect_contains(text,
                    "belongs to another job (/bin/train a.yaml in /b) than rank 0 on n0 (pid ");
    expect_contains(text,
                    "(/bin/train a.yaml in /a); give jobs that run at once a MASTER_PORT each");
  }
  options.rank = 1;
  const auto rank_1 = opening(options).get();
  const auto complete = rank_0.get();
  EXPECT_EQ(rank_1->session(), complete->session());
  other.rank = 1;
  expect_contains(refusal<UsageError>(other).get(), "belongs to another job");
}

TEST(ControlStart, CutsALongCommandShort) {
  auto listener = std::make_unique<ControlListener>();
  auto options = control_options(0, 2, listener->port());
  options.job = std::string(100'000, 'a');
  auto rank_0 = opening(options, std::move(listener));
  options.rank = 1;
  auto other = options;
  other.job += "b";
  EXPECT_LT(refusal<UsageError>(other).get().size(), 2000U);
  EXPECT_TRUE(opening(options).get());
  EXPECT_TRUE(rank_0.get());
}

TEST(ControlStart, LooksForRank0AtEachOfItsPorts) {
  auto listener = std::make_unique<ControlListener>();
  const int port = listener->port();
  auto rank_0 = opening(control_options(0, 2, port), std::move(listener));
  auto options = control_options(1, 2, 1);  // nobody listens there
  options.other_ports = {2, port};
  EXPECT_TRUE(opening(options).get());
  EXPECT_TRUE(rank_0.get());
}

TEST(ControlStart, NamesARankOfAnotherWorldSize) {
  auto listener = std::make_unique<ControlListener>();
  const int port = listener->port();
  auto rank_0 = refusal<UsageError>(control_options(0, 2, port), std::move(listener));
  auto rank_1 = refusal<UsageError>(control_options(1, 3, port));
  const auto text = rank_0.get();
  expect_contains(text, "was started as rank 1 of 3, n0 (pid ");
  expect_contains(text, ") as rank 0 of 2");
  EXPECT_EQ(rank_1.get(), text);
}

TEST(ControlStart, TurnsAnotherTokenOrSecretAwayAndGoesOn) {
  auto listener = std::make_unique<ControlListener>();
  const int port = listener->port();
  auto rank_0 = opening(control_options(0, 2, port), std::move(listener));
  auto strange = control_options(1, 2, port);
  strange.token = "another job";
  strange.start_timeout = 300ms;
  expect_contains(refusal<CommError>(strange).get(), "is not this job's rank 0");
  strange.token = "job";
  strange.secret = "another user's";
  expect_contains(refusal<CommError>(strange).get(), "or has another ISOBAR_SECRET or home");
  auto rank_1 = opening(control_options(1, 2, port));
  EXPECT_TRUE(rank_1.get());
  EXPECT_TRUE(rank_0.get());
}

TEST(ControlStart, IgnoresStrangers) {
  auto listener = std::make_unique<ControlListener>();
  const int port = listener->port();
  auto rank_0 = opening(control_options(0, 2, port), std::move(listener));
  std::vector<control::Connection> strangers;
  for (int i = 0; i < 20; ++i) {
    std::string error;
    strangers.emplace_back(
        control::connect_to("127.0.0.1", port, control::Clock::now() + 2s, error),
        control::Hears::unproven);
    strangers.back().send_frame(i % 2 ? "GET / HTTP/1.1\r\n\r\n" : "");
  }
  auto rank_1 = opening(control_options(1, 2, port));
  EXPECT_TRUE(rank_1.get());
  EXPECT_TRUE(rank_0.get());
}

TEST(ControlStart, WaitsForARank0ThatComesLater) {
  int port = 0;
  {
    const ControlListener probe;
    port = probe.port();
  }
  auto rank_1 = opening(control_options(1, 2, port));
  std::this_thread::sleep_for(300ms);
  auto rank_0 = opening(control_options(0, 2, port), std::make_unique<ControlListener>(port));
  EXPECT_TRUE(rank_1.get());
  EXPECT_TRUE(rank_0.get());
}

TEST(ControlStart, SaysWhereItLookedForRank0) {
  int port = 0;
  {
    const ControlListener probe;
    port = probe.port();
  }
  auto options = control_options(1, 2, port);
  options.start_timeout = 200ms;
  const auto text = refusal<CommError>(options).get();
  expect_contains(text, "control connection on rank 1 of 2: rank 0 not reached in 200 ms");
  expect_contains(text, "127.0.0.1 port " + std::to_string(port) + ": Connection refused");
}

TEST(ControlStart, TakesARankBackThatLostItsConnection) {
  auto listener = std::make_unique<ControlListener>();
  const int port = listener->port();
  auto rank_0 = opening(control_options(0, 3, port), std::move(listener));
  {
    const auto lost = test::introduced(control_options(1, 3, port));
    std::this_thread::sleep_for(200ms);
  }
  std::this_thread::sleep_for(300ms);
  auto rank_1 = opening(control_options(1, 3, port));
  auto rank_2 = opening(control_options(2, 3, port));
  EXPECT_TRUE(rank_1.get());
  EXPECT_TRUE(rank_2.get());
  EXPECT_TRUE(rank_0.get());
}

TEST(ControlStart, TurnsAwayWhoComesToACompleteWorld) {
  auto listener = std::make_unique<ControlListener>();
  const int port = listener->port();
  auto rank_0 = opening(control_options(0, 2, port), std::move(listener));
  const auto control_1 = opening(control_options(1, 2, port)).get();
  const auto control_0 = rank_0.get();
  auto late = control_options(1, 2, port);
  late.host = "late";
  const auto text = refusal<UsageError>(late).get();
  expect_contains(text, "rank 1 of 2 on n1 (pid ");
  expect_contains(text, "is there already, and another came from late (pid ");
}

ControlOptions regroup_options(int rank, int port, int expected, std::chrono::milliseconds settle) {
  auto options = control_options(rank, 4, port);
  options.regroup = Regroup{.expected = expected, .settle = settle};
  return options;
}

/// Ranks 0, 1 and 3 of four regroup; their new ranks, in that order.
void expect_numbered_anew(int expected, std::chrono::milliseconds settle) {
  auto listener = std::make_unique<ControlListener>();
  const int port = listener->port();
  std::vector<std::future<std::shared_ptr<Control>>> ranks;
  for (const int rank : {0, 1, 3}) {
    ranks.push_back(opening(regroup_options(rank, port, expected, settle),
                            rank == 0 ? std::move(listener) : nullptr));
  }
  std::vector<std::future<std::vector<std::string>>> rounds;
  for (int r = 0; r < 3; ++r) {
    const auto control = ranks[r].get();
    EXPECT_EQ(control->rank(), r);
    EXPECT_EQ(control->size(), 3);
    rounds.push_back(std::async(std::launch::async,
                                [control, r] { return control->gather(std::to_string(r)); }));
  }
  for (auto& round : rounds) EXPECT_EQ(round.get(), (std::vector<std::string>{"0", "1", "2"}));
}

TEST(ControlRegroup, NumbersTheSurvivorsInTheirOldOrder) { expect_numbered_anew(3, 10s); }

TEST(ControlRegroup, TakesAsManyAsComeWhereTheNumberIsUnknown) { expect_numbered_anew(0, 500ms); }

TEST(ControlRegroup, GoesOnWithHalfOfTheRanks) {
  auto listener = std::make_unique<ControlListener>();
  auto options = control_options(0, 2, listener->port());
  options.regroup = Regroup{.settle = 100ms};
  const auto control = Control::open(options, std::move(listener), std::make_shared<FirstCause>());
  EXPECT_EQ(control->size(), 1);
  EXPECT_EQ(control->gather("mine"), std::vector<std::string>{"mine"});
}

/// Ranks 1 and 2 of four, or as many as are left of six, may be alive elsewhere.
TEST(ControlRegroup, StopsAMinorityOfTheLostWorld) {
  for (const int lost_size : {0, 6}) {
    for (const int expected : {0, lost_size == 0 ? 1 : 2}) {
      auto listener = std::make_unique<ControlListener>();
      auto options = control_options(0, lost_size == 0 ? 4 : 6, listener->port());
      options.regroup = Regroup{.lost_size = lost_size, .expected = expected, .settle = 400ms};
      auto rank_0 = refusal<CommError>(options, std::move(listener));
      std::future<std::string> rank_3;
      if (lost_size != 0) {
        options.rank = 3;
        rank_3 = refusal<CommError>(options);
      }
      const auto text = rank_0.get();
      expect_contains(text, lost_size == 0 ? ": 1 of 4 ranks of the lost world came, wanted half"
                                           : ": 2 of 6 ranks of the lost world came, wanted half");
      expect_contains(text, "alive beyond a broken network; restart the job");
      if (rank_3.valid()) {
        EXPECT_EQ(rank_3.get(), text);
      }
    }
  }
}

TEST(ControlRegroup, CountsTheRanksOfTheLastWorld) {
  auto listener = std::make_unique<ControlListener>();
  auto options = control_options(0, 8, listener->port());
  options.regroup = Regroup{.lost_size = 3, .expected = 2, .settle = 10s};
  auto rank_0 = opening(options, std::move(listener));
  options.rank = 6;
  EXPECT_EQ(opening(options).get()->rank(), 1);
  EXPECT_EQ(rank_0.get()->size(), 2);
}

TEST(ControlRegroup, TellsWhoComesLateThatTheOthersHaveGoneOn) {
  auto listener = std::make_unique<ControlListener>();
  const int port = listener->port();
  auto rank_0 = opening(regroup_options(0, port, 2, 10s), std::move(listener));
  auto rank_3 = opening(regroup_options(3, port, 2, 10s));
  const auto there = std::vector{rank_0.get(), rank_3.get()};
  const auto text = refusal<CommError>(regroup_options(1, port, 2, 10s)).get();
  expect_contains(text, "rank 1 of 4 on n1 (pid ");
  expect_contains(text, "came late: 2 ranks go on without it");
}

TEST(ControlRegroup, SaysWhatToDoWithoutRank0) {
  int port = 0;
  {
    const ControlListener gone;
    port = gone.port();
  }
  auto options = regroup_options(1, port, 3, 10s);
  options.start_timeout = 300ms;
  const auto text = refusal<CommError>(options).get();
  expect_contains(text, "rank 0 not reached in 300 ms");
  expect_contains(text, "survivors cannot go on without rank 0: restart the job");
}

}  // namespace
}  // namespace isobar::control_start_test
