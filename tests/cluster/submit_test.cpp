// SPDX-License-Identifier: Apache-2.0
#include <isobar/cluster/submit.hpp>

#include <isobar/core/error.hpp>
#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "cluster/fake_slurm.hpp"
#include "comm/expect_error.hpp"

namespace isobar::test::submit_test {
namespace {

/// Numbers jobs from 71, and says more than the number, as sites do. Its third job is refused.
constexpr const char* kSbatch = R"(
id=$(( 70 + $(grep -c ^sbatch calls) ))
if [ $id = 73 ]; then
  echo 'sbatch: error: QOSMaxSubmitJobPerUserLimit' >&2
  echo 'sbatch: error: Batch job submission failed: Job violates accounting policy' >&2
  exit 1
fi
echo 'sbatch: info: your budget is 3 % used' >&2
echo "$id;leonardo"
echo 'Welcome to 3456 nodes.')";

ClusterProfile make_profile() {
  ClusterProfile profile;
  profile.name = "leonardo";
  profile.title = "Leonardo";
  profile.gpu_platform = "cuda";
  profile.architecture = "x86_64";
  profile.slurm.queues.emplace_back().partition = "boost_usr_prod";
  profile.node.cores = 32;
  return profile;
}

JobRequest make_request() {
  JobRequest request;
  request.name = "night";
  request.command = {"hostname"};
  request.folder = "/tmp";
  request.nodes = 2;
  return request;
}

JobPlan make_plan() {
  JobPlan plan;
  plan.queue = make_profile().slurm.queues.front();
  plan.nodes = 2;
  plan.minutes = 30;
  return plan;
}

std::vector<SubmittedJob> submit(const FakeSlurm& slurm, int links = 1,
                                 const JobRequest& request = make_request()) {
  return submit_job(make_profile(), request, make_plan(), slurm.folder(), links);
}

TEST(Submit, WritesTheScriptDownAndKnowsTheJobByItsNumber) {
  const FakeSlurm slurm(Commands{{"sbatch", kSbatch}});

  const auto jobs = submit(slurm);

  ASSERT_EQ(jobs.size(), 1u);
  EXPECT_EQ(jobs[0].id, "71");
  EXPECT_EQ(jobs[0].cluster, "leonardo");
  EXPECT_EQ(jobs[0].script, slurm.folder() / "job-1.sh");
  EXPECT_EQ(jobs[0].output, slurm.folder() / "71.out");
  EXPECT_EQ(slurm.calls(), std::vector<std::string>{"sbatch --parsable " + jobs[0].script});
  auto wanted = make_request();
  wanted.output = slurm.folder() / "%j.out";
  EXPECT_EQ(slurm.text_of("jobs/job-1.sh"), batch_script(make_profile(), wanted, make_plan()));
}

TEST(Submit, TellsWhatSbatchSaidBesides) {
  const FakeSlurm slurm(Commands{{"sbatch", kSbatch}});
  expect_contains(submit(slurm).front().note, "info: your budget is 3 % used; Welcome to 3456");
  const FakeSlurm quiet(Commands{{"sbatch", "echo 71"}});
  EXPECT_EQ(submit(quiet).front().note, "");
}

TEST(Submit, KeepsSbatchFromWhatTheShellWouldSayInTheScriptsPlace) {
  const FakeSlurm slurm(Commands{{"sbatch", "env | grep -c ^SBATCH_ > seen; echo 71"}});
  ::setenv("SBATCH_ACCOUNT", "other", 1);
  ::setenv("SBATCH_TIMELIMIT", "00:01:00", 1);
  submit(slurm);
  ::unsetenv("SBATCH_ACCOUNT");
  ::unsetenv("SBATCH_TIMELIMIT");
  EXPECT_EQ(slurm.text_of("seen"), "0\n");
}

TEST(Submit, LetsEachLinkWaitForTheOneBefore) {
  const FakeSlurm slurm(Commands{{"sbatch", kSbatch}});

  const auto jobs = submit(slurm, 2);

  ASSERT_EQ(jobs.size(), 2u);
  EXPECT_EQ(jobs[1].link, 2);
  EXPECT_EQ(jobs[1].links, 2);
  EXPECT_EQ(slurm.calls()[1], "sbatch --parsable --dependency=afterany:71 " + jobs[1].script);
}

TEST(Submit, TakesAChainBackOfWhichALinkIsRefused) {
  const FakeSlurm slurm(Commands{{"sbatch", kSbatch}, {"scancel", ""}});

  const auto said = error_of<UsageError>([&] { submit(slurm, 4); });

  expect_contains(said, "QOSMaxSubmitJobPerUserLimit; Batch job submission failed: Job violates");
  expect_contains(said, "cancelled what was queued by then: jobs 71, 72");
  EXPECT_EQ(slurm.calls().back(), "scancel 71 72");
  EXPECT_EQ(slurm.calls().size(), 4u) << "the fourth link was asked for after the third's refusal";
}

TEST(Submit, SaysWhatStaysQueuedWhereItCannotBeTakenBack) {
  const FakeSlurm slurm(Commands{{"sbatch", kSbatch}, {"scancel", "echo down; exit 1"}});
  expect_contains(error_of<UsageError>([&] { submit(slurm, 3); }),
                  "jobs 71, 72 stay queued, since scancel said: down");
}

TEST(Submit, RemembersJobsInTheOrderOfTheirSubmission) {
  const FakeSlurm slurm(Commands{{"sbatch", kSbatch}});
  submit(slurm);
  auto request = make_request();
  request.output = "/tmp/out-%j-%j.txt";
  submit(slurm, 1, request);

  const auto jobs = read_jobs(slurm.folder());

  ASSERT_EQ(jobs.size(), 2u);
  EXPECT_EQ(jobs[0].id, "71");
  EXPECT_EQ(jobs[1].id, "72");
  EXPECT_EQ(jobs[1].script, slurm.folder() / "job-2.sh");
  EXPECT_EQ(jobs[1].output, "/tmp/out-72-72.txt");
  EXPECT_EQ(jobs[1].minutes, 30);
  EXPECT_EQ(jobs[1].nodes, 2);
  EXPECT_EQ(jobs[1].command, std::vector<std::string>{"hostname"});
  EXPECT_EQ(jobs[1].submitted_at.size(), std::string("2026-01-01T00:00:00Z").size());
}

TEST(Submit, ReadsNoJobWhereNoneWasSubmittedNorALineThatIsBeingWritten) {
  const FakeSlurm slurm(Commands{{"sbatch", kSbatch}});
  EXPECT_TRUE(read_jobs(slurm.folder()).empty());
  submit(slurm);
  std::ofstream(slurm.folder() / "jobs.jsonl", std::ios::app) << R"({"id": "7)";
  EXPECT_EQ(read_jobs(slurm.folder()).size(), 1u);
  std::ofstream(slurm.folder() / "jobs.jsonl", std::ios::app) << "\n";
  expect_contains(error_of<DataError>([&] { read_jobs(slurm.folder()); }), "jobs.jsonl:2: is no");
}

TEST(Submit, ReadsALineThatNamesNoCommand) {
  const FakeSlurm slurm(Commands{});
  std::filesystem::create_directory(slurm.folder());
  std::ofstream(slurm.folder() / "jobs.jsonl")
      << R"({"id": "7", "cluster": "a", "script": "b", "output": "c", "submitted_at": "d",)"
      << R"( "link": 1, "links": 1, "nodes": 2, "minutes": 3})"
      << "\n";
  ASSERT_EQ(read_jobs(slurm.folder()).size(), 1u);
  EXPECT_TRUE(read_jobs(slurm.folder()).front().command.empty());
}

TEST(Submit, RefusesAnAnswerWithoutANumber) {
  const FakeSlurm slurm(Commands{{"sbatch", "echo moved to the web"}});
  expect_contains(error_of<UsageError>([&] { submit(slurm); }),
                  "it said: moved to the web; look at squeue");
}

TEST(Submit, SaysWhereJobsAreSubmittedWhereSlurmIsNot) {
  const FakeSlurm slurm(Commands{{"sbatch", "echo \"/bin/sh: 1: sbatch: not found\"; exit 127"}});
  expect_contains(error_of<UsageError>([&] { submit(slurm); }), "sbatch is not on the PATH");
}

TEST(Submit, AsksWithoutQueueing) {
  const FakeSlurm slurm(Commands{
      {"sbatch", "cat > given; echo 'sbatch: Job 9 to start at noon on nodes n[1-2]' >&2"}});

  EXPECT_EQ(test_job(make_profile(), make_request(), make_plan()),
            "Job 9 to start at noon on nodes n[1-2]");

  EXPECT_EQ(slurm.calls(), std::vector<std::string>{"sbatch --test-only"});
  EXPECT_EQ(slurm.text_of("given"), batch_script(make_profile(), make_request(), make_plan()));
  EXPECT_FALSE(std::filesystem::exists(slurm.folder()));
}

TEST(JobState, IsWhatScontrolKnows) {
  const FakeSlurm slurm(Commands{{"scontrol",
                                  "echo 'JobId=5 JobName=a UserId=b(1) JobState=RUNNING "
                                  "Reason=None Requeue=1 Restarts=2 ExitCode=0:0 "
                                  "RunTime=00:01:02 ReqNodeList=n9 NodeList=n[1-4] NumNodes=4'"}});
  const auto job = job_state("5");
  EXPECT_EQ(slurm.calls(), std::vector<std::string>{"scontrol --oneliner show job 5"});
  EXPECT_EQ(job.state, "RUNNING");
  EXPECT_EQ(job.reason, "");
  EXPECT_EQ(job.nodes, "n[1-4]");
  EXPECT_EQ(job.elapsed, "00:01:02");
  EXPECT_EQ(job.exit_code, "");
  EXPECT_EQ(job.restarts, 2);
  EXPECT_FALSE(has_ended(job));
}

TEST(JobState, TellsWhyAJobWaitsAndHowItEnded) {
  const FakeSlurm slurm(Commands{{"scontrol", R"(
case $4 in
  5) echo 'JobId=5 JobState=PENDING Reason=Priority Restarts=0 ExitCode=0:0 NodeList=(null)' ;;
  6) echo 'JobId=6 JobState=FAILED Reason=NonZeroExitCode Restarts=0 ExitCode=2:0 NodeList=n1' ;;
esac)"}});
  EXPECT_EQ(job_state("5").reason, "Priority");
  EXPECT_EQ(job_state("5").nodes, "");
  EXPECT_EQ(job_state("5").exit_code, "") << "it has none before it has ended";
  EXPECT_EQ(job_state("6").exit_code, "2:0");
  EXPECT_TRUE(has_ended(job_state("6")));
}

constexpr const char* kForgotten =
    "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1";

TEST(JobState, IsSacctsWhereScontrolHasForgotten) {
  const FakeSlurm slurm(Commands{{"scontrol", kForgotten},
                                 {"sacct",
                                  "echo 'REQUEUED|None|n[1-2]|00:10:00|0:0'\n"
                                  "echo 'CANCELLED by 1000|None|None assigned|00:20:00|0:15'"}});
  const auto job = job_state("5");
  EXPECT_EQ(job.state, "CANCELLED");
  EXPECT_EQ(job.reason, "");
  EXPECT_EQ(job.nodes, "");
  EXPECT_EQ(job.elapsed, "00:20:00");
  EXPECT_EQ(job.exit_code, "0:15");
  EXPECT_EQ(job.restarts, 1);
}

TEST(JobState, IsUnknownWhereNobodyKnowsAndSaysWhy) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "scontrol has forgotten it, sacct does not know it"},
      {"echo garbled", "scontrol has forgotten it, sacct says: garbled"},
      {"echo Slurm accounting storage is disabled; exit 1",
       "scontrol has forgotten it, sacct says: Slurm accounting storage is disabled"},
      {"echo 'sacct: error: slurmdbd: Connection refused'; exit 1",
       "scontrol has forgotten it, sacct says: slurmdbd: Connection refused"},
      {"exit 127", "scontrol has forgotten it, sacct says: sacct is not on the PATH"}};
  for (const auto& [sacct, reason] : cases) {
    const FakeSlurm slurm(Commands{{"scontrol", kForgotten}, {"sacct", sacct}});
    EXPECT_EQ(job_state("5").state, "UNKNOWN");
    EXPECT_EQ(job_state("5").reason, reason);
    EXPECT_TRUE(has_ended(job_state("5")));
  }
}

TEST(JobState, ThrowsWhereSlurmIsDown) {
  const FakeSlurm slurm(Commands{
      {"scontrol", "echo 'slurm_load_jobs error: Unable to contact slurm controller'; exit 1"}});
  expect_contains(error_of<Error>([] { job_state("5"); }),
                  "scontrol cannot be asked: slurm_load_jobs error: Unable to contact");
}

TEST(JobState, ThrowsWhereScontrolsAnswerNamesNoState) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "nothing"},
      {"echo Job is being purged", "Job is being purged"},
      {"echo 'JobId=5 JobState= Restarts=x'", "JobId=5 JobState= Restarts=x"}};
  for (const auto& [scontrol, said] : cases) {
    const FakeSlurm slurm(Commands{{"scontrol", scontrol}});
    EXPECT_EQ(error_of<Error>([] { job_state("5"); }),
              std::string("scontrol names no state of the job, it said: ") + said);
  }
  const FakeSlurm slurm(Commands{{"scontrol", "echo 'JobId=5 JobState=RUNNING Restarts=x'"}});
  EXPECT_EQ(job_state("5").restarts, 0);
}

}  // namespace
}  // namespace isobar::test::submit_test
