// SPDX-License-Identifier: Apache-2.0
#include <isobar/scaling/campaign_run.hpp>

#include <isobar/core/error.hpp>
#include <isobar/scaling/campaign_rows.hpp>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <set>
#include <string>
#include <vector>

#include "comm/expect_error.hpp"
#include "core/temporary_folder.hpp"
#include "scaling/conditions.hpp"
#include "scaling/run_record.hpp"

namespace isobar::test::campaign_run_test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

Campaign make_campaign(const TemporaryFolder& folder, const std::string& nodes = "[1, 2, 4]",
                       const std::vector<std::string>& overrides = {}) {
  auto campaign = read_campaign(Config::parse(
      "campaign: {name: c}\nrun: {kind: step}\naxes: {nodes: " + nodes + ", width: [8, 16]}\n",
      "c.yaml", overrides));
  campaign.folder = folder.path();
  return campaign;
}

/// A run that is done, as run_campaign() leaves it.
void make_run(const Campaign& campaign, const CampaignRun& run, const json& step_s,
              const json& conditions = {{"commit", "a"}}) {
  const auto folder = run_folder(campaign, run);
  fs::create_directories(folder);
  write_file(folder / kResultFile, json{{"rows", {{{"step_s", step_s}}}}}.dump());
  write_file(folder / kRecordFile,
             json{{"end", {{"exit_code", 0}}},
                  {"conditions", conditions},
                  {"start_time", "2026-01-01T00:00:0" + std::to_string(run.repeat) + "Z"}}
                 .dump());
}

TEST(RunOrder, MakesEachPointOnceBeforeItRepeatsAny) {
  const TemporaryFolder folder;
  const auto points = campaign_points(make_campaign(folder));
  const auto runs = run_order(points, 3);
  ASSERT_EQ(runs.size(), 18u);
  std::set<std::string> firsts;
  for (std::size_t round = 0; round < 3; ++round) {
    std::set<std::string> seen;
    for (std::size_t i = 0; i < 6; ++i) {
      EXPECT_EQ(runs[6 * round + i].repeat, static_cast<int>(round) + 1);
      seen.insert(runs[6 * round + i].point.slug);
    }
    EXPECT_EQ(seen.size(), 6u);
    firsts.insert(runs[6 * round].point.slug);
  }
  EXPECT_EQ(firsts.size(), 3u) << "each round begins elsewhere";
}

TEST(RunState, IsDoneOnlyWithARecordAndAResult) {
  const TemporaryFolder folder;
  const auto campaign = make_campaign(folder);
  const CampaignRun run{campaign_points(campaign)[0], 1};
  const auto place = run_folder(campaign, run);
  EXPECT_EQ(run_state(campaign.kind, place), RunState::absent);
  fs::create_directories(place);
  EXPECT_EQ(run_state(campaign.kind, place), RunState::attempted);
  make_run(campaign, run, 1);
  EXPECT_EQ(run_state(campaign.kind, place), RunState::done);
  for (const char* result : {"", "{", "{\"rows\": []}", "{\"rows\": [{}, {}]}", "[]"}) {
    write_file(place / kResultFile, result);
    EXPECT_EQ(run_state(campaign.kind, place), RunState::attempted) << result;
  }
  make_run(campaign, run, 1);
  for (const char* record : {"{\"end\": {\"exit_code\": 1}}", "{}", "{\"end\": 3}", "{\"en"}) {
    write_file(place / kRecordFile, record);
    EXPECT_EQ(run_state(campaign.kind, place), RunState::attempted) << record;
  }
}

TEST(PendingRuns, AreThoseThatAreNotDone) {
  const TemporaryFolder folder;
  const auto campaign = make_campaign(folder);
  EXPECT_EQ(pending_runs(campaign).size(), 18u);
  make_run(campaign, {campaign_points(campaign)[2], 2}, 1);
  const auto left = pending_runs(campaign);
  EXPECT_EQ(left.size(), 17u);
  for (const auto& run : left) {
    EXPECT_FALSE(run.repeat == 2 && run.point.slug == campaign_points(campaign)[2].slug);
  }
}

TEST(TellingLine, IsTheFirstOfAnErrorOrTheFirst) {
  const TemporaryFolder folder;
  write_file(folder / "log", "-----\n\nmpirun refuses.\nsorry\n");
  EXPECT_EQ(telling_line(folder / "log"), "mpirun refuses.");
  write_file(folder / "log", "a table\nisobar: error: no such grid\nmpirun noticed it\n");
  EXPECT_EQ(telling_line(folder / "log"), "isobar: error: no such grid");
  EXPECT_EQ(telling_line(folder / "none"), "");
}

TEST(ReadRow, TakesTheMedianOfTrainingLinesWithoutTheFirst) {
  const TemporaryFolder folder;
  fs::create_directories(folder / "train");
  write_file(folder / "train/metrics.jsonl",
             "{\"event\": \"step\", \"step_s\": 9}\n{\"event\": \"validation\", \"step_s\": 7}\n"
             "{\"event\": \"step\", \"step_s\": 1}\n{\"event\": \"step\", \"step_s\": 3}\n"
             "{\"event\": \"step\", \"step_s\": 2, \"loss\": null}\n{\"event\": \"st");
  const auto row = read_row(CampaignKind::train, folder.path());
  ASSERT_TRUE(row);
  EXPECT_EQ(row->at("step_s"), 2);
  EXPECT_FALSE(row->contains("loss"));
}

TEST(CollectCampaign, MeasuresEfficiencyAgainstTheFewestNodesOfTheSameValues) {
  const TemporaryFolder folder;
  const auto campaign = make_campaign(folder);
  for (const auto& run : run_order(campaign_points(campaign), 3)) {
    const double width = std::stod(axis_value(run.point, "width"));
    make_run(campaign, run, width * (1 + 0.25 * (run.point.nodes - 1)));
  }
  for (const auto& row : collect_campaign(campaign)) {
    ASSERT_TRUE(row.efficiency);
    EXPECT_DOUBLE_EQ(row.efficiency->value, 1 / (1 + 0.25 * (row.point.nodes - 1)));
    EXPECT_EQ(row.base_nodes, 1);
    EXPECT_TRUE(row.mixed.empty());
  }
  auto strong = campaign;
  strong.efficiency = Efficiency::strong;
  EXPECT_DOUBLE_EQ(collect_campaign(strong).back().efficiency->value, 1 / (4 * 1.75));
}

TEST(CollectCampaign, LeavesOutPointsWithoutRunsAndSaysWhatWasMixed) {
  const TemporaryFolder folder;
  const auto campaign = make_campaign(folder);
  const auto points = campaign_points(campaign);
  make_run(campaign, {points[0], 1}, 1);
  make_run(campaign, {points[1], 2}, 1);
  make_run(campaign, {points[1], 3}, 2, {{"commit", "b"}});
  const auto rows = collect_campaign(campaign);
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_TRUE(rows[0].mixed.empty());
  EXPECT_EQ(rows[1].mixed, std::vector<std::string>{"commit: a and b"});
  expect_contains(rows_as_csv(campaign, rows), "1,16,2,1.5,");
  EXPECT_EQ(rows_as_json(campaign, rows)[1].at("samples"), (std::vector<double>{1, 2}));
}

TEST(CollectCampaign, LeavesOutRunsWhoseValueIsNoNumberAndNamesThem) {
  const TemporaryFolder folder;
  const auto campaign = make_campaign(folder);
  const auto points = campaign_points(campaign);
  make_run(campaign, {points[0], 1}, 1);
  make_run(campaign, {points[0], 2}, nullptr);
  make_run(campaign, {points[0], 3}, 3);
  make_run(campaign, {points[1], 1}, nullptr);
  const auto rows = collect_campaign(campaign);
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0].repeats, (std::vector<int>{1, 3}));
  EXPECT_EQ(rows[0].samples, (std::vector<double>{1, 3}));
  EXPECT_EQ(runs_without_value(campaign),
            (std::vector<std::string>{points[0].slug + " repeat 2", points[1].slug + " repeat 1"}));
}

TEST(CollectCampaign, NamesTheFieldsThatThereAre) {
  const TemporaryFolder folder;
  const auto campaign = make_campaign(folder, "[1, 2]", {"measure.value=stp_s"});
  make_run(campaign, {campaign_points(campaign)[0], 1}, 1);
  expect_contains(error_of<UsageError>([&] { collect_campaign(campaign); }),
                  "runs have no 'stp_s'; did you mean 'step_s'?");
}

/// How the run of a campaign of one ended, as its record has it.
json end_of_a_run() {
  const TemporaryFolder folder;
  const auto program = folder / "program";
  write_file(program,
             "#!/bin/sh\nfor word; do case $word in --json=*) "
             "echo '{\"rows\": [{\"step_s\": 1}]}' > \"${word#--json=}\" ;; esac; done\n");
  fs::permissions(program, fs::perms::owner_all);
  auto campaign = make_campaign(folder, "[1]");
  campaign.repeats = 1;
  EXPECT_EQ(run_campaign(campaign, {.program = program.string()}).done, 2);
  const auto place = run_folder(campaign, {campaign_points(campaign)[0], 1});
  return read_object(place / kRecordFile)->at("end");
}

TEST(RunCampaign, NotesTheSwitchesAboveItsNodeWhereSlurmTells) {
  ::setenv("SLURM_TOPOLOGY_ADDR", "spine.leaf2.n7", 1);
  EXPECT_EQ(end_of_a_run().at("topology_group"), "spine.leaf2");
  ::setenv("SLURM_TOPOLOGY_ADDR", "n7", 1);
  EXPECT_FALSE(end_of_a_run().contains("topology_group"));
  ::unsetenv("SLURM_TOPOLOGY_ADDR");
  EXPECT_FALSE(end_of_a_run().contains("topology_group"));
}

TEST(Conditions, AreComparedOneByOne) {
  const json a{
      {"commit", "a"}, {"environment", {{"OMP_NUM_THREADS", "1"}}}, {"data", {{"x", "1"}}}};
  auto b = a;
  EXPECT_TRUE(condition_differences(a, b).empty());
  b["commit"] = "b";
  b["environment"] = json::object();
  b["data"] = {{"x", "2"}, {"y", "3"}};
  EXPECT_EQ(condition_differences(a, b),
            (std::vector<std::string>{"commit: a and b", "data.x: 1 and 2",
                                      "environment.OMP_NUM_THREADS: 1 and unset"}));
}

TEST(Conditions, HaveTheVariablesThatMatter) {
  for (const char* name : {"OMP_NUM_THREADS", "NCCL_IB_HCA", "UCX_TLS", "FI_PROVIDER",
                           "LOADEDMODULES", "ISOBAR_CLUSTER", "CUDA_VISIBLE_DEVICES"}) {
    EXPECT_TRUE(is_condition(name)) << name;
  }
  for (const char* name :
       {"HOME", "PATH", "SLURM_JOB_ID", "FIRST", "PWD", "ISOBAR_SECRET", "ISOBAR_SECRET_FILE"}) {
    EXPECT_FALSE(is_condition(name)) << name;
  }
}

TEST(LoadCampaign, TakesAFolderForWhatItIsCalledNow) {
  const TemporaryFolder folder;
  const auto campaign = make_campaign(folder);
  fs::create_directories(folder / "other");
  write_file(folder / "other/campaign.yaml", campaign.yaml);
  const auto loaded = load_campaign(folder / "other/");
  EXPECT_EQ(campaign_folder(loaded), folder / "other");
  expect_contains(error_of<UsageError>([&] { load_campaign(folder.path()); }), "is none of a");
}

}  // namespace
}  // namespace isobar::test::campaign_run_test
