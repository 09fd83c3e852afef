// SPDX-License-Identifier: Apache-2.0
// Traces and axes of plotly.js, as the report's charts have them. Colours of text and grid are the
// page's (page.js), which knows whether it is dark.
#pragma once

#include <isobar/report/report.hpp>
#include <nlohmann/json.hpp>

#include <cstddef>
#include <string>
#include <vector>

namespace isobar {

/// A line or a set of bars. `low` and `high` are empty where no interval is known.
struct ChartSeries {
  std::string name = {};
  std::vector<double> x = {};
  std::vector<std::string> words = {};  ///< in place of x, where it has categories
  std::vector<double> y = {};
  std::vector<double> low = {};
  std::vector<double> high = {};
  std::size_t colour = 0;
  bool projected = false;
};

enum class AxisScale { linear, log, category };

/// Solid with filled marks; what is projected dashed with open ones.
nlohmann::json line_trace(const ChartSeries& series);

/// Filled; what is projected hatched.
nlohmann::json bar_trace(const ChartSeries& series);

/// Marks alone.
nlohmann::json mark_trace(const ChartSeries& series, const std::string& symbol);

nlohmann::json chart_axis(const std::string& title, AxisScale scale = AxisScale::linear);

/// Sets the ticks of an axis at these values, under these words.
void set_ticks(nlohmann::json& axis, const std::vector<double>& values,
               const std::vector<std::string>& words);

/// plotly.js takes "<b>" for bold: the text as it is.
std::string plot_text(const std::string& text);

/// `data` and `layout` as one text. Numbers that JSON does not have become null, a gap.
std::string figure_text(const std::vector<nlohmann::json>& traces, nlohmann::json x,
                        nlohmann::json y, nlohmann::json more = nlohmann::json::object());

/// "step_s" as "step time (s)": a field's name for people, with its unit.
std::string field_title(const std::string& field);

/// A number for a table; no value where it is not finite.
ReportCell number_cell(double value);

}  // namespace isobar
