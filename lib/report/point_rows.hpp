// SPDX-License-Identifier: Apache-2.0
// The points of a campaign as the report shows them, wherever they were read: from the campaign's
// folder, from a report of --json, or from a projection.
#pragma once

#include <isobar/scaling/campaign.hpp>
#include <isobar/scaling/statistics.hpp>
#include <nlohmann/json.hpp>

#include <cstddef>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace isobar {

struct PointRow {
  CampaignValues values = {};
  int nodes = 1;
  bool projected = false;
  std::vector<double> samples = {};  ///< of each run; empty where only `value` is known
  std::vector<std::size_t> outliers = {};
  Ratio value = {};  ///< median and 95 % interval
  std::optional<Ratio> efficiency = {};
  std::vector<std::string> mixed = {};
  std::map<std::string, double> parts = {};  ///< of a step, in seconds; see step_parts.hpp
};

struct PointRows {
  std::string name = {};   ///< the campaign's
  std::string field = {};  ///< what was measured, such as "step_s"
  std::string commit = "unknown";
  std::vector<PointRow> rows = {};
  /// What is known of how they were made: what, and every value that it had.
  std::vector<std::pair<std::string, std::string>> provenance = {};
  std::filesystem::path path = {};
  bool measured_path = true;  ///< no row of what lies there is projected
};

/// Of a campaign's folder or file. Throws UsageError where no run is done.
PointRows rows_of_campaign(const std::filesystem::path& path);

/// Of a report of `campaign collect`, `bench step`, `bench collective` or of a projection. Throws
/// DataError where it is none.
PointRows rows_of_report(const std::filesystem::path& path, const nlohmann::json& report);

bool has_projected(const PointRows& all);
bool has_measured(const PointRows& all);

/// The axes of which the rows have more than one value, in the rows' order.
std::vector<std::string> varying_axes(const PointRows& all);

/// A row's value of an axis; empty where it has none.
std::string value_at(const PointRow& row, const std::string& axis);

/// What tells a row from others by these axes: "nodes 2, bucket-cap 1MiB".
std::string label_of(const PointRow& row, const std::vector<std::string>& axes);

/// The same for where there is little room: "2, 1MiB"; what the values are of stands elsewhere.
std::string values_of_row(const PointRow& row, const std::vector<std::string>& axes);

/// The number of a word: "1MiB", "0.5"; nothing where it is none.
std::optional<double> number_of_word(const std::string& word);

/// An object of a file; nothing where there is none. Throws DataError where it is not whole.
std::optional<nlohmann::json> json_of_file(const std::filesystem::path& file);

}  // namespace isobar
