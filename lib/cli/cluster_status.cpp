// SPDX-License-Identifier: Apache-2.0
// `isobar cluster status` and `logs`: the jobs of a run, found by its experiment, its folder or
// theirs. What Slurm says of them stands beside what the run itself has written, with the time at
// which it began: the folder may still be that of a run before.
#include "cli/cluster_job.hpp"
#include "cli/command.hpp"
#include "cli/experiment_file.hpp"

#include <isobar/cluster/job_output.hpp>
#include <isobar/cluster/job_watch.hpp>
#include <isobar/cluster/submit.hpp>
#include <isobar/core/error.hpp>
#include <isobar/core/option_check.hpp>
#include <isobar/core/report.hpp>
#include <isobar/core/text.hpp>
#include <isobar/launch/environment.hpp>
#include <isobar/train/run_progress.hpp>
#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <map>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace isobar {
namespace {

namespace fs = std::filesystem;

struct StatusArguments {
  std::string path;                    ///< an experiment, a run's folder or that of its jobs
  std::vector<std::string> overrides;  ///< key=value of the experiment
  std::string json;                    ///< file, "-" for standard output, empty for none
  int lines = 40;                      ///< of logs
  std::string job;                     ///< of logs; empty: the last
  bool follow = false;                 ///< of logs
  std::vector<std::string> command;
};

void add_path_options(CLI::App& app, StatusArguments& arguments) {
  app.add_option("path", arguments.path, "the experiment, or the folder of its run")->required();
  app.add_option("overrides", arguments.overrides, "keys to change, such as run.name=second");
}

/// Of "." and the like the folder that has a name.
fs::path with_name(const fs::path& folder) {
  const auto last = folder.lexically_normal().filename();
  return last == "." || last == ".." ? fs::absolute(folder).lexically_normal() : folder;
}

fs::path find_jobs(const StatusArguments& arguments) {
  if (!fs::is_regular_file(arguments.path)) return jobs_folder(with_name(arguments.path));
  const auto experiment = read_experiment_file(arguments.path, arguments.overrides);
  return jobs_folder(fs::path(experiment.run_folder) / experiment.run_name);
}

std::vector<SubmittedJob> known_jobs(const fs::path& folder) {
  auto jobs = read_jobs(folder);
  ISOBAR_CHECK(!jobs.empty(), "cluster: no job was submitted by isobar cluster submit, looked in ",
               folder.string(), "; name the experiment or the run's folder, from where it was");
  return jobs;
}

nlohmann::json progress_json(const std::optional<RunProgress>& progress) {
  if (!progress) return nullptr;
  nlohmann::json json{{"began", progress->began}};
  if (progress->step) json.update({{"step", *progress->step}, {"loss", progress->loss}});
  if (progress->checkpoint) json["checkpoint"] = *progress->checkpoint;
  return json;
}

void print_progress(const fs::path& run, const std::optional<RunProgress>& progress,
                    const SubmittedJob& last) {
  if (!progress) {
    fmt::print("{}: no run has begun there\n", run.string());
    return;
  }
  std::string text = "no step yet";
  if (progress->step) text = fmt::format("step {}, loss {:.4g}", *progress->step, progress->loss);
  if (progress->checkpoint) text += fmt::format(", checkpoint of step {}", *progress->checkpoint);
  fmt::print("{}: {}\n  began {}{}\n", run.string(), text, progress->began,
             progress->began < last.submitted_at ? ", before the last job was submitted" : "");
}

nlohmann::json status_row(const SubmittedJob& job, const JobState& state) {
  return {{"id", job.id},
          {"link", job.link},
          {"links", job.links},
          {"state", state.state},
          {"reason", state.reason},
          {"nodes", state.nodes},
          {"elapsed", state.elapsed},
          {"exit_code", state.exit_code},
          {"restarts", state.restarts},
          {"submitted_at", job.submitted_at},
          {"script", job.script},
          {"output", job.output}};
}

/// Whether it is `isobar train`, which writes into the run's folder; a program of one's own need
/// not. Jobs of which nobody wrote it down count as such.
bool is_training(const SubmittedJob& job) {
  const auto& words = job.command;
  return words.size() < 2 ? words.empty()
                          : fs::path(words[0]).filename() == "isobar" && words[1] == "train";
}

/// What is known of a job where Slurm cannot be asked, too.
struct AskedState {
  JobState state;
  bool answered = false;
};

AskedState ask_state(const std::string& id) {
  try {
    return {.state = job_state(id), .answered = true};
  } catch (const Error& error) {
    return {.state = {.id = id, .state = "UNKNOWN", .reason = error.what()}};
  }
}

/// The newest is asked after first. Where Slurm does not answer, which may take it a minute, it is
/// not asked for those before.
std::vector<AskedState> ask_states(const std::vector<SubmittedJob>& jobs) {
  std::vector<AskedState> states(jobs.size());
  for (auto i = jobs.size(); i-- > 0;) {
    const bool asks = i + 1 == jobs.size() || states[i + 1].answered;
    states[i] = asks ? ask_state(jobs[i].id) : states[i + 1];
    states[i].state.id = jobs[i].id;
  }
  return states;
}

/// A line for each job; reasons that are longer than Slurm's words stand below, each once.
void print_jobs(const std::vector<SubmittedJob>& jobs, const std::vector<AskedState>& states) {
  constexpr const char* kLine = "{:>5} {:<9} {:<10} {:<20} {:<12} {:>11} {:>8}\n";
  constexpr std::size_t kReasonColumns = 20;
  std::map<std::string, std::vector<std::string>> jobs_by_reason;
  fmt::print(kLine, "link", "job", "state", "reason", "nodes", "elapsed", "restarts");
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    const auto& job = jobs[i];
    const auto& state = states[i].state;
    const bool fits = state.reason.size() <= kReasonColumns;
    fmt::print(kLine, fmt::format("{}/{}", job.link, job.links), job.id, state.state,
               fits ? state.reason : "see below", state.nodes, state.elapsed, state.restarts);
    if (!fits) jobs_by_reason[state_text(state)].push_back(job.id);
  }
  for (const auto& [reason, ids] : jobs_by_reason) {
    fmt::print("{}: {}\n", join_words(ids), reason);
  }
}

/// Shows the jobs of a run and how far it has come. Returns 1 where Slurm could not be asked.
int run_cluster_status(const StatusArguments& arguments) {
  if (launch_rank_or_zero() != 0) return 0;
  const auto folder = find_jobs(arguments);
  const auto jobs = known_jobs(folder);
  const bool prints = arguments.json != "-";
  const auto states = ask_states(jobs);
  auto rows = nlohmann::json::array();
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    rows.push_back(status_row(jobs[i], states[i].state));
  }
  const auto run = folder.parent_path() / folder.stem();
  const auto progress = read_progress(run);
  if (prints) print_jobs(jobs, states);
  if (prints && (progress || is_training(jobs.back()))) print_progress(run, progress, jobs.back());
  write_report(arguments.json, "isobar.cluster.status.1", arguments.command, rows,
               {{"run", progress_json(progress)}});
  const bool all_answered = std::all_of(states.begin(), states.end(),
                                        [](const AskedState& asked) { return asked.answered; });
  return all_answered ? 0 : 1;
}

void add_status_options(CLI::App& app, StatusArguments& arguments) {
  add_path_options(app, arguments);
  app.add_option("--json", arguments.json,
                 "write the result as JSON to this file; - is standard output")
      ->check(check_report_file);
}

/// The named job; else the last that has said something, or the last.
SubmittedJob job_to_show(const std::vector<SubmittedJob>& jobs, const std::string& id) {
  const auto wanted = [&](const SubmittedJob& job) {
    return id.empty() ? fs::exists(job.output) : job.id == id;
  };
  const auto found = std::find_if(jobs.rbegin(), jobs.rend(), wanted);
  if (found != jobs.rend()) return *found;
  std::vector<std::string> known;
  for (const auto& job : jobs) known.push_back(job.id);
  ISOBAR_CHECK(id.empty(), "logs: --job ", id, " is none of this run's, which are ",
               join_words(known));
  return jobs.back();
}

/// Prints what has come; false where there is no file yet.
bool print_more(JobOutput& output) {
  const auto text = output.read();
  if (text) std::fwrite(text->data(), 1, text->size(), stdout);
  std::fflush(stdout);
  return text.has_value();
}

/// Until the job has ended. Returns 0 where it has completed.
int follow_job(const SubmittedJob& job, JobOutput& output) {
  constexpr auto kLook = std::chrono::seconds(1);
  constexpr int kLooksAQuestion = 10;  // Slurm is asked less often than the file
  JobWatch watch([&] { return job_state(job.id); });
  for (int look = 0;; ++look) {
    print_more(output);
    if (look % kLooksAQuestion == 0) {
      const auto line = watch.look();
      const auto& state = watch.state();
      const bool ended = !state.id.empty() && has_ended(state);
      if (ended) print_more(output);  // what it wrote before it was asked after
      if (!line.empty()) fmt::print(stderr, "job {}: {}\n", job.id, line);
      if (ended) return state.state == "COMPLETED" ? 0 : 1;
    }
    std::this_thread::sleep_for(kLook);
  }
}

/// Prints what a job has said. Returns 1 where it has said nothing yet.
int run_cluster_logs(const StatusArguments& arguments) {
  if (launch_rank_or_zero() != 0) return 0;
  const auto job = job_to_show(known_jobs(find_jobs(arguments)), arguments.job);
  JobOutput output(job.output, arguments.lines);
  if (arguments.follow) return follow_job(job, output);
  if (print_more(output)) return 0;
  fmt::print(stderr, "job {} has said nothing yet: {}\n  submitted {}, it will say it in {}\n",
             job.id, state_text(ask_state(job.id).state), job.submitted_at, job.output);
  return 1;
}

void add_logs_options(CLI::App& app, StatusArguments& arguments) {
  add_path_options(app, arguments);
  app.add_option("--lines", arguments.lines, "how many of the last lines")->check(check_positive);
  app.add_option("--job", arguments.job, "a job's number; by default the last that said something");
  app.add_flag("--follow", arguments.follow, "go on until the job has ended");
}

const RegisteredCommand kStatus{{.place = 86,
                                 .group = "cluster",
                                 .name = "status",
                                 .description = "Show the jobs of a run, and how far it has come",
                                 .example = "isobar cluster status experiment.yaml",
                                 .add = with_arguments(add_status_options, run_cluster_status)}};

const RegisteredCommand kLogs{{.place = 87,
                               .group = "cluster",
                               .name = "logs",
                               .description = "Print what a job of a run has said",
                               .example = "isobar cluster logs experiment.yaml --follow",
                               .add = with_arguments(add_logs_options, run_cluster_logs)}};

}  // namespace
}  // namespace isobar
