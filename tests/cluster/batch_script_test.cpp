// SPDX-License-Identifier: Apache-2.0
// Scripts as text, and as bash runs them: an srun of the test's drops its options and becomes the
// command.
#include <isobar/cluster/job.hpp>

#include <isobar/core/error.hpp>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>

#include "cluster/example_cluster.hpp"
#include "comm/expect_error.hpp"
#include "core/temporary_folder.hpp"

namespace isobar::test::batch_script_test {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSrun = R"(#!/bin/bash
printf 'option %s\n' "$@" >options
while [[ $1 == --* ]]; do shift; done
SLURM_LOCALID=2 exec "$@"
)";

/// What Slurm sets in a job, and where the test's srun and module are.
constexpr const char* kJob = R"(
module() { echo "module $*"; }
export -f module
export SLURM_JOB_ID=7 SLURM_JOB_NODELIST=n1 SLURM_CPUS_PER_TASK=8 MASTER_PORT=1 PATH=$PWD:$PATH
bash script >said 2>&1
)";

std::string script_of(const JobRequest& request,
                      const ClusterProfile& profile = example_cluster()) {
  return batch_script(profile, request, plan_job(profile, request));
}

std::string refusal(const JobRequest& request) {
  return error_of<UsageError>([&] { script_of(request); });
}

struct Outcome {
  int code = 0;
  std::string said;
  std::string options;  ///< of srun, the command among them
};

class BatchScript : public testing::Test {
 protected:
  JobRequest request(std::vector<std::string> command) {
    auto made = example_request();
    made.command = std::move(command);
    made.folder = folder_.path();
    return made;
  }

  Outcome run(const JobRequest& request, const ClusterProfile& profile = example_cluster(),
              const std::string& under = "") {
    write_file(folder_ / "srun", kSrun);
    fs::permissions(folder_ / "srun", fs::perms::owner_all);
    write_file(folder_ / "script", script_of(request, profile));
    write_file(folder_ / "job", kJob);
    const auto call = "cd '" + folder_.path().string() + "' && " + under + "bash job";
    const int status = std::system(call.c_str());
    return {WEXITSTATUS(status), read_file(folder_ / "said"),
            read_file(fs::path(request.folder) / "options")};
  }

  TemporaryFolder folder_;
};

TEST_F(BatchScript, HandsTheCommandsWordsOnAsTheyAre) {
  const auto done = run(request(
      {"printf", "<%s>\n", "it's", "a  b", "$HOME", "`id`", "\"", "*", "", "line\nend", "\\"}));
  EXPECT_EQ(done.code, 0) << done.said;
  expect_contains(done.said, "<it's>\n<a  b>\n<$HOME>\n<`id`>\n<\">\n<*>\n<>\n<line\nend>\n<\\>\n");
}

TEST_F(BatchScript, HandsTheRequestsVariablesOnAsTheyAre) {
  auto asked = request({"printenv", "-0", "A", "B"});
  asked.environment = {{"A", "it's $HOME\n\"x\""}, {"B", ""}};
  const auto done = run(asked);
  EXPECT_NE(done.said.find(std::string("it's $HOME\n\"x\"\0\0", 16)), std::string::npos)
      << done.said;
}

TEST_F(BatchScript, ReadsVariablesInTheProfilesValues) {
  auto profile = example_cluster();
  profile.environment = {{"CACHE", "/tmp/${SLURM_JOB_ID}-$(id)"}};
  expect_contains(run(request({"printenv", "CACHE"}), profile).said, "\n/tmp/7-$(id)\n");
}

TEST_F(BatchScript, RunsInAFolderOfAnyName) {
  auto asked = request({"pwd"});
  asked.folder = folder_ / "it's a \"$HOME\" run";
  fs::create_directories(asked.folder);
  expect_contains(run(asked).said, "\n" + asked.folder + "\n");
}

TEST_F(BatchScript, EndsBeforeTheRanksWhereItsFolderIsNotThere) {
  auto asked = request({"echo", "ran"});
  asked.folder = folder_ / "gone";
  const auto done = run(asked);
  EXPECT_NE(done.code, 0);
  EXPECT_EQ(done.said.find("ran\n"), std::string::npos) << done.said;
}

TEST_F(BatchScript, HandsOnTheRanksCode) {
  const auto done = run(request({"sh", "-c", "exit 7"}));
  EXPECT_EQ(done.code, 7);
  expect_contains(done.said, "job 7 ended with code 7 after ");
}

TEST_F(BatchScript, OutlivesItsRanksAtTheTimeLimit) {
  const auto done = run(request({"sh", "-c", "kill -TERM $PPID; sleep 0.1; exit 9"}));
  EXPECT_EQ(done.code, 9) << done.said;
  expect_contains(done.said, "ended with code 9");
}

TEST_F(BatchScript, LetsNoSignalEndARankThatDoesNotKnowIt) {
  auto asked = request({"sh", "-c", "kill -USR1 $$; echo alive"});
  EXPECT_EQ(run(asked).code, 0);
  asked.signal_minutes = 0;
  EXPECT_NE(run(asked).code, 0);
  EXPECT_EQ(script_of(asked).find("#SBATCH --signal"), std::string::npos);
}

TEST_F(BatchScript, LetsAScriptOfTheUsersTrapTheSignal) {
  auto asked = request({"sh", "-c", "trap 'echo heard; exit 0' USR1; kill -USR1 $$; exit 5"});
  asked.is_own_program = true;
  const auto done = run(asked);
  EXPECT_EQ(done.code, 0) << done.said;
  expect_contains(done.said, "\nheard\n");
}

TEST_F(BatchScript, LetsSlurmEndTheOtherRanksOfAnUnknownProgram) {
  auto asked = request({"true"});
  expect_contains(run(asked).options, "option --kill-on-bad-exit=0\n");
  asked.is_own_program = true;
  expect_contains(run(asked).options, "option --kill-on-bad-exit=1\n");
}

TEST_F(BatchScript, SaysHowItEndedWhereverItDoes) {
  auto profile = example_cluster();
  profile.modules = {"absent"};
  profile.environment = {{"A", "${USER}-$TMPDIR"}};
  const auto done = run(request({"printenv", "A"}), profile);
  expect_contains(done.said, "ended with code 0");
  auto asked = request({"true"});
  asked.folder = folder_ / "gone";
  expect_contains(run(asked).said, "job 7 ended with code 1 after ");
}

TEST_F(BatchScript, NeedsNoVariablesOfALoginShell) {
  auto profile = example_cluster();
  profile.environment = {{"A", "${USER}-$TMPDIR"}};
  const auto done = run(request({"printenv", "A"}), profile, "env -u USER -u TMPDIR ");
  EXPECT_EQ(done.code, 0) << done.said;
  expect_contains(done.said, "-/tmp\n");
}

TEST_F(BatchScript, HandsItsEnvironmentOnThoughSlurmWasToldToHandOnNone) {
  const auto done = run(request({"sh", "-c", "echo ${SLURM_EXPORT_ENV-none}"}), example_cluster(),
                        "env SLURM_EXPORT_ENV=NONE ");
  expect_contains(done.said, "\nnone\n");
}

TEST_F(BatchScript, LetsARankThatKnowsTheSignalHaveIt) {
  const auto done = run(request({"python3", "-c",
                                 "import os, signal\n"
                                 "signal.signal(signal.SIGUSR1, lambda *_: print('heard'))\n"
                                 "os.kill(os.getpid(), signal.SIGUSR1)\n"}));
  expect_contains(done.said, "\nheard\n");
}

TEST_F(BatchScript, ShowsARankItsGpuAloneWhereTheMachineWantsIt) {
  auto profile = example_cluster();
  profile.binding.gpu_visibility = "ROCR_VISIBLE_DEVICES";
  expect_contains(run(request({"printenv", "ROCR_VISIBLE_DEVICES"}), profile).said, "\n2\n");
  EXPECT_NE(run(request({"printenv", "ROCR_VISIBLE_DEVICES"})).code, 0);
}

TEST_F(BatchScript, LoadsModulesInTheirOrder) {
  auto profile = example_cluster();
  profile.modules = {"use /appl/modules", "gcc/14", "openmpi"};
  expect_contains(run(request({"true"}), profile).said,
                  "module purge\nmodule use /appl/modules\nmodule load gcc/14\n"
                  "module load openmpi\n");
}

TEST_F(BatchScript, GivesRanksTheirCoresAndNoPortOfTheSubmittersShell) {
  const auto done = run(
      request({"sh", "-c", "echo ${SRUN_CPUS_PER_TASK} ${OMP_NUM_THREADS} ${MASTER_PORT-none}"}));
  expect_contains(done.said, "\n8 8 none\n");
}

TEST_F(BatchScript, RunsAContainerThatSeesTheFolder) {
  auto profile = example_cluster();
  profile.container.command = "env -u X";
  profile.container.binds = {"/gpfs", "/dev/shm:$SLURM_JOB_ID"};
  auto asked = request({"isobar", "doctor"});
  asked.container = "/images/my isobar.sif";
  const auto options = run(asked, profile).options;
  expect_contains(options, "option --bind=/gpfs,/dev/shm:7," + folder_.path().string() + "\n");
  asked.folders = {"/gpfs/data", "/data/era5"};
  expect_contains(run(asked, profile).options, folder_.path().string() + ",/data/era5\n");
  expect_contains(options, "option /images/my isobar.sif\noption isobar\noption doctor\n");
}

/// Slurm loses n2 in the first step, which fails with it; later ones end as `later` says.
constexpr const char* kLosesANode = R"(#!/bin/bash
if [[ -e lost ]]; then exit %; fi
echo n2 >lost
exit 1
)";

TEST_F(BatchScript, LeavesSparesOutOfTheStep) {
  auto asked = request({"true"});
  asked.nodes = 3;
  asked.spares = 2;
  expect_contains(script_of(asked), "#SBATCH --nodes=5\n");
  expect_contains(script_of(asked), "#SBATCH --no-kill\n");
  const auto done = run(asked);
  EXPECT_EQ(done.code, 0) << done.said;
  expect_contains(done.options, "option --nodes=3\noption --ntasks=12\noption --cpu-bind");
}

TEST_F(BatchScript, BeginsAgainWithoutANodeThatSlurmHasLost) {
  for (const std::string later : {"0", "3"}) {
    fs::remove(folder_ / "lost");
    auto program = std::string(kLosesANode);
    program.replace(program.find('%'), 1, later);
    write_file(folder_ / "program", program);
    write_file(folder_ / "sinfo", "#!/bin/bash\ncat lost 2>/dev/null\n");
    for (const char* name : {"program", "sinfo"}) {
      fs::permissions(folder_ / name, fs::perms::owner_all);
    }
    auto asked = request({"./program"});
    asked.nodes = 3;
    asked.spares = 2;
    const auto done = run(asked);
    EXPECT_EQ(done.code, std::stoi(later)) << done.said;
    expect_contains(done.options, "option --ntasks=12\noption --exclude=n2\n");
    expect_contains(done.said, "nodes lost: n2; the ranks begin again on others\n");
    EXPECT_EQ(done.said.find("nodes lost"), done.said.rfind("nodes lost"));
  }
}

TEST_F(BatchScript, BeginsAgainWithoutALostNodeThatAnswersAgain) {
  for (const auto& [name, text] : std::map<std::string, std::string>{
           {"program", "if [[ -e lost ]]; then exit 0; fi\ntouch lost\nexit 1\n"},
           {"sinfo", "true\n"},
           {"squeue", "if [[ -e lost ]]; then echo n1,n3; else echo n1,n2,n3; fi\n"},
           {"scontrol", "tr , '\\n' <<<\"$3\"\n"}}) {
    write_file(folder_ / name, "#!/bin/bash\n" + text);
    fs::permissions(folder_ / name, fs::perms::owner_all);
  }
  auto asked = request({"./program"});
  asked.environment = {{"SLURM_JOB_NODELIST", "n1,n2,n3"}};
  asked.nodes = 2;
  asked.spares = 1;
  const auto done = run(asked);
  EXPECT_EQ(done.code, 0) << done.said;
  expect_contains(done.options, "\noption --exclude=n2\n");
  expect_contains(done.said, "nodes lost: n2; the ranks begin again on others\n");
}

TEST(BatchScriptText, AsksForWhatWasPlanned) {
  auto request = example_request(65);
  request.reservation = "hero";
  request.mail = "me@example.org";
  request.directives = {"--constraint=rack1"};
  const auto script = script_of(request);
  for (const char* line :
       {"--job-name=weather", "--account=p1", "--partition=prod", "--qos=qos_big",
        "--reservation=hero", "--nodes=65", "--ntasks-per-node=4", "--cpus-per-task=8",
        "--gres=gpu:4", "--exclusive", "--time=1-00:00:00", "--signal=USR1@300",
        "--output=/scratch/runs/weather/jobs/%j.out", "--open-mode=append", "--requeue",
        "--mail-user=me@example.org", "--mail-type=END,FAIL", "--constraint=rack1"}) {
    expect_contains(script, "\n#SBATCH " + std::string(line) + "\n");
  }
}

TEST(BatchScriptText, LeavesOutWhatTheMachineDoesNotWant) {
  auto profile = example_cluster();
  profile.slurm = {};
  profile.slurm.wants_account = profile.slurm.exclusive = false;
  profile.slurm.queues = {example_queue("any", "", 0, 0)};
  profile.account.clear();
  auto request = example_request();
  request.requeue = false;
  const auto script = script_of(request, profile);
  for (const char* option : {"account", "partition", "qos", "gres", "exclusive", "time", "mail",
                             "requeue\n", "reservation"}) {
    EXPECT_EQ(script.find("#SBATCH --" + std::string(option)), std::string::npos) << option;
  }
  expect_contains(script, "#SBATCH --no-requeue\n");
}

TEST(BatchScriptText, QuotesNamesAndPathsForSbatch) {
  auto request = example_request();
  request.name = "it's #1";
  request.output = "/scratch/my runs/%j.out";
  expect_contains(script_of(request), "#SBATCH --job-name='it'\\''s #1'\n");
  expect_contains(script_of(request), "#SBATCH --output='/scratch/my runs/%j.out'\n");
}

TEST(BatchScriptText, CarriesItsWarningsOnLinesOfTheirOwn) {
  auto profile = example_cluster();
  profile.unverified = {{"queues.normal", "from\na weak source"}};
  const auto script = script_of(example_request(), profile);
  const auto note = script.find("# Note: not certain: queues.normal: from a weak source.\n");
  EXPECT_LT(note, script.find("#SBATCH"));
}

TEST(BatchScriptText, RefusesWhatWouldBecomeAnotherLine) {
  auto request = example_request();
  request.name = "a\n#SBATCH --nodes=9";
  expect_contains(refusal(request), "--job-name holds a line end");
  request = example_request();
  request.directives = {"--comment=a\nrm -r x"};
  expect_contains(refusal(request), "is no option of sbatch");
  request.directives = {"rm -r x"};
  expect_contains(refusal(request), "is no option of sbatch");
}

TEST(BatchScriptText, RefusesADirectiveThatSaysAgainWhatTheScriptSays) {
  auto request = example_request();
  for (const char* option : {"--nodes=2", "-N 2", "--gres=gpu:1", "--requeue", "-t10"}) {
    request.directives = {option};
    expect_contains(refusal(request), "would say again what the script says by --");
  }
}

TEST(BatchScriptText, RefusesPathsThatSlurmWouldReadOtherwise) {
  auto request = example_request();
  for (const char* path : {"/scratch/50%/%j.out", "/scratch/a\\b", "/scratch/%x.out"}) {
    request.output = path;
    expect_contains(refusal(request), "which Slurm would replace");
  }
  request.output = "jobs/%j.out";
  expect_contains(refusal(request), "the output file 'jobs/%j.out' is no absolute path");
  request = example_request();
  request.folder = "runs";
  expect_contains(refusal(request), "the folder 'runs' is no absolute path");
}

TEST(BatchScriptText, RefusesAVariablesNameThatIsNone) {
  auto request = example_request();
  for (const char* name : {"", "1A", "A B", "A=B", "A;rm"}) {
    request.environment = {{name, "x"}};
    expect_contains(refusal(request), "is no name of an environment variable");
  }
  request.environment = {{"A", std::string("x\0y", 3)}};
  expect_contains(refusal(request), "the value of A holds a zero byte");
}

TEST(BatchScriptText, RefusesAJobWithoutACommand) {
  auto request = example_request();
  request.command.clear();
  expect_contains(refusal(request), "no command is given");
}

TEST(BatchScriptText, NamesMpirunWhereThereIsNoSlurm) {
  auto profile = example_cluster();
  profile.slurm.launcher = "mpirun";
  auto request = example_request();
  request.ranks_per_node = 2;
  request.command = {"isobar", "train", "my run.yaml"};
  request.environment = {{"A", "b c"}};
  expect_contains(error_of<UsageError>([&] { script_of(request, profile); }),
                  "run mpirun -n 2 -x 'A=b c' isobar train 'my run.yaml'");
}

}  // namespace
}  // namespace isobar::test::batch_script_test
