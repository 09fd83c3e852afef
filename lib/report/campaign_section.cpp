// SPDX-License-Identifier: Apache-2.0
// Called for each campaign of a report. Which charts there are follows from the axes: over nodes
// the efficiency and what was measured, over every other axis of numbers a sweep, over one of words
// bars; then where the step's time goes, and every single run, those far from the others too.
#include "report/curves.hpp"
#include "report/sections.hpp"
#include "report/step_parts.hpp"

#include <isobar/core/text.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

namespace isobar {
namespace {

using nlohmann::json;

constexpr std::size_t kNamedPoints = 60;  // more names than that cannot be read along an axis
constexpr const char* kIntervals =
    "Bars are 95 % intervals of the median (of three runs: from the least to the largest).";

/// "step time (s)" as "step time".
std::string without_unit(const std::string& title) { return title.substr(0, title.find(" (")); }

std::string capitalised(std::string text) {
  if (!text.empty() && text[0] >= 'a' && text[0] <= 'z') text[0] = static_cast<char>(text[0] - 32);
  return text;
}

std::string note_of_intervals(const PointRows& all) {
  return has_projected(all)
             ? std::string(kIntervals) + " Dashed or hatched: projected, not measured."
             : kIntervals;
}

/// What the values of values_of_row() are of.
std::string title_of_points(const std::vector<std::string>& axes) {
  return axes.empty() ? "point" : "point: " + join_words(axes);
}

void add_efficiency(ReportSection& section, const PointRows& all) {
  const auto points = points_along(all, "nodes", CurveValue::efficiency);
  std::set<std::string> nodes;
  for (const auto& point : points) nodes.insert(point.word);
  if (nodes.size() < 2) return;
  section.charts.push_back(curve_chart(
      {.name = "efficiency",
       .title = "Efficiency by nodes",
       .axis = "nodes",
       .field = "efficiency E (1 is ideal)",
       .note =
           "Against the fewest nodes with otherwise the same settings. " + note_of_intervals(all),
       .ideal_is_one = true},
      points));
}

void add_axis(ReportSection& section, const PointRows& all, const std::string& axis) {
  const auto field = field_title(all.field);
  section.charts.push_back(curve_chart({.name = "by-" + axis,
                                        .title = capitalised(without_unit(field)) + " by " + axis,
                                        .axis = axis,
                                        .field = field,
                                        .note = note_of_intervals(all)},
                                       points_along(all, axis, CurveValue::measured_field)));
}

void add_parts(ReportSection& section, const PointRows& all, const std::vector<std::string>& axes) {
  std::vector<std::string> labels;
  std::vector<StepParts> parts;
  for (const auto& row : all.rows) {
    if (row.parts.empty() || row.projected) continue;
    labels.push_back(values_of_row(row, axes));
    parts.push_back(row.parts);
  }
  if (labels.empty()) return;
  section.charts.push_back(parts_chart(
      "Where the step's time goes",
      "Measured, medians over a point's runs. What the other parts leave of the step is "
      "other; medians of parts need not add up to the median of the step.",
      "point", labels, parts));
}

/// Of all rows that have runs: which point, which run, and whether it lies far from the others.
struct RunDots {
  ChartSeries near{.name = "run", .colour = 0};
  ChartSeries far{.name = "far from the others", .colour = 5};
  ReportTable table = {};
};

void add_dots(const PointRow& row, const std::string& label, RunDots& dots) {
  for (std::size_t i = 0; i < row.samples.size(); ++i) {
    const bool is_far =
        std::find(row.outliers.begin(), row.outliers.end(), i) != row.outliers.end();
    auto& series = is_far ? dots.far : dots.near;
    series.words.push_back(label);
    series.y.push_back(row.samples[i]);
    dots.table.rows.push_back({label, static_cast<double>(i + 1), row.samples[i],
                               std::string(is_far ? "far from the others" : "")});
  }
}

void add_runs(ReportSection& section, const PointRows& all, const std::vector<std::string>& axes) {
  const auto field = field_title(all.field);
  RunDots dots;
  dots.table = {.name = "runs",
                .title = "Every run",
                .heading = {title_of_points(axes), "run", field, "remark"}};
  std::size_t points = 0;
  for (const auto& row : all.rows) {
    if (row.projected || row.samples.empty()) continue;
    add_dots(row, values_of_row(row, axes), dots);
    ++points;
  }
  if (points == 0) return;
  std::vector<json> traces{mark_trace(dots.near, "circle-open")};
  if (!dots.far.y.empty()) traces.push_back(mark_trace(dots.far, "x"));
  auto x = chart_axis(title_of_points(axes), AxisScale::category);
  if (points > kNamedPoints) x["showticklabels"] = false;
  section.charts.push_back({.title = "Every run",
                            .note = "Runs far from the others of their point are marked and count "
                                    "like all.",
                            .figure = figure_text(traces, x, chart_axis(field)),
                            .table = std::move(dots.table)});
}

ReportTable rows_table(const PointRows& all, const std::vector<std::string>& axes) {
  const bool measured = has_measured(all), projected = has_projected(all);
  ReportTable table{.name = "points", .title = "All points", .heading = axes};
  if (measured) table.heading.emplace_back("runs");
  add_value_heading(table.heading, field_title(all.field), measured, projected);
  add_value_heading(table.heading, "E", measured, projected);
  if (measured) table.heading.insert(table.heading.end(), {"far off", "mixed"});
  for (const auto& row : all.rows) {
    auto& cells = table.rows.emplace_back();
    for (const auto& axis : axes) cells.emplace_back(value_at(row, axis));
    const auto count = [&](std::size_t n) {
      return row.projected || row.samples.empty() ? ReportCell() : static_cast<double>(n);
    };
    if (measured) cells.push_back(count(row.samples.size()));
    add_value_cells(cells, row.value, row.projected, measured, projected);
    add_value_cells(cells, row.efficiency, row.projected, measured, projected);
    if (!measured) continue;
    cells.push_back(count(row.outliers.size()));
    cells.emplace_back(join_words(row.mixed, "; "));
  }
  return table;
}

ReportTable provenance_table(const PointRows& all) {
  ReportTable table{
      .name = "provenance", .title = "How it was made", .heading = {"what", "values"}};
  for (const auto& [what, value] : all.provenance) table.rows.push_back({what, value});
  return table;
}

std::vector<std::string> constants_of(const PointRows& all, const std::vector<std::string>& axes) {
  std::vector<std::string> words;
  for (const auto& [name, value] : all.rows.front().values) {
    if (std::find(axes.begin(), axes.end(), name) == axes.end())
      words.push_back(name + " " + value);
  }
  return words;
}

std::vector<std::string> notes_of(const PointRows& all, const std::vector<std::string>& axes) {
  std::size_t points = 0, projected = 0, runs = 0, far = 0, mixed = 0;
  for (const auto& row : all.rows) {
    (row.projected ? projected : points) += 1;
    runs += row.samples.size();
    far += row.outliers.size();
    mixed += row.mixed.empty() ? 0 : 1;
  }
  std::vector<std::string> notes{
      fmt::format("{} points measured in {} runs; commit {}.", points, runs, all.commit)};
  if (runs == 0) notes[0] = fmt::format("{} points measured; commit {}.", points, all.commit);
  if (projected > 0) {
    notes.push_back(
        fmt::format("{} points are projected: nothing was run there. They have lines "
                    "and columns of their own.",
                    projected));
  }
  if (far > 0) {
    notes.push_back(fmt::format("{} {} far from the others of the same point; they are kept.", far,
                                far == 1 ? "run lies" : "runs lie"));
  }
  if (mixed > 0) {
    notes.push_back(
        fmt::format("{} {} runs that were not made alike; the last column of the table "
                    "says what differs.",
                    mixed, mixed == 1 ? "point has" : "points have"));
  }
  const auto constants = constants_of(all, axes);
  if (!constants.empty()) notes.push_back("The same in all: " + join_words(constants) + ".");
  return notes;
}

}  // namespace

ReportSection campaign_section(const PointRows& all) {
  const auto axes = varying_axes(all);
  ReportSection section{.title = "Campaign " + all.name};
  section.notes = notes_of(all, axes);
  add_efficiency(section, all);
  for (const auto& axis : axes) add_axis(section, all, axis);
  add_parts(section, all, axes);
  add_runs(section, all, axes);
  section.tables.push_back(rows_table(all, axes));
  if (!all.provenance.empty()) section.tables.push_back(provenance_table(all));
  return section;
}

}  // namespace isobar
