// SPDX-License-Identifier: Apache-2.0
#include <isobar/scaling/diagnosis.hpp>

#include <isobar/core/error.hpp>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <fstream>

#include "comm/expect_error.hpp"

namespace isobar::test::diagnosis_test {
namespace {

/// A step of 100 ms on four ranks, whose gradients are hidden but for 1 ms.
ProfiledStep healthy() {
  ProfiledStep profile{.steps = 100, .step_s = 0.1, .ranks = {}, .collectives = {}};
  for (int r = 0; r < 4; ++r) {
    profile.ranks.push_back({.rank = r,
                             .host = "node" + std::to_string(r),
                             .step_s = 0.1,
                             .seconds = {{"data_wait", 0.0005},
                                         {"copy", 0.0005},
                                         {"forward", 0.03},
                                         {"backward", 0.06},
                                         {"exposed_comm", 0.001},
                                         {"optimizer", 0.008},
                                         {"other", 0}},
                             .run_delay_s = 0.0002});
  }
  profile.collectives = {{.asker = "gradients",
                          .operation = "allreduce",
                          .calls = 4,
                          .bytes = 4e6,
                          .seconds = 0.005,
                          .exposed_s = 0.001}};
  return profile;
}

const NetworkReference kNetwork{.latency_s = 1e-4, .bytes_per_s = 1.5e9, .basis = "a test"};

/// Rank r computes longer, and the others wait for it.
void slow_down(ProfiledStep& profile, int slow, double seconds) {
  profile.step_s += seconds;
  for (auto& rank : profile.ranks) {
    rank.step_s = profile.step_s;
    rank.seconds[rank.rank == slow ? "backward" : "exposed_comm"] += seconds;
  }
  profile.collectives.front().seconds += seconds;
}

Finding first(const ProfiledStep& profile) {
  return diagnose(profile, {.network = kNetwork}).front();
}

TEST(Diagnosis, OfAHealthyStepIsComputation) {
  const auto findings = diagnose(healthy(), {.network = kNetwork});
  ASSERT_EQ(findings.size(), 1U);
  EXPECT_EQ(findings.front().cause, Cause::nothing);
  EXPECT_EQ(findings.front().gain_s, 0);
}

TEST(Diagnosis, NamesTheSlowRankAndNotTheNetworkThatOthersWaitIn) {
  auto profile = healthy();
  slow_down(profile, 2, 0.05);
  const auto findings = diagnose(profile, {.network = kNetwork});
  ASSERT_EQ(findings.size(), 1U);
  EXPECT_EQ(findings.front().cause, Cause::slow_rank);
  EXPECT_EQ(findings.front().rank, 2);
  EXPECT_NEAR(findings.front().gain_s, 0.05, 2e-4) << "a little more is exposed then";
  EXPECT_NE(findings.front().sentence.find("rank 2 on node2 computes 148.5 ms"), std::string::npos)
      << findings.front().sentence;
}

/// Two ranks of the same four, so that the median of both is no measure of either.
ProfiledStep two_ranks() {
  auto profile = healthy();
  profile.ranks.resize(2);
  return profile;
}

TEST(Diagnosis, PromisesOfASlowRankWhatTheNextSlowestLeaves) {
  auto two = two_ranks();
  slow_down(two, 1, 0.05);
  EXPECT_NEAR(first(two).gain_s, 0.05, 1e-3);
  auto four = healthy();
  slow_down(four, 2, 0.05);
  four.ranks[3].seconds["backward"] += 0.02;
  EXPECT_NEAR(first(four).gain_s, 0.03, 2e-4);
}

TEST(Diagnosis, LeavesNoNodeOutWhereThereIsOne) {
  auto several = healthy();
  slow_down(several, 1, 0.05);
  expect_contains(first(several).cure, "leave that node out");
  auto one = several;
  for (auto& rank : one.ranks) rank.host = "here";
  expect_contains(first(one).cure, "all ranks are on one host");
  auto shared = several;  // rank 0 on the same node is as fast as the others
  shared.ranks[0].host = shared.ranks[1].host;
  expect_contains(first(shared).cure, "other ranks of that node are as fast");
}

TEST(Diagnosis, TellsCoresThatOthersHaveFromASlowProcessor) {
  auto profile = healthy();
  slow_down(profile, 1, 0.05);
  profile.ranks[1].run_delay_s = 0.04;
  EXPECT_EQ(first(profile).cause, Cause::taken_cores);
  EXPECT_EQ(first(profile).rank, 1);
  profile.ranks[1].run_delay_s.reset();
  EXPECT_EQ(first(profile).cause, Cause::slow_rank);
}

TEST(Diagnosis, SeesThatAllRanksWaitForCores) {
  auto profile = healthy();
  for (auto& rank : profile.ranks) rank.run_delay_s = 0.02;
  EXPECT_EQ(first(profile).cause, Cause::taken_cores);
  EXPECT_FALSE(first(profile).rank);
  EXPECT_NEAR(first(profile).gain_s, 0.02, 1e-9);
}

TEST(Diagnosis, SeesTakenCoresOfOneRankAloneAndOfRanksThatWaitNotQuiteAlike) {
  auto alone = healthy();
  alone.ranks.resize(1);
  alone.ranks[0].run_delay_s = 0.05;
  EXPECT_EQ(first(alone).cause, Cause::taken_cores);
  EXPECT_NEAR(first(alone).gain_s, 0.05, 1e-9);
  auto two = two_ranks();
  two.ranks[0].run_delay_s = 0.05;
  two.ranks[1].run_delay_s = 0.052;
  two.ranks[1].seconds["backward"] += 0.003;
  EXPECT_EQ(first(two).cause, Cause::taken_cores);
  EXPECT_NEAR(first(two).gain_s, 0.05, 2.1e-3);
}

TEST(Diagnosis, PromisesOfTakenCoresWhatOthersDoNotWaitForToo) {
  auto profile = healthy();
  slow_down(profile, 1, 0.05);
  for (auto& rank : profile.ranks) rank.run_delay_s = 0.01;
  profile.ranks[1].run_delay_s = 0.05;
  EXPECT_EQ(first(profile).cause, Cause::taken_cores);
  EXPECT_NEAR(first(profile).gain_s, 0.04, 1e-9);
}

TEST(Diagnosis, TellsAQuotaFromOtherProcesses) {
  auto one = healthy();
  slow_down(one, 1, 0.05);
  one.ranks[1].run_delay_s = 0.045;
  expect_contains(first(one).cure, "look for what else runs");
  one.ranks[1].throttled_s = 0.04;
  expect_contains(first(one).sentence, "a quota kept it from running");
  expect_contains(first(one).cure, "cpu.max");
  auto all = healthy();
  for (auto& rank : all.ranks) rank.run_delay_s = rank.throttled_s = 0.02;
  expect_contains(first(all).sentence, "a quota is used up");
}

TEST(Diagnosis, TellsARanksOwnThreadsFromOthers) {
  auto profile = healthy();
  for (auto& rank : profile.ranks) rank.run_delay_s = 0.02;
  for (auto& rank : profile.ranks) rank.helpers_cpu_s = 0.015;
  const auto findings = diagnose(profile, {.network = kNetwork});
  ASSERT_EQ(findings.size(), 2U);
  EXPECT_EQ(findings[0].cause, Cause::own_threads);
  EXPECT_NEAR(findings[0].gain_s, 0.015, 1e-9);
  EXPECT_EQ(findings[1].cause, Cause::taken_cores);
  EXPECT_NEAR(findings[1].gain_s, 0.005, 1e-9);
}

TEST(Diagnosis, FindsDataOfOneRankAndOfAll) {
  auto all = healthy();
  all.step_s += 0.03;
  for (auto& rank : all.ranks) rank.seconds["data_wait"] += 0.03;
  EXPECT_EQ(first(all).cause, Cause::data);
  EXPECT_NEAR(first(all).gain_s, 0.0305, 1e-9);
  EXPECT_TRUE(first(all).setting.empty()) << "nobody knows whether the data fit";
  auto one = healthy();
  one.step_s += 0.03;
  for (auto& rank : one.ranks) {
    rank.seconds[rank.rank == 3 ? "data_wait" : "exposed_comm"] += 0.03;
  }
  const auto findings = diagnose(one, {.network = kNetwork});
  ASSERT_EQ(findings.size(), 1U);
  EXPECT_EQ(findings.front().cause, Cause::data);
  EXPECT_EQ(findings.front().rank, 3);
  EXPECT_TRUE(findings.front().setting.empty());
  expect_contains(findings.front().cure, "that node's disk");
}

TEST(Diagnosis, FindsDataThatRanksWaitForInTurn) {
  auto profile = healthy();
  profile.step_s += 0.06;  // half of its steps one waits, half of them another, and the rest for it
  for (auto& rank : profile.ranks) {
    const bool in_turn = rank.rank < 2;
    rank.seconds["data_wait"] += in_turn ? 0.03 : 0;
    rank.seconds["exposed_comm"] += in_turn ? 0.03 : 0.06;
  }
  profile.collectives.front().seconds += 0.06;
  EXPECT_EQ(first(profile).cause, Cause::data);
  EXPECT_NEAR(first(profile).gain_s, 0.06, 1e-3);
}

TEST(Diagnosis, KeepsDataInMemoryWhereTheyFit) {
  auto profile = healthy();
  profile.step_s += 0.03;
  for (auto& rank : profile.ranks) rank.seconds["data_wait"] += 0.03;
  const double gib = 1 << 30;
  profile.data = {.bytes = 3 * gib, .cache_bytes = gib, .machine_bytes = 16 * gib};
  EXPECT_EQ(first(profile).setting, "data.cache_bytes=4096MiB");
  for (auto& rank : profile.ranks) rank.host = "one";  // which would keep four times as much
  EXPECT_TRUE(first(profile).setting.empty());
  expect_contains(first(profile).cure, "do not fit into memory");
  profile.data->cache_bytes = 4 * gib;
  EXPECT_TRUE(first(profile).setting.empty());
  expect_contains(first(profile).cure, "keeps all of it in memory already");
}

/// All wait alike in the sums of gradients.
void expose(ProfiledStep& profile, double seconds, double in_sums_s) {
  profile.step_s += seconds;
  for (auto& rank : profile.ranks) rank.seconds["exposed_comm"] += seconds;
  profile.collectives.front().seconds = in_sums_s;
  profile.collectives.front().exposed_s += seconds;
}

TEST(Diagnosis, CallsANetworkSlowThatTakesMoreThanItsReference) {
  auto profile = healthy();
  expose(profile, 0.04, 0.05);  // 4 MB should take 4.4 ms
  EXPECT_EQ(first(profile).cause, Cause::slow_network);
  // As it should be, the last of four sums is exposed, 1.1 ms of 41.
  EXPECT_NEAR(first(profile).gain_s, 0.0399, 1e-4);
  // Without a reference nobody can know.
  EXPECT_EQ(diagnose(profile).front().cause, Cause::communication);
}

/// Sums that queue, each so long: what the model of one wire leaves exposed of them.
void send_one_after_another(ProfiledStep& profile, double calls, double call_s) {
  const double backward_s = 0.06;
  profile.collectives.front().calls = calls;
  expose(profile, backward_s / calls + calls * call_s - backward_s - 0.001, calls * call_s * 10);
}

TEST(Diagnosis, BlamesBucketsWhoseLatencyIsMostOfTheirTime) {
  auto profile = healthy();
  send_one_after_another(profile, 800, 1.1e-4);  // 88 ms, of which 80 are latency
  const auto finding = first(profile);
  EXPECT_EQ(finding.cause, Cause::small_buckets);
  // Of 2 sums, 4.2 ms are left, one of them behind the backward pass.
  EXPECT_EQ(finding.setting, "ddp.bucket_cap_bytes=2MiB");
  EXPECT_NEAR(finding.gain_s, 0.0281 - 0.0021, 2e-4);
}

TEST(Diagnosis, SharesWhatThreadsTakeBetweenLargerBucketsAndMoreCores) {
  auto profile = healthy();
  send_one_after_another(profile, 800, 1.1e-4);
  const double exposed_s = first(profile).gain_s;
  const auto gain_of = [&](Cause cause) {
    for (const auto& finding : diagnose(profile, {.network = kNetwork})) {
      if (finding.cause == cause) return finding.gain_s;
    }
    return 0.0;
  };
  for (auto& rank : profile.ranks) rank.run_delay_s = rank.helpers_cpu_s = 0.06;
  EXPECT_NEAR(gain_of(Cause::small_buckets), exposed_s + 0.06, 1e-3) << "a sum alone takes 0.1 ms";
  EXPECT_EQ(gain_of(Cause::own_threads), 0) << "larger buckets give it back";
  for (auto& rank : profile.ranks) rank.run_delay_s = rank.helpers_cpu_s = 0.3;  // those that load
  EXPECT_NEAR(gain_of(Cause::small_buckets), exposed_s + 0.08, 1e-3) << "800 of them no more";
  EXPECT_NEAR(gain_of(Cause::own_threads), 0.22, 1e-3);
  // Threads that a core of their own let run have taken nothing.
  for (auto& rank : profile.ranks) rank.run_delay_s = 0.0002;
  EXPECT_NEAR(gain_of(Cause::small_buckets), exposed_s, 1e-3);
}

TEST(Diagnosis, KnowsLatencyWithoutAReferenceFromCallsThatCarryNothing) {
  auto profile = healthy();
  send_one_after_another(profile, 800, 1.1e-4);
  EXPECT_EQ(diagnose(profile).front().cause, Cause::communication);
  profile.collectives.push_back({.asker = "loss",
                                 .operation = "allreduce",
                                 .calls = 0.1,
                                 .bytes = 0.4,
                                 .seconds = 1e-5,
                                 .exposed_s = 0});
  EXPECT_EQ(diagnose(profile).front().cause, Cause::small_buckets);
}

TEST(Diagnosis, DoesNotCallALinkSlowWhoseBucketsAreFarTooSmall) {
  auto profile = healthy();
  send_one_after_another(profile, 800, 2.5e-4);  // latencies are twice the reference's, too
  EXPECT_EQ(first(profile).cause, Cause::small_buckets);
}

TEST(Diagnosis, CallsNoLinkSlowWhoseCallsWaitForTheCoreThatComputes) {
  auto profile = healthy();
  expose(profile, 0.004, 0.02);
  EXPECT_EQ(first(profile).cause, Cause::slow_network);
  for (auto& rank : profile.ranks) rank.run_delay_s = rank.helpers_cpu_s = 0.006;
  for (const auto& finding : diagnose(profile, {.network = kNetwork})) {
    EXPECT_NE(finding.cause, Cause::slow_network) << finding.sentence;
  }
}

TEST(Diagnosis, WhatIsMostComesFirstAndLittleIsNotMentioned) {
  auto profile = healthy();
  slow_down(profile, 0, 0.02);
  expose(profile, 0.06, 0.08);
  const auto findings = diagnose(profile, {.network = kNetwork});
  ASSERT_EQ(findings.size(), 2U);
  EXPECT_EQ(findings[0].cause, Cause::slow_network);
  EXPECT_EQ(findings[1].cause, Cause::slow_rank);
}

TEST(Diagnosis, ReadsAProfileAndRefusesWhatIsNone) {
  const nlohmann::json profile = {
      {"schema", "isobar.profile.1"},
      {"steps", 10},
      {"step_s", 0.1},
      {"ranks", {{{"rank", 0}, {"host", "a"}, {"step_s", 0.1}, {"seconds", {{"forward", 0.1}}}}}},
      {"collectives",
       {{{"asker", "gradients"},
         {"operation", "allreduce"},
         {"calls_per_step", 4},
         {"bytes_per_step", 1000},
         {"seconds_per_step", 0.01},
         {"exposed_s_per_step", 0}}}}};
  const auto read = read_profiled_step(profile);
  EXPECT_EQ(read.ranks.at(0).seconds.at("forward"), 0.1);
  EXPECT_EQ(read.collectives.at(0).bytes, 1000);
  EXPECT_FALSE(read.ranks.at(0).run_delay_s);
  EXPECT_FALSE(read.ranks.at(0).throttled_s);
  expect_contains(error_of<UsageError>([] {
                    read_profiled_step({{"schema", "x"}});
                  }),
                  "isobar.profile.1");
  auto without = profile;
  without.erase("step_s");
  expect_contains(error_of<UsageError>([&] { read_profiled_step(without); }), "'step_s'");
  expect_contains(error_of<UsageError>([] { load_profiled_step("missing.json"); }),
                  "cannot read 'missing.json'");
}

TEST(Diagnosis, WritesFindingsForPeopleAndPrograms) {
  auto profile = healthy();
  slow_down(profile, 2, 0.05);
  const auto findings = diagnose(profile, {.network = kNetwork});
  expect_contains(finding_text(profile, findings.front()), "A step would be about 33 % shorter.");
  const auto row = findings_as_json(profile, findings).at(0);
  EXPECT_EQ(row.at("cause"), "slow_rank");
  EXPECT_EQ(row.at("rank"), 2);
  EXPECT_NEAR(row.at("gain_share").get<double>(), 0.05 / 0.15, 2e-3);
}

}  // namespace
}  // namespace isobar::test::diagnosis_test
