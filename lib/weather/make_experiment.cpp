// SPDX-License-Identifier: Apache-2.0
// `isobar init`, on one rank: a data file into an experiment that trains on it. Periods, step and
// level follow from the file's times and grid. The mesh is tried, since a region may lie between
// the nodes of a coarse one; what is written has to be what `isobar train` reads.
#include <isobar/weather/make_experiment.hpp>

#include <isobar/core/error.hpp>
#include <isobar/core/text.hpp>
#include <isobar/graph/weather_graph.hpp>
#include <isobar/weather/file_grid.hpp>
#include <isobar/weather/network_plan.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <vector>

namespace isobar {
namespace {

/// What one call of the network forecasts: a quarter of a day, or one time of coarser data.
int64_t choose_step_hours(const DataFile& file) {
  const int64_t seconds = file.spacing_seconds();
  if (seconds % kHourSeconds != 0 && kHourSeconds % seconds != 0) {
    throw DataError(detail::join(file.path, ": its times are ", seconds,
                                 " s apart, which divides no hour; steps are whole hours"));
  }
  const int64_t spacing = std::max<int64_t>(1, seconds / kHourSeconds);
  return 6 % spacing == 0 ? 6 : spacing;
}

/// Ends of the three periods, at midnights where each holds three days or more.
struct Ends {
  int64_t begin, validation, test, end;
};

Ends choose_periods(const DataFile& file, int64_t step_hours) {
  // A target wants a field before its analysis; scores want the one 24 hours before the target.
  constexpr int64_t kLeastTimes = 8;
  const int64_t spacing = std::max(file.spacing_seconds(), step_hours * kHourSeconds);
  const int64_t begin = file.times.front(), end = file.times.back() + file.spacing_seconds();
  if (end - begin < kLeastTimes * spacing) {
    throw DataError(detail::join(file.path, ": ", file.times.size(), " times from ",
                                 format_time(begin, file.calendar), " to ",
                                 format_time(file.times.back(), file.calendar),
                                 " are too few to train, validate and test on; ", kLeastTimes,
                                 " steps of ", step_hours, " h are the least"));
  }
  const int64_t days = (end - begin) / kDaySeconds;
  const int64_t unit = days >= 20 ? kDaySeconds : step_hours * kHourSeconds;
  const auto at = [&](int64_t percent) {
    const int64_t time = begin + (end - begin) / 100 * percent;
    return time - (time % unit + unit) % unit;
  };
  return {begin, at(70), at(85), end};
}

/// Of nodes around a region: one more row, so that the encoder sees every point.
double margin_of(int64_t level) { return icosphere_spacing_degrees(level); }

/// The level that the points ask for, or the next that has a mesh around a small region, whose
/// encoder sees every point; without any such, the last that was tried.
int64_t choose_level(const Grid& grid) {
  const int64_t first = suggested_level(grid);
  for (int64_t level = first;; ++level) {
    try {
      const auto graph = build_graph(grid, {.hidden_level = level,
                                            .min_level = std::max<int64_t>(0, level - 2),
                                            .margin_degrees = margin_of(level)});
      if (graph.uncovered == 0 || level >= std::min<int64_t>(10, first + 3)) return level;
    } catch (const UsageError&) {
      if (level >= 10) throw;
    }
  }
}

/// A name as YAML reads it back, whatever it is made of.
std::string quoted(const std::string& text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    result += c;
  }
  return result + '"';
}

std::string list_of(const std::vector<std::string>& names) {
  std::vector<std::string> words;
  for (const auto& name : names) words.push_back(quoted(name));
  return "[" + join_words(words) + "]";
}

std::string data_section(const DataFile& file, int64_t step_hours, const Ends& ends) {
  const auto time = [&](int64_t seconds) { return format_time(seconds, file.calendar); };
  std::string text = fmt::format(
      "data:\n  path: {}\n  # Seen and forecast. Remove those that you do not want.\n"
      "  variables: {}\n",
      quoted(file.path), list_of(file.changing));
  if (!file.constant.empty()) {
    text += fmt::format("  # Do not change with time: seen only.\n  forcing_variables: {}\n",
                        list_of(file.constant));
  }
  for (const auto& [name, why] : file.left_out)
    text += fmt::format("  # left out: {}: {}\n", name, why);
  if (file.has_missing) text += "  allow_missing: true   # values are missing in this file\n";
  text += fmt::format(
      "  forcings: [cos_latitude, sin_latitude, cos_longitude, sin_longitude, insolation]\n"
      "  input_hours: [{}, 0]   # of the fields that are seen, from the analysis\n"
      "  step_hours: {}\n",
      -step_hours, step_hours);
  text +=
      "  # The first 70, the next 15 and the last 15 % of the times; an end is not part of it.\n";
  text += fmt::format("  train: {{begin: {}, end: {}}}\n", time(ends.begin), time(ends.validation));
  text +=
      fmt::format("  validation: {{begin: {}, end: {}}}\n", time(ends.validation), time(ends.test));
  return text + fmt::format("  test: {{begin: {}, end: {}}}\n", time(ends.test), time(ends.end));
}

}  // namespace

std::string make_experiment(const DataFile& file, const std::string& name) {
  if (file.changing.empty()) {
    throw DataError(file.path + ": no variable changes with time, so there is nothing to forecast");
  }
  const auto step_hours = choose_step_hours(file);
  const auto ends = choose_periods(file, step_hours);
  const auto grid = make_file_grid(file.latitudes, file.longitudes, file.path);
  const auto level = choose_level(grid);
  const auto why = level == suggested_level(grid)
                       ? "The finest mesh that leaves four points of the data to a node"
                       : "The coarsest mesh whose nodes see every point of the data";
  std::string text = fmt::format(
      "# Written by `isobar init`. docs/experiment.md describes every key.\n"
      "run:\n  name: {}\nseed: 1\n\n",
      quoted(name));
  text += data_section(file, step_hours, ends);
  text += fmt::format(
      "\ngraph:\n"
      "  # {}; each level halves the\n"
      "  # distance. `isobar graph info {}` shows others.\n"
      "  hidden_level: {}\n  min_level: {}\n{}\n"
      "model:\n  channels: 32\n  layers: 4\n\n"
      "{}"
      "optimizer:\n  learning_rate: 1.0e-3\n  warmup_steps: 50\n  clip_norm: 1.0\n\n"
      "train:\n  batch: 1   # samples of a rank\n  steps: 500\n  validate_every: 100\n",
      why, file.path, level, std::max<int64_t>(0, level - 2),
      grid.regional
          ? fmt::format("  margin_degrees: {:.2g}   # around a region\n", margin_of(level))
          : "",
      file.has_missing ? "loss:\n  mask_missing: true\n\n" : "");
  return text;
}

}  // namespace isobar
