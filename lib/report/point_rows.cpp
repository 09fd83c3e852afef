// SPDX-License-Identifier: Apache-2.0
// Called once for each path of a report. Figures are collect_campaign()'s; what is added here is
// what else lies in the runs' folders: the parts of their steps, and how they were made. A row says
// itself whether it is projected, and is measured where it does not.
#include "report/point_rows.hpp"

#include "report/step_parts.hpp"

#include <isobar/core/error.hpp>
#include <isobar/core/text.hpp>
#include <isobar/scaling/campaign_rows.hpp>
#include <isobar/scaling/campaign_run.hpp>
#include <isobar/scaling/comparison.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <iterator>
#include <set>

namespace isobar {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::size_t kShownValues = 6;

std::string text_of_value(const json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

double number_or(const json& row, const char* key, double otherwise) {
  const auto found = row.find(key);
  return found != row.end() && found->is_number() ? found->get<double>() : otherwise;
}

std::optional<Ratio> efficiency_in(const json& row) {
  const auto found = row.find("efficiency");
  if (found == row.end() || !found->is_number()) return std::nullopt;
  const double value = found->get<double>();
  return Ratio{.value = value,
               .low = number_or(row, "efficiency_low", value),
               .high = number_or(row, "efficiency_high", value)};
}

/// A row as rows_as_json() writes it.
PointRow row_of_json(const json& row) {
  PointRow found{.nodes = row.value("nodes", 1), .projected = row.value("projected", false)};
  const auto point = row.value("point", json::object());
  for (const auto& item : point.items()) {
    found.values.emplace_back(item.key(), text_of_value(item.value()));
  }
  if (value_at(found, "nodes").empty()) {
    found.values.emplace(found.values.begin(), "nodes", std::to_string(found.nodes));
  }
  found.samples = row.value("samples", std::vector<double>());
  found.outliers = row.value("outliers", std::vector<std::size_t>());
  found.mixed = row.value("mixed", std::vector<std::string>());
  const double median = row.at("median").get<double>();
  found.value = {.value = median,
                 .low = number_or(row, "low", median),
                 .high = number_or(row, "high", median)};
  found.efficiency = efficiency_in(row);
  found.parts = parts_of_row(row);
  return found;
}

/// Every value that something had over the runs.
class ProvenanceValues {
 public:
  void add(const std::string& what, const json& value) {
    if (value.is_null() || value == json::object() || value == "") return;
    if (values_.count(what) == 0) order_.push_back(what);
    values_[what].insert(text_of_value(value));
  }

  std::vector<std::pair<std::string, std::string>> rows() const {
    std::vector<std::pair<std::string, std::string>> all;
    for (const auto& what : order_) all.emplace_back(what, shown(values_.at(what)));
    return all;
  }

 private:
  static std::string shown(const std::set<std::string>& values) {
    std::vector<std::string> words;
    for (const auto& value : values) {
      if (words.size() < kShownValues) words.push_back(value);
    }
    const auto more = values.size() - words.size();
    return join_words(words, "; ") + (more > 0 ? fmt::format("; and {} more", more) : "");
  }

  std::vector<std::string> order_;
  std::map<std::string, std::set<std::string>> values_;
};

void add_record(const json& record, ProvenanceValues& values) {
  const auto at = [&](const char* pointer) {
    const json::json_pointer place(pointer);
    return record.contains(place) ? record.at(place) : json();
  };
  values.add("commit", at("/conditions/commit"));
  values.add("program (XXH3-128)", at("/conditions/program"));
  values.add("isobar", at("/isobar/version"));
  values.add("LibTorch", at("/torch"));
  values.add("compiler", at("/compiler"));
  values.add("host", at("/host"));
  values.add("processor", at("/conditions/processor"));
  values.add("nodes", at("/end/nodes"));
  values.add("settings", at("/conditions/run"));
  const auto data = at("/conditions/data");
  for (const auto& item : data.items()) values.add("data " + item.key(), item.value());
  const auto environment = at("/conditions/environment");
  for (const auto& item : environment.items()) values.add(item.key(), item.value());
  const auto start = at("/start_time");
  if (start.is_string()) values.add("days (UTC)", start.get<std::string>().substr(0, 10));
}

/// The parts of a point's steps; takes note of its runs' records.
StepParts visit_runs(const Campaign& campaign, const CampaignRow& row, ProvenanceValues& values) {
  std::vector<StepParts> parts;
  for (const int repeat : row.repeats) {
    const auto folder = run_folder(campaign, {row.point, repeat});
    if (auto found = parts_of_run(folder); !found.empty()) parts.push_back(std::move(found));
    if (const auto record = json_of_file(folder / "run.json")) add_record(*record, values);
  }
  return median_parts(parts);
}

PointRows rows_of_bench(const fs::path& path, const json& report) {
  const auto measured = read_measurements(path);
  PointRows all{.name = path.stem(), .field = measured.value, .commit = measured.commit};
  const auto& rows = report.at("rows");
  for (std::size_t i = 0; i < measured.points.size(); ++i) {
    const auto& point = measured.points[i];
    PointRow row{.values = point.values, .value = point.measured};
    row.nodes = static_cast<int>(number_or(rows[i], "nodes", 1));
    row.parts = parts_of_row(rows[i]);
    all.rows.push_back(std::move(row));
  }
  return all;
}

PointRows rows_of_points(const fs::path& path, const json& report) {
  PointRows all{.name = report.value("campaign", path.stem().string()),
                .commit = report.value("commit", "unknown")};
  for (const auto& row : report.at("rows")) {
    all.field = row.value("value", all.field);
    all.rows.push_back(row_of_json(row));
  }
  return all;
}

}  // namespace

PointRows rows_of_campaign(const fs::path& path) {
  const auto campaign = load_campaign(path);
  const auto rows = collect_campaign(campaign);
  ISOBAR_CHECK(!rows.empty(), "report: no run of campaign ", campaign.name, " is done, looked in ",
               campaign_folder(campaign).string());
  PointRows all{.name = campaign.name, .field = campaign.value};
  ProvenanceValues values;
  const auto objects = rows_as_json(campaign, rows);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    auto row = row_of_json(objects[i]);
    row.values = rows[i].point.values;  // in the order of the file
    row.parts = visit_runs(campaign, rows[i], values);
    all.rows.push_back(std::move(row));
  }
  all.provenance = values.rows();
  if (const auto left_out = runs_without_value(campaign); !left_out.empty()) {
    all.provenance.emplace_back("left out, since they measured no number",
                                join_words(left_out, "; "));
  }
  for (const auto& [what, value] : all.provenance) {
    if (what == "commit") all.commit = value;
  }
  all.path = path;
  return all;
}

PointRows rows_of_report(const fs::path& path, const json& report) {
  try {
    const auto schema = report.value("schema", "");
    auto all = schema == "isobar.bench.step.1" || schema == "isobar.bench.collective.1"
                   ? rows_of_bench(path, report)
                   : rows_of_points(path, report);
    ISOBAR_CHECK(!all.rows.empty(), "report: ", path.string(), " has no rows");
    all.path = path;
    all.measured_path = !has_projected(all);
    all.provenance = {{"commit", all.commit}, {"host", report.value("host", "")}};
    return all;
  } catch (const json::exception& error) {
    throw DataError(
        detail::join("report: ", path.string(), " is no report of a campaign: ", error.what()));
  }
}

bool has_projected(const PointRows& all) {
  return std::any_of(all.rows.begin(), all.rows.end(),
                     [](const auto& row) { return row.projected; });
}

bool has_measured(const PointRows& all) {
  return std::any_of(all.rows.begin(), all.rows.end(),
                     [](const auto& row) { return !row.projected; });
}

std::vector<std::string> varying_axes(const PointRows& all) {
  std::vector<std::string> order;
  std::map<std::string, std::set<std::string>> values;
  for (const auto& row : all.rows) {
    for (const auto& [name, value] : row.values) {
      if (values.count(name) == 0) order.push_back(name);
      values[name].insert(value);
    }
  }
  std::erase_if(order, [&](const auto& name) { return values.at(name).size() < 2; });
  return order;
}

std::string value_at(const PointRow& row, const std::string& axis) {
  for (const auto& [name, value] : row.values) {
    if (name == axis) return value;
  }
  return "";
}

std::string label_of(const PointRow& row, const std::vector<std::string>& axes) {
  std::vector<std::string> words;
  for (const auto& axis : axes) {
    if (const auto value = value_at(row, axis); !value.empty()) words.push_back(axis + " " + value);
  }
  return words.empty() ? "all" : join_words(words);
}

std::string values_of_row(const PointRow& row, const std::vector<std::string>& axes) {
  std::vector<std::string> words;
  for (const auto& axis : axes)
    words.push_back(value_at(row, axis).empty() ? "-" : value_at(row, axis));
  return words.empty() ? "all" : join_words(words);
}

std::optional<double> number_of_word(const std::string& word) {
  double value = 0;
  const char* end = word.data() + word.size();
  const auto [rest, error] = std::from_chars(word.data(), end, value);
  if (error == std::errc() && rest == end && std::isfinite(value)) return value;
  if (const auto bytes = parse_bytes(word)) return static_cast<double>(*bytes);
  return std::nullopt;
}

std::optional<json> json_of_file(const fs::path& file) {
  std::ifstream stream(file);
  if (!stream) return std::nullopt;
  auto value = json::parse(std::string{std::istreambuf_iterator<char>(stream), {}}, nullptr, false);
  if (!value.is_object()) {
    throw DataError(detail::join("report: ", file.string(), " is not a whole object of JSON"));
  }
  return value;
}

}  // namespace isobar
