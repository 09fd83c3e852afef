// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/cluster/job.hpp>
#include <isobar/cluster/profile.hpp>
#include <isobar/weather/experiment.hpp>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace isobar {

/// What `isobar cluster script` and `submit` are asked for.
struct JobArguments {
  std::string first;               ///< the experiment, or the first word of a program
  std::vector<std::string> words;  ///< key=value of the experiment, or the program's other words
  std::string cluster;             ///< a machine's name; empty: this one
  std::string time;                ///< as Slurm writes it
  JobRequest request;              ///< but for what the other options say
  int signal_minutes = -1;         ///< below 0: what suits the program
  std::vector<std::string> variables;  ///< NAME=VALUE
  bool no_requeue = false;
  std::vector<std::string> command;
};

void add_job_options(CLI::App& app, JobArguments& arguments);

/// What they come to.
struct MadeJob {
  ClusterProfile profile;
  JobRequest request;
  JobPlan plan;
  std::optional<Experiment> experiment;  ///< none for a program of the user's own
  std::filesystem::path folder;          ///< of its scripts, its output and jobs.jsonl
};

/// Throws UsageError for what the machine would not take. Writes nothing.
MadeJob make_job(const JobArguments& arguments);

/// The plan's warnings and others, on standard error.
void print_job_warnings(const std::vector<std::string>& warnings);

/// The folder of a run's jobs, beside the run's own, which moves when the run starts anew.
std::filesystem::path jobs_folder(const std::filesystem::path& run);

}  // namespace isobar
