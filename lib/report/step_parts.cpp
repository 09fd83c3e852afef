// SPDX-License-Identifier: Apache-2.0
// Called for points of campaigns and for ranks of a run. A part that nobody measured is not drawn
// as zero: it is missing. What the parts leave of the step is `other`. Medians of parts need not
// add up to the median of the step, so `other` may be smaller than what a single step has.
#include "report/step_parts.hpp"

#include "report/chart.hpp"
#include "report/point_rows.hpp"

#include <isobar/core/summary.hpp>
#include <isobar/core/text.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <utility>

namespace isobar {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

/// Adds what the step has beside its parts.
void add_other(StepParts& parts) {
  const auto step = parts.find("step");
  if (step == parts.end() || parts.size() < 2 || parts.count("other") > 0) return;
  double sum = 0;
  for (const auto& [name, seconds] : parts) sum += name == "step" ? 0 : seconds;
  parts["other"] = std::max(0.0, step->second - sum);
}

double part_or_gap(const StepParts& parts, const std::string& name) {
  const auto found = parts.find(name);
  return found == parts.end() ? std::numeric_limits<double>::quiet_NaN() : found->second;
}

double number_at(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number() ? found->get<double>()
                                                     : std::numeric_limits<double>::quiet_NaN();
}

StepParts parts_of_rank(const json& rank) {
  StepParts parts;
  const auto seconds = rank.value("seconds", json::object());
  for (const auto& item : seconds.items()) {
    if (item.value().is_number()) parts[item.key()] = item.value().get<double>();
  }
  if (const double step = number_at(rank, "step_s"); std::isfinite(step)) parts["step"] = step;
  return parts;
}

ReportTable collectives_table(const json& profile) {
  ReportTable table{.name = "collectives", .title = "Collectives of a step"};
  table.heading = {"asked for by", "operation",       "calls a step",
                   "bytes a step", "time a step (s)", "of it exposed (s)"};
  for (const auto& row : profile.value("collectives", json::array())) {
    table.rows.push_back({row.value("asker", ""), row.value("operation", ""),
                          number_cell(number_at(row, "calls_per_step")),
                          number_cell(number_at(row, "bytes_per_step")),
                          number_cell(number_at(row, "seconds_per_step")),
                          number_cell(number_at(row, "exposed_s_per_step"))});
  }
  return table;
}

/// What no counter gave is n/a, not 0.
ReportCell known_or_na(const json& profile, const char* key) {
  const double value = number_at(profile, key);
  if (std::isfinite(value)) return value;
  return std::string("n/a");
}

ReportTable totals_table(const json& profile) {
  ReportTable table{.name = "profile", .title = "Profile", .heading = {"what", "value"}};
  for (const auto& [key, title] : std::initializer_list<std::pair<const char*, const char*>>{
           {"steps", "steps measured"},
           {"warmup_steps", "steps before them, left out"},
           {"world", "ranks"},
           {"step_s", "step time (s)"},
           {"samples_per_s", "samples a second, all replicas (1/s)"},
           {"mfu", "model FLOP utilisation (of 1)"},
           {"flop_per_step", "floating-point operations a step"},
           {"peak_memory_bytes", "peak memory (bytes)"},
           {"energy_j", "energy (J)"}}) {
    table.rows.push_back({std::string(title), known_or_na(profile, key)});
  }
  return table;
}

}  // namespace

std::string title_of_part(const std::string& part) {
  if (part == "exposed_comm") return "exposed communication";
  if (part == "data_wait") return "data wait";
  if (part == "zero_grad") return "zeroing gradients";
  return part;
}

StepParts parts_of_row(const json& row) {
  StepParts parts;
  for (const auto* name : kParts) {
    const double seconds = number_at(row, (std::string(name) + "_s").c_str());
    if (std::isfinite(seconds)) parts[name] = seconds;
  }
  if (parts.empty()) return parts;
  if (const double step = number_at(row, "step_s"); std::isfinite(step)) parts["step"] = step;
  add_other(parts);
  return parts;
}

StepParts parts_of_profile(const json& profile) {
  const auto ranks = profile.value("ranks", json::array());
  StepParts mean;
  for (const auto& rank : ranks) {
    for (const auto& [name, seconds] : parts_of_rank(rank)) {
      mean[name] += seconds / static_cast<double>(ranks.size());
    }
  }
  return mean;
}

std::vector<json> objects_of_lines(const fs::path& file) {
  std::ifstream stream(file);
  std::vector<json> found;
  for (std::string line; std::getline(stream, line);) {
    auto object = json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (object.is_object()) found.push_back(std::move(object));
  }
  return found;
}

json step_medians(const std::vector<json>& events) {
  std::map<std::string, std::vector<double>> values;
  bool is_first = true;
  for (const auto& event : events) {
    if (event.value("event", "") != "step") continue;
    if (!std::exchange(is_first, false)) {
      for (const auto& item : event.items()) {
        if (item.value().is_number()) values[item.key()].push_back(item.value().get<double>());
      }
    }
  }
  auto row = json::object();
  for (auto& [name, samples] : values) {
    std::sort(samples.begin(), samples.end());
    row[name] = quantile(samples, 0.5);
  }
  return row;
}

StepParts parts_of_run(const fs::path& folder) {
  if (const auto profile = json_of_file(folder / "train" / "profile.json")) {
    return parts_of_profile(*profile);
  }
  if (const auto report = json_of_file(folder / "result.json")) {
    const auto rows = report->value("rows", json::array());
    return rows.size() == 1 ? parts_of_row(rows[0]) : StepParts();
  }
  return parts_of_row(step_medians(objects_of_lines(folder / "train" / "metrics.jsonl")));
}

StepParts median_parts(const std::vector<StepParts>& all) {
  std::map<std::string, std::vector<double>> samples;
  for (const auto& parts : all) {
    for (const auto& [name, seconds] : parts) samples[name].push_back(seconds);
  }
  StepParts medians;
  for (auto& [name, values] : samples) {
    std::sort(values.begin(), values.end());
    medians[name] = quantile(values, 0.5);
  }
  return medians;
}

ReportChart parts_chart(const std::string& title, const std::string& note,
                        const std::string& what_labels_are, const std::vector<std::string>& labels,
                        const std::vector<StepParts>& parts) {
  ReportChart chart{.title = title, .note = note};
  chart.table = {.name = "step-parts", .title = title, .heading = {what_labels_are}};
  std::vector<json> traces;
  std::vector<std::string> names;
  for (std::size_t i = 0; i < kParts.size(); ++i) {
    ChartSeries series{.name = title_of_part(kParts[i]), .words = labels, .colour = i};
    for (const auto& each : parts) series.y.push_back(part_or_gap(each, kParts[i]));
    if (std::none_of(series.y.begin(), series.y.end(), [](double y) { return std::isfinite(y); })) {
      continue;
    }
    names.emplace_back(kParts[i]);
    chart.table.heading.push_back(series.name + " (s)");
    traces.push_back(bar_trace(series));
  }
  chart.table.heading.emplace_back("step (s)");
  for (std::size_t i = 0; i < labels.size(); ++i) {
    auto& row = chart.table.rows.emplace_back(std::vector<ReportCell>{labels[i]});
    for (const auto& name : names) row.push_back(number_cell(part_or_gap(parts[i], name)));
    row.push_back(number_cell(part_or_gap(parts[i], "step")));
  }
  chart.figure = figure_text(traces, chart_axis(what_labels_are, AxisScale::category),
                             chart_axis("time of a step (s)"), {{"barmode", "stack"}});
  return chart;
}

void add_profile(ReportSection& section, const json& profile) {
  std::vector<std::string> labels;
  std::vector<StepParts> parts;
  for (const auto& rank : profile.value("ranks", json::array())) {
    const auto host = rank.value("host", "");
    labels.push_back(
        fmt::format("rank {}{}", rank.value("rank", 0), host.empty() ? "" : " (" + host + ")"));
    parts.push_back(parts_of_rank(rank));
  }
  if (!labels.empty()) {
    section.charts.push_back(parts_chart(
        "Parts of a step, by rank",
        fmt::format("Means of {} steps, the first {} left out. Communication that the backward "
                    "pass hides takes no time of a step's and is not shown.",
                    profile.value("steps", 0), profile.value("warmup_steps", 0)),
        "rank", labels, parts));
    section.charts.back().table.name = "step-parts-by-rank";
  }
  add_timeline(section, profile);
  section.tables.push_back(totals_table(profile));
  auto collectives = collectives_table(profile);
  if (!collectives.rows.empty()) section.tables.push_back(std::move(collectives));
}

}  // namespace isobar
