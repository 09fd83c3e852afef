// SPDX-License-Identifier: Apache-2.0
// Called by the sections of one campaign and of several. Measured and projected points of one label
// have one colour, since they are of one thing, and a line each: never one line through both. In
// the table below the chart they have columns of their own.
#include "report/curves.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

namespace isobar {
namespace {

using nlohmann::json;

bool is_numeric(const std::vector<CurvePoint>& points) {
  return std::all_of(points.begin(), points.end(),
                     [](const auto& point) { return number_of_word(point.word).has_value(); });
}

bool has_unit_of_bytes(const std::vector<CurvePoint>& points) {
  return std::any_of(points.begin(), points.end(), [](const auto& point) {
    return !point.word.empty() && point.word.back() == 'B';
  });
}

std::vector<std::string> labels_of(const std::vector<CurvePoint>& points) {
  std::vector<std::string> labels;
  for (const auto& point : points) {
    if (std::find(labels.begin(), labels.end(), point.label) == labels.end()) {
      labels.push_back(point.label);
    }
  }
  return labels;
}

std::vector<CurvePoint> points_of(const std::vector<CurvePoint>& points, const std::string& label,
                                  bool projected, bool by_number) {
  std::vector<CurvePoint> found;
  for (const auto& point : points) {
    if (point.label == label && point.projected == projected) found.push_back(point);
  }
  if (by_number) {
    std::stable_sort(found.begin(), found.end(), [](const auto& a, const auto& b) {
      return *number_of_word(a.word) < *number_of_word(b.word);
    });
  }
  return found;
}

ChartSeries series_of(const std::vector<CurvePoint>& points, std::size_t colour, bool by_number) {
  ChartSeries series{.name = points.front().label, .colour = colour};
  series.projected = points.front().projected;
  if (series.projected) series.name += " (projected)";
  for (const auto& point : points) {
    if (by_number) {
      series.x.push_back(*number_of_word(point.word));
    } else {
      series.words.push_back(point.word);
    }
    series.y.push_back(point.value.value);
    series.low.push_back(point.value.low);
    series.high.push_back(point.value.high);
  }
  return series;
}

/// Under the words of the campaign's file.
json numeric_axis(const std::string& title, const std::vector<CurvePoint>& points) {
  std::map<double, std::string> ticks;
  for (const auto& point : points) ticks.emplace(*number_of_word(point.word), point.word);
  const bool positive = ticks.begin()->first > 0;
  auto axis = chart_axis(title, positive ? AxisScale::log : AxisScale::linear);
  std::vector<double> values;
  std::vector<std::string> words;
  for (const auto& [value, word] : ticks) {
    values.push_back(value);
    words.push_back(word);
  }
  set_ticks(axis, values, words);
  return axis;
}

json ideal_line() {
  return json::array({{{"type", "line"},
                       {"xref", "paper"},
                       {"x0", 0},
                       {"x1", 1},
                       {"y0", 1},
                       {"y1", 1},
                       {"line", {{"width", 1}, {"dash", "dot"}, {"color", "#888888"}}}}});
}

ReportTable curve_table(const CurveChart& chart, const std::vector<CurvePoint>& points) {
  const auto some = [&](bool projected) {
    return std::any_of(points.begin(), points.end(),
                       [&](const auto& point) { return point.projected == projected; });
  };
  const bool measured = some(false), projected = some(true);
  ReportTable table{.name = chart.name, .title = chart.title, .heading = {"line", chart.axis}};
  add_value_heading(table.heading, chart.field, measured, projected);
  for (const auto& point : points) {
    auto& cells = table.rows.emplace_back(std::vector<ReportCell>{point.label, point.word});
    add_value_cells(cells, point.value, point.projected, measured, projected);
  }
  return table;
}

}  // namespace

std::vector<CurvePoint> points_along(const PointRows& all, const std::string& axis, CurveValue what,
                                     const std::string& prefix) {
  auto others = varying_axes(all);
  std::erase(others, axis);
  std::vector<CurvePoint> points;
  for (const auto& row : all.rows) {
    const auto word = value_at(row, axis);
    const bool wanted = what == CurveValue::measured_field || row.efficiency.has_value();
    if (word.empty() || !wanted) continue;
    auto label = label_of(row, others);
    if (!prefix.empty()) label = label == "all" ? prefix : prefix + ": " + label;
    points.push_back({.label = label,
                      .word = word,
                      .value = what == CurveValue::efficiency ? *row.efficiency : row.value,
                      .projected = row.projected});
  }
  return points;
}

ReportChart curve_chart(const CurveChart& chart, const std::vector<CurvePoint>& points) {
  const bool by_number = !chart.of_words && is_numeric(points);
  std::vector<json> traces;
  const auto labels = labels_of(points);
  for (std::size_t i = 0; i < labels.size(); ++i) {
    for (const bool projected : {false, true}) {
      const auto own = points_of(points, labels[i], projected, by_number);
      if (own.empty()) continue;
      const auto series = series_of(own, i, by_number);
      traces.push_back(by_number ? line_trace(series) : bar_trace(series));
    }
  }
  auto title = chart.axis;
  if (by_number && has_unit_of_bytes(points)) title += " (bytes)";
  const auto x = by_number ? numeric_axis(title, points) : chart_axis(title, AxisScale::category);
  auto y = chart_axis(chart.field);
  y["rangemode"] = "tozero";
  json more = json::object();
  if (chart.ideal_is_one) more["shapes"] = ideal_line();
  return {.title = chart.title,
          .note = chart.note,
          .figure = figure_text(traces, x, y, more),
          .table = curve_table(chart, points)};
}

void add_value_heading(std::vector<std::string>& heading, const std::string& what, bool measured,
                       bool projected) {
  const auto add = [&](const std::string& how) {
    for (const char* end : {"", ", low", ", high"}) {
      heading.push_back(fmt::format("{}{}{}", how, what, end));
    }
  };
  if (measured) add(projected ? "measured " : "");
  if (projected) add("projected ");
}

void add_value_cells(std::vector<ReportCell>& cells, const std::optional<Ratio>& value,
                     bool is_projected, bool measured, bool projected) {
  const auto add = [&](bool holds) {
    for (const auto part : {&Ratio::value, &Ratio::low, &Ratio::high}) {
      cells.push_back(holds && value ? number_cell((*value).*part) : ReportCell());
    }
  };
  if (measured) add(!is_projected);
  if (projected) add(is_projected);
}

}  // namespace isobar
