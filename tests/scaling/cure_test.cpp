// SPDX-License-Identifier: Apache-2.0
#include <isobar/scaling/cure.hpp>

#include <isobar/core/error.hpp>
#include <isobar/scaling/campaign_run.hpp>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "comm/expect_error.hpp"
#include "core/temporary_folder.hpp"
#include "scaling/campaign_lock.hpp"

namespace isobar::test::cure_test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kConfig =
    "run: {name: mine}\ntrain: {steps: 1000}\ndata: {cache_bytes: 64KiB}\n";

/// Of two nodes whose ranks wait 20 of 100 ms for data that would fit into memory, or one of which
/// computes so much longer.
json profile_json(bool slow_rank, double step_s) {
  auto ranks = json::array();
  for (int r = 0; r < 2; ++r) {
    const bool waits = !slow_rank;
    const double more = slow_rank && r == 1 ? 0.02 : 0;
    ranks.push_back({{"rank", r},
                     {"host", "n" + std::to_string(r)},
                     {"step_s", step_s},
                     {"seconds",
                      {{"data_wait", waits ? 0.02 : 0},
                       {"forward", 0.08 + more},
                       {"exposed_comm", slow_rank && r == 0 ? 0.02 : 0}}}});
  }
  return {{"schema", "isobar.profile.1"},
          {"steps", 995},
          {"warmup_steps", 5},
          {"step_s", step_s},
          {"ranks", ranks}};
}

fs::path make_run(const TemporaryFolder& folder, bool slow_rank) {
  const auto run = folder.path() / "mine";
  fs::create_directories(run);
  write_file(run / "profile.json", profile_json(slow_rank, 0.1).dump());
  write_file(run / "record.json",
             json{{"config", kConfig},
                  {"ranks", 2},
                  {"data",
                   {{"memory", {{"bytes", 1e6}, {"cache_bytes", 65536}, {"machine_bytes", 1e10}}}}}}
                 .dump());
  return run;
}

/// In place of `isobar`: a step takes so long where the words name `what`, 100 ms otherwise.
fs::path make_program(const TemporaryFolder& folder, const std::string& what, double step_s) {
  const auto profile = [&](double seconds) { return profile_json(true, seconds).dump(); };
  const auto program = folder.path() / "program";
  write_file(program, "#!/bin/sh\necho \"$@\" >> " + (folder.path() / "words").string() +
                          "\nfor word; do case $word in run.folder=*) to=${word#*=}/train;; esac; "
                          "done\nmkdir -p $to\necho '{\"event\": \"step\", \"step_s\": 1}' > "
                          "$to/metrics.jsonl\ncase \"$*\" in *" +
                          what + "*) echo '" + profile(step_s) + "';; *) echo '" + profile(0.1) +
                          "';; esac > $to/profile.json\n");
  fs::permissions(program, fs::perms::owner_all);
  return program;
}

const CureOptions kOptions{.repeats = 2, .launch = "env RANKS={ranks}"};

TEST(Cure, MakesTheRunAgainWithoutAndWithItsSetting) {
  const TemporaryFolder folder;
  const auto trial = plan_cure(make_run(folder, false), kOptions);
  EXPECT_EQ(trial.key, "data.cache_bytes");
  EXPECT_EQ(trial.now, "64KiB");
  EXPECT_EQ(trial.proposed, "1MiB");
  const auto runs = pending_runs(trial.campaign);
  ASSERT_EQ(runs.size(), 4u);
  EXPECT_NE(axis_value(runs[0].point, trial.key), axis_value(runs[1].point, trial.key));
  const auto words = run_command(trial.campaign, runs[0], "isobar");
  EXPECT_EQ(words[1], "RANKS=2");
  EXPECT_EQ(std::count(words.begin(), words.end(), "train.steps=200"), 1) << "short";
  EXPECT_EQ(std::count(words.begin(), words.end(), "train.validate_every=0"), 1);
  EXPECT_EQ(read_file(words[4]), std::string(kConfig) + "\n")
      << "the run's, whatever its file is now";
}

TEST(Cure, SaysWhetherItDidWhatWasPredicted) {
  for (const auto& [step_s, helped] :
       {std::pair{0.08, true}, {0.075, true}, {0.081, true}, {0.09, false}, {0.1, false}}) {
    const TemporaryFolder folder;
    const auto trial = plan_cure(make_run(folder, false), kOptions);
    int ended = 0;
    const auto result = try_cure(trial, make_program(folder, "cache_bytes=1MiB", step_s),
                                 [&](int runs) { ended = runs; });
    EXPECT_EQ(ended, 4);
    EXPECT_NEAR(result.predicted_gain, 0.2, 1e-9);
    EXPECT_NEAR(result.measured_gain, 1 - step_s / 0.1, 1e-9);
    EXPECT_EQ(result.pairs, 2);
    EXPECT_EQ(result.helped(), helped) << step_s;
    expect_contains(cure_text(trial, result), helped ? "it did what was predicted" : "it did not");
    EXPECT_EQ(cure_as_json(trial, result).at("helped"), helped);
  }
}

TEST(Cure, WaitsForPeopleWhereNoSettingCures) {
  const TemporaryFolder folder;
  const auto run = make_run(folder, true);
  expect_contains(error_of<UsageError>([&] { plan_cure(run, kOptions); }),
                  "then call this again with --cured");
  auto options = kOptions;
  options.done_by_people = true;
  const auto trial = plan_cure(run, options);
  const auto result = try_cure(trial, make_program(folder, "train", 0.08));
  EXPECT_NEAR(result.before_s, 0.1, 1e-12) << "of the run before";
  EXPECT_NEAR(result.after_s, 0.08, 1e-12);
  EXPECT_TRUE(result.helped());
}

TEST(Cure, GoesOnAfterAnInterruptionAndBeginsAnewWhenComplete) {
  const TemporaryFolder folder;
  const auto run = make_run(folder, false);
  const auto broken = make_program(folder, "train", 0.08);
  auto options = kOptions;
  const auto first = plan_cure(run, options);
  const auto before = read_file(run / "profile.json");
  const auto place = run_folder(first.campaign, pending_runs(first.campaign)[0]);
  write_file(broken, read_file(broken) + "[ -e " + (folder.path() / "mended").string() +
                         " ] || case $to in " + place.string() + "/*) exit 0;; *) exit 3;; esac\n");
  expect_contains(error_of<UsageError>([&] { try_cure(first, broken); }), "3 runs of the trial");
  EXPECT_EQ(pending_runs(plan_cure(run, options).campaign).size(), 3u);
  write_file(folder.path() / "mended", "");
  try_cure(plan_cure(run, options), broken);
  EXPECT_EQ(pending_runs(plan_cure(run, options).campaign).size(), 4u);
  EXPECT_TRUE(fs::exists(run / "cure-1"));
  EXPECT_EQ(read_file(run / "profile.json"), before);
}

TEST(Cure, IsNotDoneByPeopleWhereASettingDoesIt) {
  const TemporaryFolder folder;
  auto options = kOptions;
  options.done_by_people = true;
  expect_contains(error_of<UsageError>([&] { plan_cure(make_run(folder, false), options); }),
                  "leave --cured out");
}

TEST(Cure, LeavesARunningTrialItsFolder) {
  const TemporaryFolder folder;
  const auto run = make_run(folder, false);
  const auto trial = plan_cure(run, kOptions);
  const CampaignLock running(campaign_folder(trial.campaign));
  auto other = kOptions;
  other.repeats = 5;
  expect_contains(error_of<UsageError>([&] { plan_cure(run, other); }), "another process runs");
  EXPECT_FALSE(fs::exists(run / "cure-1"));
}

TEST(Cure, RefusesToCompareOtherNumbersOfRanks) {
  const TemporaryFolder folder;
  const auto run = make_run(folder, false);
  auto before = profile_json(false, 0.1);
  before["ranks"].push_back(before["ranks"][0]);
  before["ranks"].push_back(before["ranks"][1]);
  write_file(run / "profile.json", before.dump());
  const auto trial = plan_cure(run, kOptions);
  const auto error =
      error_of<UsageError>([&] { try_cure(trial, make_program(folder, "1MiB", 0.08)); });
  expect_contains(error, "had 2 ranks, that before 4");
}

TEST(Cure, WondersAtMoreThanWasPredicted) {
  const TemporaryFolder folder;
  const auto trial = plan_cure(make_run(folder, false), kOptions);
  const auto result = try_cure(trial, make_program(folder, "cache_bytes=1MiB", 0.01));
  EXPECT_TRUE(result.helped());
  expect_contains(cure_text(trial, result), "something else has changed");
}

TEST(Cure, RefusesInOneLineWhatItCannotTry) {
  const TemporaryFolder folder;
  const auto run = make_run(folder, false);
  expect_contains(error_of<UsageError>([&] { plan_cure(folder.path() / "none", kOptions); }),
                  "cannot read");
  auto healthy = profile_json(false, 0.1);
  for (auto& rank : healthy["ranks"]) rank["seconds"]["data_wait"] = 0;
  write_file(run / "profile.json", healthy.dump());
  expect_contains(error_of<UsageError>([&] { plan_cure(run, kOptions); }), "nothing limits");
  write_file(run / "profile.json", profile_json(false, 0.1).dump());
  fs::remove(run / "record.json");
  expect_contains(error_of<UsageError>([&] { plan_cure(run, kOptions); }), "no record.json");
}

}  // namespace
}  // namespace isobar::test::cure_test
