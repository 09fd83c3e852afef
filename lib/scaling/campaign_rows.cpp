// SPDX-License-Identifier: Apache-2.0
// From the folders of runs to rows. Called after runs or beside them: it reads what is done and
// changes nothing. The first run of a cluster says what its runs' conditions are; where a point has
// runs under others, which --mix let through, its row says what differs, so that no figure stands
// for two programs without telling.
#include <isobar/scaling/campaign_rows.hpp>

#include "scaling/conditions.hpp"
#include "scaling/run_record.hpp"

#include <isobar/core/error.hpp>
#include <isobar/core/text.hpp>
#include <isobar/scaling/campaign_run.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <map>
#include <set>

namespace isobar {
namespace {

using nlohmann::json;

/// Nothing where the run has measured no number, which JSON writes as null.
std::optional<double> value_of(const json& row, const std::string& value) {
  if (row.contains(value) && row.at(value).is_null()) return std::nullopt;
  std::vector<std::string> known;
  for (const auto& item : row.items()) {
    if (item.value().is_number()) known.push_back(item.key());
  }
  ISOBAR_CHECK(row.contains(value) && row.at(value).is_number(), "measure.value: runs have no '",
               value, "'; ", did_you_mean(value, known));
  return row.at(value).get<double>();
}

/// The conditions of a cluster's runs, of each point in the order of repeats.
struct KnownConditions {
  std::string first_start;
  json first;
  std::map<std::string, std::vector<json>> of_point;
};

void take_run(const json& record, const CampaignPoint& point, KnownConditions& known) {
  const auto conditions = record.value("conditions", json::object());
  const auto start = record.value("start_time", "");
  if (known.first.is_null() || start < known.first_start) {
    known.first = conditions;
    known.first_start = start;
  }
  known.of_point[point.slug].push_back(conditions);
}

std::vector<std::string> what_differs(const KnownConditions& known, const CampaignPoint& point) {
  std::set<std::string> found;
  for (const auto& conditions : known.of_point.at(point.slug)) {
    const auto differences = condition_differences(known.first, conditions);
    found.insert(differences.begin(), differences.end());
  }
  return {found.begin(), found.end()};
}

/// The point's values but for its nodes.
std::string group_of(const CampaignPoint& point) {
  std::string text;
  for (const auto& [name, value] : point.values) {
    if (name != "nodes") text += name + "=" + value + "\n";
  }
  return text;
}

Ratio efficiency_of(Efficiency kind, const CampaignRow& base, const CampaignRow& row) {
  if (row.point.nodes == base.point.nodes) return {};
  if (kind == Efficiency::weak) return weak_efficiency(base.samples, row.samples);
  return strong_efficiency(base.samples, base.point.nodes, row.samples, row.point.nodes);
}

void add_efficiencies(Efficiency kind, std::vector<CampaignRow>& rows) {
  std::map<std::string, const CampaignRow*> bases;
  for (const auto& row : rows) {
    auto& base = bases[group_of(row.point)];
    if (base == nullptr || row.point.nodes < base->point.nodes) base = &row;
  }
  for (auto& row : rows) {
    const auto& base = *bases.at(group_of(row.point));
    row.base_nodes = base.point.nodes;
    row.efficiency = efficiency_of(kind, base, row);
  }
}

/// In quotes where a reader of lines would see more than one value.
std::string csv_cell(const std::string& text) {
  if (text.find_first_of(",\"\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + "\"";
}

std::string csv_line(std::vector<std::string> cells) {
  for (auto& cell : cells) cell = csv_cell(cell);
  return join_words(cells, ",") + "\n";
}

std::vector<std::string> csv_values(const CampaignRow& row) {
  std::vector<std::string> cells;
  for (const auto& [name, value] : row.point.values) cells.push_back(value);
  const auto& e = row.estimate;
  cells.push_back(std::to_string(e.count));
  for (const double number : {e.median, e.low, e.high}) cells.push_back(fmt::format("{}", number));
  cells.push_back(std::to_string(e.outliers.size()));
  const auto& ratio = row.efficiency;
  for (const auto part : {&Ratio::value, &Ratio::low, &Ratio::high}) {
    cells.push_back(ratio ? fmt::format("{}", (*ratio).*part) : "");
  }
  cells.push_back(join_words(row.mixed, "; "));
  return cells;
}

}  // namespace

std::vector<CampaignRow> collect_campaign(const Campaign& campaign) {
  std::vector<CampaignRow> rows;
  std::map<std::string, KnownConditions> known;  // by cluster
  for (const auto& point : campaign_points(campaign)) {
    CampaignRow row{.point = point};
    for (int repeat = 1; repeat <= campaign.repeats; ++repeat) {
      const auto folder = run_folder(campaign, {point, repeat});
      if (run_state(campaign.kind, folder) != RunState::done) continue;
      const auto value = value_of(*read_row(campaign.kind, folder), campaign.value);
      if (!value) continue;
      row.repeats.push_back(repeat);
      row.samples.push_back(*value);
      take_run(*read_object(folder / kRecordFile), point, known[point.cluster]);
    }
    if (!row.samples.empty()) rows.push_back(std::move(row));
  }
  for (auto& row : rows) {
    row.estimate = estimate(row.samples);
    row.mixed = what_differs(known.at(row.point.cluster), row.point);
  }
  if (campaign.efficiency != Efficiency::none) add_efficiencies(campaign.efficiency, rows);
  return rows;
}

std::vector<std::string> runs_without_value(const Campaign& campaign) {
  std::vector<std::string> found;
  for (const auto& point : campaign_points(campaign)) {
    for (int repeat = 1; repeat <= campaign.repeats; ++repeat) {
      const auto folder = run_folder(campaign, {point, repeat});
      if (run_state(campaign.kind, folder) != RunState::done) continue;
      if (!value_of(*read_row(campaign.kind, folder), campaign.value)) {
        found.push_back(fmt::format("{} repeat {}", point.slug, repeat));
      }
    }
  }
  return found;
}

json rows_as_json(const Campaign& campaign, const std::vector<CampaignRow>& rows) {
  auto all = json::array();
  for (const auto& row : rows) {
    auto point = json::object();
    for (const auto& [name, value] : row.point.values) point[name] = value;
    json object{{"point", point},
                {"slug", row.point.slug},
                {"nodes", row.point.nodes},
                {"ranks", row.point.nodes * campaign.ranks_per_node},
                {"value", campaign.value},
                {"repeats", row.repeats},
                {"samples", row.samples},
                {"count", row.estimate.count},
                {"median", row.estimate.median},
                {"low", row.estimate.low},
                {"high", row.estimate.high},
                {"outliers", row.estimate.outliers},
                {"efficiency", nullptr},
                {"mixed", row.mixed}};
    if (row.efficiency) {
      object.update({{"efficiency", row.efficiency->value},
                     {"efficiency_low", row.efficiency->low},
                     {"efficiency_high", row.efficiency->high},
                     {"base_nodes", row.base_nodes}});
    }
    all.push_back(std::move(object));
  }
  return all;
}

std::string rows_as_csv(const Campaign& campaign, const std::vector<CampaignRow>& rows) {
  auto heading = axis_names(campaign);
  for (const char* name : {"count", "median", "low", "high", "outliers", "efficiency",
                           "efficiency_low", "efficiency_high", "mixed"}) {
    heading.emplace_back(name);
  }
  auto text = csv_line(heading);
  for (const auto& row : rows) text += csv_line(csv_values(row));
  return text;
}

}  // namespace isobar
