// SPDX-License-Identifier: Apache-2.0
// What `isobar data verify` does, on one thread: a data set of one variable at a time, whose fields
// go through a FieldSeries in the order of their times. The series remembers a few numbers of each
// field, so memory does not grow with the files.
#include <isobar/data/field_check.hpp>

#include <isobar/core/error.hpp>
#include <isobar/core/text.hpp>
#include <isobar/data/dataset.hpp>
#include <isobar/data/file_summary.hpp>
#include <isobar/data/netcdf.hpp>
#include <ATen/core/Tensor.h>
#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "coordinates.hpp"
#include "field_series.hpp"
#include "time_axis.hpp"

namespace isobar {
namespace {

bool is_field_over_time(const NetcdfFile& file, const VariableInfo& variable) {
  if (!has_numbers(variable) || variable.shape.size() < 2) return false;
  try {
    find_grid(file, variable, {});
    return find_time(file, variable, {}).known();
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

void check_choices(const FieldCheckOptions& options) {
  const NetcdfFile file(options.paths.front());
  std::set<std::string> known;
  for (const auto& variable : options.variables) {
    const auto found = file.variables().find(variable);
    if (found == file.variables().end()) continue;
    known.insert(found->second.dimensions.begin(), found->second.dimensions.end());
  }
  for (const auto& choice : options.select) {
    ISOBAR_CHECK(known.count(choice.first) > 0, file.path(), ": data.select.", choice.first,
                 ": no variable has such a dimension; ",
                 did_you_mean(choice.first, {known.begin(), known.end()}));
  }
}

std::string times_text(const OddFields& odd, Calendar calendar) {
  std::string text = fmt::format("at {} times, {}", odd.times, format_time(odd.first, calendar));
  if (odd.last != odd.first) text += " to " + format_time(odd.last, calendar);
  if (odd.runs > 1) text += fmt::format(" and {} further runs", odd.runs - 1);
  return text;
}

FieldFinding finding_of(const std::string& variable, const OddFields& odd, Calendar calendar) {
  // What cannot be read says of itself what it is of.
  const auto subject = odd.check == "unreadable" ? "" : fmt::format("'{}' ", variable);
  return {.variable = variable,
          .check = odd.check,
          .text = subject + odd.text + ": " + times_text(odd, calendar),
          .when = FieldFinding::When{.times = odd.times,
                                     .runs = odd.runs,
                                     .first = format_time(odd.first, calendar),
                                     .last = format_time(odd.last, calendar)}};
}

}  // namespace

FieldCheck::FieldCheck(FieldCheckOptions options) : options_(std::move(options)) {
  ISOBAR_CHECK(!options_.paths.empty(), "FieldCheck: no file given");
  if (options_.variables.empty()) options_.variables = fields_of(options_.paths.front());
  check_choices(options_);
}

void FieldCheck::add(FieldFinding finding) {
  const bool is_known = std::any_of(findings_.begin(), findings_.end(),
                                    [&](const auto& other) { return other.text == finding.text; });
  if (!is_known) findings_.push_back(std::move(finding));
}

std::map<std::string, std::string> FieldCheck::choices_for(const std::string& variable) const {
  const NetcdfFile file(options_.paths.front());
  const auto& dimensions = file.variable(variable).dimensions;
  std::map<std::string, std::string> select;
  for (const auto& choice : options_.select) {
    if (std::count(dimensions.begin(), dimensions.end(), choice.first) > 0) select.insert(choice);
  }
  return select;
}

void FieldCheck::read_fields(const std::string& variable,
                             const std::function<void(int64_t done, int64_t total)>& read) {
  // Read once and in order: what is worth keeping is the chunk read last.
  const Dataset dataset({.paths = options_.paths,
                         .variables = {variable},
                         .select = choices_for(variable),
                         .allow_missing = true,
                         .cache_bytes = 1});
  for (const auto& warning : dataset.warnings()) {
    if (warning.find("data.cache_bytes") == std::string::npos) {
      add({.variable = variable, .check = "file", .text = warning, .when = std::nullopt});
    }
  }
  FieldSeries series(dataset.usual_step());
  const auto& times = dataset.times();
  const auto total = static_cast<int64_t>(times.size());
  if (read) read(0, total);
  for (int64_t i = 0; i < total; ++i) {
    const int64_t time = times[static_cast<size_t>(i)];
    try {
      series.add(time, dataset.read(i).select(1, 0));
    } catch (const DataError& error) {
      series.add_unreadable(time, error.what());
    }
    if (read) read(i + 1, total);
  }
  for (const auto& odd : series.odd()) add(finding_of(variable, odd, dataset.calendar()));
}

void FieldCheck::look_at(const std::string& variable,
                         const std::function<void(int64_t done, int64_t total)>& read) {
  try {
    read_fields(variable, read);
  } catch (const DataError& error) {
    add({.variable = variable, .check = "file", .text = error.what(), .when = std::nullopt});
  }
}

}  // namespace isobar
