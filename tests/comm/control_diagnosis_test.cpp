// SPDX-License-Identifier: Apache-2.0
#include "comm/control/diagnosis.hpp"

#include "comm/control/row_balance.hpp"
#include "comm/control/running_time.hpp"
#include "comm/expect_error.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

namespace isobar::control::control_diagnosis_test {
namespace {

using std::chrono::milliseconds;
using test::expect_contains;

constexpr uint64_t kWorld = 1;
constexpr auto kNow = Time(std::chrono::hours(1));

Call allreduce(int64_t count) {
  return {.count = count,
          .kind = static_cast<uint8_t>(OperationKind::allreduce),
          .type = static_cast<uint8_t>(at::kFloat)};
}

/// A world of `size` that rank 0 hears, with its time.
class World {
 public:
  explicit World(int size, TimeLimits limits = {milliseconds(10'000), milliseconds(60'000)})
      : size_(size), diagnosis_(processes(size), limits, kNow) {
    for (int r = 0; r < size; ++r) says(r, Watching{kWorld, r, size});
  }

  static ProcessTable processes(int size) {
    std::vector<Process> processes;
    for (int r = 0; r < size; ++r) processes.push_back({"n" + std::to_string(r), 100 + r});
    return ProcessTable(processes);
  }

  void says(int rank, const ControlMessage& message) { diagnosis_.received(rank, message, now_); }
  void says(int rank, const Watching& one) { says(rank, Report{{one}, {}, {}}); }
  void says(int rank, const Calls& calls) { says(rank, Report{{}, {calls}, {}}); }
  void says(int rank, const Unwatched& one) { says(rank, Report{{}, {}, {one}}); }
  void closes(int rank) { diagnosis_.closed(rank, now_); }

  /// `rank` issues allreduces of these sizes, starting with number `first`.
  void issues(int rank, int64_t first, const std::vector<int64_t>& counts, uint64_t id = kWorld) {
    Calls calls{.id = id, .first = first, .calls = {}};
    for (const auto count : counts) calls.calls.push_back(allreduce(count));
    says(rank, calls);
  }

  void all_issue(int64_t first, const std::vector<int64_t>& counts) {
    for (int r = 0; r < size_; ++r) issues(r, first, counts);
  }

  /// Time passes, in which all but `silent` are heard.
  std::string after(milliseconds time, const std::vector<int>& silent = {}) {
    for (const auto end = now_ + time; now_ < end; now_ += milliseconds(50)) {
      for (int r = 0; r < size_; ++r) {
        if (std::count(silent.begin(), silent.end(), r) == 0) says(r, Alive{});
      }
      if (auto verdict = diagnosis_.verdict(now_)) return *verdict;
    }
    return {};
  }

  Diagnosis& diagnosis() { return diagnosis_; }
  Time now() const { return now_; }

 private:
  int size_;
  Time now_ = kNow;
  Diagnosis diagnosis_;
};

TEST(Diagnosis, HasNoVerdictOnAWorldThatWorks) {
  World world(4);
  world.all_issue(0, {8, 16, 24});
  EXPECT_EQ(world.after(milliseconds(60'000)), "");
  for (int r = 0; r < 4; ++r) {
    world.says(r, Goodbye{});
    world.closes(r);
  }
  EXPECT_EQ(world.after(milliseconds(60'000)), "");
}

TEST(Diagnosis, NamesARankWhoseConnectionCloses) {
  World world(4);
  world.all_issue(0, {8, 16});
  world.closes(2);
  const auto text = world.after(milliseconds(200));
  EXPECT_EQ(text,
            "rank 2 of 4 on n2 (pid 102) is gone: its control connection closed; last collective "
            "known of rank 2: allreduce #1 (allreduce sum float32[16])");
}

TEST(Diagnosis, NamesAllThatDieTogether) {
  World world(4);
  world.closes(3);
  EXPECT_EQ(world.after(milliseconds(50)), "");
  world.closes(1);
  expect_contains(world.after(milliseconds(200)),
                  "rank 1 of 4 on n1 (pid 101), rank 3 of 4 on n3 (pid 103) are gone");
}

TEST(Diagnosis, QuotesWhatADeadRankSuspected) {
  World world(3);
  world.says(1, Suspicion{"broken pipe"});
  world.closes(1);
  expect_contains(world.after(milliseconds(200)), "before it ended it said: broken pipe");
}

TEST(Diagnosis, NamesARankThatIsSilent) {
  World world(4);
  EXPECT_EQ(world.after(milliseconds(9'000), {2}), "");
  EXPECT_EQ(
      world.after(milliseconds(2'000), {2}),
      "rank 2 of 4 on n2 (pid 102) has been silent for 10 s (stopped, swapped out or cut off)");
}

TEST(Diagnosis, NamesAllRanksOfASilentNode) {
  World world(4);
  EXPECT_EQ(world.after(milliseconds(500), {2}), "");
  expect_contains(world.after(milliseconds(11'000), {2, 3}),
                  "rank 2 of 4 on n2 (pid 102), rank 3 of 4 on n3 (pid 103) have been silent");
}

TEST(Diagnosis, DoesNotMindASilenceThatEndsInTime) {
  World world(4);
  EXPECT_EQ(world.after(milliseconds(9'900), {2}), "");
  EXPECT_EQ(world.after(milliseconds(9'900)), "");
}

/// A rank 0 whose own process runs by fits and starts: two ranks, of which rank 1 says nothing.
class RestlessJudge {
 public:
  /// Away for `time`; then it takes a turn.
  std::optional<std::string> misses(milliseconds time) {
    wall_ += time;
    return diagnosis_.verdict(running_.advance(wall_));
  }

  /// Turns as close as Loop takes them; the verdict, if there is one, and how long it took.
  std::pair<std::optional<std::string>, milliseconds> listens(milliseconds limit) {
    for (milliseconds spent{0}; spent < limit;) {
      spent += milliseconds(50);
      if (auto verdict = misses(milliseconds(50))) return {verdict, spent};
    }
    return {std::nullopt, limit};
  }

 private:
  TimeLimits limits_{milliseconds(3'000), milliseconds(60'000)};
  Time wall_ = kNow;
  RunningTime running_{kNow, limits_.longest_turn()};
  Diagnosis diagnosis_{World::processes(2), limits_, running_.now()};
};

TEST(Diagnosis, ForgivesTheOthersOneLongAbsenceOfItsOwn) {
  RestlessJudge judge;
  judge.listens(milliseconds(600));
  EXPECT_EQ(judge.misses(milliseconds(30'000)), std::nullopt);
  EXPECT_EQ(judge.listens(milliseconds(1'500)).first, std::nullopt);
}

TEST(Diagnosis, ForgivesAnAbsenceBeforeItsFirstTurn) {
  RestlessJudge judge;
  EXPECT_EQ(judge.misses(milliseconds(30'000)), std::nullopt);
  EXPECT_EQ(judge.listens(milliseconds(1'500)).first, std::nullopt);
}

TEST(Diagnosis, ForgivesSeveralShortAbsencesOfItsOwn) {
  RestlessJudge judge;
  for (int i = 0; i < 8; ++i) EXPECT_EQ(judge.misses(milliseconds(1'700)), std::nullopt);
  EXPECT_EQ(judge.misses(milliseconds(150)), std::nullopt);
}

TEST(Diagnosis, KeepsItsLimitWhileItRuns) {
  RestlessJudge judge;
  judge.misses(milliseconds(30'000));
  const auto [verdict, spent] = judge.listens(milliseconds(10'000));
  expect_contains(verdict.value_or("none"), "rank 1 of 2 on n1 (pid 101) has been silent for 3 s");
  EXPECT_LE(spent, milliseconds(3'200));
}

TEST(Diagnosis, NamesBothCallsThatDiffer) {
  World world(2);
  world.all_issue(0, {8, 8});
  world.issues(0, 2, {1024});
  world.issues(1, 2, {2048});
  EXPECT_EQ(world.after(milliseconds(200)),
            "collective #2: rank 0 of 2 calls 'allreduce sum float32[1024]', rank 1 calls "
            "'allreduce sum float32[2048]'; all ranks must issue the same collectives in the same "
            "order");
}

TEST(Diagnosis, NamesBothBucketsThatDiffer) {
  World world(2);
  for (const int rank : {0, 1}) {
    auto call = allreduce(1024);
    call.mark.bucket = 3 + rank;
    world.says(rank, Calls{kWorld, 0, {call}});
  }
  expect_contains(world.after(milliseconds(200)),
                  "collective #0: rank 0 of 2 calls 'allreduce sum float32[1024] of bucket 3', "
                  "rank 1 calls 'allreduce sum float32[1024] of bucket 4'");
}

TEST(Diagnosis, SaysByMajorityWhoDiffers) {
  World world(4);
  world.issues(2, 0, {2048, 1});
  for (const int rank : {0, 1, 3}) world.issues(rank, 0, {1024, 2});
  const auto text = world.after(milliseconds(50));
  expect_contains(text, "collective #0: rank 0 of 4 calls 'allreduce sum float32[1024]', rank 2 ");
  expect_contains(text, "(rank 2 differs from the 3 others)");
}

TEST(Diagnosis, NamesTheFirstOfSeveralCallsThatDiffer) {
  World world(3);
  world.issues(0, 0, {1, 2, 3});
  world.issues(1, 0, {1, 2, 4});
  world.issues(2, 0, {1, 5, 3});
  const auto text = world.after(milliseconds(200));
  expect_contains(text, "collective #1: rank 0 of 3");
  expect_contains(text, "rank 2 differs from the 2 others");
}

/// How many rows each rank of a communicator sends to each, by (from, to).
using Rows = std::vector<std::vector<int64_t>>;

/// What its rank `rank` reports of an all_to_all in which it sends what `sent` says, and expects
/// what `expected` says.
Calls exchange(int rank, int64_t first, const Rows& sent, const Rows& expected,
               uint64_t id = kWorld) {
  std::vector<int64_t> of_rank;
  for (const auto& rows : expected) of_rank.push_back(rows[static_cast<size_t>(rank)]);
  return {.id = id,
          .first = first,
          .calls = {{.count = 3,
                     .kind = static_cast<uint8_t>(OperationKind::all_to_all),
                     .type = static_cast<uint8_t>(at::kFloat)}},
          .row_balances = {row_balance(first, rank, sent[static_cast<size_t>(rank)], of_rank)}};
}

const Rows kRows = {{0, 3, 5}, {4, 0, 4}, {1, 2, 0}};

/// As kRows, but that rank 1 expects one row of rank 2.
const Rows kOneRowLess = {{0, 3, 5}, {4, 0, 4}, {1, 1, 0}};

TEST(Diagnosis, HasNothingToSayOfRowCountsThatAgreeInAnyOrderOfReports) {
  World world(3);
  std::mt19937 random(5);
  std::vector<int64_t> counts(3, 0);
  for (int i = 0; i < 600; ++i) {
    const int rank = static_cast<int>(random() % 3);
    auto& count = counts[static_cast<size_t>(rank)];
    if (count % 3 == 2) {
      world.issues(rank, count, {8});
    } else {
      world.says(rank, exchange(rank, count, kRows, kRows));
    }
    ++count;
  }
  EXPECT_EQ(world.after(milliseconds(1'000)), "");
}

TEST(Diagnosis, NamesThePairWhoseRowCountsDifferInAnyOrderOfReports) {
  std::vector<int> order = {0, 1, 2};
  do {
    World world(3);
    for (const int rank : order) world.says(rank, exchange(rank, 0, kRows, kRows));
    for (const int rank : order) {
      EXPECT_EQ(world.after(milliseconds(50)), "");
      world.says(rank, exchange(rank, 1, kRows, kOneRowLess));
    }
    EXPECT_EQ(world.after(milliseconds(50)),
              "all_to_all #1 (all_to_all float32 rows of 3): rank 2 of 3 sends 1 row more to rank "
              "1 than that expects; the one's input_rows and the other's output_rows must agree");
  } while (std::next_permutation(order.begin(), order.end()));
}

TEST(Diagnosis, NamesThePairByItsRanksInTheWorld) {
  World world(5);
  constexpr uint64_t kPart = 7;
  const std::vector<int> members = {4, 0, 2};
  for (int r = 0; r < 3; ++r) world.says(members[r], Watching{kPart, r, 3});
  for (int r = 0; r < 3; ++r) world.says(members[r], exchange(r, 0, kOneRowLess, kRows, kPart));
  world.all_issue(0, {8});
  expect_contains(world.after(milliseconds(50)),
                  "all_to_all #0 of the communicator of ranks 0, 2, 4 (all_to_all float32 rows of "
                  "3): rank 2 of 5 sends 1 row fewer to rank 0 than that expects");
}

TEST(Diagnosis, SaysHowToFindPairsWhereSeveralDiffer) {
  World world(3);
  const Rows others = {{0, 3, 4}, {3, 0, 4}, {1, 2, 0}};
  for (int r = 0; r < 3; ++r) world.says(r, exchange(r, 0, kRows, others));
  expect_contains(
      world.after(milliseconds(50)),
      "all_to_all #0 (all_to_all float32 rows of 3): row counts differ: what ranks send "
      "(input_rows) is not what others expect (output_rows); with comm.backend mpi");
}

TEST(Diagnosis, BlamesCallsThatDifferRatherThanTheirRows) {
  World world(3);
  for (const int rank : {0, 1}) world.says(rank, exchange(rank, 0, kRows, kRows));
  world.issues(2, 0, {8});
  expect_contains(world.after(milliseconds(200)), "collective #0: rank 0 of 3 calls 'all_to_all");
}

/// Its part of the sums is missing.
TEST(Diagnosis, ComparesNoRowsOfCallsThatARankCouldNotReport) {
  World world(3);
  const auto all_but = [&](int absent, int64_t first, const Rows& expected) {
    for (int r = 0; r < 3; ++r) {
      if (r != absent) world.says(r, exchange(r, first, kRows, expected));
    }
  };
  for (const int64_t sequence : {0, 1}) all_but(1, sequence, kRows);
  all_but(-1, 2, kRows);
  EXPECT_EQ(world.after(milliseconds(1'000)), "");
  all_but(-1, 3, kOneRowLess);
  expect_contains(world.after(milliseconds(50)), "all_to_all #3 (");
}

TEST(Diagnosis, ComparesNoRowsOfCallsThatItHasDropped) {
  World world(3);
  constexpr int64_t kMany = CallLog::kWindow + 10;
  for (const int rank : {0, 1, 2}) {
    Calls calls{.id = kWorld, .first = 0, .calls = {}};
    for (int64_t i = 0; i < kMany; ++i) {
      const auto one = exchange(rank, i, kRows, i < 10 ? kOneRowLess : kRows);
      calls.calls.push_back(one.calls[0]);
      calls.row_balances.push_back(one.row_balances[0]);
    }
    world.says(rank, calls);
  }
  EXPECT_EQ(world.after(milliseconds(1'000)), "");
  for (const int rank : {0, 1, 2}) world.says(rank, exchange(rank, kMany, kRows, kOneRowLess));
  expect_contains(world.after(milliseconds(50)), "rank 2 of 3 sends 1 row more to rank 1");
}

TEST(Diagnosis, BlamesCallsThatDifferRatherThanTheCrashTheyMake) {
  World world(4);
  world.closes(1);
  world.issues(0, 0, {8});
  world.issues(2, 0, {9});
  expect_contains(world.after(milliseconds(200)), "collective #0: rank 0 of 4");
}

TEST(Diagnosis, AsksAllToReportOnceThereIsEvidence) {
  World world(3);
  EXPECT_FALSE(world.diagnosis().take_probe());
  world.closes(1);
  EXPECT_TRUE(world.diagnosis().take_probe());
  EXPECT_FALSE(world.diagnosis().take_probe());
}

TEST(Diagnosis, WaitsForADeathThatExplainsASuspicion) {
  World world(4);
  world.says(0, Suspicion{"connection to rank 2 is broken"});
  EXPECT_EQ(world.after(milliseconds(1'000)), "");
  world.closes(2);
  expect_contains(world.after(milliseconds(200)), "rank 2 of 4 on n2 (pid 102) is gone");
}

TEST(Diagnosis, TakesASuspicionThatNothingExplains) {
  World world(4);
  world.all_issue(0, {8});
  world.says(3, Suspicion{"connection to rank 2 is broken"});
  world.says(0, Suspicion{"another"});
  EXPECT_EQ(world.after(milliseconds(1'450)), "");
  EXPECT_EQ(world.after(milliseconds(200)), "connection to rank 2 is broken");
}

TEST(Diagnosis, NamesWhoHasNotCalledWhatOthersWaitFor) {
  World world(4);
  world.all_issue(0, {8});
  for (const int rank : {0, 1, 3}) world.issues(rank, 1, {16});
  world.says(0, Suspicion{"allreduce #1 on rank 0 of 4: no answer in 30 s"});
  EXPECT_EQ(world.after(milliseconds(2'000)),
            "allreduce #1 on rank 0 of 4: no answer in 30 s; allreduce #1 (allreduce sum "
            "float32[16]) not called by rank 2 (its last: allreduce #0)");
}

TEST(Diagnosis, NamesWhoDoesNotAnswerWhenAnotherSuspects) {
  World world(4);
  world.after(milliseconds(1'000));
  world.says(0, Suspicion{"allreduce #1 on rank 0 of 4: no answer in 1 s"});
  expect_contains(world.after(milliseconds(2'000), {2}),
                  "no answer in 1 s; rank 2 of 4 on n2 (pid 102) does not answer");
}

TEST(Diagnosis, NamesARankThatLeftEarly) {
  World world(4);
  world.all_issue(0, {8});
  world.says(2, Goodbye{.reason = "an exception ended it", .progress = {}});
  EXPECT_EQ(world.after(milliseconds(1'000)), "");
  world.issues(0, 1, {16});
  EXPECT_EQ(world.after(milliseconds(200)),
            "rank 2 of 4 on n2 (pid 102) left before allreduce #1 (allreduce sum float32[16]): an "
            "exception ended it");
}

TEST(Diagnosis, NamesARankThatLeftWithoutEverTakingPart) {
  World world(3);
  constexpr uint64_t kOther = 2;
  for (const int rank : {0, 1}) world.says(rank, Watching{kOther, rank, 3});
  world.says(2, Goodbye{});
  world.issues(1, 0, {4}, kOther);
  expect_contains(world.after(milliseconds(200)),
                  "rank 2 of 3 on n2 (pid 102) left before allreduce #0");
}

TEST(Diagnosis, NamesARankThatDroppedItsCommunicator) {
  World world(2);
  world.says(1, Unwatched{kWorld, "its communicator was destroyed"});
  world.issues(0, 0, {8});
  expect_contains(world.after(milliseconds(200)),
                  "#0 (allreduce sum float32[8]): its communicator");
}

TEST(Diagnosis, KeepsCommunicatorsApart) {
  World world(4);
  constexpr uint64_t kPair = 7;
  world.says(3, Watching{kPair, 0, 2});
  world.says(1, Watching{kPair, 1, 2});
  world.issues(3, 0, {5}, kPair);
  world.issues(1, 0, {6}, kPair);
  world.all_issue(0, {8});
  expect_contains(world.after(milliseconds(200)),
                  "collective #0 of the communicator of ranks 1, 3: rank 1 of 4 calls");
}

TEST(Diagnosis, ForgetsCommunicatorsThatAreOver) {
  World world(2);
  for (uint64_t id = 2; id < 50; ++id) {
    for (int r = 0; r < 2; ++r) {
      world.says(r, Watching{id, r, 2});
      world.issues(r, 0, {static_cast<int64_t>(id)}, id);
      world.says(r, Unwatched{id, "its communicator was destroyed"});
    }
  }
  EXPECT_EQ(world.diagnosis().progress_of(0).size(), 1u);
  EXPECT_EQ(world.after(milliseconds(200)), "");
}

TEST(Diagnosis, WatchesNoCommunicatorsThatItCannotTellApart) {
  World world(4);
  for (const int rank : {0, 1, 2, 3}) world.says(rank, Watching{9, rank % 2, 2});
  for (const int rank : {0, 1, 2, 3}) world.issues(rank, 0, {rank}, 9);
  EXPECT_EQ(world.after(milliseconds(1'000)), "");
}

TEST(Diagnosis, ComparesAgainAfterACallThatWasRefused) {
  World world(2);
  world.issues(0, 0, {8});  // refused there: the next call has the same number
  world.issues(0, 0, {16});
  world.issues(1, 0, {16});
  EXPECT_EQ(world.after(milliseconds(1'000)), "");
}

TEST(Diagnosis, BoundsItsMemoryOfARankThatLags) {
  World world(2);
  const std::vector<int64_t> many(4096, 8);
  int64_t count = 0;
  while (count < 300'000) {
    world.issues(0, count, many);
    count += 4096;
  }
  for (int64_t done = 0; done < count; done += 4096) world.issues(1, done, many);
  EXPECT_EQ(world.after(milliseconds(1'000)), "");
  world.issues(0, count, {8});
  world.issues(1, count, {9});
  expect_contains(world.after(milliseconds(200)), "rank 0 of 2 calls 'allreduce sum float32[8]'");
}

TEST(Diagnosis, SaysOfARankFarBehindThatNotAllCallsWereCompared) {
  World world(2);
  const std::vector<int64_t> many(CallLog::kWindow + 10, 8);
  world.issues(0, 0, many);
  world.says(0, Suspicion{"slow"});
  expect_contains(world.after(milliseconds(2'000)),
                  "collective #0 not called by rank 1 (its last: none), too far behind");
}

TEST(Diagnosis, GathersOneTextOfEachRank) {
  World world(3);
  for (const int rank : {2, 0, 1}) {
    EXPECT_FALSE(world.diagnosis().take_gathered());
    world.says(rank, Contribution{0, 0, std::to_string(rank)});
  }
  const auto gathered = world.diagnosis().take_gathered();
  ASSERT_TRUE(gathered);
  EXPECT_EQ(gathered->values, (std::vector<std::string>{"0", "1", "2"}));
  EXPECT_FALSE(gathered->is_equal);
}

TEST(Diagnosis, SendsTextsOnceThatRanksHaveInCommon) {
  World world(6);
  for (int rank = 0; rank < 6; ++rank) {
    world.says(rank, Contribution{0, 0, rank == 3 ? "other" : "common"});
  }
  const auto gathered = world.diagnosis().take_gathered();
  ASSERT_TRUE(gathered);
  EXPECT_EQ(gathered->values, (std::vector<std::string>{"common", "other"}));
  std::vector<std::pair<uint32_t, uint32_t>> runs;
  for (const auto& run : gathered->runs) runs.emplace_back(run.value, run.count);
  EXPECT_EQ(runs, (std::vector<std::pair<uint32_t, uint32_t>>{{0, 3}, {1, 1}, {0, 2}}));
}

TEST(Diagnosis, SaysOfACompareNoMoreThanWhetherAllAreEqual) {
  World world(3);
  for (const bool equal : {true, false}) {
    const int round = equal ? 0 : 1;
    for (int rank = 0; rank < 3; ++rank) {
      world.says(rank, Contribution{round, 1, rank == 1 && !equal ? "b" : "a"});
    }
    const auto gathered = world.diagnosis().take_gathered();
    ASSERT_TRUE(gathered);
    EXPECT_EQ(gathered->is_equal != 0, equal);
    EXPECT_TRUE(gathered->values.empty() && gathered->runs.empty());
  }
}

TEST(Diagnosis, HearsLessOftenOfManyRanks) {
  for (const int size : {1, 64, 256, 1024, 2048, 4096}) {
    const TimeLimits limits{milliseconds(60'000), milliseconds(60'000), size};
    const double messages_per_s = 1000.0 * size / static_cast<double>(limits.pace().count());
    EXPECT_LE(messages_per_s, 520) << size;
    EXPECT_LE(limits.pace(), limits.interval());
    EXPECT_LE(limits.interval(), limits.silence / 5);
  }
}

TEST(Diagnosis, NamesWhoDoesNotComeToAGather) {
  World world(3, {milliseconds(10'000), milliseconds(2'000)});
  world.says(0, Contribution{0, 0, "a"});
  world.says(2, Contribution{0, 0, "c"});
  EXPECT_EQ(world.after(milliseconds(2'500)),
            "gather on the control connection: rank 1 of 3 on n1 (pid 101) has not come in 2 s");
}

TEST(Diagnosis, NamesWhoLeftBeforeAGather) {
  World world(3);
  world.says(1, Goodbye{});
  world.says(0, Contribution{0, 0, "a"});
  EXPECT_EQ(world.after(milliseconds(200)),
            "rank 1 of 3 on n1 (pid 101) left before gather on the control connection");
}

TEST(Diagnosis, TakesOverACauseThatARankRecordedAlready) {
  World world(3);
  world.says(1, Verdict{"DataError on rank 1"});
  world.closes(1);
  EXPECT_EQ(world.after(milliseconds(50)), "DataError on rank 1");
}

TEST(Diagnosis, JudgesAtOnceWhenThereWillBeNoMoreEvidence) {
  World world(3);
  EXPECT_FALSE(world.diagnosis().last_verdict(world.now()));
  world.closes(1);
  EXPECT_TRUE(world.diagnosis().last_verdict(world.now()));
}

}  // namespace
}  // namespace isobar::control::control_diagnosis_test
