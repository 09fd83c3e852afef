// SPDX-License-Identifier: Apache-2.0
// Called by one process, outside of any launcher's ranks: it starts those. A run's folder is made
// before the run and its record written after it, atomically, so that whatever ends this process
// leaves runs that are done and at most one attempt; the next call finds out by looking, and there
// is no list that could disagree with the folders.
//
// All that is compared in a campaign is measured in one go: round by round, each begun at another
// point. Runs under other conditions than those that are done are refused.
#include <isobar/scaling/campaign_run.hpp>

#include "scaling/campaign_lock.hpp"
#include "scaling/child_process.hpp"
#include "scaling/conditions.hpp"
#include "scaling/run_record.hpp"
#include "scaling/slurm_run.hpp"

#include <isobar/cluster/detect.hpp>
#include <isobar/core/atomic_file.hpp>
#include <isobar/core/error.hpp>
#include <isobar/core/record.hpp>
#include <isobar/core/text.hpp>
#include <isobar/launch/environment.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <set>

namespace isobar {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kCampaignFile = "campaign.yaml";
constexpr double kLeaveS = 20;  // twice what a launcher has to end its ranks

bool has_clusters(const Campaign& campaign) {
  return std::any_of(campaign.axes.begin(), campaign.axes.end(),
                     [](const auto& axis) { return axis.name == "cluster"; });
}

/// Points of other clusters are run there.
std::vector<CampaignPoint> points_here(const Campaign& campaign) {
  auto points = campaign_points(campaign);
  if (!has_clusters(campaign)) return points;
  const auto profiles = read_profiles();
  for (const auto& point : points) profile_named(profiles, point.cluster);
  const auto here = profile_here(profiles, "").name;
  std::erase_if(points, [&](const auto& point) { return point.cluster != here; });
  return points;
}

json values_of(const CampaignPoint& point) {
  auto values = json::object();
  for (const auto& [name, value] : point.values) values[name] = value;
  return values;
}

/// What is known of a run before it begins.
RunRecord begin_record(const Campaign& campaign, const CampaignRun& run,
                       const std::vector<std::string>& command, const json& conditions) {
  RunRecord record({.command = command,
                    .ranks = run.point.nodes * campaign.ranks_per_node,
                    .config = campaign.yaml});
  record.set("run", {{"campaign", campaign.name},
                     {"slug", run.point.slug},
                     {"point", values_of(run.point)},
                     {"repeat", run.repeat},
                     {"folder", fs::current_path().string()}});
  record.set("conditions", conditions);
  return record;
}

/// Throws UsageError where runs of these points were made under other conditions.
void check_unmixed(const Campaign& campaign, const std::vector<CampaignPoint>& points,
                   const json& now) {
  int others = 0;
  std::set<std::string> differences;
  for (const auto& run : run_order(points, campaign.repeats)) {
    const auto folder = run_folder(campaign, run);
    if (run_state(campaign.kind, folder) != RunState::done) continue;
    const auto record = read_object(folder / kRecordFile);
    const auto found = condition_differences(record->value("conditions", json::object()), now);
    others += found.empty() ? 0 : 1;
    differences.insert(found.begin(), found.end());
  }
  ISOBAR_CHECK(differences.empty(), "campaign ", campaign.name, ": ", others,
               others == 1 ? " run was" : " runs were",
               " made under other conditions (then and now) ",
               join_words({differences.begin(), differences.end()}, "; "),
               "; give this campaign another name, or go on with --mix");
}

std::string why_failed(const ChildEnd& end, double limit_s, const fs::path& output) {
  if (end.timed_out) return "it took longer than " + format_duration(limit_s);
  const auto said = telling_line(output);
  return fmt::format("{}{}{}",
                     end.code == 0 ? "it left no result" : fmt::format("exit code {}", end.code),
                     said.empty() ? "" : ": ", said);
}

/// One call of run_campaign().
class Runner {
 public:
  Runner(const Campaign& campaign, const CampaignRunOptions& options, json conditions)
      : campaign_(campaign), options_(options), conditions_(std::move(conditions)) {}

  /// False where a signal has ended it.
  bool run_locally(const CampaignRun& run, HeldSignals& signals) {
    const auto folder = make_folder(run);
    const auto command = run_command(campaign_, run, options_.program);
    auto record = begin_record(campaign_, run, command, conditions_);
    ChildEnd end;
    try {
      end = run_child({command, folder / kOutputFile, campaign_.time_limit_s}, signals);
    } catch (const UsageError&) {
      fs::remove_all(folder);
      throw;
    }
    outcome_.signal = end.stopped_by;
    if (end.stopped_by != 0) return false;
    record.set("end", end_of(end));
    record.write(folder / kRecordFile);
    finish(run, folder, end);
    return true;
  }

  void submit(const CampaignRun& run, const ClusterProfile& profile) {
    const auto folder = make_folder(run);
    const auto command = run_command(campaign_, run, options_.program);
    try {
      begin_record(campaign_, run, command, conditions_).write(folder / kSubmittedFile);
      submit_run(profile, campaign_, run.point, command, folder);
    } catch (const UsageError&) {
      fs::remove_all(folder);
      throw;
    }
    ++outcome_.submitted;
    report(run, RunEnd::submitted, "");
  }

  CampaignOutcome outcome(std::size_t wanted) {
    outcome_.left = static_cast<int>(wanted) - outcome_.done - outcome_.submitted;
    return outcome_;
  }

 private:
  fs::path make_folder(const CampaignRun& run) const {
    const auto folder = fs::absolute(run_folder(campaign_, run)).lexically_normal();
    if (fs::exists(folder)) {
      ISOBAR_CHECK(has_left(folder / kOutputFile, kLeaveS), "campaign ", campaign_.name,
                   ": processes of an interrupted run go on, and would disturb this one; end those "
                   "that have ",
                   folder.string(), " open");
      set_aside(folder, "interrupted");
    }
    fs::create_directories(folder);
    return folder;
  }

  static json end_of(const ChildEnd& end) {
    const auto nodes = environment_variable("SLURM_JOB_NODELIST");
    json record{{"time", utc_time()},
                {"exit_code", end.code},
                {"timed_out", end.timed_out},
                {"nodes", nodes.empty() ? json() : json(nodes)}};
    // "top.leaf.node": the switches above this node.
    const auto address = environment_variable("SLURM_TOPOLOGY_ADDR");
    if (const auto last = address.rfind('.'); last != std::string::npos) {
      record["topology_group"] = address.substr(0, last);
    }
    return record;
  }

  void finish(const CampaignRun& run, const fs::path& folder, const ChildEnd& end) {
    if (run_state(campaign_.kind, folder) == RunState::done) {
      ++outcome_.done;
      report(run, RunEnd::done, "");
      return;
    }
    ++outcome_.failed;
    const auto why = why_failed(end, campaign_.time_limit_s, folder / kOutputFile);
    set_aside(folder, "failed");
    report(run, RunEnd::failed, why);
  }

  void report(const CampaignRun& run, RunEnd end, const std::string& why) const {
    if (options_.on_end) options_.on_end(run, end, why);
  }

  const Campaign& campaign_;
  const CampaignRunOptions& options_;
  json conditions_;
  CampaignOutcome outcome_;
};

int settle_queued(const Campaign& campaign, const std::vector<CampaignPoint>& points) {
  int going = 0;
  for (const auto& run : run_order(points, campaign.repeats)) {
    const auto folder = run_folder(campaign, run);
    if (run_state(campaign.kind, folder) != RunState::queued) continue;
    going += settle_run(campaign, folder) ? 0 : 1;
  }
  return going;
}

/// Not while another process submits, whose newest job has no number yet.
void settle_if_idle(const Campaign& campaign, const std::vector<CampaignPoint>& points) {
  const auto folder = campaign_folder(campaign);
  if (campaign.launch != CampaignLaunch::slurm || !fs::exists(folder)) return;
  try {
    const CampaignLock lock(folder);
    settle_queued(campaign, points);
  } catch (const CampaignBusy&) {
    return;
  }
}

void submit_all(Runner& runner, const Campaign& campaign, const std::vector<CampaignRun>& runs,
                int queued) {
  const auto profiles = read_profiles();
  const auto& profile = profile_here(profiles, campaign.cluster);
  const int most = profile.slurm.most_queued_jobs;
  for (const auto& run : runs) {
    if (most > 0 && queued >= most) return;
    runner.submit(run, profile);
    ++queued;
  }
}

}  // namespace

std::vector<CampaignRun> run_order(const std::vector<CampaignPoint>& points, int repeats) {
  std::vector<CampaignRun> runs;
  const auto rounds = static_cast<std::size_t>(repeats);
  const auto shift = std::max<std::size_t>(points.size() / rounds, 1);
  for (std::size_t round = 0; round < rounds; ++round) {
    for (std::size_t i = 0; i < points.size(); ++i) {
      runs.push_back({points[(i + round * shift) % points.size()], static_cast<int>(round) + 1});
    }
  }
  return runs;
}

Campaign load_campaign(const fs::path& path, const std::vector<std::string>& overrides) {
  if (!fs::is_directory(path)) return read_campaign(load_config(path, overrides));
  const auto place = fs::absolute(path / "").lexically_normal().parent_path();
  ISOBAR_CHECK(fs::exists(place / kCampaignFile), "campaign: the folder ", path.string(),
               " is none of a campaign: it has no ", kCampaignFile);
  auto campaign = read_campaign(load_config(place / kCampaignFile, overrides));
  campaign.folder = place.parent_path();
  campaign.name = place.filename();
  return campaign;
}

fs::path campaign_folder(const Campaign& campaign) { return campaign.folder / campaign.name; }

fs::path run_folder(const Campaign& campaign, const CampaignRun& run) {
  return campaign_folder(campaign) / "runs" / run.point.slug / std::to_string(run.repeat);
}

std::vector<std::string> run_command(const Campaign& campaign, const CampaignRun& run,
                                     const std::string& program) {
  const auto folder = fs::absolute(run_folder(campaign, run)).lexically_normal();
  std::vector<std::string> words;
  if (campaign.launch == CampaignLaunch::local) words = launch_words(campaign, run.point);
  words.push_back(program);
  const auto arguments = program_arguments(campaign, run.point);
  words.insert(words.end(), arguments.begin(), arguments.end());
  if (campaign.kind == CampaignKind::train) {
    words.push_back("run.folder=" + folder.string());
    words.emplace_back("run.name=train");
  } else {
    words.push_back("--json=" + (folder / kResultFile).string());
  }
  return words;
}

std::vector<CampaignRun> pending_runs(const Campaign& campaign) {
  auto runs = run_order(points_here(campaign), campaign.repeats);
  std::erase_if(runs, [&](const auto& run) {
    const auto state = run_state(campaign.kind, run_folder(campaign, run));
    return state == RunState::done || state == RunState::queued;
  });
  return runs;
}

CampaignOutcome run_campaign(const Campaign& campaign, const CampaignRunOptions& options) {
  const CampaignLock lock(campaign_folder(campaign));
  const auto points = points_here(campaign);
  const auto conditions = conditions_now(campaign, options);
  if (!options.mix) check_unmixed(campaign, points, conditions);
  write_file_atomically(campaign_folder(campaign) / kCampaignFile, campaign.yaml + "\n");
  const int queued = settle_queued(campaign, points);
  const auto runs = pending_runs(campaign);
  Runner runner(campaign, options, conditions);
  if (campaign.launch == CampaignLaunch::slurm) {
    submit_all(runner, campaign, runs, queued);
    return runner.outcome(runs.size());
  }
  HeldSignals signals;
  for (const auto& run : runs) {
    if (!runner.run_locally(run, signals)) break;
  }
  return runner.outcome(runs.size());
}

std::vector<PointStatus> campaign_status(const Campaign& campaign) {
  const auto points = campaign_points(campaign);
  settle_if_idle(campaign, points);
  std::vector<PointStatus> all;
  for (const auto& point : points) {
    auto& status = all.emplace_back();
    status.point = point;
    for (int repeat = 1; repeat <= campaign.repeats; ++repeat) {
      const auto folder = run_folder(campaign, {point, repeat});
      const auto state = run_state(campaign.kind, folder);
      status.done += state == RunState::done ? 1 : 0;
      status.queued += state == RunState::queued ? 1 : 0;
      status.failed += count_aside(folder, "failed");
      status.interrupted += count_aside(folder, "interrupted");
      status.interrupted += state == RunState::attempted ? 1 : 0;
    }
  }
  return all;
}

std::vector<std::string> stale_points(const Campaign& campaign) {
  std::set<std::string> known;
  for (const auto& point : campaign_points(campaign)) known.insert(point.slug);
  std::vector<std::string> stale;
  const auto runs = campaign_folder(campaign) / "runs";
  if (!fs::is_directory(runs)) return stale;
  for (const auto& entry : fs::directory_iterator(runs)) {
    const auto slug = entry.path().filename().string();
    if (known.count(slug) == 0) stale.push_back(slug);
  }
  std::sort(stale.begin(), stale.end());
  return stale;
}

}  // namespace isobar
