// SPDX-License-Identifier: Apache-2.0
// `isobar cluster script` and `submit`: what cluster_job.cpp has made of the options, printed or
// handed to sbatch. Before an experiment is queued, for hours perhaps, it is looked at for what
// would end it.
#include "cli/cluster_job.hpp"
#include "cli/command.hpp"

#include <isobar/cluster/detect.hpp>
#include <isobar/cluster/submit.hpp>
#include <isobar/comm/make_communicator.hpp>
#include <isobar/core/error.hpp>
#include <isobar/core/option_check.hpp>
#include <isobar/core/report.hpp>
#include <isobar/launch/environment.hpp>
#include <isobar/weather/job_check.hpp>
#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

namespace isobar {
namespace {

struct SubmitArguments {
  JobArguments common;
  int chain = 1;
  double step_seconds = 0;
  bool test_only = false;
  std::string json;  ///< file, "-" for standard output, empty for none
};

void add_submit_options(CLI::App& app, SubmitArguments& arguments) {
  add_job_options(app, arguments.common);
  app.add_option("--chain", arguments.chain,
                 "of a program that goes on from its checkpoints: so many jobs, each after the one "
                 "before has ended in whatever way")
      ->check(check_positive);
  app.add_option("--step-seconds", arguments.step_seconds,
                 "what a training step takes, as you have measured it: refuses a run that would "
                 "leave no checkpoint within --time")
      ->check(check_positive)
      ->default_str("");
  app.add_flag("--test-only", arguments.test_only,
               "ask sbatch when it would start, and queue nothing");
  app.add_option("--json", arguments.json,
                 "write the result as JSON to this file; - is standard output")
      ->check(check_report_file);
}

/// Prints the script of a job.
int run_cluster_script(const JobArguments& arguments) {
  if (launch_rank_or_zero() != 0) return 0;
  const auto job = make_job(arguments);
  const auto script = batch_script(job.profile, job.request, job.plan);
  print_job_warnings(job.plan.warnings);
  std::fputs(script.c_str(), stdout);
  return 0;
}

/// What would end the training of an experiment, or leave nothing of it.
std::vector<std::string> check_training(const SubmitArguments& arguments, const MadeJob& job) {
  ISOBAR_CHECK(arguments.chain == 1, "submit: --chain ", arguments.chain,
               " of an experiment: isobar train does not go on from a checkpoint, so each link "
               "would begin anew; give one job more --time (a chain is for -- COMMAND)");
  const auto& node = job.profile.node;
  return check_job(*job.experiment, {.machine = job.profile.name,
                                     .nodes = job.request.nodes,
                                     .ranks_per_node = job.plan.ranks_per_node,
                                     .node_gpus = node.gpus,
                                     .program_has_gpus = !job.request.container.empty() ||
                                                         !nccl_library_version().empty(),
                                     .gpu_memory_bytes = node.gpu_memory_bytes,
                                     .node_memory_bytes = node.memory_bytes,
                                     .minutes = job.plan.minutes,
                                     .step_seconds = arguments.step_seconds});
}

nlohmann::json submitted_rows(const std::vector<SubmittedJob>& jobs) {
  auto rows = nlohmann::json::array();
  for (const auto& job : jobs) {
    rows.push_back({{"id", job.id},
                    {"cluster", job.cluster},
                    {"link", job.link},
                    {"links", job.links},
                    {"nodes", job.nodes},
                    {"minutes", job.minutes},
                    {"script", job.script},
                    {"output", job.output}});
  }
  return rows;
}

/// Once each, however many links it was said of.
std::vector<std::string> notes_of(const std::vector<SubmittedJob>& jobs) {
  std::vector<std::string> notes;
  for (const auto& job : jobs) {
    const bool is_new = std::find(notes.begin(), notes.end(), "sbatch: " + job.note) == notes.end();
    if (!job.note.empty() && is_new) notes.push_back("sbatch: " + job.note);
  }
  return notes;
}

void print_submitted(const std::vector<SubmittedJob>& jobs, const MadeJob& job) {
  for (const auto& each : jobs) {
    const auto link = each.links > 1 ? fmt::format(", link {} of {}", each.link, each.links) : "";
    fmt::print("job {}{} on {}: {} node{}, {}, queue {}\n", each.id, link, each.cluster, each.nodes,
               each.nodes == 1 ? "" : "s",
               each.minutes > 0 ? minutes_text(each.minutes) : "Slurm's usual time",
               job.plan.queue.name);
  }
  fmt::print("script  {}\noutput  {}\n", jobs.back().script, jobs.back().output);
  const auto folder = shell_word(job.folder.string());
  fmt::print("then    isobar cluster status {}\n        isobar cluster logs {} --follow\n", folder,
             folder);
}

/// What sbatch does not look at, and the job would end with.
void check_files(const MadeJob& job) {
  const auto& request = job.request;
  std::error_code none;
  const auto& program = request.command.front();
  const bool is_here = request.container.empty() && program.find('/') != std::string::npos;
  ISOBAR_CHECK(!is_here || ::access(program.c_str(), X_OK) == 0, "submit: the program '", program,
               "' is not there, or may not be executed; name another behind --");
  const auto& image = request.container;
  const bool is_file = image.find("://") == std::string::npos;
  ISOBAR_CHECK(image.empty() || !is_file || std::filesystem::exists(image, none),
               "submit: --container: '", image, "' is not there; build or name the image first");
  const auto folder = std::filesystem::path(request.output).parent_path();
  ISOBAR_CHECK(request.output.empty() || std::filesystem::is_directory(folder, none),
               "submit: --output: there is no folder '", folder.string(), "'; make it first");
}

/// Another job of the run, unless it has ended; nothing where Slurm does not say.
std::string job_under_way(const MadeJob& job) {
  try {
    const auto jobs = read_jobs(job.folder);
    for (auto each = jobs.rbegin(); each != jobs.rend(); ++each) {
      const auto state = job_state(each->id);
      if (!has_ended(state)) return each->id + " (" + state.state + ")";
    }
  } catch (const Error&) {
  }
  return {};
}

void check_alone(const MadeJob& job) {
  const auto other = job_under_way(job);
  if (other.empty()) return;
  const auto text = fmt::format("submit: job {} of '{}' has not ended", other, job.folder.string());
  ISOBAR_CHECK(!job.experiment, text,
               ", and two of one run cannot go on at a time; cancel it, or "
               "give this one another run.name");
  print_job_warnings({text + ", and this one shares its folder"});
}

/// This machine is another than the one that the job is for.
void warn_of_place(const MadeJob& job) {
  auto facts = read_machine_facts();
  facts.environment.erase("ISOBAR_CLUSTER");  // it may be left over
  const auto here = detect_cluster(read_profiles(), facts).clusters;
  if (here.size() != 1 || here.front() == job.profile.name) return;
  print_job_warnings(
      {fmt::format("the job is for {}, and this looks like {}", job.profile.name, here.front())});
}

/// Hands a job to sbatch.
int run_cluster_submit(const SubmitArguments& arguments) {
  if (launch_rank_or_zero() != 0) return 0;
  const auto job = make_job(arguments.common);
  ISOBAR_CHECK(job.experiment || arguments.step_seconds == 0,
               "submit: --step-seconds is of an experiment, whose steps are known");
  check_files(job);
  const int most = job.profile.slurm.most_queued_jobs;
  ISOBAR_CHECK(most == 0 || arguments.chain <= most, "submit: --chain ", arguments.chain, ": ",
               job.profile.name, " takes ", most, " jobs of a user; ask for fewer");
  print_job_warnings(job.plan.warnings);
  warn_of_place(job);
  if (job.experiment) print_job_warnings(check_training(arguments, job));
  if (arguments.test_only) {
    fmt::print("{}\n", test_job(job.profile, job.request, job.plan));
    return 0;
  }
  check_alone(job);
  const auto jobs = submit_job(job.profile, job.request, job.plan, job.folder, arguments.chain);
  print_job_warnings(notes_of(jobs));
  if (arguments.json != "-") print_submitted(jobs, job);
  write_report(arguments.json, "isobar.cluster.submit.1", arguments.common.command,
               submitted_rows(jobs));
  return 0;
}

const RegisteredCommand kScript{
    {.place = 84,
     .group = "cluster",
     .name = "script",
     .description = "Print the batch script of a job",
     .example = "isobar cluster script experiment.yaml --cluster leonardo --nodes 4\n"
                "      --time 2:00:00 --account EUHPC_D00_000",
     .add = with_arguments(add_job_options, run_cluster_script)}};

const RegisteredCommand kSubmit{
    {.place = 85,
     .group = "cluster",
     .name = "submit",
     .description = "Submit a job, after a look for what would end it",
     .example = "isobar cluster submit experiment.yaml train.steps=20000 --nodes 4\n"
                "      --time 12:00:00 --account EUHPC_D00_000\n"
                "  isobar cluster submit --nodes 4 --time 6:00:00 --chain 3 --name mine\n"
                "      --account EUHPC_D00_000 -- ./my_trainer config.yaml",
     .add = with_arguments(add_submit_options, run_cluster_submit)}};

}  // namespace
}  // namespace isobar
