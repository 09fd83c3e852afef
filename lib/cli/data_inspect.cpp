// SPDX-License-Identifier: Apache-2.0
#include "cli/command.hpp"

#include <isobar/core/progress.hpp>
#include <isobar/core/report.hpp>
#include <isobar/data/file_summary.hpp>
#include <isobar/launch/environment.hpp>
#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

namespace isobar {
namespace {

struct DataInspectArguments {
  std::string file;
  std::string json;  ///< file, "-" for standard output, empty for none
  std::vector<std::string> command;
};

std::string dims_of(const VariableInfo& variable) {
  std::string dims;
  for (size_t d = 0; d < variable.shape.size(); ++d) {
    dims += fmt::format("{}{} {}", d == 0 ? "" : ", ", variable.dimensions[d], variable.shape[d]);
  }
  return dims;
}

nlohmann::json row_of(const VariableInfo& variable, const VariableSummary& summary) {
  nlohmann::json row{{"variable", variable.name}, {"dims", dims_of(variable)},
                     {"type", variable.type},     {"units", text_attribute(variable, "units")},
                     {"minimum", nullptr},        {"maximum", nullptr},
                     {"missing", nullptr}};
  if (has_numbers(variable) && summary.error.empty()) {
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
  if (!has_numbers(variable)) return line + "\n";
  return line + fmt::format("\n    {} to {}, {} of {} missing\n",
                            value_text(variable, summary.minimum),
                            value_text(variable, summary.maximum), summary.missing, summary.values);
}

void add_data_inspect_options(CLI::App& app, DataInspectArguments& arguments) {
  app.add_option("file", arguments.file, "a netCDF-4 file")->required();
  app.add_option("--json", arguments.json,
                 "write the result as JSON to this file; - is standard output")
      ->check(check_report_file);
}

/// Prints what a netCDF file holds, by variable: dimensions, type, units, and of all values the
/// least, the greatest and how many are missing. Returns 0 if all could be read.
int run_data_inspect(const DataInspectArguments& arguments) {
  // Under a launcher one rank speaks and works for all.
  if (read_launch_environment().rank != 0) return 0;
  const NetcdfFile file(arguments.file);
  Progress progress({.label = "reading", .total = count_numbers(file), .unit = "value"});
  auto rows = nlohmann::json::array();
  std::string text;
  bool well = true;
  int64_t done = 0;
  for (const auto& [name, variable] : file.variables()) {
    VariableSummary summary;
    if (has_numbers(variable)) {
      summary = summarize_variable(file, variable,
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

const RegisteredCommand kDataInspect{
    {.place = 80,
     .group = "data",
     .name = "inspect",
     .description = "List what a netCDF file holds, by variable",
     .example = "isobar data inspect era5.nc",
     .add = with_arguments(add_data_inspect_options, run_data_inspect)}};

}  // namespace
}  // namespace isobar
