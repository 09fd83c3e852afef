// SPDX-License-Identifier: Apache-2.0
// The runs of a campaign, in its folder: <folder>/<name>/runs/<slug>/<repeat>/ with output.log,
// result.json (of train the run's folder train/) and, once the run has ended, run.json. For one
// process at a time, which a lock sees to.
#pragma once

#include <isobar/scaling/campaign.hpp>

#include <cstddef>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace isobar {

/// One repeat of a point, from 1.
struct CampaignRun {
  CampaignPoint point;
  int repeat = 1;
};

/// All runs, in the order in which they are made: every point once before any is repeated, and in
/// each round from another point on, so that a machine that becomes slower does so for all.
std::vector<CampaignRun> run_order(const std::vector<CampaignPoint>& points, int repeats);

/// Reads the campaign of a file or, where `path` is a folder that a campaign has made, that one.
Campaign load_campaign(const std::filesystem::path& path,
                       const std::vector<std::string>& overrides = {});

/// Where a campaign lives.
std::filesystem::path campaign_folder(const Campaign& campaign);

/// Where a run leaves what it does.
std::filesystem::path run_folder(const Campaign& campaign, const CampaignRun& run);

/// The whole command of a run.
std::vector<std::string> run_command(const Campaign& campaign, const CampaignRun& run,
                                     const std::string& program);

/// Those of this machine's that have not been done and are in no queue.
std::vector<CampaignRun> pending_runs(const Campaign& campaign);

enum class RunEnd { done, failed, submitted };

struct CampaignRunOptions {
  std::string program;                       ///< the file of `isobar`
  std::vector<std::string> data_files = {};  ///< that runs read, for their record
  bool mix = false;  ///< go on, though runs were made under other conditions
  /// Called after each, with a line of why it failed.
  std::function<void(const CampaignRun& run, RunEnd end, const std::string& why)> on_end = {};
};

/// What run_campaign() has come to.
struct CampaignOutcome {
  int done = 0;
  int failed = 0;
  int submitted = 0;
  int left = 0;
  int signal = 0;  ///< that ended it; 0: none
};

/// Makes the pending runs, one after another; blocks. A run that fails is set aside with its log,
/// and made again by the next call; so is one that was under way when this process ended. Under
/// Slurm each run is a job, and this returns once all are queued, or as many as the machine allows.
/// Throws UsageError where another process runs this campaign, and where runs that are done were
/// made under other conditions (settings, commit, program, data, environment), unless `mix`.
CampaignOutcome run_campaign(const Campaign& campaign, const CampaignRunOptions& options);

/// How far a point has come.
struct PointStatus {
  CampaignPoint point;
  int done = 0;
  int queued = 0;       ///< in Slurm
  int failed = 0;       ///< attempts
  int interrupted = 0;  ///< attempts
};

/// Of all points. Asks Slurm after queued runs, and writes down what has become of them.
std::vector<PointStatus> campaign_status(const Campaign& campaign);

/// Folders of runs whose point is not the campaign's any more.
std::vector<std::string> stale_points(const Campaign& campaign);

}  // namespace isobar
