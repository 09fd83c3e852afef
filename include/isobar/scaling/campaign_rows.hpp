// SPDX-License-Identifier: Apache-2.0
// What the runs of a campaign say together.
#pragma once

#include <isobar/scaling/campaign.hpp>
#include <isobar/scaling/statistics.hpp>
#include <nlohmann/json_fwd.hpp>

#include <optional>
#include <string>
#include <vector>

namespace isobar {

/// A point of which at least one run has measured the campaign's value.
struct CampaignRow {
  CampaignPoint point;
  std::vector<int> repeats = {};     ///< those that have
  std::vector<double> samples = {};  ///< of each the campaign's value
  Estimate estimate = {};            ///< of the samples
  int base_nodes = 0;                ///< what the efficiency is measured against
  std::optional<Ratio> efficiency = {};
  /// What was not the same in all runs, such as "commit: a1b2 and c3d4": of this point's, some
  /// differ from the campaign's first on that cluster.
  std::vector<std::string> mixed = {};
};

/// In the order of the points. Efficiencies are against the point with the fewest nodes and
/// otherwise the same values. Throws UsageError where runs have no such value, naming those that
/// they have.
std::vector<CampaignRow> collect_campaign(const Campaign& campaign);

/// The runs that are done and left out of those rows, since their value is null, as JSON writes
/// what is no number: such as "nodes=1 repeat 2".
std::vector<std::string> runs_without_value(const Campaign& campaign);

/// As objects: `point`, `samples`, `median`, `low`, `high`, `count`, `outliers`, `efficiency`, ...
nlohmann::json rows_as_json(const Campaign& campaign, const std::vector<CampaignRow>& rows);

/// As lines of values between commas, with a heading.
std::string rows_as_csv(const Campaign& campaign, const std::vector<CampaignRow>& rows);

}  // namespace isobar
