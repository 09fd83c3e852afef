// SPDX-License-Identifier: Apache-2.0
// Called by the sections. What tells measured from projected is decided here, once, so that no
// chart can differ: a dash and an open mark, or a hatched bar. Colours tell series apart, and are
// those of Okabe and Ito (2008), which people with any colour vision can; after eight the marks
// change.
#include "report/chart.hpp"

#include <array>
#include <cmath>
#include <map>
#include <utility>

namespace isobar {
namespace {

using nlohmann::json;

constexpr std::array<const char*, 8> kColours{"#0072B2", "#E69F00", "#009E73", "#CC79A7",
                                              "#56B4E9", "#D55E00", "#8F8F2B", "#9467BD"};
constexpr std::array<const char*, 6> kSymbols{"circle",      "square", "diamond",
                                              "triangle-up", "cross",  "star"};

std::string colour_of(const ChartSeries& series) {
  return kColours[series.colour % kColours.size()];
}

std::string symbol_of(const ChartSeries& series) {
  const std::string symbol = kSymbols[series.colour / kColours.size() % kSymbols.size()];
  return series.projected ? symbol + "-open" : symbol;
}

json texts_of(const std::vector<std::string>& words) {
  auto all = json::array();
  for (const auto& word : words) all.push_back(plot_text(word));
  return all;
}

/// The distances from the values to the ends of their intervals.
json interval_of(const ChartSeries& series) {
  auto above = json::array(), below = json::array();
  for (std::size_t i = 0; i < series.low.size(); ++i) {
    above.push_back(series.high[i] - series.y[i]);
    below.push_back(series.y[i] - series.low[i]);
  }
  return {{"type", "data"},      {"symmetric", false}, {"array", above},
          {"arrayminus", below}, {"thickness", 1.2},   {"width", 4}};
}

json base_trace(const ChartSeries& series) {
  json trace{{"name", plot_text(series.name)}, {"y", series.y}};
  trace["x"] = series.words.empty() ? json(series.x) : texts_of(series.words);
  if (!series.low.empty()) trace["error_y"] = interval_of(series);
  return trace;
}

/// A field's unit by the end of its name.
std::string unit_of(const std::string& field, std::string& rest) {
  static const std::vector<std::pair<std::string, std::string>> kUnits{
      {"_gbit_s", "Gbit/s"}, {"_per_s", "1/s"}, {"_s", "s"}, {"_bytes", "bytes"},
      {"_hours", "h"},       {"_percent", "%"}, {"_j", "J"}, {"_minutes", "min"}};
  for (const auto& [end, unit] : kUnits) {
    if (!field.ends_with(end)) continue;
    rest = field.substr(0, field.size() - end.size());
    return unit;
  }
  rest = field;
  return "";
}

}  // namespace

json line_trace(const ChartSeries& series) {
  auto trace = base_trace(series);
  trace.update(
      {{"type", "scatter"},
       {"mode", "lines+markers"},
       {"line",
        {{"color", colour_of(series)},
         {"width", 2},
         {"dash", series.projected ? "dash" : "solid"}}},
       {"marker", {{"color", colour_of(series)}, {"size", 8}, {"symbol", symbol_of(series)}}}});
  return trace;
}

json bar_trace(const ChartSeries& series) {
  auto trace = base_trace(series);
  trace["type"] = "bar";
  trace["marker"] = {{"color", colour_of(series)}};
  if (series.projected) {
    trace["marker"]["pattern"] = {
        {"shape", "/"}, {"fillmode", "replace"}, {"fgcolor", colour_of(series)}};
  }
  return trace;
}

json mark_trace(const ChartSeries& series, const std::string& symbol) {
  auto trace = base_trace(series);
  trace.update({{"type", "scatter"},
                {"mode", "markers"},
                {"marker", {{"color", colour_of(series)}, {"size", 8}, {"symbol", symbol}}}});
  return trace;
}

json chart_axis(const std::string& title, AxisScale scale) {
  json axis{{"title", {{"text", plot_text(title)}}}};
  if (scale == AxisScale::log) axis["type"] = "log";
  if (scale == AxisScale::category) axis["type"] = "category";
  return axis;
}

void set_ticks(json& axis, const std::vector<double>& values,
               const std::vector<std::string>& words) {
  axis["tickmode"] = "array";
  axis["tickvals"] = values;
  axis["ticktext"] = texts_of(words);
}

std::string plot_text(const std::string& text) {
  std::string safe;
  for (const char c : text) {
    if (c == '<') {
      safe += "&lt;";
    } else if (c == '>') {
      safe += "&gt;";
    } else if (c == '&') {
      safe += "&amp;";
    } else {
      safe += c;
    }
  }
  return safe;
}

std::string figure_text(const std::vector<json>& traces, json x, json y, json more) {
  json layout = std::move(more);
  layout["xaxis"] = std::move(x);
  layout["yaxis"] = std::move(y);
  return json{{"data", traces}, {"layout", layout}}.dump(-1, ' ', false,
                                                         json::error_handler_t::replace);
}

std::string field_title(const std::string& field) {
  static const std::map<std::string, std::string> kKnown{
      {"step_s", "step time (s)"},
      {"median_s", "time (s)"},
      {"busbw_gbit_s", "bus bandwidth (Gbit/s)"},
      {"algbw_gbit_s", "algorithm bandwidth (Gbit/s)"},
      {"samples_per_s", "samples a second (1/s)"},
      {"loss", "loss (of normalised values)"},
      {"nodes", "nodes"}};
  if (const auto known = kKnown.find(field); known != kKnown.end()) return known->second;
  std::string name;
  const auto unit = unit_of(field, name);
  for (auto& c : name) c = c == '_' ? ' ' : c;
  return unit.empty() ? name : name + " (" + unit + ")";
}

ReportCell number_cell(double value) {
  if (!std::isfinite(value)) return std::monostate();
  return value;
}

}  // namespace isobar
