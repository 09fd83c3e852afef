// SPDX-License-Identifier: Apache-2.0
// Called with campaigns that measure the same field: of two programs, machines or days. Points that
// several have stand beside each other; the verdicts are compare_measurements(), as of
// `isobar compare`, and leave out what is projected, which has no runs to be compared.
#include "report/curves.hpp"
#include "report/sections.hpp"

#include <isobar/core/error.hpp>
#include <isobar/core/text.hpp>
#include <isobar/scaling/comparison.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

namespace isobar {
namespace {

/// By which a campaign is told from the others: its name, or its path where two have one name.
std::vector<std::string> names_of(const std::vector<PointRows>& all) {
  std::map<std::string, int> times;
  for (const auto& each : all) ++times[each.name];
  std::vector<std::string> names;
  for (const auto& each : all) {
    names.push_back(times[each.name] > 1 ? each.path.string() : each.name);
  }
  return names;
}

/// All rows in one, so that every axis that varies in some campaign is known in all.
PointRows joined(const std::vector<PointRows>& all) {
  PointRows whole{.field = all.front().field};
  for (const auto& each : all) {
    whole.rows.insert(whole.rows.end(), each.rows.begin(), each.rows.end());
  }
  return whole;
}

void add_curves(ReportSection& section, const std::vector<PointRows>& all,
                const std::vector<std::string>& names, CurveValue what, const CurveChart& chart) {
  std::vector<CurvePoint> points;
  std::set<std::string> nodes;
  for (std::size_t i = 0; i < all.size(); ++i) {
    for (auto& point : points_along(all[i], "nodes", what, names[i])) {
      nodes.insert(point.word);
      points.push_back(std::move(point));
    }
  }
  if (nodes.size() > 1) section.charts.push_back(curve_chart(chart, points));
}

void add_points(ReportSection& section, const std::vector<PointRows>& all,
                const std::vector<std::string>& names) {
  const auto axes = varying_axes(joined(all));
  std::vector<CurvePoint> points;
  for (std::size_t i = 0; i < all.size(); ++i) {
    for (const auto& row : all[i].rows) {
      points.push_back({.label = names[i],
                        .word = values_of_row(row, axes),
                        .value = row.value,
                        .projected = row.projected});
    }
  }
  section.charts.push_back(
      curve_chart({.name = "side-by-side",
                   .title = "Point by point",
                   .axis = axes.empty() ? "point" : "point: " + join_words(axes),
                   .field = field_title(all.front().field),
                   .note = "Bars are 95 % intervals of the median.",
                   .of_words = true},
                  points));
}

const char* word_for(Verdict verdict) {
  if (verdict == Verdict::same) return "same";
  return verdict == Verdict::slower ? "slower" : "faster";
}

void add_verdicts(ReportTable& table, const PointRows& a, const PointRows& b,
                  const std::string& name) {
  const auto found = compare_measurements(read_measurements(a.path), read_measurements(b.path));
  PointRows points;
  for (const auto& point : found.points) points.rows.push_back({.values = point.values});
  const auto axes = varying_axes(points);
  for (std::size_t i = 0; i < found.points.size(); ++i) {
    const auto& point = found.points[i];
    table.rows.push_back({name, label_of(points.rows[i], axes), point.a, point.b, point.ratio.value,
                          point.ratio.low, point.ratio.high, std::string(word_for(point.verdict))});
  }
}

}  // namespace

ReportSection comparison_section(const std::vector<PointRows>& all) {
  const auto names = names_of(all);
  const auto field = field_title(all.front().field);
  ReportSection section{.title = "Compared: " + field};
  for (std::size_t i = 0; i < all.size(); ++i) {
    section.notes.push_back(fmt::format("{}: commit {}.", names[i], all[i].commit));
  }
  add_curves(section, all, names, CurveValue::efficiency,
             {.name = "efficiency",
              .title = "Efficiency by nodes",
              .axis = "nodes",
              .field = "efficiency E (1 is ideal)",
              .ideal_is_one = true});
  add_curves(section, all, names, CurveValue::measured_field,
             {.name = "by-nodes", .title = "By nodes", .axis = "nodes", .field = field});
  add_points(section, all, names);
  ReportTable table{.name = "verdicts",
                    .title = "Against " + names.front(),
                    .heading = {"campaign", "point", names.front() + ": " + field, field,
                                "quotient", "low", "high", "verdict"}};
  for (std::size_t i = 1; i < all.size(); ++i) {
    if (!all.front().measured_path || !all[i].measured_path) continue;
    try {
      add_verdicts(table, all.front(), all[i], names[i]);
    } catch (const UsageError& error) {
      section.notes.push_back(fmt::format("{} has no verdict: {}.", names[i], error.what()));
    }
  }
  if (!table.rows.empty()) section.tables.push_back(std::move(table));
  return section;
}

}  // namespace isobar
