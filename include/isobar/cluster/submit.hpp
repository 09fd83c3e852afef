// SPDX-License-Identifier: Apache-2.0
// Jobs of a run: submitted with sbatch, written down, and asked after. Everything lies in one
// folder beside the run's: the scripts, jobs.jsonl and Slurm's output.
#pragma once

#include <isobar/cluster/job.hpp>

#include <filesystem>
#include <string>
#include <vector>

namespace isobar {

/// A job that was submitted.
struct SubmittedJob {
  std::string id;            ///< Slurm's
  std::string cluster;       ///< the profile's name
  std::string script;        ///< the file
  std::string output;        ///< Slurm's output file, without %j
  std::string submitted_at;  ///< UTC, ISO 8601
  int link = 1;              ///< place in a chain, from 1
  int links = 1;
  int nodes = 0;
  std::int64_t minutes = 0;
  std::vector<std::string> command = {};  ///< of each rank; empty where it is not known
  std::string note = {};  ///< what sbatch said besides, such as of a budget; not kept
};

/// What Slurm knows of a job.
struct JobState {
  std::string id;
  std::string state;  ///< "PENDING", "RUNNING", "COMPLETED", "FAILED", "TIMEOUT", ... or "UNKNOWN"
  std::string reason = {};  ///< why it waits, ended or is not known; may be empty but for the last
  std::string nodes = {};   ///< such as "n[1-4]"
  std::string elapsed = {};
  std::string exit_code = {};  ///< "0:0"; empty while it is not known
  int restarts = 0;
};

/// Writes `script` into `folder` (made if it is not there), hands it to sbatch `links` times, each
/// link after the one before has ended in whatever way, and appends to folder/jobs.jsonl. Blocks
/// for sbatch. Throws UsageError with sbatch's words where it refuses; links that were queued by
/// then are cancelled.
std::vector<SubmittedJob> submit_job(const ClusterProfile& profile, const JobRequest& request,
                                     const JobPlan& plan, const std::filesystem::path& folder,
                                     int links = 1);

/// What sbatch says of the job without queueing it (--test-only): when it would start, and where.
/// Nothing is written. Throws UsageError with sbatch's words where it refuses.
std::string test_job(const ClusterProfile& profile, const JobRequest& request, const JobPlan& plan);

/// Of folder/jobs.jsonl, oldest first; empty where there is none. Throws DataError for a line that
/// is no job's.
std::vector<SubmittedJob> read_jobs(const std::filesystem::path& folder);

/// Asks scontrol and, for jobs that it has forgotten, sacct. A job that neither knows is "UNKNOWN".
/// Throws UsageError where scontrol is not there, and Error where it gives no answer, which may be
/// another in a minute.
JobState job_state(const std::string& id);

/// Whether it will not run any more; so has an "UNKNOWN" one.
bool has_ended(const JobState& job);

}  // namespace isobar
