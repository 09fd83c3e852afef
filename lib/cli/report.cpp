// SPDX-License-Identifier: Apache-2.0
#include "cli/command.hpp"

#include <isobar/core/atomic_file.hpp>
#include <isobar/core/error.hpp>
#include <isobar/core/option_check.hpp>
#include <isobar/core/progress.hpp>
#include <isobar/core/report.hpp>
#include <isobar/launch/environment.hpp>
#include <isobar/report/browser.hpp>
#include <isobar/report/report.hpp>
#include <isobar/scaling/campaign_run.hpp>
#include <isobar/scaling/cure.hpp>
#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

namespace isobar {
namespace {

struct ReportArguments {
  std::vector<std::string> paths;
  std::string output = "report.html";
  std::string csv, png;  ///< folders, empty for none
  double link_gbit_s = 0, latency_us = 0;
  std::string json;  ///< file, "-" for standard output, empty for none
  bool apply = false;
  CureOptions cure;
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

/// Tries the cure of what limits a run's step. The exit code says whether it helped.
int apply_cure(const ReportArguments& arguments) {
  auto options = arguments.cure;
  options.diagnosis = diagnosis_of(arguments);
  const auto trial = plan_cure(arguments.paths.front(), options);
  fmt::print(stderr, "{}\n", finding_text(trial.before, trial.finding));
  Progress progress(
      {.label = "run", .total = std::ssize(pending_runs(trial.campaign)), .unit = "run"});
  const auto result = try_cure(trial, std::filesystem::read_symlink("/proc/self/exe"),
                               [&](int ended) { progress.update(ended); });
  fmt::print(arguments.json == "-" ? stderr : stdout, "{}\n", cure_text(trial, result));
  write_report(arguments.json, "isobar.report.cure.1", arguments.command,
               nlohmann::json::array({cure_as_json(trial, result)}));
  return result.helped() ? 0 : 1;
}

/// Tables first: they need neither plotly.js nor a browser.
int run_report(const ReportArguments& arguments) {
  if (launch_rank_or_zero() != 0) return 0;
  if (arguments.apply && arguments.paths.size() == 1) return apply_cure(arguments);
  ISOBAR_CHECK(!arguments.apply, "report: --apply takes the folder of one run");
  const std::vector<std::filesystem::path> paths(arguments.paths.begin(), arguments.paths.end());
  const auto report = make_report(paths, diagnosis_of(arguments));
  write_report(arguments.json, "isobar.report.findings.1", arguments.command,
               findings_of_runs(paths, diagnosis_of(arguments)));
  if (arguments.json == "-") return 0;
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
  app.add_option("--json", arguments.json,
                 "write what limits runs, or what came of --apply; - is standard output, no page")
      ->check(check_report_file);
  app.add_flag("--apply", arguments.apply, "make one run again, without and with its first cure");
  auto& cure = arguments.cure;
  app.add_flag("--cured", cure.done_by_people, "of --apply: you have done what it said to do");
  app.add_option("--repeats", cure.repeats, "of --apply: how many runs of each")
      ->check(check_positive);
  app.add_option("--launch", cure.launch, "of --apply: what starts ranks (mpirun -n {ranks})");
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
