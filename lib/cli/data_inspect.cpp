// SPDX-License-Identifier: Apache-2.0
#include "cli/data_inspect.hpp"

#include "cli/report.hpp"
#include "data/file_summary.hpp"

#include <isobar/comm/environment.hpp>
#include <isobar/core/error.hpp>
#include <isobar/core/progress.hpp>
#include <isobar/data/cf_time.hpp>
#include <isobar/data/netcdf.hpp>
#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cmath>
#include <cstdio>

namespace isobar {
namespace {

using detail::VariableSummary;

std::string dims_of(const VariableInfo& variable) {
  std::string dims;
  for (size_t d = 0; d < variable.shape.size(); ++d) {
    dims += fmt::format("{}{} {}", d == 0 ? "" : ", ", variable.dimensions[d], variable.shape[d]);
  }
  return dims;
}

/// A number, or the moment that it stands for where the units say so.
std::string value_text(const VariableInfo& variable, double value) {
  if (std::isnan(value)) return "-";
  const std::string units = text_attribute(variable, "units");
  try {
    const std::string name = text_attribute(variable, "calendar");
    const Calendar calendar = name.empty() ? Calendar::standard : parse_calendar(name);
    if (units.find(" since ") != std::string::npos && std::isfinite(value)) {
      return format_time(decode_cf_time({value}, units, calendar).front(), calendar);
    }
  } catch (const DataError&) {
    // The number says more than units that cannot be read.
  }
  return fmt::format("{:.7g}", value);
}

nlohmann::json row_of(const VariableInfo& variable, const VariableSummary& summary) {
  nlohmann::json row{{"variable", variable.name}, {"dims", dims_of(variable)},
                     {"type", variable.type},     {"units", text_attribute(variable, "units")},
                     {"minimum", nullptr},        {"maximum", nullptr},
                     {"missing", nullptr}};
  if (detail::has_numbers(variable) && summary.error.empty()) {
    row["missing"] = summary.missing;
    // JSON has no word for what is not finite.
    if (std::isfinite(summary.minimum)) row["minimum"] = summary.minimum;
    if (std::isfinite(summary.maximum)) row["maximum"] = summary.maximum;
  }
  if (!summary.error.empty()) row["error"] = summary.error;
  return row;
}

std::string line_of(const VariableInfo& variable, const VariableSummary& summary) {
  const std::string units = text_attribute(variable, "units");
  std::string line =
      fmt::format("{:<20} {:<8} ({})", variable.name, variable.type, dims_of(variable));
  if (!units.empty()) line += fmt::format(" [{}]", units);
  if (!summary.error.empty()) return line + fmt::format("\n    PROBLEM: {}\n", summary.error);
  if (!detail::has_numbers(variable)) return line + "\n";
  return line + fmt::format("\n    {} to {}, {} of {} missing\n",
                            value_text(variable, summary.minimum),
                            value_text(variable, summary.maximum), summary.missing, summary.values);
}

int64_t values_of(const NetcdfFile& file) {
  int64_t total = 0;
  for (const auto& [name, variable] : file.variables()) {
    if (!detail::has_numbers(variable) || variable.shape.empty()) continue;
    int64_t values = 1;
    for (const int64_t length : variable.shape) values *= length;
    total += values;
  }
  return total;
}

}  // namespace

void add_data_inspect_options(CLI::App& app, DataInspectArguments& arguments) {
  app.add_option("file", arguments.file, "a netCDF-4 file")->required();
  app.add_option("--json", arguments.json, "write the rows there; - is standard output");
}

int run_data_inspect(const DataInspectArguments& arguments) {
  // Under a launcher one rank speaks and works for all.
  if (read_launch_environment().rank != 0) return 0;
  const NetcdfFile file(arguments.file);
  Progress progress({.label = "reading", .total = values_of(file), .unit = "value"});
  auto rows = nlohmann::json::array();
  std::string text;
  bool well = true;
  int64_t done = 0;
  for (const auto& [name, variable] : file.variables()) {
    VariableSummary summary;
    if (detail::has_numbers(variable)) {
      summary = detail::summarize(file, variable,
                                  [&](int64_t values) { progress.update(done += values); });
    }
    rows.push_back(row_of(variable, summary));
    text += line_of(variable, summary);
    well = well && summary.error.empty();
  }
  progress.finish();
  if (arguments.json != "-") std::fputs(text.c_str(), stdout);
  write_report(arguments.json, "isobar.data_inspect.1", arguments.command, rows);
  return well ? 0 : 1;
}

}  // namespace isobar
