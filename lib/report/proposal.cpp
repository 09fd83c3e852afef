// SPDX-License-Identifier: Apache-2.0
// Called by one process. Weak scaling is supposed, as a campaign's step is: n nodes take n times
// the samples of one in a step. Node hours are what the machine is billed for: nodes times the time
// in which they take the samples.
#include <isobar/report/proposal.hpp>

#include "report/point_rows.hpp"

#include <isobar/core/error.hpp>
#include <isobar/core/text.hpp>
#include <isobar/scaling/campaign_run.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace isobar {
namespace {

namespace fs = std::filesystem;

constexpr double kMillion = 1e6;

std::string interval_text(const Ratio& ratio, double scale, const char* format) {
  const auto number = [&](double value) {
    return fmt::format(fmt::runtime(format), scale * value);
  };
  return number(ratio.value) + " [" + number(ratio.low) + ", " + number(ratio.high) + "]";
}

double samples_of_node(const fs::path& path, const ProposalOptions& options) {
  if (options.samples_per_step > 0) return options.samples_per_step;
  const auto campaign = load_campaign(path);
  const auto batch = campaign.options.find("batch");
  const auto number =
      batch == campaign.options.end() ? std::nullopt : number_of_word(batch->second);
  ISOBAR_CHECK(number && *number > 0, "proposal: campaign ", campaign.name,
               " does not say how many samples a rank takes in a step (run.options.batch); say "
               "--samples-per-step N, of one node");
  return *number * campaign.ranks_per_node;
}

/// Settings beside nodes that tell rows apart, in words.
std::string setting_of(const PointRow& row, const std::vector<std::string>& axes) {
  std::vector<std::string> others;
  std::copy_if(axes.begin(), axes.end(), std::back_inserter(others),
               [](const auto& axis) { return axis != "nodes"; });
  return label_of(row, others);
}

ReportTable table_of_rows(const PointRows& all, const ProposalOptions& options, double node_samples,
                          const std::string& name, const std::string& title) {
  const double wanted = options.samples > 0 ? options.samples : kMillion;
  ReportTable table{
      .name = name,
      .title = title,
      .heading = {"nodes", "setting", "step, ms", "samples/s", "efficiency",
                  options.samples > 0 ? "node hours" : "node hours of a million samples", "energy"},
      .rows = {}};
  const auto axes = varying_axes(all);
  for (const auto& row : all.rows) {
    const double rate = node_samples * row.nodes / row.value.value;
    table.rows.push_back(
        {static_cast<double>(row.nodes), setting_of(row, axes),
         interval_text(row.value, 1e3, "{:.1f}"), std::round(100 * rate) / 100,
         row.efficiency ? interval_text(*row.efficiency, 1, "{:.3f}") : std::string("n/a"),
         std::round(100 * row.nodes * wanted / rate / 3600) / 100, std::string("n/a")});
  }
  return table;
}

void check_steps(const PointRows& all) {
  ISOBAR_CHECK(all.field == "step_s", "proposal: ", all.name, " measures ", all.field,
               ", wanted the time of a step (measure.value: step_s)");
}

ReportSection measured_section(const PointRows& all, const ProposalOptions& options,
                               double node_samples) {
  ReportSection section{.title = "Measured"};
  std::size_t fewest = all.rows.front().samples.size();
  for (const auto& row : all.rows) fewest = std::min(fewest, row.samples.size());
  section.notes.push_back(fmt::format(
      "Weak scaling: each node takes {:g} samples a step. Medians of {} runs or more, each begun "
      "anew; in brackets the 95 % interval (bootstrap). Efficiency is T1/TN.",
      node_samples, fewest));
  section.tables.push_back(
      table_of_rows(all, options, node_samples, "measured", "Measured on this machine"));
  ReportTable how{
      .name = "provenance", .title = "How it was measured", .heading = {"what", "value"}};
  for (const auto& [what, value] : all.provenance) how.rows.push_back({what, value});
  section.tables.push_back(std::move(how));
  return section;
}

ReportSection projected_section(const fs::path& path, const ProposalOptions& options,
                                double node_samples, std::size_t number) {
  const auto report = json_of_file(path);
  ISOBAR_CHECK(report && report->value("schema", "") == "isobar.projection.1", "proposal: '",
               path.string(), "' is no report of isobar project --json");
  const auto all = rows_of_report(path, *report);
  ReportSection section{.title = "Projected"};
  section.notes.push_back(
      "Not measured: a model of the step and the network, with the slowest rank, jitter and other "
      "jobs; in brackets the middle 95 % of its draws.");
  const auto basis = report->at("rows").front().value("basis", nlohmann::json::object());
  for (const auto& item : basis.items()) {
    section.notes.push_back(item.key() + ": " + item.value().get<std::string>());
  }
  section.tables.push_back(table_of_rows(
      all, options, node_samples, fmt::format("projected-{}", number), "Projected: " + all.name));
  return section;
}

std::string text_of_cell(const ReportCell& cell) {
  if (const auto* number = std::get_if<double>(&cell)) return fmt::format("{}", *number);
  const auto* text = std::get_if<std::string>(&cell);
  if (text == nullptr) return "";
  std::string escaped;
  for (const char c : *text) {
    if (c == '|') escaped += '\\';
    escaped += c == '\n' ? ' ' : c;
  }
  return escaped;
}

template <typename Cells>
std::string markdown_line(const Cells& cells) {
  std::string line = "|";
  for (const auto& cell : cells) line += " " + text_of_cell(cell) + " |";
  return line + "\n";
}

std::string markdown_table(const ReportTable& table) {
  auto text = "\n**" + table.title + "**\n\n" + markdown_line(table.heading) + "|";
  for (std::size_t i = 0; i < table.heading.size(); ++i) text += "---|";
  text += "\n";
  for (const auto& row : table.rows) text += markdown_line(row);
  return text;
}

}  // namespace

Report make_proposal(const fs::path& campaign, const std::vector<fs::path>& projections,
                     const ProposalOptions& options) {
  const auto measured = rows_of_campaign(campaign);
  check_steps(measured);
  const double node_samples = samples_of_node(campaign, options);
  Report report{.title = "Scaling of " + measured.name};
  report.sections.push_back(measured_section(measured, options, node_samples));
  for (const auto& path : projections) {
    report.sections.push_back(
        projected_section(path, options, node_samples, report.sections.size()));
  }
  return report;
}

std::string report_as_markdown(const Report& report) {
  auto text = "# " + report.title + "\n";
  for (const auto& section : report.sections) {
    text += "\n## " + section.title + "\n";
    for (const auto& note : section.notes) text += "\n" + note + "\n";
    for (const auto& chart : section.charts) text += markdown_table(chart.table);
    for (const auto& table : section.tables) text += markdown_table(table);
  }
  return text;
}

}  // namespace isobar
