// SPDX-License-Identifier: Apache-2.0
// What both commands that make a job share: options into a JobRequest. A job runs this very
// program, in the folder that it was asked for from, so that paths of the experiment mean there
// what they mean here.
#include "cli/cluster_job.hpp"

#include "cli/experiment_file.hpp"

#include <isobar/cluster/detect.hpp>
#include <isobar/core/error.hpp>
#include <isobar/core/option_check.hpp>
#include <isobar/launch/environment.hpp>
#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <utility>

namespace isobar {
namespace {

namespace fs = std::filesystem;

constexpr int kSignalMinutes = 5;

/// CLI11 makes arguments of what follows "--", and forgets that it stood there.
bool is_own_program(const JobArguments& arguments) {
  const auto& words = arguments.command;
  const auto mark = std::find(words.begin(), words.end(), "--");
  const auto behind = static_cast<std::size_t>(words.end() - mark);
  if (behind == 0) return false;
  ISOBAR_CHECK(behind - 1 == arguments.words.size() + 1, "cluster: before '--' stands '",
               arguments.first,
               "', and behind it a program of your own; a job runs one of them: an experiment with "
               "its keys, or -- COMMAND");
  return true;
}

std::pair<std::string, std::string> name_and_value(const std::string& text) {
  const auto at = text.find('=');
  ISOBAR_CHECK(at != std::string::npos && at > 0, "cluster: --env wants NAME=VALUE, got '", text,
               "'");
  return {text.substr(0, at), text.substr(at + 1)};
}

/// This very program; in a container the image's.
std::vector<std::string> train_command(const JobArguments& arguments) {
  const bool is_contained = !arguments.request.container.empty();
  std::vector<std::string> words{is_contained ? "isobar" : fs::read_symlink("/proc/self/exe"),
                                 "train",
                                 fs::absolute(arguments.first).lexically_normal().string()};
  words.insert(words.end(), arguments.words.begin(), arguments.words.end());
  return words;
}

JobRequest request_of(const JobArguments& arguments, const ClusterProfile& profile) {
  auto request = arguments.request;
  request.folder = fs::current_path().string();
  request.requeue = !arguments.no_requeue;
  if (!arguments.time.empty()) request.minutes = parse_minutes(arguments.time);
  if (!request.output.empty()) {
    request.output = fs::absolute(request.output).lexically_normal().string();
  }
  // Ranks need not find out again, and the run's record names it.
  request.environment.emplace_back("ISOBAR_CLUSTER", profile.name);
  // The shell from which a script is handed to sbatch may not have it.
  if (const auto own = environment_variable("ISOBAR_CLUSTER_CONFIG"); !own.empty()) {
    request.environment.emplace_back("ISOBAR_CLUSTER_CONFIG", fs::absolute(own).string());
  }
  for (const auto& text : arguments.variables) {
    request.environment.push_back(name_and_value(text));
  }
  return request;
}

/// Slurm reads '%' in the path of its output in its own way.
void check_job_name(const std::string& name, const fs::path& folder,
                    const JobArguments& arguments) {
  const auto place = fs::absolute(folder).string();
  ISOBAR_CHECK(
      !arguments.request.output.empty() || place.find_first_of("%\\\n") == std::string::npos,
      "cluster: the name '", name, "' or the folder of its jobs, ", place,
      ", holds '%', '\\' or a line end, which Slurm would replace in the path of the "
      "output; choose another --name, or give --output");
}

void take_program(const JobArguments& arguments, MadeJob& job) {
  job.request.is_own_program = true;
  job.request.signal_minutes = std::max(arguments.signal_minutes, 0);
  job.request.command = {arguments.first};
  job.request.command.insert(job.request.command.end(), arguments.words.begin(),
                             arguments.words.end());
  if (job.request.name.empty()) job.request.name = fs::path(arguments.first).filename().string();
  const auto& name = job.request.name;
  ISOBAR_CHECK(name.find('/') == std::string::npos && name[0] != '.', "cluster: --name '", name,
               "' is no plain name, without / and not beginning with a dot: the job's files go to "
               "runs/NAME.jobs");
  job.folder = jobs_folder(fs::path("runs") / name);
  check_job_name(name, job.folder, arguments);
}

void take_experiment(const JobArguments& arguments, MadeJob& job) {
  job.experiment = read_experiment_file(arguments.first, arguments.words, job.profile);
  job.request.command = train_command(arguments);
  if (job.request.name.empty()) job.request.name = job.experiment->run_name;
  job.folder = jobs_folder(fs::path(job.experiment->run_folder) / job.experiment->run_name);
  check_job_name(job.request.name, job.folder, arguments);
  job.request.signal_minutes =
      arguments.signal_minutes < 0 ? kSignalMinutes : arguments.signal_minutes;
  const auto add_folder = [&](const fs::path& folder) {
    job.request.folders.push_back(fs::absolute(folder).lexically_normal().string());
  };
  add_folder(fs::absolute(arguments.first).parent_path());
  add_folder(job.experiment->run_folder);
  for (const auto& path : job.experiment->data.paths) add_folder(fs::absolute(path).parent_path());
}

void add_queue_options(CLI::App& app, JobArguments& arguments) {
  auto& request = arguments.request;
  app.add_option("--cluster", arguments.cluster, "the machine; this one where none is named");
  app.add_option("--nodes", request.nodes, "nodes that work")->check(check_positive);
  app.add_option("--time", arguments.time, "the time limit, such as 2:00:00 or 1-00:00:00")
      ->check(checked_by(parse_minutes));
  app.add_option("--account", request.account, "the account that pays");
  app.add_option("--partition", request.partition, "in place of the machine's first that fits");
  app.add_option("--qos", request.qos, "in place of the machine's first that fits");
  app.add_option("--reservation", request.reservation, "of nodes");
  app.add_option("--ranks-per-node", request.ranks_per_node, "by default one a GPU")
      ->check(check_positive)
      ->default_str("");
  app.add_option("--spares", request.spares, "further nodes, for those that fail")
      ->check(check_not_negative);
}

}  // namespace

void add_job_options(CLI::App& app, JobArguments& arguments) {
  auto& request = arguments.request;
  app.add_option("experiment", arguments.first,
                 "what to train, a YAML file; or -- and the words of a program of your own")
      ->required();
  app.add_option("overrides", arguments.words, "keys to change, such as train.steps=100");
  add_queue_options(app, arguments);
  app.add_option("--container", request.container, "an image to run in, in place of modules");
  app.add_option("--module", request.modules, "in place of the machine's; may be repeated")
      ->allow_extra_args(false);
  app.add_option("--env", arguments.variables, "NAME=VALUE for the ranks; may be repeated")
      ->allow_extra_args(false);
  app.add_option("--directive", request.directives,
                 "a further option of sbatch, such as --directive=--constraint=a")
      ->allow_extra_args(false);
  app.add_option("--mail", request.mail, "an address, for end and failure");
  app.add_flag("--no-requeue", arguments.no_requeue, "do not start it again when a node fails");
  app.add_option("--signal-minutes", arguments.signal_minutes,
                 "SIGUSR1 to the ranks so long before the time limit; 0, as for a program of your "
                 "own: none")
      ->check(check_not_negative)
      ->default_str("5");
  app.add_option("--name", request.name, "of the job; by default the run's");
  app.add_option("--output", request.output, "Slurm's output file; %j is the job's number");
}

MadeJob make_job(const JobArguments& arguments) {
  const auto profiles = read_profiles();
  MadeJob job;
  job.profile = profile_here(profiles, arguments.cluster);
  job.request = request_of(arguments, job.profile);
  if (is_own_program(arguments)) {
    take_program(arguments, job);
  } else {
    take_experiment(arguments, job);
  }
  job.plan = plan_job(job.profile, job.request);
  return job;
}

void print_job_warnings(const std::vector<std::string>& warnings) {
  for (const auto& line : warnings) fmt::print(stderr, "isobar: warning: {}\n", line);
}

fs::path jobs_folder(const fs::path& run) {
  const auto name = (run / "").lexically_normal().parent_path();  // of "runs/a" and "runs/a/"
  return name.extension() == ".jobs" ? name : fs::path(name.string() + ".jobs");
}

}  // namespace isobar
