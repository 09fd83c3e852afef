// SPDX-License-Identifier: Apache-2.0
#include <isobar/scaling/campaign.hpp>

#include <isobar/core/error.hpp>
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "comm/expect_error.hpp"

namespace isobar::test::campaign_test {
namespace {

using Words = std::vector<std::string>;

constexpr const char* kSweep = R"(
campaign: {name: sweep}
run:
  kind: step
  options: {model: mlp, width: 64}
axes:
  nodes: [1, 2]
  bucket-cap: [1MiB, 25MiB]
  compress: [none, bf16]
)";

Campaign read(const std::string& text, const Words& overrides = {}) {
  return read_campaign(Config::parse(text, "sweep.yaml", overrides));
}

std::string refusal(const Words& overrides, const std::string& text = kSweep) {
  return error_of<UsageError>([&] { campaign_points(read(text, overrides)); });
}

Words slugs(const Campaign& campaign) {
  Words found;
  for (const auto& point : campaign_points(campaign)) found.push_back(point.slug);
  return found;
}

TEST(Campaign, TakesWhatIsNotSaidFromItsKind) {
  const auto step = read(kSweep);
  EXPECT_EQ(step.folder, "campaigns");
  EXPECT_EQ(step.repeats, 3);
  EXPECT_EQ(step.time_limit_s, 3600);
  EXPECT_EQ(step.value, "step_s");
  EXPECT_EQ(step.efficiency, Efficiency::weak);
  EXPECT_EQ(read(kSweep, {"axes.nodes=[2]"}).efficiency, Efficiency::none);
  EXPECT_EQ(read(kSweep, {"measure.value=goodput_gbit_s"}).efficiency, Efficiency::none);
  const auto collective = read(
      "campaign: {name: c}\nrun: {kind: collective}\n"
      "axes: {nodes: [1, 2], bytes: [1KiB]}\n");
  EXPECT_EQ(collective.value, "median_s");
  EXPECT_EQ(collective.efficiency, Efficiency::none);
}

TEST(Campaign, GivesPointsInTheOrderOfItsAxes) {
  EXPECT_EQ(
      slugs(read(kSweep, {"axes.compress=[none]"})),
      (Words{"nodes=1,bucket-cap=1MiB,compress=none", "nodes=1,bucket-cap=25MiB,compress=none",
             "nodes=2,bucket-cap=1MiB,compress=none", "nodes=2,bucket-cap=25MiB,compress=none"}));
  EXPECT_EQ(slugs(read("campaign: {name: one}\nrun: {kind: step}\n")), Words{"all"});
}

TEST(Campaign, LeavesOutPointsThatHaveAllOfARulesValues) {
  const auto left = slugs(read(kSweep, {"skip=[\"nodes=1 compress=bf16\"]"}));
  EXPECT_EQ(left.size(), 6u);
  for (const auto& slug : left) {
    EXPECT_FALSE(slug.starts_with("nodes=1") && slug.ends_with("bf16")) << slug;
  }
  EXPECT_EQ(slugs(read(kSweep, {"skip=[\"nodes=1 compress=bf16\", \"nodes=2\"]"})).size(), 2u);
}

TEST(Campaign, KeepsAPointsNameWhenOthersComeAndGo) {
  const auto few = slugs(read(kSweep, {"axes.nodes=[2]"})), more = slugs(read(kSweep));
  const std::set<std::string> known(more.begin(), more.end());
  for (const auto& slug : few) EXPECT_TRUE(known.count(slug)) << slug;
}

TEST(Campaign, NamesPointsBySafeWordsThatDiffer) {
  const auto found = slugs(read(kSweep, {"axes.bucket-cap=[\"a/b\", \"a b\", \"../..\"]",
                                         "axes.nodes=[1]", "axes.compress=[none]"}));
  EXPECT_EQ(std::set<std::string>(found.begin(), found.end()).size(), 3u);
  for (const auto& slug : found) {
    EXPECT_EQ(slug.find_first_of("/ "), std::string::npos) << slug;
    EXPECT_LT(slug.size(), 200u);
  }
  const auto long_one = slugs(read(kSweep, {"axes.compress=[" + std::string(500, 'x') + "]"}));
  EXPECT_LT(long_one[0].size(), 200u);
  EXPECT_NE(long_one[0], long_one[1]);
}

TEST(Campaign, SaysWhatIsWrongInOneLine) {
  expect_contains(refusal({"axes.nodes=[0]"}), "axes.nodes: '0' is no number of nodes");
  expect_contains(refusal({"axes.nodes=[-1]"}), "'-1' is no number of nodes");
  expect_contains(refusal({"axes.nodes=[2x]"}), "'2x' is no number of nodes");
  expect_contains(refusal({"axes.nodes=[]"}), "axes.nodes: has no values");
  expect_contains(refusal({"axes.nodes=[1, 01]"}), "axes.nodes: '1' is given twice");
  expect_contains(refusal({"axes.compress=[bf16, bf16]"}), "'bf16' is given twice");
  expect_contains(refusal({"axes.width=[32]"}), "axes.width: is in run.options or run.shared too");
  expect_contains(refusal({"run.kind=stp"}), "did you mean 'step'");
  expect_contains(refusal({"campaign.nmae=x"}), "did you mean 'campaign.name'");
  expect_contains(refusal({"campaign.name=a/b"}), "is no name of a folder");
  expect_contains(refusal({"run.options.json=x"}), "'json' is set by the campaign");
  expect_contains(refusal({"run.experiment=x.yaml"}), "run.experiment: is of kind train");
  expect_contains(refusal({"run.kind=train"}), "kind train wants an experiment file");
  expect_contains(refusal({"rules.repeats=0"}), "rules.repeats");
  expect_contains(refusal({"rules.time_limit_minutes=0"}), "rules.time_limit_minutes");
}

TEST(Campaign, RefusesRulesOfWhatIsNotThere) {
  expect_contains(refusal({"skip=[\"node=1\"]"}), "no axis 'node'; did you mean 'nodes'?");
  expect_contains(refusal({"skip=[\"compress=bf61\"]"}), "did you mean 'bf16'?");
  expect_contains(refusal({"skip=[nodes]"}), "is no rule; write");
  expect_contains(refusal({"skip=[\"\"]"}), "an empty rule");
  expect_contains(refusal({"skip=[\"nodes=1\", \"nodes=2\"]"}), "leave out every point");
}

TEST(Campaign, RefusesMorePointsThanAnyoneCanRun) {
  std::string values;
  for (int i = 1; i <= 200; ++i) values += (i > 1 ? "," : "") + std::to_string(i);
  const auto axis = "[" + values + "]";
  expect_contains(refusal({"axes.nodes=" + axis, "axes.seed=" + axis}), "more than 10000 points");
}

TEST(Campaign, RefusesAnEfficiencyThatHasNoMeaning) {
  expect_contains(refusal({"measure.efficiency=weak", "axes.nodes=[4]"}), "several values");
  expect_contains(refusal({"measure.efficiency=strong", "measure.value=busbw_gbit_s"}),
                  "'busbw_gbit_s' is none");
}

TEST(Campaign, WantsOneSizeOfACollectiveARun) {
  const std::string text = "campaign: {name: c}\nrun: {kind: collective}\n";
  for (const char* bytes : {"64KiB..1MiB", "\"1MiB,2MiB\""}) {
    expect_contains(refusal({"run.options.bytes=" + std::string(bytes)}, text), "make it an axis");
  }
  EXPECT_EQ(slugs(read(text, {"axes.bytes=[1.5MiB, 64KiB]"})).size(), 2u);
}

TEST(Campaign, WritesTheWordsOfARun) {
  const auto campaign = read(kSweep, {"run.ranks_per_node=2",
                                      "launch.command=run -N {nodes} "
                                      "-n {ranks} -r {ranks_per_node} --"});
  const auto point = campaign_points(campaign).back();
  EXPECT_EQ(launch_words(campaign, point), (Words{"run", "-N", "2", "-n", "4", "-r", "2", "--"}));
  EXPECT_EQ(program_arguments(campaign, point), (Words{"bench", "step", "--model=mlp", "--width=64",
                                                       "--bucket-cap=25MiB", "--compress=bf16"}));
}

TEST(Campaign, SharesWorkOutOverTheRanks) {
  const auto campaign = read(kSweep, {"run.shared.batch=12"});
  const auto points = campaign_points(campaign);
  EXPECT_EQ(program_arguments(campaign, points.front())[4], "--batch=12");
  EXPECT_EQ(program_arguments(campaign, points.back())[4], "--batch=6");
  expect_contains(refusal({"run.shared.batch=12", "axes.nodes=[1, 5]"}),
                  "batch 12 cannot be shared by the 5 ranks of nodes=5");
  expect_contains(refusal({"run.shared.batch=12", "axes.batch=[1]"}), "is one of the three");
  expect_contains(refusal({"run.shared.width=12"}), "leave one of them out");
}

TEST(Campaign, StartsOneRankWithoutALauncher) {
  const auto campaign = read(kSweep);
  const auto points = campaign_points(campaign);
  EXPECT_TRUE(launch_words(campaign, points.front()).empty());
  EXPECT_EQ(launch_words(campaign, points.back()), (Words{"mpirun", "-n", "2"}));
}

TEST(Campaign, GivesAnExperimentKeys) {
  const auto campaign = read(
      "campaign: {name: t}\nrun: {kind: train, experiment: a.yaml}\n"
      "axes: {ddp.bucket_cap_bytes: [1MiB]}\n");
  EXPECT_EQ(program_arguments(campaign, campaign_points(campaign)[0]),
            (Words{"train", "a.yaml", "ddp.bucket_cap_bytes=1MiB"}));
}

TEST(Campaign, ChecksItsLauncher) {
  expect_contains(refusal({"launch.command=run {node}"}), "no '{node}'; did you mean 'nodes'?");
  expect_contains(refusal({"launch.command=run {nodes"}), "launch.command: there is no");
  expect_contains(refusal({"launch.command=sh -c 'x'"}), "cannot have quotes");
  expect_contains(refusal({"launch.how=slurm", "launch.command=x"}), "is of how local");
  expect_contains(refusal({"launch.account=x"}), "are of how slurm");
  expect_contains(refusal({"launch.cluster=lumi", "axes.cluster=[lumi]"}), "is an axis too");
  expect_contains(refusal({"launch.how=slurm", "launch.time=soon"}), "soon");
}

TEST(Campaign, ReadsItsEffectiveTextAsItself) {
  const auto once = read(kSweep, {"rules.repeats=7", "skip=[\"nodes=1 compress=bf16\"]"});
  const auto again = read(once.yaml);
  EXPECT_EQ(again.repeats, 7);
  EXPECT_EQ(again.options, once.options);
  EXPECT_EQ(slugs(again), slugs(once));
  EXPECT_EQ(again.yaml, once.yaml);
}

TEST(IsTime, TellsTimesFromRates) {
  for (const char* field : {"step_s", "median_s", "exposed_comm_s"}) EXPECT_TRUE(is_time(field));
  for (const char* field : {"busbw_gbit_s", "samples_per_s", "sent_bytes"}) {
    EXPECT_FALSE(is_time(field));
  }
}

}  // namespace
}  // namespace isobar::test::campaign_test
