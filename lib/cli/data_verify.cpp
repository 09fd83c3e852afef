// SPDX-License-Identifier: Apache-2.0
#include "cli/data_verify.hpp"

#include "cli/report.hpp"
#include "data/coordinates.hpp"
#include "data/field_series.hpp"
#include "data/file_summary.hpp"
#include "data/time_axis.hpp"

#include <isobar/comm/environment.hpp>
#include <isobar/core/error.hpp>
#include <isobar/core/progress.hpp>
#include <isobar/core/text.hpp>
#include <isobar/data/dataset.hpp>
#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>
#include <set>

namespace isobar {
namespace {

/// What was found, each once: a word on the grid comes with every variable on it.
class Findings {
 public:
  void add(const std::string& variable, const std::string& check, const std::string& text,
           const nlohmann::json& more = nlohmann::json::object()) {
    if (std::count(texts_.begin(), texts_.end(), text) > 0) return;
    texts_.push_back(text);
    nlohmann::json row{{"variable", variable}, {"check", check}, {"finding", text}};
    row.update(more);
    rows_.push_back(row);
  }

  const std::vector<std::string>& texts() const { return texts_; }
  const nlohmann::json& rows() const { return rows_; }

 private:
  std::vector<std::string> texts_;
  nlohmann::json rows_ = nlohmann::json::array();
};

bool is_field_over_time(const NetcdfFile& file, const VariableInfo& variable) {
  if (!detail::has_numbers(variable) || variable.shape.size() < 2) return false;
  try {
    detail::find_grid(file, variable, {});
    return detail::find_time(file, variable, {}).known();
  } catch (const DataError&) {
    return false;
  }
}

std::vector<std::string> fields_of(const std::string& path) {
  const NetcdfFile file(path);
  std::vector<std::string> names;
  for (const auto& [name, variable] : file.variables()) {
    if (is_field_over_time(file, variable)) names.push_back(name);
  }
  if (names.empty()) {
    throw DataError(path + ": no variable lies on a latitude-longitude grid and over time");
  }
  return names;
}

/// Of what was chosen, what concerns a variable.
std::map<std::string, std::string> choices_for(const std::string& variable,
                                               const DataVerifyArguments& arguments) {
  const NetcdfFile file(arguments.files.front());
  const auto& dimensions = file.variable(variable).dimensions;
  std::map<std::string, std::string> select;
  for (const auto& choice : arguments.select) {
    if (std::count(dimensions.begin(), dimensions.end(), choice.first) > 0) select.insert(choice);
  }
  return select;
}

void check_choices(const DataVerifyArguments& arguments,
                   const std::vector<std::string>& variables) {
  const NetcdfFile file(arguments.files.front());
  std::set<std::string> known;
  for (const auto& variable : variables) {
    const auto found = file.variables().find(variable);
    if (found == file.variables().end()) continue;
    known.insert(found->second.dimensions.begin(), found->second.dimensions.end());
  }
  for (const auto& choice : arguments.select) {
    ISOBAR_CHECK(known.count(choice.first) > 0, file.path(), ": --select ", choice.first,
                 ": no variable has such a dimension; ",
                 did_you_mean(choice.first, {known.begin(), known.end()}));
  }
}

std::string times_text(const detail::OddFields& odd, Calendar calendar) {
  std::string text = fmt::format("at {} times, {}", odd.times, format_time(odd.first, calendar));
  if (odd.last != odd.first) text += " to " + format_time(odd.last, calendar);
  if (odd.runs > 1) text += fmt::format(" and {} further runs", odd.runs - 1);
  return text;
}

void report(const std::string& variable, const detail::FieldSeries& series, Calendar calendar,
            Findings& findings) {
  for (const detail::OddFields& odd : series.odd()) {
    // What cannot be read says of itself what it is of.
    const auto subject = odd.check == "unreadable" ? "" : fmt::format("'{}' ", variable);
    findings.add(variable, odd.check, subject + odd.text + ": " + times_text(odd, calendar),
                 {{"times", odd.times},
                  {"runs", odd.runs},
                  {"first", format_time(odd.first, calendar)},
                  {"last", format_time(odd.last, calendar)}});
  }
}

void look_at(const DataVerifyArguments& arguments, const std::string& variable,
             Findings& findings) {
  // Read once and in order: what is worth keeping is the chunk read last.
  const Dataset dataset({.paths = arguments.files,
                         .variables = {variable},
                         .select = choices_for(variable, arguments),
                         .allow_missing = true,
                         .cache_bytes = 1});
  for (const auto& warning : dataset.warnings()) {
    if (warning.find("data.cache_bytes") == std::string::npos) {
      findings.add(variable, "file", warning);
    }
  }
  detail::FieldSeries series(dataset.usual_step());
  const auto& times = dataset.times();
  Progress progress(
      {.label = variable, .total = static_cast<int64_t>(times.size()), .unit = "field"});
  for (size_t i = 0; i < times.size(); ++i) {
    try {
      series.add(times[i], dataset.read(static_cast<int64_t>(i)).select(1, 0));
    } catch (const DataError& error) {
      series.add_unreadable(times[i], error.what());
    }
    progress.update(static_cast<int64_t>(i) + 1);
  }
  progress.finish();
  report(variable, series, dataset.calendar(), findings);
}

}  // namespace

void add_data_verify_options(CLI::App& app, DataVerifyArguments& arguments) {
  app.add_option("--json", arguments.json, "write the rows there; - is standard output");
  app.add_option("files", arguments.files, "netCDF-4 files of the same variables and grid")
      ->required();
  app.add_option("--variables", arguments.variables, "all fields, unless named")->delimiter(',');
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
  const auto variables =
      arguments.variables.empty() ? fields_of(arguments.files.front()) : arguments.variables;
  check_choices(arguments, variables);
  Findings findings;
  for (const auto& variable : variables) {
    try {
      look_at(arguments, variable, findings);
    } catch (const DataError& error) {
      findings.add(variable, "file", error.what());
    }
  }
  std::string text;
  for (const auto& finding : findings.texts()) text += finding + "\n";
  text += fmt::format("{} variables looked at, {} findings\n", variables.size(),
                      findings.texts().size());
  if (arguments.json != "-") std::fputs(text.c_str(), stdout);
  write_report(arguments.json, "isobar.data_verify.1", arguments.command, findings.rows());
  return findings.texts().empty() ? 0 : 1;
}

}  // namespace isobar
