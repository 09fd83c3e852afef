// SPDX-License-Identifier: Apache-2.0
// `isobar campaign run`, `status` and `collect`: the layer scaling makes the runs and the figures,
// this shows them. One process, which starts the ranks of each run itself. A run that failed ends
// the campaign's other runs no more than a signal undoes those that are done.
#include "cli/campaign_file.hpp"
#include "cli/command.hpp"

#include <isobar/core/atomic_file.hpp>
#include <isobar/core/error.hpp>
#include <isobar/core/option_check.hpp>
#include <isobar/core/progress.hpp>
#include <isobar/core/report.hpp>
#include <isobar/core/text.hpp>
#include <isobar/launch/environment.hpp>
#include <isobar/scaling/campaign_rows.hpp>
#include <isobar/scaling/campaign_run.hpp>
#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

namespace isobar {
namespace {

constexpr std::size_t kShownFailures = 10;

struct CampaignArguments {
  std::string path;
  int repeats = 0;  ///< 0: the file's
  bool dry_run = false;
  bool mix = false;
  std::string json;  ///< file, "-" for standard output, empty for none
  std::string csv;
  std::vector<std::string> command;
};

void print_error_line(const std::string& text) { fmt::print(stderr, "isobar: {}\n", text); }

/// A table whose columns are as wide as they have to be.
void print_columns(const std::vector<std::vector<std::string>>& lines) {
  std::vector<std::size_t> widths;
  for (const auto& cells : lines) {
    widths.resize(std::max(widths.size(), cells.size()), 0);
    for (std::size_t i = 0; i < cells.size(); ++i) widths[i] = std::max(widths[i], cells[i].size());
  }
  for (const auto& cells : lines) {
    std::string text;
    for (std::size_t i = 0; i < cells.size(); ++i) {
      text += fmt::format("{}{:>{}}", i > 0 ? "  " : "", cells[i], widths[i]);
    }
    fmt::print("{}\n", text.substr(0, text.find_last_not_of(' ') + 1));
  }
}

std::string name_of(const CampaignRun& run) {
  return fmt::format("{} repeat {}", run.point.slug, run.repeat);
}

std::string this_program() { return std::filesystem::read_symlink("/proc/self/exe").string(); }

int print_pending(const Campaign& campaign) {
  const auto runs = pending_runs(campaign);
  const auto points = campaign_points(campaign).size();
  fmt::print("campaign {}: {} points, {} repeats, {} runs left, in {}\n", campaign.name, points,
             campaign.repeats, runs.size(), campaign_folder(campaign).string());
  for (const auto& run : runs) {
    fmt::print("{}\n  {}\n", name_of(run),
               join_words(run_command(campaign, run, this_program()), " "));
  }
  return 0;
}

void print_failures(const std::vector<std::string>& failures) {
  for (std::size_t i = 0; i < std::min(failures.size(), kShownFailures); ++i) {
    print_error_line(failures[i]);
  }
  if (failures.size() > kShownFailures) {
    print_error_line(fmt::format("and {} more", failures.size() - kShownFailures));
  }
}

int end_campaign(const Campaign& campaign, const CampaignOutcome& outcome) {
  const auto folder = campaign_folder(campaign).string();
  const auto submitted =
      outcome.submitted > 0 ? fmt::format("{} submitted, ", outcome.submitted) : "";
  fmt::print("campaign {}: {} runs done now, {}{} failed, {} left\n", campaign.name, outcome.done,
             submitted, outcome.failed, outcome.left);
  if (outcome.signal != 0) print_error_line("interrupted; the same command goes on from here");
  fmt::print("then    isobar campaign {} {}\n", outcome.submitted > 0 ? "status" : "collect",
             folder);
  return outcome.failed == 0 && outcome.signal == 0 ? 0 : 1;
}

/// Makes the runs that are left.
int run_campaign_runs(const CampaignArguments& arguments) {
  if (launch_rank_or_zero() != 0) return 0;
  std::vector<std::string> overrides;
  if (arguments.repeats > 0) {
    overrides.push_back(fmt::format("rules.repeats={}", arguments.repeats));
  }
  const auto checked = read_checked_campaign(arguments.path, overrides);
  const auto& campaign = checked.campaign;
  if (arguments.dry_run) return print_pending(campaign);
  const auto left = static_cast<std::int64_t>(pending_runs(campaign).size());
  Progress progress({.label = "run", .total = left, .unit = "run"});
  std::vector<std::string> failures;
  std::int64_t ended = 0;
  const auto outcome = run_campaign(
      campaign, {.program = this_program(),
                 .data_files = checked.data_files,
                 .mix = arguments.mix,
                 .on_end = [&](const CampaignRun& run, RunEnd end, const std::string& why) {
                   if (end == RunEnd::failed) {
                     failures.push_back(fmt::format("{} failed: {}", name_of(run), why));
                   }
                   progress.update(++ended, {{"failed", static_cast<double>(failures.size())}});
                 }});
  progress.finish();
  print_failures(failures);
  return end_campaign(campaign, outcome);
}

/// Shows how far the points have come.
int run_campaign_status(const CampaignArguments& arguments) {
  if (launch_rank_or_zero() != 0) return 0;
  const auto campaign = load_campaign(arguments.path);
  auto rows = nlohmann::json::array();
  auto heading = axis_names(campaign);
  heading.insert(heading.end(), {"done", "of", "queued", "failed", "interrupted"});
  std::vector<std::vector<std::string>> lines{heading};
  for (const auto& status : campaign_status(campaign)) {
    rows.push_back({{"slug", status.point.slug},
                    {"done", status.done},
                    {"repeats", campaign.repeats},
                    {"queued", status.queued},
                    {"failed", status.failed},
                    {"interrupted", status.interrupted}});
    auto& cells = lines.emplace_back(axis_values(status.point));
    for (const int count :
         {status.done, campaign.repeats, status.queued, status.failed, status.interrupted}) {
      cells.push_back(std::to_string(count));
    }
  }
  const auto stale = stale_points(campaign);
  if (arguments.json != "-") {
    print_columns(lines);
    if (!stale.empty()) {
      fmt::print("of points that the campaign no longer has: {}\n", join_words(stale, " "));
    }
  }
  write_report(arguments.json, "isobar.campaign.status.1", arguments.command, rows,
               {{"stale", stale}});
  return 0;
}

/// Marks rows of mixed runs by a letter, which the lines below the table explain.
class MixedMarks {
 public:
  std::string mark(const std::vector<std::string>& mixed) {
    if (mixed.empty()) return "";
    const auto text = join_words(mixed, "; ");
    const auto found = std::find(texts_.begin(), texts_.end(), text);
    const auto place = found - texts_.begin();
    if (found == texts_.end()) texts_.push_back(text);
    return fmt::format("mixed [{}]", place + 1);
  }
  void print() const {
    for (std::size_t i = 0; i < texts_.size(); ++i) {
      fmt::print("[{}] not all runs were made alike: {}\n", i + 1, texts_[i]);
    }
  }

 private:
  std::vector<std::string> texts_;
};

std::vector<std::string> result_cells(const CampaignRow& row, MixedMarks& marks) {
  auto cells = axis_values(row.point);
  const auto& e = row.estimate;
  cells.push_back(std::to_string(e.count));
  for (const double value : {e.median, e.low, e.high})
    cells.push_back(fmt::format("{:.4g}", value));
  if (row.efficiency) {
    const auto& ratio = *row.efficiency;
    cells.push_back(fmt::format("{:.3f}", ratio.value));
    cells.push_back(fmt::format("{:.3f} - {:.3f}", ratio.low, ratio.high));
  }
  std::string note;
  if (!e.outliers.empty()) note = fmt::format("{} far off", e.outliers.size());
  const auto mixed = marks.mark(row.mixed);
  cells.push_back(note + (note.empty() || mixed.empty() ? "" : ", ") + mixed);
  return cells;
}

void print_results(const Campaign& campaign, const std::vector<CampaignRow>& rows) {
  auto heading = axis_names(campaign);
  heading.insert(heading.end(), {"runs", campaign.value, "low", "high"});
  if (campaign.efficiency != Efficiency::none) heading.insert(heading.end(), {"E", "95 %"});
  std::vector<std::vector<std::string>> lines{heading};
  MixedMarks marks;
  for (const auto& row : rows) lines.push_back(result_cells(row, marks));
  print_columns(lines);
  marks.print();
}

/// Shows what the runs that are done have measured.
int run_campaign_collect(const CampaignArguments& arguments) {
  if (launch_rank_or_zero() != 0) return 0;
  const auto campaign = load_campaign(arguments.path);
  campaign_status(campaign);  // takes in what Slurm has ended
  const auto rows = collect_campaign(campaign);
  const auto left_out = runs_without_value(campaign);
  if (!left_out.empty()) {
    print_error_line(fmt::format("{} left out, whose {} is null: {}", left_out.size(),
                                 campaign.value, join_words(left_out, "; ")));
  }
  ISOBAR_CHECK(!rows.empty(), "collect: no run of campaign ", campaign.name,
               left_out.empty() ? " is done" : " has measured a number", ", looked in ",
               campaign_folder(campaign).string());
  if (arguments.json != "-") print_results(campaign, rows);
  if (!arguments.csv.empty()) {
    write_file_atomically(arguments.csv, rows_as_csv(campaign, rows));
  }
  write_report(arguments.json, "isobar.campaign.collect.1", arguments.command,
               rows_as_json(campaign, rows), {{"campaign", campaign.name}, {"left_out", left_out}});
  return 0;
}

void add_path(CLI::App& app, CampaignArguments& arguments) {
  app.add_option("campaign", arguments.path, "a campaign's YAML file, or the folder that it made")
      ->required();
}

void add_run_options(CLI::App& app, CampaignArguments& arguments) {
  add_path(app, arguments);
  app.add_flag("--dry-run", arguments.dry_run, "print the commands of the runs that are left");
  app.add_flag("--mix", arguments.mix,
               "go on, though runs that are done were made by another program, with other settings "
               "or in another environment");
  app.add_option("--repeats", arguments.repeats, "of each point, in place of rules.repeats")
      ->check(check_positive)
      ->default_str("");
}

void add_status_table_options(CLI::App& app, CampaignArguments& arguments) {
  add_path(app, arguments);
  app.add_option("--json", arguments.json,
                 "write the result as JSON to this file; - is standard output")
      ->check(check_report_file);
}

void add_collect_options(CLI::App& app, CampaignArguments& arguments) {
  add_status_table_options(app, arguments);
  app.add_option("--csv", arguments.csv, "write the table as comma-separated values to this file")
      ->check(check_report_file);
}

const RegisteredCommand kRun{{.place = 53,
                              .group = "campaign",
                              .name = "run",
                              .description = "Make the runs of a campaign that are left",
                              .example = "isobar campaign run examples/campaigns/weak_scaling.yaml",
                              .add = with_arguments(add_run_options, run_campaign_runs)}};

const RegisteredCommand kCampaignStatus{
    {.place = 54,
     .group = "campaign",
     .name = "status",
     .description = "Show how far a campaign has come",
     .example = "isobar campaign status campaigns/weak_scaling",
     .add = with_arguments(add_status_table_options, run_campaign_status)}};

const RegisteredCommand kCollect{
    {.place = 55,
     .group = "campaign",
     .name = "collect",
     .description = "Print medians, intervals and efficiencies",
     .example = "isobar campaign collect campaigns/weak_scaling --csv weak.csv",
     .add = with_arguments(add_collect_options, run_campaign_collect)}};

}  // namespace
}  // namespace isobar
