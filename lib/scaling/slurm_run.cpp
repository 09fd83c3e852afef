// SPDX-License-Identifier: Apache-2.0
#include "scaling/slurm_run.hpp"

#include "scaling/run_record.hpp"

#include <isobar/cluster/job.hpp>
#include <isobar/cluster/submit.hpp>
#include <isobar/core/atomic_file.hpp>
#include <nlohmann/json.hpp>

#include <charconv>
#include <cmath>
#include <cstdint>

namespace isobar {
namespace {

namespace fs = std::filesystem;

/// Of "3:0", as Slurm writes code and signal.
int exit_code_of(const JobState& job) {
  int code = -1;
  std::from_chars(job.exit_code.data(), job.exit_code.data() + job.exit_code.size(), code);
  return code == 0 && job.state != "COMPLETED" ? -1 : code;
}

}  // namespace

void submit_run(const ClusterProfile& profile, const Campaign& campaign, const CampaignPoint& point,
                const std::vector<std::string>& words, const fs::path& folder) {
  JobRequest request;
  request.name = campaign.name;
  request.command = words;
  request.folder = fs::current_path().string();
  request.nodes = point.nodes;
  request.ranks_per_node = campaign.ranks_per_node;
  request.minutes = campaign.time.empty()
                        ? static_cast<std::int64_t>(std::ceil(campaign.time_limit_s / 60))
                        : parse_minutes(campaign.time);
  request.account = campaign.account;
  request.signal_minutes = 0;
  request.requeue = false;  // a run that began anew would not be the one that was asked for
  request.output = (folder / kOutputFile).string();
  request.environment.emplace_back("ISOBAR_CLUSTER", profile.name);
  submit_job(profile, request, plan_job(profile, request), folder);
}

bool settle_run(const Campaign& campaign, const fs::path& folder) {
  const auto jobs = read_jobs(folder);
  auto record = read_object(folder / kSubmittedFile);
  if (jobs.empty() || !record) {  // this process ended before sbatch had answered
    set_aside(folder, "interrupted");
    return true;
  }
  const auto job = job_state(jobs.back().id);
  if (!has_ended(job)) return false;
  // Without accounting nobody knows how a job ended that Slurm has forgotten: its result does.
  const bool is_unknown = job.state == "UNKNOWN";
  const int code = is_unknown ? (read_row(campaign.kind, folder) ? 0 : -1) : exit_code_of(job);
  (*record)["end"] = {
      {"time", utc_time()}, {"exit_code", code},  {"timed_out", job.state == "TIMEOUT"},
      {"job", job.id},      {"state", job.state}, {"nodes", job.nodes}};
  write_file_atomically(folder / kRecordFile, record->dump(2) + "\n");
  if (run_state(campaign.kind, folder) != RunState::done) set_aside(folder, "failed");
  return true;
}

}  // namespace isobar
