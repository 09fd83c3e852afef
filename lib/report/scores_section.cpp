// SPDX-License-Identifier: Apache-2.0
// Called for a training run's last scores and for reports of `isobar evaluate`. Variables have
// units of their own, so one chart has all of them as shares of persistence's error; a chart each
// in its own unit there is for a few.
#include "report/chart.hpp"
#include "report/sections.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <utility>

namespace isobar {
namespace {

using nlohmann::json;

constexpr std::size_t kOwnCharts = 6;  ///< variables with a chart of their own
constexpr double kUnknownScore = std::numeric_limits<double>::quiet_NaN();

double number_in(const json& row, const char* key) {
  const auto found = row.find(key);
  return found != row.end() && found->is_number() ? found->get<double>() : kUnknownScore;
}

std::vector<std::string> variables_of(const std::vector<ScoreRow>& rows) {
  std::vector<std::string> names;
  for (const auto& row : rows) {
    if (std::find(names.begin(), names.end(), row.variable) == names.end()) {
      names.push_back(row.variable);
    }
  }
  return names;
}

template <typename Value>
ChartSeries score_series(const std::vector<ScoreRow>& rows, const std::string& name,
                         const std::string& variable, std::size_t colour, Value value) {
  ChartSeries series{.name = name, .colour = colour};
  std::vector<std::pair<double, double>> points;
  for (const auto& row : rows) {
    if (row.variable == variable) points.emplace_back(row.lead_hours, value(row));
  }
  std::sort(points.begin(), points.end());
  for (const auto& [lead, y] : points) {
    series.x.push_back(lead);
    series.y.push_back(y);
  }
  return series;
}

bool has_value(const ChartSeries& series) {
  return std::any_of(series.y.begin(), series.y.end(), [](double y) { return std::isfinite(y); });
}

/// The columns "variable", "lead time (h)" and a value for each function.
using ScoreValue = std::pair<std::string, double (*)(const ScoreRow&)>;

ReportTable scores_by_lead(const std::string& name, const std::string& title,
                           const std::vector<ScoreRow>& rows,
                           const std::vector<ScoreValue>& values) {
  ReportTable table{.name = name, .title = title, .heading = {"variable", "lead time (h)"}};
  for (const auto& value : values) table.heading.push_back(value.first);
  for (const auto& row : rows) {
    auto& cells = table.rows.emplace_back(std::vector<ReportCell>{row.variable, row.lead_hours});
    for (const auto& value : values) cells.push_back(number_cell(value.second(row)));
  }
  return table;
}

double share_of_persistence(const ScoreRow& row) { return row.rmse / row.persistence; }
double acc_of(const ScoreRow& row) { return row.acc; }

void add_by_variable(ReportSection& section, const std::string& name, const std::string& title,
                     const std::string& unit, const std::vector<ScoreRow>& rows,
                     double (*value)(const ScoreRow&)) {
  std::vector<json> traces;
  const auto variables = variables_of(rows);
  for (std::size_t i = 0; i < variables.size(); ++i) {
    const auto series = score_series(rows, variables[i], variables[i], i, value);
    if (has_value(series)) traces.push_back(line_trace(series));
  }
  if (traces.empty()) return;
  auto y = chart_axis(unit);
  y["rangemode"] = "tozero";
  section.charts.push_back({.title = title,
                            .figure = figure_text(traces, chart_axis("lead time (h)"), y),
                            .table = scores_by_lead(name, title, rows, {{unit, value}})});
}

void add_variable(ReportSection& section, const std::string& split, const std::string& variable,
                  const std::vector<ScoreRow>& rows) {
  std::vector<ScoreRow> own;
  for (const auto& row : rows) {
    if (row.variable == variable) own.push_back(row);
  }
  const std::vector<ScoreValue> values{
      {"forecast", [](const ScoreRow& row) { return row.rmse; }},
      {"persistence", [](const ScoreRow& row) { return row.persistence; }},
      {"24 h earlier", [](const ScoreRow& row) { return row.previous_day; }}};
  std::vector<json> traces;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto series = score_series(own, values[i].first, variable, i, values[i].second);
    if (has_value(series)) traces.push_back(line_trace(series));
  }
  const auto title = fmt::format("RMSE of {}, {}", variable, split);
  auto y = chart_axis(fmt::format("RMSE (the unit of {})", variable));
  y["rangemode"] = "tozero";
  section.charts.push_back({.title = title,
                            .figure = figure_text(traces, chart_axis("lead time (h)"), y),
                            .table = scores_by_lead("rmse-" + variable, title, own, values)});
}

ReportTable all_scores(const std::vector<ScoreRow>& rows) {
  ReportTable table{.name = "scores",
                    .title = "Scores",
                    .heading = {"split", "lead time (h)", "variable", "samples", "RMSE", "bias",
                                "ACC", "persistence's RMSE", "RMSE 24 h earlier"}};
  for (const auto& row : rows) {
    table.rows.push_back({row.split, row.lead_hours, row.variable, number_cell(row.samples),
                          number_cell(row.rmse), number_cell(row.bias), number_cell(row.acc),
                          number_cell(row.persistence), number_cell(row.previous_day)});
  }
  return table;
}

/// Power by wavenumber, of one variable at one lead time.
struct SpectrumRows {
  ChartSeries forecast{.name = "forecast", .colour = 0};
  ChartSeries truth{.name = "truth", .colour = 1};
};

void add_spectra(ReportSection& section, const json& report) {
  std::map<std::pair<std::string, double>, SpectrumRows> found;
  for (const auto& row : report.value("spectra", json::array())) {
    auto& own = found[{row.value("variable", ""), number_in(row, "lead_hours")}];
    for (auto* each : {&own.forecast, &own.truth}) each->x.push_back(number_in(row, "wavenumber"));
    own.forecast.y.push_back(number_in(row, "forecast"));
    own.truth.y.push_back(number_in(row, "truth"));
  }
  for (const auto& [key, own] : found) {
    const auto title = fmt::format("Power spectrum of {} at {} h", key.first, key.second);
    ReportTable table{.name = fmt::format("spectrum-{}-{}h", key.first, key.second),
                      .title = title,
                      .heading = {"wavenumber", "forecast", "truth"}};
    for (std::size_t i = 0; i < own.truth.x.size(); ++i) {
      table.rows.push_back(
          {own.truth.x[i], number_cell(own.forecast.y[i]), number_cell(own.truth.y[i])});
    }
    section.charts.push_back(
        {.title = title,
         .note = "Where the forecast lies below the truth at large wavenumbers, it blurs.",
         .figure = figure_text(
             {line_trace(own.forecast), line_trace(own.truth)},
             chart_axis("wavenumber (1)", AxisScale::log),
             chart_axis(fmt::format("power (the unit of {}, squared)", key.first), AxisScale::log)),
         .table = std::move(table)});
  }
}

}  // namespace

void add_scores(ReportSection& section, const std::vector<ScoreRow>& rows) {
  std::vector<std::string> splits;
  for (const auto& row : rows) {
    if (std::find(splits.begin(), splits.end(), row.split) == splits.end()) {
      splits.push_back(row.split);
    }
  }
  for (const auto& split : splits) {
    std::vector<ScoreRow> own;
    for (const auto& row : rows) {
      if (row.split == split) own.push_back(row);
    }
    add_by_variable(section, split + "-share", "Error as a share of persistence's, " + split,
                    "RMSE / RMSE of persistence (1)", own, share_of_persistence);
    add_by_variable(section, split + "-acc", "Anomaly correlation, " + split,
                    "anomaly correlation (1)", own, acc_of);
    const auto variables = variables_of(own);
    if (variables.size() > kOwnCharts) continue;
    for (const auto& variable : variables) add_variable(section, split, variable, own);
  }
  if (!rows.empty()) section.tables.push_back(all_scores(rows));
}

ReportSection scores_section(const std::filesystem::path& path, const json& report) {
  ReportSection section{.title = "Scores in " + path.filename().string()};
  section.notes.push_back("commit " + report.value("commit", "unknown") + ".");
  for (const auto& warning : report.value("warnings", std::vector<std::string>())) {
    section.notes.push_back("Warning: " + warning);
  }
  std::vector<ScoreRow> rows;
  for (const auto& row : report.value("rows", json::array())) {
    rows.push_back({.split = row.value("split", ""),
                    .lead_hours = number_in(row, "lead_hours"),
                    .variable = row.value("variable", ""),
                    .samples = number_in(row, "samples"),
                    .rmse = number_in(row, "rmse"),
                    .bias = number_in(row, "bias"),
                    .acc = number_in(row, "acc"),
                    .persistence = number_in(row, "persistence"),
                    .previous_day = number_in(row, "previous_day")});
  }
  add_scores(section, rows);
  add_spectra(section, report);
  return section;
}

}  // namespace isobar
