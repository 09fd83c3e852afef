// SPDX-License-Identifier: Apache-2.0
#include "cli/command.hpp"

#include <isobar/core/atomic_file.hpp>
#include <isobar/core/option_check.hpp>
#include <isobar/core/report.hpp>
#include <isobar/launch/environment.hpp>
#include <isobar/report/browser.hpp>
#include <isobar/report/report.hpp>
#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

namespace isobar {
namespace {

struct ReportArguments {
  std::vector<std::string> paths;
  std::string output = "report.html";
  std::string csv;  ///< folder, empty for none
  std::string png;  ///< folder, empty for none
  double link_gbit_s = 0;
  double latency_us = 0;
  std::vector<std::string> command;
};

/// Without --link-gbit-s nobody knows what the network should do.
DiagnosisOptions diagnosis_of(const ReportArguments& arguments) {
  DiagnosisOptions options;
  if (arguments.link_gbit_s > 0) {
    options.network = {.latency_s = 1e-6 * arguments.latency_us,
                       .bytes_per_s = 1e9 / 8 * arguments.link_gbit_s,
                       .basis = fmt::format("{:g} Gbit/s and {:g} us", arguments.link_gbit_s,
                                            arguments.latency_us)};
  }
  return options;
}

void print_findings(const Report& report) {
  for (const auto& section : report.sections) {
    for (const auto& finding : section.findings) fmt::print("{}: {}\n", section.title, finding);
  }
}

void draw_pictures(const ReportArguments& arguments, std::size_t charts) {
  const auto browser = find_browser();
  if (browser.empty()) {
    fmt::print(
        stderr,
        "isobar: no pictures: they want a Chromium or Chrome on the PATH (Debian: apt install "
        "chromium)\n");
    return;
  }
  const auto names = draw_charts(browser, arguments.output, charts, arguments.png);
  fmt::print("{} pictures in {}\n", names.size(), arguments.png);
}

/// Tables first: they need neither plotly.js nor a browser.
int run_report(const ReportArguments& arguments) {
  if (launch_rank_or_zero() != 0) return 0;
  const auto report =
      make_report({arguments.paths.begin(), arguments.paths.end()}, diagnosis_of(arguments));
  print_findings(report);
  if (!arguments.csv.empty()) {
    const auto names = write_report_tables(report, arguments.csv);
    fmt::print("{} tables in {}\n", names.size(), arguments.csv);
  }
  const auto charts = chart_count(report);
  write_file_atomically(arguments.output, report_page(report));
  fmt::print("{} charts in {}: open it in a browser\n", charts, arguments.output);
  if (!arguments.png.empty()) draw_pictures(arguments, charts);
  return 0;
}

void add_report_options(CLI::App& app, ReportArguments& arguments) {
  app.add_option("paths", arguments.paths,
                 "campaigns (folder or YAML file), folders of training runs, reports of --json")
      ->required();
  app.add_option("--output", arguments.output, "the page")->check(check_report_file);
  app.add_option("--link-gbit-s", arguments.link_gbit_s,
                 "what a rank should send in a second, to tell a slow network")
      ->check(check_positive);
  app.add_option("--latency-us", arguments.latency_us,
                 "what a collective should take whatever its size, with --link-gbit-s")
      ->check(check_not_negative);
  app.add_option("--csv", arguments.csv, "write every table into this folder");
  app.add_option("--png", arguments.png, "draw every chart into this folder, by Chromium");
}

const RegisteredCommand kReport{
    {.place = 58,
     .group = "",
     .name = "report",
     .description = "Lay out campaigns and runs as one HTML page",
     .example = "isobar report campaigns/weak_scaling --output weak.html",
     .add = with_arguments(add_report_options, run_report)}};

}  // namespace
}  // namespace isobar
