// SPDX-License-Identifier: Apache-2.0
// Campaigns as `isobar campaign run` leaves them, with times that a test has chosen.
#pragma once

#include <isobar/scaling/campaign_run.hpp>
#include <nlohmann/json.hpp>

#include <functional>
#include <string>
#include <vector>

#include "core/temporary_folder.hpp"

namespace isobar::test {

using StepTime = std::function<double(const CampaignPoint& point, int repeat)>;

/// The folder of a campaign of `bench step` over `axes`, a mapping of YAML, all of whose runs are
/// done.
inline std::filesystem::path make_campaign_folder(const std::filesystem::path& parent,
                                                  const std::string& name, const std::string& axes,
                                                  const StepTime& step_s,
                                                  const std::string& commit = "a1b2c3") {
  const auto place = parent / name;
  std::filesystem::create_directories(place);
  write_file(place / "campaign.yaml",
             "campaign: {name: " + name + "}\nrun: {kind: step}\naxes: " + axes + "\n");
  const auto campaign = load_campaign(place);
  for (const auto& run : run_order(campaign_points(campaign), campaign.repeats)) {
    const auto folder = run_folder(campaign, run);
    std::filesystem::create_directories(folder);
    const double step = step_s(run.point, run.repeat);
    const nlohmann::json row{
        {"step_s", step},           {"zero_grad_s", 0.01 * step},   {"forward_s", 0.3 * step},
        {"backward_s", 0.5 * step}, {"exposed_comm_s", 0.1 * step}, {"optimizer_s", 0.05 * step}};
    write_file(folder / "result.json",
               nlohmann::json{{"rows", nlohmann::json::array({row})}}.dump());
    write_file(
        folder / "run.json",
        nlohmann::json{{"end", {{"exit_code", 0}, {"nodes", "n[1-2]"}}},
                       {"host", "n1"},
                       {"start_time", "2026-01-01T00:00:0" + std::to_string(run.repeat) + "Z"},
                       {"conditions",
                        {{"commit", commit},
                         {"program", "0123456789abcdef0123456789abcdef"},
                         {"environment", {{"OMP_NUM_THREADS", "1"}}}}}}
            .dump());
  }
  return place;
}

}  // namespace isobar::test
