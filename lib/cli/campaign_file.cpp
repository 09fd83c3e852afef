// SPDX-License-Identifier: Apache-2.0
#include "cli/campaign_file.hpp"

#include "cli/command.hpp"
#include "cli/command_line.hpp"
#include "cli/experiment_file.hpp"

#include <isobar/core/error.hpp>
#include <isobar/scaling/campaign_run.hpp>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <set>

namespace isobar {
namespace {

/// The program's own `bench step` or `bench collective`, which reads options and runs nothing.
class OptionReader {
 public:
  explicit OptionReader(const std::string& name) {
    auto& command = *app_.add_subcommand("bench", "")->add_subcommand(name, "");
    for (const auto& each : registered_commands()) {
      if (each.group == "bench" && each.name == name) each.add(command, {"isobar"});
    }
  }

  void read(const std::vector<std::string>& words) {
    try {
      app_.parse(std::vector<std::string>(words.rbegin(), words.rend()));
    } catch (const CLI::ParseError& refusal) {
      throw UsageError("campaign: " + explain_refusal(app_, words, refusal.what()));
    }
  }

 private:
  CLI::App app_{"", "isobar"};
};

void check_bench(const Campaign& campaign) {
  OptionReader reader(campaign.kind == CampaignKind::step ? "step" : "collective");
  for (const auto& point : campaign_points(campaign)) {
    reader.read(program_arguments(campaign, point));
  }
}

/// The files of data of all points.
std::vector<std::string> check_experiments(const Campaign& campaign) {
  std::set<std::string> files;
  for (const auto& point : campaign_points(campaign)) {
    const auto words = program_arguments(campaign, point);
    const auto read = read_experiment_file(words[1], {words.begin() + 2, words.end()}).data.paths;
    files.insert(read.begin(), read.end());
  }
  return {files.begin(), files.end()};
}

}  // namespace

CheckedCampaign read_checked_campaign(const std::string& path,
                                      const std::vector<std::string>& overrides) {
  CheckedCampaign checked{load_campaign(path, overrides), {}};
  if (checked.campaign.kind == CampaignKind::train) {
    checked.data_files = check_experiments(checked.campaign);
  } else {
    check_bench(checked.campaign);
  }
  return checked;
}

}  // namespace isobar
