// SPDX-License-Identifier: Apache-2.0
// Points of campaigns as the lines of charts, and as tables in which what is measured and what is
// projected have columns of their own.
#pragma once

#include "report/chart.hpp"
#include "report/point_rows.hpp"

#include <optional>
#include <string>
#include <vector>

namespace isobar {

/// A point of a curve, and which curve that is.
struct CurvePoint {
  std::string label = {};
  std::string word = {};  ///< the value of the axis
  Ratio value = {};
  bool projected = false;
};

enum class CurveValue { measured_field, efficiency };

/// The rows along an axis: a curve for each value of the other axes that vary. `prefix` begins the
/// curves' names. Rows without that value or without the axis are left out.
std::vector<CurvePoint> points_along(const PointRows& all, const std::string& axis, CurveValue what,
                                     const std::string& prefix = "");

struct CurveChart {
  std::string name = {};  ///< of the table, for files
  std::string title = {};
  std::string axis = {};   ///< the axis's name
  std::string field = {};  ///< what is drawn, with its unit
  std::string note = {};
  bool of_words = false;      ///< bars, though the words may be numbers
  bool ideal_is_one = false;  ///< a line at 1: what efficiency would be without loss
};

/// Lines over an axis of numbers, logarithmic where all are above 0; bars over one of words.
ReportChart curve_chart(const CurveChart& chart, const std::vector<CurvePoint>& points);

/// Columns for one value with its interval: those of measured rows, and where some are projected
/// theirs, apart.
void add_value_heading(std::vector<std::string>& heading, const std::string& what, bool measured,
                       bool projected);
void add_value_cells(std::vector<ReportCell>& cells, const std::optional<Ratio>& value,
                     bool is_projected, bool measured, bool projected);

}  // namespace isobar
