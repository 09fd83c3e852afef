// SPDX-License-Identifier: Apache-2.0
#include "cli/command.hpp"

#include <isobar/core/option_check.hpp>
#include <isobar/core/report.hpp>
#include <isobar/core/text.hpp>
#include <isobar/launch/environment.hpp>
#include <isobar/scaling/comparison.hpp>
#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <string>
#include <vector>

namespace isobar {
namespace {

struct CompareArguments {
  std::string a;
  std::string b;
  double tolerance_percent = 2;
  std::string json;  ///< file, "-" for standard output, empty for none
  std::vector<std::string> command;
};

const char* word_of(Verdict verdict) {
  switch (verdict) {
    case Verdict::slower:
      return "slower";
    case Verdict::faster:
      return "faster";
    default:
      return "same";
  }
}

bool varies(const Comparison& found, const std::pair<std::string, std::string>& setting) {
  return std::any_of(found.points.begin(), found.points.end(), [&](const auto& point) {
    return std::find(point.values.begin(), point.values.end(), setting) == point.values.end();
  });
}

/// What tells a point from the others that are compared.
std::string short_name(const Comparison& found, const CampaignValues& values) {
  std::vector<std::string> words;
  for (const auto& setting : values) {
    if (varies(found, setting)) words.push_back(setting.first + "=" + setting.second);
  }
  return words.empty() ? "all" : join_words(words, " ");
}

void print_comparison(const Comparison& found, const Measurements& a, const Measurements& b) {
  fmt::print("{} of A (commit {}) and B (commit {})\n", a.value, a.commit, b.commit);
  std::size_t width = 5;
  for (const auto& point : found.points) {
    width = std::max(width, short_name(found, point.values).size());
  }
  fmt::print("{:<{}}  {:>10}  {:>10}  {:>6}  {:>13}  verdict\n", "point", width, "A", "B", "B/A",
             "95 %");
  for (const auto& point : found.points) {
    const auto interval = fmt::format("{:.3f} - {:.3f}", point.ratio.low, point.ratio.high);
    fmt::print("{:<{}}  {:>10.4g}  {:>10.4g}  {:>6.3f}  {:>13}  {}\n",
               short_name(found, point.values), width, point.a, point.b, point.ratio.value,
               interval, word_of(point.verdict));
  }
  if (const auto only = found.only_a.size() + found.only_b.size(); only > 0) {
    fmt::print("not compared, since only one has them: {} of A, {} of B\n", found.only_a.size(),
               found.only_b.size());
  }
  if (const auto left_out = a.left_out.size() + b.left_out.size(); left_out > 0) {
    fmt::print("left out, since they measured no number: {} runs of A, {} of B\n",
               a.left_out.size(), b.left_out.size());
  }
}

nlohmann::json comparison_rows(const Comparison& found) {
  auto rows = nlohmann::json::array();
  for (const auto& point : found.points) {
    auto values = nlohmann::json::object();
    for (const auto& [name, value] : point.values) values[name] = value;
    rows.push_back({{"point", values},
                    {"a", point.a},
                    {"b", point.b},
                    {"ratio", point.ratio.value},
                    {"ratio_low", point.ratio.low},
                    {"ratio_high", point.ratio.high},
                    {"verdict", word_of(point.verdict)}});
  }
  return rows;
}

/// Returns 1 where B is slower at some point.
int run_compare(const CompareArguments& arguments) {
  if (launch_rank_or_zero() != 0) return 0;
  const auto a = read_measurements(arguments.a), b = read_measurements(arguments.b);
  const auto found = compare_measurements(a, b, arguments.tolerance_percent / 100);
  if (arguments.json != "-") print_comparison(found, a, b);
  write_report(
      arguments.json, "isobar.compare.1", arguments.command, comparison_rows(found),
      {{"value", a.value}, {"only_a", found.only_a.size()}, {"only_b", found.only_b.size()}});
  return std::any_of(found.points.begin(), found.points.end(),
                     [](const auto& point) { return point.verdict == Verdict::slower; })
             ? 1
             : 0;
}

void add_compare_options(CLI::App& app, CompareArguments& arguments) {
  app.add_option("A", arguments.a,
                 "what was before: a campaign's folder, or a report of --json of bench step, bench "
                 "collective or campaign collect")
      ->required();
  app.add_option("B", arguments.b, "the same of what is now")->required();
  app.add_option("--tolerance", arguments.tolerance_percent,
                 "percent by which a point may change and still be the same")
      ->check(check_not_negative);
  app.add_option("--json", arguments.json,
                 "write the result as JSON to this file; - is standard output")
      ->check(check_report_file);
}

const RegisteredCommand kCompare{
    {.place = 57,
     .group = "",
     .name = "compare",
     .description = "Say whether B is slower than A (exit code 1)",
     .example = "isobar compare campaigns/before campaigns/after --tolerance 3",
     .add = with_arguments(add_compare_options, run_compare)}};

}  // namespace
}  // namespace isobar
