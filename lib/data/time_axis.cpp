// SPDX-License-Identifier: Apache-2.0
// When the fields of a file are valid: FieldFile asks, where a file is opened, on one thread.
// Forecasts have two times, when they began (forecast_reference_time) and when they are valid; only
// the second may become the time of a field. Files of cfgrib and of the Climate Data Store give it
// as valid_time, along one dimension or along two (time, step), or leave the sum to the reader.
#include "time_axis.hpp"

#include <isobar/core/error.hpp>
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <span>
#include <sstream>

#include "coordinates.hpp"
#include "time_text.hpp"

namespace isobar {
namespace {

using Test = std::function<bool(const VariableInfo&)>;

constexpr double kLongestPeriod = 1e15;  // seconds

std::string own_name(const std::string& name) { return name.substr(name.rfind('/') + 1); }

bool has_moments(const VariableInfo& variable) {
  return lowered(text_attribute(variable, "units")).find(" since ") != std::string::npos;
}

std::string standard_name(const VariableInfo& variable) {
  return text_attribute(variable, "standard_name");
}

bool is_reference(const VariableInfo& variable) {
  // cfgrib's words, which stay where a program has dropped the standard name.
  return standard_name(variable) == "forecast_reference_time" ||
         lowered(text_attribute(variable, "long_name")) == "initial time of forecast";
}

bool is_period(const VariableInfo& variable) {
  if (standard_name(variable) == "forecast_period") return true;
  const std::string name = own_name(variable.name);
  return standard_name(variable).empty() && !has_moments(variable) &&
         (name == "step" || name == "forecast_period" || name == "leadtime" ||
          name == "lead_time" || name == "prediction_timedelta");
}

/// Whether a coordinate lies along some of a variable's dimensions, or along none.
bool belongs_to(const VariableInfo& coordinate, const VariableInfo& variable) {
  return std::all_of(
      coordinate.dimensions.begin(), coordinate.dimensions.end(), [&](const std::string& name) {
        return std::count(variable.dimensions.begin(), variable.dimensions.end(), name) > 0;
      });
}

/// The coordinates of a variable's dimensions, then those beside them, each once.
struct Candidates {
  std::vector<std::string> of_dimensions;
  std::vector<std::string> all;
};

Candidates candidates(const NetcdfFile& file, const VariableInfo& variable) {
  Candidates found;
  const auto add = [&](const std::string& word) {
    const std::string name = coordinate_of(file, variable, word);
    if (name.empty() || std::count(found.all.begin(), found.all.end(), name) > 0) return;
    if (belongs_to(file.variable(name), variable)) found.all.push_back(name);
  };
  for (const std::string& dimension : variable.dimensions) add(dimension);
  found.of_dimensions = found.all;
  std::istringstream beside(text_attribute(variable, "coordinates"));
  for (std::string word; beside >> word;) add(word);
  for (const char* usual :
       {"valid_time", "time", "step", "forecast_reference_time", "forecast_period"}) {
    add(usual);
  }
  return found;
}

std::string first_that(const NetcdfFile& file, const std::vector<std::string>& names,
                       const Test& test) {
  const auto found = std::find_if(names.begin(), names.end(), [&](const std::string& name) {
    return test(file.variable(name));
  });
  return found == names.end() ? std::string{} : *found;
}

std::string find_valid(const NetcdfFile& file, const Candidates& names) {
  const auto is_time = [](const VariableInfo& v) {
    return standard_name(v) == "time" && !is_reference(v);
  };
  const auto is_valid_time = [](const VariableInfo& v) {
    return own_name(v.name) == "valid_time" && !is_reference(v);
  };
  const auto has_unnamed_moments = [](const VariableInfo& v) {
    return has_moments(v) && standard_name(v).empty() && !is_reference(v);
  };
  const auto is_called_time = [](const VariableInfo& v) {
    return own_name(v.name) == "time" && standard_name(v).empty() && !is_reference(v);
  };
  for (const auto& [where, test] :
       {std::pair<const std::vector<std::string>&, Test>{names.of_dimensions, is_time},
        {names.all, is_valid_time},
        {names.all, is_time},
        {names.of_dimensions, has_unnamed_moments},
        {names.all, has_unnamed_moments},
        {names.all, is_called_time}}) {
    const std::string name = first_that(file, where, test);
    if (!name.empty()) return name;
  }
  return {};
}

/// The value at the positions selected, without the dimensions of these.
at::Tensor at_selected(at::Tensor values, std::vector<std::string>& dimensions,
                       const std::map<std::string, int64_t>& selected) {
  for (std::size_t d = dimensions.size(); d-- > 0;) {
    const auto found = selected.find(dimensions[d]);
    const auto dimension = static_cast<int64_t>(d);
    if (found == selected.end() && values.size(dimension) > 1) continue;
    values = values.select(dimension, found == selected.end() ? 0 : found->second);
    dimensions.erase(dimensions.begin() + dimension);
  }
  return values;
}

struct Values {
  at::Tensor numbers;  // float64
  std::vector<std::string> dimensions;
};

Values read_values(const NetcdfFile& file, const std::string& name,
                   const std::map<std::string, int64_t>& selected) {
  Values values{file.read_coordinate(name), file.variable(name).dimensions};
  values.numbers = at_selected(values.numbers, values.dimensions, selected).contiguous();
  return values;
}

std::vector<int64_t> moments(const NetcdfFile& file, const std::string& name, const Values& values,
                             Calendar calendar) {
  const auto* data = values.numbers.data_ptr<double>();
  return decode_cf_time({data, data + values.numbers.numel()},
                        text_attribute(file.variable(name), "units"), calendar);
}

Calendar calendar_of(const VariableInfo& variable) {
  const std::string calendar = text_attribute(variable, "calendar");
  return calendar.empty() ? Calendar::standard : parse_calendar(calendar);
}

std::vector<int64_t> seconds_of(const NetcdfFile& file, const std::string& name,
                                const Values& values, double unit) {
  const auto* data = values.numbers.const_data_ptr<double>();
  std::vector<int64_t> seconds;
  for (int64_t i = 0; i < values.numbers.numel(); ++i) {
    const double value = data[i] * unit;
    if (!(std::abs(value) < kLongestPeriod)) {
      throw DataError(detail::join(file.path(), ": coordinate '", name, "': value ", i, " of ",
                                   values.numbers.numel(), " is ",
                                   std::isnan(value) ? "missing" : "no length of time"));
    }
    seconds.push_back(std::llround(value));
  }
  return seconds;
}

/// Reference times and what has passed since, as values along the dimensions of both.
void add_periods(const NetcdfFile& file, const TimeNames& names,
                 const std::map<std::string, int64_t>& selected, TimeAxis& axis) {
  const Values reference = read_values(file, names.reference, selected);
  const Values period = read_values(file, names.period, selected);
  const double unit = parse_time_unit(text_attribute(file.variable(names.period), "units"));
  const std::vector<int64_t> passed = seconds_of(file, names.period, period, unit);
  const bool shared = reference.dimensions == period.dimensions;
  const auto begun = moments(file, names.reference, reference, axis.calendar);
  for (std::size_t r = 0; r < begun.size(); ++r) {
    const auto own = shared ? std::span(passed).subspan(r, 1) : std::span(passed);
    for (const int64_t seconds : own) axis.times.push_back(begun[r] + seconds);
  }
  axis.dimensions = reference.dimensions;
  if (shared) return;
  axis.dimensions.insert(axis.dimensions.end(), period.dimensions.begin(), period.dimensions.end());
}

/// Of two dimensions, the one along which times go on first comes last.
void put_fast_dimension_last(TimeAxis& axis) {
  if (axis.dimensions.size() != 2 || std::is_sorted(axis.times.begin(), axis.times.end())) return;
  const at::Tensor turned =
      at::tensor(axis.times, at::kLong).view(axis.lengths).transpose(0, 1).flatten();
  const auto* data = turned.contiguous().data_ptr<int64_t>();
  if (!std::is_sorted(data, data + turned.numel())) return;
  axis.times.assign(data, data + turned.numel());
  std::swap(axis.dimensions[0], axis.dimensions[1]);
  std::swap(axis.lengths[0], axis.lengths[1]);
}

}  // namespace

TimeNames find_time(const NetcdfFile& file, const VariableInfo& variable,
                    const std::string& given) {
  if (!given.empty()) {
    const VariableInfo& named = file.variable(given);
    // What lies along other dimensions than the variable is not its time: it has none.
    return belongs_to(named, variable) ? TimeNames{named.name, {}, {}} : TimeNames{};
  }
  const Candidates names = candidates(file, variable);
  TimeNames found{find_valid(file, names), {}, {}};
  if (!found.valid.empty()) return found;
  found.reference = first_that(file, names.of_dimensions, is_reference);
  if (found.reference.empty()) found.reference = first_that(file, names.all, is_reference);
  if (!found.reference.empty()) found.period = first_that(file, names.all, is_period);
  return found;
}

TimeAxis read_time_axis(const NetcdfFile& file, const TimeNames& names,
                        const std::map<std::string, int64_t>& selected) {
  const std::string& main = names.valid.empty() ? names.reference : names.valid;
  TimeAxis axis;
  try {
    axis.calendar = calendar_of(file.variable(main));
    if (names.valid.empty()) {
      add_periods(file, names, selected, axis);
    } else {
      const Values values = read_values(file, main, selected);
      axis.times = moments(file, main, values, axis.calendar);
      axis.dimensions = values.dimensions;
    }
  } catch (const DataError& error) {
    if (std::string(error.what()).starts_with(file.path())) throw;
    throw DataError(detail::join(file.path(), ": coordinate '", main, "': ", error.what()));
  }
  if (axis.times.empty()) {
    throw DataError(detail::join(file.path(), ": coordinate '", main, "' has no times"));
  }
  if (axis.dimensions.size() > 2) {
    throw DataError(detail::join(file.path(), ": coordinate '", main, "' lies along ",
                                 axis.dimensions.size(),
                                 " dimensions, of which two are read; choose a "
                                 "value of one with data.select.",
                                 axis.dimensions.back(), "=VALUE"));
  }
  const VariableInfo& period = file.variable(names.valid.empty() ? names.period : main);
  for (const std::string& name : axis.dimensions) {
    for (const VariableInfo* variable : {&file.variable(main), &period}) {
      const auto found = std::find(variable->dimensions.begin(), variable->dimensions.end(), name);
      if (found == variable->dimensions.end()) continue;
      axis.lengths.push_back(variable->shape[found - variable->dimensions.begin()]);
      break;
    }
  }
  put_fast_dimension_last(axis);
  return axis;
}

}  // namespace isobar
