#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Do the tests notice jobs that are submitted, checked or told of wrongly? Makes one mistake at a time, builds, and
runs the test.

    tests/cluster/mutations.py build/release [NAME ...] [--together N]

From the repository's root. The sources are changed in place and put back; what is not committed there is refused. Exit
code 0: every mistake was noticed. With --together 20 all take a few builds.
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from mutation import Mistake, main  # noqa: E402

SUBMIT, CALL, OUTPUT, WATCH, DESCRIBE, SCRIPT = (
    f"lib/cluster/{name}.cpp" for name in ("submit", "slurm_call", "job_output", "job_watch", "describe",
                                           "batch_script"))
CHECK, PROGRESS = "lib/weather/job_check.cpp", "lib/train/run_progress.cpp"
JOB, PROFILES, STATUS, FILE = (f"lib/cli/{name}.cpp" for name in ("cluster_job", "cluster_profiles", "cluster_status",
                                                                  "experiment_file"))
CLI = "tests/cli/cluster_test.py ClusterTest.test_"

MISTAKES = [
    # Jobs.
    Mistake("let links run beside each other", SUBMIT,
            'if (!after.empty()) words.push_back("--dependency=afterany:" + after);', "",
            "Submit.LetsEachLinkWaitForTheOneBefore"),
    Mistake("leave half a chain queued", SUBMIT,
            'throw UsageError(detail::join(error.what(), "; ", take_back(queued)));', "throw;",
            "Submit.TakesAChainBackOfWhichALinkIsRefused"),
    Mistake("take any number for the job's", SUBMIT, 'number("^([0-9]+)(;.*)?$");', 'number("[^0-9]*([0-9]+).*");',
            "Submit.WritesTheScriptDownAndKnowsTheJobByItsNumber"),
    Mistake("write over the script of a job before", SUBMIT, "read_jobs(place).size() + 1", "1",
            "Submit.RemembersJobsInTheOrderOfTheirSubmission"),
    Mistake("read a line that is being written", SUBMIT, "while (std::getline(file, line) && !file.eof()) {",
            "while (std::getline(file, line)) {",
            "Submit.ReadsNoJobWhereNoneWasSubmittedNorALineThatIsBeingWritten"),
    Mistake("queue a job that is only asked for", SUBMIT, 'sbatch_words({"--test-only"})',
            'sbatch_words({})', "Submit.AsksWithoutQueueing"),
    Mistake("hide that there is no Slurm", CALL, "ISOBAR_CHECK(answer.code != kNotFound,", "ISOBAR_CHECK(true,",
            "Submit.SaysWhereJobsAreSubmittedWhereSlurmIsNot"),
    Mistake("take a node that answers again for one that was not lost", SCRIPT, "[[ -z $held ]] ||", "true ||",
            "BatchScript.BeginsAgainWithoutALostNodeThatAnswersAgain"),
    # What became of them.
    Mistake("find a key in another's end", SUBMIT, 'const auto at = (" " + line).find(" " + key + "=");',
            'const auto at = line.find(key + "=");', "JobState.IsWhatScontrolKnows"),
    Mistake("give a code before the end", SUBMIT, 'if (has_ended(job)) job.exit_code = field(line, "ExitCode");',
            'job.exit_code = field(line, "ExitCode");', "JobState.TellsWhyAJobWaitsAndHowItEnded"),
    Mistake("forget the lives of a job", SUBMIT, ".restarts = lives++};", ".restarts = 0};",
            "JobState.IsSacctsWhereScontrolHasForgotten"),
    Mistake("take silence for an unknown job", SUBMIT,
            'if (answer.text.find("Invalid job id") != std::string::npos) return', "return",
            "JobState.ThrowsWhereSlurmIsDown"),
    Mistake("take any answer for a state", SUBMIT, "if (!std::regex_match(job.state, word)) {", "if (false) {",
            "JobState.ThrowsWhereScontrolsAnswerNamesNoState"),
    Mistake("end with the first answer that fails", WATCH, "if (++failures_ == kMostFailures) throw;", "throw;",
            "JobWatch.SaysOnceThatSlurmDoesNotAnswerAndAsksAgain"),
    Mistake("count failures that are not in a row", WATCH, "    failures_ = 0;\n", "",
            "JobWatch.GivesUpAfterTenFailuresInARow"),
    Mistake("begin a line too early", OUTPUT, "&& begin + at < size - 1;", ";", "JobOutput.BeginsWithTheLastLines"),
    Mistake("show what was shown", OUTPUT, "place_ += static_cast<std::int64_t>(text.size());", "",
            "JobOutput.GoesOnWhereItWas"),
    # Profiles.
    Mistake("show no mark of a value in a line of several", DESCRIBE,
            "if (!reason.empty() && is_inside(marked, key)) {", "if (false) {",
            "DescribeProfile.MarksWhatIsNotCertainInItsSectionOrInALineOfSeveralValues"),
    Mistake("take a variable for a text", DESCRIBE, "quoted_with_variables(value)", "quoted(value)",
            "EnvironmentLines.NameTheMachineAndLeaveVariablesToTheShell"),
    # What would end a run.
    Mistake("count a rank's memory as the node's", CHECK, "resources.node_memory_bytes / resources.ranks_per_node;",
            "resources.node_memory_bytes;", "JobCheck.RefusesAStepThatMemoryDoesNotHold", "weather_test"),
    Mistake("let a run end without a checkpoint", CHECK, "ISOBAR_CHECK(every > 0 && every <= made,",
            "ISOBAR_CHECK(true,", "JobCheck.RefusesALongerTrainingThanTheJobOnlyWithoutACheckpointInIt",
            "weather_test"),
    Mistake("forget the second training", CHECK, "if (!experiment.refit || 2 * train_s <= job_s) return {};",
            "return {};", "JobCheck.WarnsWhereARefitMayNotEnd", "weather_test"),
    Mistake("find data that are not there", CHECK, "ISOBAR_CHECK(std::filesystem::exists(path, none),",
            "ISOBAR_CHECK(true,", "JobCheck.RefusesDataThatAreNotThere", "weather_test"),
    Mistake("take any event for a step", PROGRESS, 'if (kind != "step") return;', "",
            "RunProgress.IsTheLastStepAndCheckpoint", "train_test"),
    # Commands.
    Mistake("take the words of a program for keys", JOB, "  if (behind == 0) return false;\n", "  return false;\n",
            f"{CLI}a_script_takes_a_program_of_ones_own_and_its_options"),
    Mistake("hide how to name a machine", PROFILES, "if (known) return 0;", "return 0;",
            f"{CLI}says_how_to_name_a_machine_that_is_not_known"),
    Mistake("show an earlier run as this job's", STATUS, "progress->began < last.submitted_at ?", "false ?",
            f"{CLI}status_shows_slurms_word_and_the_runs_progress"),
    Mistake("show a job that has said nothing", STATUS, "return id.empty() ? fs::exists(job.output) : job.id == id;",
            "return id.empty() || job.id == id;", f"{CLI}logs_are_those_of_the_last_job_that_said_something"),
    Mistake("look for a data root in the path", FILE, "names_root(data) ? in_root(data, machine) : \"\"", '""',
            f"{CLI}data_may_lie_in_a_folder_that_the_machine_names"),
]

if __name__ == "__main__":
    sys.exit(main(__doc__, MISTAKES, "cluster_test"))
