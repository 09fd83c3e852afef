// SPDX-License-Identifier: Apache-2.0
// Called for each folder of `isobar train`, while it goes on, too: what is not written yet is left
// out. A run that was continued tells of a step twice; both lines are shown, since both were made.
// Scores are the last that were written of each period and lead time.
#include "report/chart.hpp"
#include "report/sections.hpp"
#include "report/step_parts.hpp"

#include <isobar/core/error.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

namespace isobar {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

double number_of_event(const json& event, const std::string& key) {
  const auto found = event.find(key);
  return found != event.end() && found->is_number() ? found->get<double>()
                                                    : std::numeric_limits<double>::quiet_NaN();
}

std::vector<json> events_of(const TrainingRunFiles& run, const std::string& kind) {
  std::vector<json> found;
  for (const auto& event : run.events) {
    if (event.value("event", "") == kind) found.push_back(event);
  }
  return found;
}

ChartSeries series_by_step(const std::vector<json>& events, const std::string& name,
                           const std::string& key, std::size_t colour) {
  ChartSeries series{.name = name, .colour = colour};
  for (const auto& event : events) {
    series.x.push_back(number_of_event(event, "step"));
    series.y.push_back(number_of_event(event, key));
  }
  return series;
}

/// Lines of many points are read without marks.
json plain_line(const ChartSeries& series) {
  auto trace = line_trace(series);
  constexpr std::size_t kMarked = 50;
  if (series.x.size() > kMarked) trace["mode"] = "lines";
  return trace;
}

bool is_positive(const std::vector<ChartSeries>& all) {
  for (const auto& series : all) {
    if (std::any_of(series.y.begin(), series.y.end(), [](double y) { return y <= 0; }))
      return false;
  }
  return true;
}

ReportTable table_by_step(const std::string& name, const std::string& title,
                          const std::vector<ChartSeries>& all, const std::string& what) {
  ReportTable table{.name = name, .title = title, .heading = {"line", "step", what}};
  for (const auto& series : all) {
    for (std::size_t i = 0; i < series.x.size(); ++i) {
      table.rows.push_back({series.name, number_cell(series.x[i]), number_cell(series.y[i])});
    }
  }
  return table;
}

ReportChart chart_by_step(const std::string& name, const std::string& title,
                          const std::vector<ChartSeries>& all, const std::string& what,
                          AxisScale scale) {
  std::vector<json> traces;
  for (const auto& series : all) traces.push_back(plain_line(series));
  auto y = chart_axis(what, scale);
  if (scale == AxisScale::linear) y["rangemode"] = "tozero";
  return {.title = title,
          .figure = figure_text(traces, chart_axis("step"), y),
          .table = table_by_step(name, title, all, what)};
}

ReportChart loss_chart(const std::vector<ChartSeries>& all) {
  return chart_by_step("loss", "Loss by step", all, field_title("loss"),
                       is_positive(all) ? AxisScale::log : AxisScale::linear);
}

/// The mean over leads, by step; and a line for each lead.
std::map<double, std::vector<json>> validations_by_lead(const TrainingRunFiles& run) {
  std::map<double, std::vector<json>> by_lead;
  for (const auto& event : events_of(run, "validation")) {
    if (event.value("split", "validation") != "validation") continue;
    by_lead[number_of_event(event, "lead_hours")].push_back(event);
  }
  return by_lead;
}

void add_validation(ReportSection& section, const TrainingRunFiles& run) {
  std::vector<ChartSeries> all;
  for (const auto& [lead, events] : validations_by_lead(run)) {
    all.push_back(
        series_by_step(events, fmt::format("{} h", lead), "ratio_to_persistence", all.size()));
  }
  if (all.empty()) return;
  section.charts.push_back(chart_by_step("validation", "Validation by step", all,
                                         "RMSE / RMSE of persistence (1)", AxisScale::linear));
}

double score_of(const json& event, const char* kind, const std::string& variable) {
  const auto found = event.find(kind);
  return found == event.end() || !found->is_object() ? std::numeric_limits<double>::quiet_NaN()
                                                     : number_of_event(*found, variable);
}

/// The last that was written of each split and lead time.
std::vector<ScoreRow> last_scores(const TrainingRunFiles& run) {
  std::map<std::pair<std::string, double>, json> last;
  for (const auto& event : events_of(run, "validation")) {
    last[{event.value("split", "validation"), number_of_event(event, "lead_hours")}] = event;
  }
  std::vector<ScoreRow> rows;
  for (const auto& [key, event] : last) {
    const auto scores = event.value("rmse", json::object());
    for (const auto& item : scores.items()) {
      const auto& variable = item.key();
      rows.push_back({.split = key.first,
                      .lead_hours = key.second,
                      .variable = variable,
                      .samples = number_of_event(event, "samples"),
                      .rmse = score_of(event, "rmse", variable),
                      .bias = score_of(event, "bias", variable),
                      .acc = std::numeric_limits<double>::quiet_NaN(),
                      .persistence = score_of(event, "persistence", variable),
                      .previous_day = score_of(event, "previous_day", variable)});
    }
  }
  return rows;
}

void add_times(ReportSection& section, const std::vector<json>& steps) {
  section.charts.push_back(
      chart_by_step("step-time", "Time of a step",
                    {series_by_step(steps, "step", "step_s", 0),
                     series_by_step(steps, "of it data wait", "data_wait_s", 1),
                     series_by_step(steps, "of it exposed communication", "exposed_comm_s", 2)},
                    "time (s)", AxisScale::linear));
}

std::string text_at(const json& record, const char* pointer) {
  const json::json_pointer place(pointer);
  if (!record.contains(place)) return "";
  const auto& value = record.at(place);
  return value.is_string() ? value.get<std::string>() : value.dump();
}

ReportTable record_table(const json& record) {
  ReportTable table{.name = "provenance", .title = "How it was made", .heading = {"what", "value"}};
  for (const auto& [what, pointer] :
       std::initializer_list<std::pair<const char*, const char*>>{{"commit", "/isobar/commit"},
                                                                  {"isobar", "/isobar/version"},
                                                                  {"LibTorch", "/torch"},
                                                                  {"compiler", "/compiler"},
                                                                  {"host", "/host"},
                                                                  {"cluster", "/cluster"},
                                                                  {"ranks", "/ranks"},
                                                                  {"start (UTC)", "/start_time"},
                                                                  {"command", "/command"},
                                                                  {"training", "/training"},
                                                                  {"experiment", "/config"}}) {
    if (const auto text = text_at(record, pointer); !text.empty())
      table.rows.push_back({what, text});
  }
  return table;
}

std::vector<std::string> notes_of_run(const TrainingRunFiles& run, const std::vector<json>& steps) {
  const int ranks = run.record.value("ranks", 1);
  std::vector<std::string> notes{fmt::format(
      "{} rank{}, commit {}; the last line is of step {}.", ranks, ranks == 1 ? "" : "s",
      text_at(run.record, "/isobar/commit"), number_of_event(steps.back(), "step"))};
  const auto best = run.record.value("training", json::object());
  if (best.value("best_step", 0) > 0) {
    notes.push_back(fmt::format(
        "The best checkpoint is that of step {}, with {:.3f} of "
        "persistence's error in validation.",
        best.value("best_step", 0), number_of_event(best, "best_ratio_to_persistence")));
  }
  return notes;
}

std::vector<std::string> sentences_of(const ProfiledStep& profile,
                                      const DiagnosisOptions& options) {
  std::vector<std::string> sentences;
  for (const auto& finding : diagnose(profile, options)) {
    sentences.push_back(finding_text(profile, finding));
  }
  return sentences;
}

}  // namespace

TrainingRunFiles read_training_run(const fs::path& folder) {
  const auto place = fs::absolute(folder / "").lexically_normal().parent_path();
  TrainingRunFiles run{.name = place.filename(), .folder = folder};
  run.record = json_of_file(folder / "record.json").value_or(json::object());
  run.events = objects_of_lines(folder / "metrics.jsonl");
  ISOBAR_CHECK(!events_of(run, "step").empty(), "report: the training run in ", folder.string(),
               " has no line of a step in metrics.jsonl yet");
  return run;
}

ReportSection training_section(const TrainingRunFiles& run, const DiagnosisOptions& diagnosis) {
  const auto steps = events_of(run, "step");
  ReportSection section{.title = "Training run " + run.name, .notes = notes_of_run(run, steps)};
  section.charts.push_back(loss_chart({series_by_step(steps, "loss", "loss", 0)}));
  add_validation(section, run);
  add_scores(section, last_scores(run));
  if (const auto maps = json_of_file(run.folder / "maps.json")) add_sample_maps(section, *maps);
  add_times(section, steps);
  if (const auto profile = json_of_file(run.folder / "profile.json")) {
    section.findings = sentences_of(load_profiled_step(run.folder), diagnosis);
    add_profile(section, *profile);
  }
  if (!run.record.empty()) section.tables.push_back(record_table(run.record));
  return section;
}

ReportSection training_comparison(const std::vector<TrainingRunFiles>& runs) {
  ReportSection section{.title = "Training runs compared"};
  std::vector<ChartSeries> losses, rates, ratios;
  for (const auto& run : runs) {
    const auto steps = events_of(run, "step");
    losses.push_back(series_by_step(steps, run.name, "loss", losses.size()));
    rates.push_back(series_by_step(steps, run.name, "samples_per_s", rates.size()));
    for (const auto& [lead, events] : validations_by_lead(run)) {
      ratios.push_back(series_by_step(events, fmt::format("{}, {} h", run.name, lead),
                                      "ratio_to_persistence", ratios.size()));
    }
  }
  section.charts.push_back(loss_chart(losses));
  if (!ratios.empty()) {
    section.charts.push_back(chart_by_step("validation", "Validation by step", ratios,
                                           "RMSE / RMSE of persistence (1)", AxisScale::linear));
  }
  section.charts.push_back(chart_by_step("rates", "Samples a second", rates,
                                         field_title("samples_per_s"), AxisScale::linear));
  return section;
}

}  // namespace isobar
