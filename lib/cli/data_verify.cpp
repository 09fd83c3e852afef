// SPDX-License-Identifier: Apache-2.0
#include "cli/data_verify.hpp"

#include "cli/command.hpp"

#include <isobar/core/error.hpp>
#include <isobar/core/progress.hpp>
#include <isobar/core/report.hpp>
#include <isobar/data/field_check.hpp>
#include <isobar/launch/environment.hpp>
#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cstdio>
#include <optional>

namespace isobar {
namespace {

/// A hint that names an experiment's key, as it is here.
std::string for_command_line(std::string text) {
  const std::string key = "data.select.";
  const auto found = text.find(key);
  return found == std::string::npos ? text : text.replace(found, key.size(), "--select ");
}

FieldCheck make_check(const DataVerifyArguments& arguments) {
  try {
    return FieldCheck(
        {.paths = arguments.files, .variables = arguments.variables, .select = arguments.select});
  } catch (const UsageError& error) {
    throw UsageError(for_command_line(error.what()));
  }
}

void look_at(const std::string& variable, FieldCheck& check) {
  std::optional<Progress> progress;
  check.look_at(variable, [&](int64_t done, int64_t total) {
    if (done > 0) return progress->update(done);
    progress.emplace(ProgressOptions{.label = variable, .total = total, .unit = "field"});
  });
  if (progress) progress->finish();
}

nlohmann::json finding_row(const FieldFinding& finding) {
  nlohmann::json row{{"variable", finding.variable},
                     {"check", finding.check},
                     {"finding", for_command_line(finding.text)}};
  if (finding.when) {
    row.update({{"times", finding.when->times},
                {"runs", finding.when->runs},
                {"first", finding.when->first},
                {"last", finding.when->last}});
  }
  return row;
}

}  // namespace

void add_data_verify_options(CLI::App& app, DataVerifyArguments& arguments) {
  app.add_option("--json", arguments.json,
                 "write the result as JSON to this file; - is standard output")
      ->check(check_report_file);
  app.add_option("files", arguments.files, "netCDF-4 files of the same variables and grid")
      ->required();
  app.add_option("--variables", arguments.variables,
                 "variables to look at, by comma; without it all")
      ->delimiter(',');
  app.add_option_function<std::vector<std::string>>(
      "--select",
      [&](const std::vector<std::string>& choices) {
        for (const auto& choice : choices) {
          const auto sign = choice.find('=');
          if (sign == std::string::npos) throw CLI::ValidationError("--select: wanted name=value");
          arguments.select[choice.substr(0, sign)] = choice.substr(sign + 1);
        }
      },
      "level=850: the value that is read of a dimension beside time and grid");
}

int run_data_verify(const DataVerifyArguments& arguments) {
  // Under a launcher one rank speaks and works for all.
  if (read_launch_environment().rank != 0) return 0;
  auto check = make_check(arguments);
  for (const auto& variable : check.variables()) look_at(variable, check);
  auto rows = nlohmann::json::array();
  std::string text;
  for (const auto& finding : check.findings()) {
    rows.push_back(finding_row(finding));
    text += for_command_line(finding.text) + "\n";
  }
  text += fmt::format("{} variables looked at, {} findings\n", check.variables().size(),
                      check.findings().size());
  if (arguments.json != "-") std::fputs(text.c_str(), stdout);
  write_report(arguments.json, "isobar.data_verify.1", arguments.command, rows);
  return check.findings().empty() ? 0 : 1;
}

namespace {

const RegisteredCommand kDataVerify{
    {.place = 81,
     .group = "data",
     .name = "verify",
     .description = "Find fields that do not look like weather",
     .example = "isobar data verify era5.nc",
     .add = with_arguments(add_data_verify_options, run_data_verify)}};

}  // namespace

}  // namespace isobar
