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
  EXPECT_NEAR(findings.front().gain_s, 0.05, 1e-9);
  EXPECT_NE(findings.front().sentence.find("rank 2 on node2 computes 148.5 ms"), std::string::npos)
      << findings.front().sentence;
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

TEST(Diagnosis, FindsDataOfOneRankAndOfAll) {
  auto all = healthy();
  all.step_s += 0.03;
  for (auto& rank : all.ranks) rank.seconds["data_wait"] += 0.03;
  EXPECT_EQ(first(all).cause, Cause::data);
  EXPECT_FALSE(first(all).setting.empty());
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
  EXPECT_NEAR(first(profile).gain_s, 0.041, 1e-9);
  // Without a reference nobody can know.
  EXPECT_EQ(diagnose(profile).front().cause, Cause::communication);
}

TEST(Diagnosis, BlamesBucketsWhoseLatencyIsMostOfTheirTime) {
  auto profile = healthy();
  profile.collectives.front().calls = 400;
  expose(profile, 0.03, 0.044);  // 400 latencies and 4 ms of wire
  const auto finding = first(profile);
  EXPECT_EQ(finding.cause, Cause::small_buckets);
  EXPECT_EQ(finding.setting, "ddp.bucket_cap=2MiB");
  EXPECT_GT(finding.gain_s, 0.029);
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

}  // namespace
}  // namespace isobar::test::diagnosis_test
