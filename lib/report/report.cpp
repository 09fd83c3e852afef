// SPDX-License-Identifier: Apache-2.0
// From paths to sections: what several have in common first, then each by itself. Nothing is
// written, and a path that cannot be read ends all, since a report that lacks a campaign looks
// whole.
#include <isobar/report/report.hpp>

#include "report/sections.hpp"

#include <isobar/core/error.hpp>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

namespace isobar {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

/// What was given, read and told apart.
struct ReportSources {
  std::vector<PointRows> campaigns;
  std::vector<TrainingRunFiles> runs;
  std::vector<ReportSection> scores;
};

bool is_training_run(const fs::path& path) {
  return fs::is_directory(path) && fs::exists(path / "metrics.jsonl");
}

bool is_yaml(const fs::path& path) {
  return path.extension() == ".yaml" || path.extension() == ".yml";
}

void read_report_file(const fs::path& path, ReportSources& sources) {
  const auto report = json_of_file(path);
  const bool has_rows = report && report->contains("rows") && report->at("rows").is_array();
  ISOBAR_CHECK(has_rows, "report: ", path.string(),
               " is no report of --json, which has rows; wanted a campaign, a training run's "
               "folder, or a report of campaign collect, bench or evaluate");
  if (report->value("schema", "") == "isobar.evaluate.1") {
    sources.scores.push_back(scores_section(path, *report));
  } else {
    sources.campaigns.push_back(rows_of_report(path, *report));
  }
}

void read_source(const fs::path& path, ReportSources& sources) {
  ISOBAR_CHECK(fs::exists(path), "report: there is no ", path.string());
  if (is_training_run(path)) {
    sources.runs.push_back(read_training_run(path));
  } else if (fs::is_directory(path) || is_yaml(path)) {
    sources.campaigns.push_back(rows_of_campaign(path));
  } else {
    read_report_file(path, sources);
  }
}

/// The campaign that a projection belongs to: of its name, or the only one that measures its field.
PointRows* campaign_of(const PointRows& projection, std::vector<PointRows>& measured) {
  PointRows* only = nullptr;
  int alike = 0;
  for (auto& each : measured) {
    if (each.field != projection.field) continue;
    if (each.name == projection.name) return &each;
    only = &each;
    ++alike;
  }
  return alike == 1 ? only : nullptr;
}

/// Projections go to the campaigns that they continue.
std::vector<PointRows> with_projections(std::vector<PointRows> all) {
  const auto is_measured = [](const auto& each) { return has_measured(each); };
  const auto middle = std::stable_partition(all.begin(), all.end(), is_measured);
  std::vector<PointRows> found(all.begin(), middle), alone;
  for (auto each = middle; each != all.end(); ++each) {
    if (auto* home = campaign_of(*each, found)) {
      home->rows.insert(home->rows.end(), each->rows.begin(), each->rows.end());
      home->provenance.emplace_back("projected by",
                                    each->path.string() + ", commit " + each->commit);
    } else {
      alone.push_back(*each);
    }
  }
  found.insert(found.end(), alone.begin(), alone.end());
  return found;
}

void add_comparisons(Report& report, const std::vector<PointRows>& campaigns) {
  std::map<std::string, std::vector<PointRows>> by_field;
  for (const auto& each : campaigns) by_field[each.field].push_back(each);
  for (const auto& item : by_field) {
    if (item.second.size() > 1) report.sections.push_back(comparison_section(item.second));
  }
}

std::string file_word(const std::string& text) {
  std::string word;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '_' || c == '-';
    if (plain) {
      word += c;
    } else if (!word.empty() && word.back() != '-') {
      word += '-';
    }
  }
  return word;
}

/// Every table gets a name that no other has.
void name_tables(Report& report) {
  std::set<std::string> taken;
  const auto name = [&](const ReportSection& section, ReportTable& table) {
    const auto base = file_word(section.title + "-" + table.name);
    auto own = base;
    for (int n = 2; !taken.insert(own).second; ++n) own = base + "-" + std::to_string(n);
    table.name = own;
  };
  for (auto& section : report.sections) {
    for (auto& chart : section.charts) name(section, chart.table);
    for (auto& table : section.tables) name(section, table);
  }
}

std::string title_of(const Report& report) {
  return report.sections.size() == 1 ? report.sections.front().title : "isobar report";
}

}  // namespace

std::size_t chart_count(const Report& report) {
  std::size_t charts = 0;
  for (const auto& section : report.sections) charts += section.charts.size();
  return charts;
}

Report make_report(const std::vector<fs::path>& paths, const DiagnosisOptions& diagnosis) {
  ISOBAR_CHECK(!paths.empty(), "report: name a campaign or a training run");
  ReportSources sources;
  for (const auto& path : paths) read_source(path, sources);
  const auto campaigns = with_projections(std::move(sources.campaigns));
  Report report;
  add_comparisons(report, campaigns);
  if (sources.runs.size() > 1) report.sections.push_back(training_comparison(sources.runs));
  for (const auto& each : campaigns) report.sections.push_back(campaign_section(each));
  for (const auto& run : sources.runs) {
    report.sections.push_back(training_section(run, diagnosis));
  }
  for (auto& scores : sources.scores) report.sections.push_back(std::move(scores));
  report.title = title_of(report);
  name_tables(report);
  return report;
}

json findings_of_runs(const std::vector<fs::path>& paths, const DiagnosisOptions& diagnosis) {
  auto rows = json::array();
  for (const auto& path : paths) {
    if (!is_training_run(path) || !fs::exists(path / "profile.json")) continue;
    const auto profile = load_profiled_step(path);
    for (auto row : findings_as_json(profile, diagnose(profile, diagnosis))) {
      row["run"] = path.string();
      rows.push_back(std::move(row));
    }
  }
  return rows;
}

}  // namespace isobar
