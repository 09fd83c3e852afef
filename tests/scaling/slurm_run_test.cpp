// SPDX-License-Identifier: Apache-2.0
#include <isobar/scaling/campaign_run.hpp>

#include <isobar/core/error.hpp>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <string>
#include <vector>

#include "cluster/fake_slurm.hpp"
#include "comm/expect_error.hpp"
#include "scaling/run_record.hpp"

namespace isobar::test::slurm_run_test {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSbatch = "echo $(( 70 + $(grep -c ^sbatch calls) ))";

Campaign make_campaign(const FakeSlurm& slurm, const std::vector<std::string>& overrides = {}) {
  auto campaign = read_campaign(Config::parse(R"(
campaign: {name: queued}
run: {kind: step, ranks_per_node: 4, options: {width: 8}}
axes: {nodes: [1, 2]}
rules: {repeats: 1, time_limit_minutes: 20}
launch: {how: slurm, cluster: leonardo, account: EUHPC_D00_000}
)",
                                              "queued.yaml", overrides));
  campaign.folder = slurm.folder();
  return campaign;
}

CampaignOutcome submit(const Campaign& campaign) {
  return run_campaign(campaign, {.program = "/bin/true"});
}

fs::path folder_of(const Campaign& campaign, std::size_t point) {
  return run_folder(campaign, {campaign_points(campaign)[point], 1});
}

void write_result(const fs::path& folder) {
  write_file(folder / kResultFile, R"({"rows": [{"step_s": 0.5}]})");
}

TEST(SlurmRun, QueuesEachRunOnceAsAJobOfItsOwn) {
  const FakeSlurm slurm(Commands{{"sbatch", kSbatch}, {"scontrol", "echo JobState=PENDING"}});
  const auto campaign = make_campaign(slurm);

  EXPECT_EQ(submit(campaign).submitted, 2);
  EXPECT_EQ(submit(campaign).submitted, 0);

  const auto script = read_file(folder_of(campaign, 1) / "job-1.sh");
  expect_contains(script, "--nodes=2");
  expect_contains(script, "--account=EUHPC_D00_000");
  expect_contains(script, "--time=00:20:00");
  expect_contains(script, "/bin/true bench step --width=8 --json=");
  expect_contains(script, (folder_of(campaign, 1) / kOutputFile).string());
  const auto status = campaign_status(campaign);
  EXPECT_EQ(status[0].queued + status[1].queued, 2);
  EXPECT_EQ(status[0].done, 0);
}

TEST(SlurmRun, TakesInWhatHasEndedAndQueuesWhatFailedAgain) {
  const FakeSlurm slurm(Commands{{"sbatch", kSbatch}, {"scontrol", R"(
case $4 in
  71) echo 'JobId=71 JobState=COMPLETED ExitCode=0:0 NodeList=n1' ;;
  72) echo 'JobId=72 JobState=FAILED ExitCode=3:0 NodeList=n[1-2]' ;;
  *) echo 'JobState=PENDING' ;;
esac)"}});
  const auto campaign = make_campaign(slurm);
  submit(campaign);
  write_result(folder_of(campaign, 0));

  const auto status = campaign_status(campaign);

  EXPECT_EQ(status[0].done, 1);
  EXPECT_EQ(status[1].failed, 1);
  const auto record = *read_object(folder_of(campaign, 0) / kRecordFile);
  EXPECT_EQ(record.at("end").at("nodes"), "n1");
  EXPECT_EQ(record.at("end").at("job"), "71");
  EXPECT_EQ(submit(campaign).submitted, 1);
}

TEST(SlurmRun, BelievesTheResultOfAJobThatSlurmHasForgotten) {
  const FakeSlurm slurm(Commands{
      {"sbatch", kSbatch}, {"sacct", ""}, {"scontrol", "echo 'Invalid job id specified'; exit 1"}});
  const auto campaign = make_campaign(slurm);
  submit(campaign);
  write_result(folder_of(campaign, 1));
  const auto status = campaign_status(campaign);
  EXPECT_EQ(status[0].failed, 1);
  EXPECT_EQ(status[1].done, 1);
}

TEST(SlurmRun, LeavesNothingOfWhatIsRefused) {
  const FakeSlurm slurm(Commands{{"sbatch", "echo 'sbatch: error: no budget' >&2; exit 1"}});
  const auto campaign = make_campaign(slurm);
  expect_contains(error_of<UsageError>([&] { submit(campaign); }), "no budget");
  EXPECT_FALSE(fs::exists(folder_of(campaign, 0)));
  const auto poor = make_campaign(slurm, {"launch.account="});
  expect_contains(error_of<UsageError>([&] { submit(poor); }), "account");
}

TEST(SlurmRun, IsOfPointsOfThisMachineAlone) {
  const FakeSlurm slurm(Commands{{"sbatch", kSbatch}, {"scontrol", "echo JobState=PENDING"}});
  auto campaign = make_campaign(slurm, {"launch.cluster=", "axes.cluster=[leonardo, lumi]"});
  ::setenv("ISOBAR_CLUSTER", "leonardo", 1);
  EXPECT_EQ(pending_runs(campaign).size(), 2u);
  EXPECT_EQ(submit(campaign).submitted, 2);
  campaign.axes[1].values = {"lumy"};
  expect_contains(error_of<UsageError>([&] { pending_runs(campaign); }), "lumi");
  ::unsetenv("ISOBAR_CLUSTER");
}

}  // namespace
}  // namespace isobar::test::slurm_run_test
