// SPDX-License-Identifier: Apache-2.0
// Whether the cure of what limits a training run's step does what was predicted: the run is made
// again, short, with the setting and without, or after people have done what no setting does. Made
// by one process, which starts the ranks; docs/profile.md says it for users of the program.
#pragma once

#include <isobar/scaling/campaign.hpp>
#include <isobar/scaling/diagnosis.hpp>
#include <isobar/scaling/statistics.hpp>
#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace isobar {

struct CureOptions {
  int repeats = 3;
  std::int64_t steps = 0;   ///< of each run; 0: those of the run before, 200 at the most
  std::string launch = {};  ///< words that start the ranks, as launch.command of a campaign
  /// People have done what the finding says to do.
  bool done_by_people = false;
  DiagnosisOptions diagnosis = {};
};

/// What limits a run, and the runs that try its cure.
struct CureTrial {
  Finding finding;       ///< the first of the run's
  ProfiledStep before;   ///< of the run
  Campaign campaign;     ///< of kind train; its one axis is the setting, unless people cure it
  std::string key = {};  ///< the setting's; empty where people cure it
  std::string now = {};
  std::string proposed = {};
};

/// Of the folder of a run of `isobar train`, which is left as it is but for a folder `cure` in it,
/// where the trial's runs go: those that an interrupted trial has made are gone on with, a trial
/// that is complete is set aside (`cure-1`, ...). Throws UsageError of one line where the folder
/// has no profile or record, where nothing limits the step, and where people have to act first.
CureTrial plan_cure(const std::filesystem::path& run, const CureOptions& options);

/// What came of it.
struct CureResult {
  double before_s = 0;  ///< medians of the runs' steps; of the run before where people cured it
  double after_s = 0;
  Ratio ratio = {};           ///< after over before, by pairs of runs
  double predicted_gain = 0;  ///< shares of a step
  double measured_gain = 0;
  int pairs = 0;

  /// A step is shorter, whatever the interval holds, by nine tenths of what was predicted or more.
  bool helped() const;
};

/// Of a trial whose runs are done. Throws UsageError where some are not.
CureResult judge_cure(const CureTrial& trial);

/// Makes the runs that are left, by the file of `isobar`, and judges them; blocks. `on_run` gets
/// how many have ended. Throws UsageError where a run failed or a signal ended it: the same call
/// goes on from there.
CureResult try_cure(const CureTrial& trial, const std::string& program,
                    const std::function<void(int ended)>& on_run = {});

/// One or two sentences: what was tried, before and after, and whether it did what was predicted.
std::string cure_text(const CureTrial& trial, const CureResult& result);

/// As an object: the finding, the setting with its values, times, ratio, gains, `helped`.
nlohmann::json cure_as_json(const CureTrial& trial, const CureResult& result);

}  // namespace isobar
