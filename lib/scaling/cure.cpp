// SPDX-License-Identifier: Apache-2.0
// A cure is tried as a campaign whose experiment is the effective configuration that the run has
// left in its record, so that a file that has changed or gone since changes nothing. Shares of a
// step are compared, not seconds: machines are faster on one day than on another, and both arms of
// a setting are made on the same one.
//
// Called by one process on one thread; plan_cure() writes the experiment, run_campaign() makes the
// runs, judge_cure() reads their profiles.
#include <isobar/scaling/cure.hpp>

#include "scaling/campaign_lock.hpp"
#include "scaling/run_record.hpp"

#include <isobar/core/atomic_file.hpp>
#include <isobar/core/config.hpp>
#include <isobar/core/error.hpp>
#include <isobar/scaling/campaign_run.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <set>

namespace isobar {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kCureFolder = "cure";
constexpr std::int64_t kMostSteps = 200;
/// Of the predicted gain, what has to come true, and what is more than a cure can do.
constexpr double kEnough = 0.9, kTooMuch = 1.5;

json record_of(const fs::path& run) {
  const auto record = read_object(run / "record.json");
  ISOBAR_CHECK(record, "cure: '", run.string(),
               "' has no record.json that can be read, so nobody knows how the run was made; train "
               "it again");
  ISOBAR_CHECK(record->value("config", "") != "" && record->value("ranks", 0) > 0, "cure: the ",
               "record in '", run.string(), "' has no config or ranks; train the run again");
  return *record;
}

/// The value of "section.key" in a configuration.
std::string setting_in(const std::string& config, const std::string& key) {
  const auto dot = key.find('.');
  const auto section = Config::parse(config, "record.json").child(key.substr(0, dot));
  const auto name = key.substr(dot + 1);
  return section.has(name) ? section.get<std::string>(name) : "";
}

/// Equal hosts have equally many ranks, or nobody can say it with {nodes}.
int nodes_of(const ProfiledStep& profile, int ranks) {
  std::set<std::string> hosts;
  for (const auto& rank : profile.ranks) hosts.insert(rank.host);
  const auto nodes = static_cast<int>(hosts.size());
  return nodes > 0 && ranks % nodes == 0 ? nodes : 1;
}

/// JSON, which is YAML too.
json campaign_file(const fs::path& run, const json& record, const CureTrial& trial,
                   const CureOptions& options) {
  const int ranks = record["ranks"].get<int>();
  const int nodes = nodes_of(trial.before, ranks);
  const auto profiled = read_object(run / "profile.json").value_or(json::object());
  const auto made = trial.before.steps + profiled.value("warmup_steps", std::int64_t{0});
  const auto steps = options.steps > 0 ? options.steps : std::min(made, kMostSteps);
  json file{{"campaign", {{"name", kCureFolder}, {"folder", run.string()}}},
            {"run",
             {{"kind", "train"},
              {"experiment", (run / kCureFolder / "experiment.yaml").string()},
              {"ranks_per_node", ranks / nodes},
              {"options",
               {{"train.steps", std::to_string(steps)},
                {"train.validate_every", "0"},
                {"train.refit", "false"}}}}},
            {"axes", {{"nodes", {std::to_string(nodes)}}}},
            {"rules", {{"repeats", options.repeats}}},
            {"measure", {{"efficiency", "none"}}}};
  if (!trial.key.empty()) file["axes"][trial.key] = {trial.now, trial.proposed};
  if (!options.launch.empty()) file["launch"] = {{"command", options.launch}};
  return file;
}

bool is_same_trial(const Campaign& a, const Campaign& b) {
  return a.options == b.options && a.command == b.command && a.repeats == b.repeats &&
         std::equal(
             a.axes.begin(), a.axes.end(), b.axes.begin(), b.axes.end(),
             [](const auto& x, const auto& y) { return x.name == y.name && x.values == y.values; });
}

/// What an earlier call has left of the same trial goes on; another one, or a complete one, makes
/// room.
void make_room(const Campaign& campaign) {
  const auto folder = campaign_folder(campaign);
  if (!fs::exists(folder)) return;
  const bool goes_on = fs::exists(folder / "campaign.yaml") &&
                       is_same_trial(load_campaign(folder), campaign) &&
                       !pending_runs(campaign).empty();
  if (goes_on) return;
  const CampaignLock idle(folder);  // nobody loses his runs
  for (int n = 1;; ++n) {
    const fs::path aside = fmt::format("{}-{}", folder.string(), n);
    if (fs::exists(aside)) continue;
    fs::rename(folder, aside);
    return;
  }
}

void check_finding(const fs::path& run, const Finding& finding, const CureOptions& options) {
  ISOBAR_CHECK(finding.cause != Cause::nothing, "cure: nothing limits the steps of '", run.string(),
               "': ", finding.sentence);
  ISOBAR_CHECK(!finding.setting.empty() || options.done_by_people, "cure: ", finding.sentence,
               ". No setting cures that. To do: ", finding.cure,
               "; then call this again with --cured");
  ISOBAR_CHECK(finding.setting.empty() || !options.done_by_people, "cure: a setting cures '",
               run.string(), "', ", finding.setting,
               ", which this tries beside the old one; leave --cured out");
}

/// Those of the runs with this value of the setting.
std::vector<double> steps_at(const CureTrial& trial, const std::string& value) {
  const auto& campaign = trial.campaign;
  std::vector<double> steps;
  for (const auto& point : campaign_points(campaign)) {
    if (axis_value(point, trial.key) != value) continue;
    for (int repeat = 1; repeat <= campaign.repeats; ++repeat) {
      const auto folder = run_folder(campaign, {point, repeat});
      ISOBAR_CHECK(run_state(campaign.kind, folder) == RunState::done,
                   "cure: not all runs of the trial are done, such as that in '", folder.string(),
                   "'; the same command makes those that are left");
      const auto profile = load_profiled_step(folder / "train");
      ISOBAR_CHECK(profile.ranks.size() == trial.before.ranks.size(), "cure: the run in '",
                   folder.string(), "' had ", profile.ranks.size(), " ranks, that before ",
                   trial.before.ranks.size(), ": --launch has to start {ranks} of them");
      steps.push_back(profile.step_s);
    }
  }
  return steps;
}

double median(const std::vector<double>& samples) { return estimate(samples).median; }

std::string less(double gain) {
  return fmt::format("{:.1f} % {}", 100 * std::abs(gain), gain < 0 ? "more" : "less");
}

/// The verdict's sentence.
std::string verdict_of(const CureResult& result) {
  if (result.helped() && result.measured_gain > kTooMuch * result.predicted_gain) {
    return "it did more than what was predicted: look whether something else has changed, too.";
  }
  if (result.helped()) return "it did what was predicted.";
  if (result.ratio.high >= 1) {
    return "it did not: by this interval a step may be as long as before. More --repeats make it "
           "narrower.";
  }
  return fmt::format("it did not: that is {:.0f} % of the prediction.",
                     100 * result.measured_gain / result.predicted_gain);
}

}  // namespace

CureTrial plan_cure(const fs::path& run, const CureOptions& options) {
  const auto place = fs::absolute(run / "").lexically_normal().parent_path();
  CureTrial trial{.finding = {}, .before = load_profiled_step(place), .campaign = {}};
  const auto record = record_of(place);
  trial.finding = diagnose(trial.before, options.diagnosis).front();
  check_finding(run, trial.finding, options);
  const auto config = record["config"].get<std::string>();
  if (!trial.finding.setting.empty() && !options.done_by_people) {
    const auto equals = trial.finding.setting.find('=');
    trial.key = trial.finding.setting.substr(0, equals);
    trial.proposed = trial.finding.setting.substr(equals + 1);
    trial.now = setting_in(config, trial.key);
    ISOBAR_CHECK(!trial.now.empty() && trial.now != trial.proposed, "cure: the run's record has '",
                 trial.now, "' as ", trial.key, ", so that ", trial.finding.setting,
                 " cannot be compared with it");
  }
  const auto file = campaign_file(place, record, trial, options);
  trial.campaign = read_campaign(Config::parse(file.dump(2), "cure"));
  make_room(trial.campaign);
  fs::create_directories(campaign_folder(trial.campaign));
  write_file_atomically(trial.campaign.experiment, config + "\n");
  return trial;
}

bool CureResult::helped() const {
  return ratio.high < 1 && measured_gain >= kEnough * predicted_gain;
}

CureResult judge_cure(const CureTrial& trial) {
  CureResult result;
  const auto after = steps_at(trial, trial.proposed);
  const auto before = trial.key.empty() ? std::vector<double>(after.size(), trial.before.step_s)
                                        : steps_at(trial, trial.now);
  result.before_s = median(before);
  result.after_s = median(after);
  result.ratio = paired_ratio(after, before);
  result.predicted_gain = trial.finding.gain_s / trial.before.step_s;
  result.measured_gain = 1 - result.ratio.value;
  result.pairs = static_cast<int>(after.size());
  return result;
}

CureResult try_cure(const CureTrial& trial, const std::string& program,
                    const std::function<void(int ended)>& on_run) {
  std::string why;
  int ended = 0;
  const auto outcome = run_campaign(
      trial.campaign,
      {.program = program, .on_end = [&](const CampaignRun&, RunEnd, const std::string& text) {
         if (why.empty()) why = text;
         if (on_run) on_run(++ended);
       }});
  ISOBAR_CHECK(outcome.left == 0, "cure: ", outcome.left, " runs of the trial are left",
               why.empty() ? "" : ": ", why, "; the same command goes on from here");
  return judge_cure(trial);
}

std::string cure_text(const CureTrial& trial, const CureResult& result) {
  const auto what = trial.key.empty()
                        ? fmt::format("{}, cured by hand", name_of(trial.finding.cause))
                        : fmt::format("{} from {} to {}", trial.key, trial.now, trial.proposed);
  const auto& ratio = result.ratio;
  const auto sure = result.pairs == 1 ? std::string(", of one run, which cannot tell how it varies")
                                      : fmt::format(" [{:.3f}, {:.3f}] in pairs of {} runs",
                                                    ratio.low, ratio.high, result.pairs);
  return fmt::format(
      "{}: a step takes {:.2f} ms, {:.2f} before, {:.3f} times{}. Predicted was {}, measured {}: "
      "{}",
      what, 1e3 * result.after_s, 1e3 * result.before_s, ratio.value, sure,
      less(result.predicted_gain), less(result.measured_gain), verdict_of(result));
}

json cure_as_json(const CureTrial& trial, const CureResult& result) {
  auto row = findings_as_json(trial.before, {trial.finding}).front();
  row.update({{"key", trial.key},
              {"now", trial.now},
              {"proposed", trial.proposed},
              {"before_s", result.before_s},
              {"after_s", result.after_s},
              {"ratio", result.ratio.value},
              {"ratio_low", result.ratio.low},
              {"ratio_high", result.ratio.high},
              {"runs", result.pairs},
              {"predicted_gain", result.predicted_gain},
              {"measured_gain", result.measured_gain},
              {"helped", result.helped()}});
  return row;
}

}  // namespace isobar
