// SPDX-License-Identifier: Apache-2.0
// Called for a maps.json in a training run's folder (`isobar evaluate --maps`). Forecast and truth
// share one scale of colours, so that they can be compared by eye; the error has one that is even
// on both sides of zero.
#include "report/chart.hpp"
#include "report/sections.hpp"

#include <isobar/core/error.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <set>

namespace isobar {
namespace {

using nlohmann::json;

constexpr double kMissing = std::numeric_limits<double>::quiet_NaN();

/// Places of points in rows of equal latitude.
struct MapGrid {
  std::vector<double> latitudes = {};   ///< ascending
  std::vector<double> longitudes = {};  ///< ascending
  std::vector<std::size_t> row = {};    ///< of each point
  std::vector<std::size_t> column = {};
};

std::vector<double> numbers_of(const json& values) {
  std::vector<double> numbers;
  for (const auto& value : values)
    numbers.push_back(value.is_number() ? value.get<double>() : kMissing);
  return numbers;
}

std::vector<double> distinct(const std::vector<double>& values) {
  const std::set<double> all(values.begin(), values.end());
  return {all.begin(), all.end()};
}

std::vector<std::size_t> places_in(const std::vector<double>& axis,
                                   const std::vector<double>& values) {
  std::vector<std::size_t> places;
  for (const double value : values) {
    const auto found = std::lower_bound(axis.begin(), axis.end(), value);
    places.push_back(static_cast<std::size_t>(found - axis.begin()));
  }
  return places;
}

/// Nothing where the points are not every latitude with every longitude.
std::optional<MapGrid> grid_of(const json& report) {
  const auto latitudes = numbers_of(report.at("latitudes"));
  const auto longitudes = numbers_of(report.at("longitudes"));
  MapGrid grid{.latitudes = distinct(latitudes), .longitudes = distinct(longitudes)};
  if (grid.latitudes.size() * grid.longitudes.size() != latitudes.size()) return std::nullopt;
  grid.row = places_in(grid.latitudes, latitudes);
  grid.column = places_in(grid.longitudes, longitudes);
  return grid;
}

json rows_of_map(const MapGrid& grid, const std::vector<double>& values) {
  std::vector<std::vector<double>> rows(grid.latitudes.size(),
                                        std::vector<double>(grid.longitudes.size(), kMissing));
  for (std::size_t i = 0; i < values.size(); ++i) rows[grid.row[i]][grid.column[i]] = values[i];
  return rows;
}

/// Least and largest of the values that are known.
std::pair<double, double> range_of(const std::vector<std::vector<double>>& fields) {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  for (const auto& field : fields) {
    for (const double value : field) {
      if (!std::isfinite(value)) continue;
      low = std::min(low, value);
      high = std::max(high, value);
    }
  }
  return {low, high};
}

ReportTable map_table(const std::string& title, const std::string& unit,
                      const std::vector<double>& values) {
  const auto [low, high] = range_of({values});
  double sum = 0, squares = 0, known = 0;
  for (const double value : values) {
    if (!std::isfinite(value)) continue;
    sum += value;
    squares += value * value;
    ++known;
  }
  ReportTable table{
      .name = title, .title = title, .heading = {"over the points", "value (" + unit + ")"}};
  table.rows = {
      {std::string("least"), number_cell(low)},
      {std::string("mean, without weights"), number_cell(sum / known)},
      {std::string("root mean square, without weights"), number_cell(std::sqrt(squares / known))},
      {std::string("largest"), number_cell(high)}};
  return table;
}

ReportChart map_chart(const std::string& title, const std::string& unit, const MapGrid& grid,
                      const std::vector<double>& values, std::pair<double, double> range,
                      const char* colours) {
  const json trace{{"type", "heatmap"},     {"x", grid.longitudes},
                   {"y", grid.latitudes},   {"z", rows_of_map(grid, values)},
                   {"zmin", range.first},   {"zmax", range.second},
                   {"colorscale", colours}, {"colorbar", {{"title", {{"text", plot_text(unit)}}}}}};
  return {.title = title,
          .figure = figure_text({trace}, chart_axis("longitude (degrees east)"),
                                chart_axis("latitude (degrees north)")),
          .table = map_table(title, unit, values)};
}

void add_map(ReportSection& section, const json& map, const MapGrid& grid) {
  const auto unit = map.value("unit", "") == "" ? "its own unit" : map.value("unit", "");
  const auto what = fmt::format("{} at {}, {} h ahead", map.value("variable", ""),
                                map.value("time", ""), map.value("lead_hours", 0));
  const auto forecast = numbers_of(map.at("forecast")), truth = numbers_of(map.at("truth"));
  ISOBAR_CHECK(forecast.size() == grid.row.size() && truth.size() == grid.row.size(),
               "report: maps.json has ", forecast.size(), " values of ", what, ", wanted ",
               grid.row.size(), "; write it again (isobar evaluate --maps)");
  std::vector<double> error;
  for (std::size_t i = 0; i < truth.size(); ++i) error.push_back(forecast[i] - truth[i]);
  const auto range = range_of({forecast, truth});
  const auto [low, high] = range_of({error});
  const double most = std::max(std::abs(low), std::abs(high));
  section.charts.push_back(
      map_chart("Forecast of " + what, unit, grid, forecast, range, "Viridis"));
  section.charts.push_back(map_chart("Truth of " + what, unit, grid, truth, range, "Viridis"));
  section.charts.push_back(map_chart("Error of " + what, unit, grid, error, {-most, most}, "RdBu"));
}

}  // namespace

void add_sample_maps(ReportSection& section, const json& report) {
  try {
    const auto grid = grid_of(report);
    if (!grid) {
      section.notes.emplace_back("maps.json is not drawn: its points are not rows of one grid.");
      return;
    }
    for (const auto& map : report.at("maps")) add_map(section, map, *grid);
  } catch (const json::exception& error) {
    throw DataError(
        detail::join("report: maps.json is none of isobar evaluate --maps: ", error.what()));
  }
}

}  // namespace isobar
