// SPDX-License-Identifier: Apache-2.0
#include <isobar/report/report.hpp>

#include <isobar/core/error.hpp>
#include <isobar/scaling/comparison.hpp>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <set>

#include "comm/expect_error.hpp"
#include "report/made_campaign.hpp"

namespace isobar::test::report_test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kAxes = "{nodes: [1, 2, 4], bucket-cap: [1MiB, 25MiB]}";

/// One repeat of one point takes three times as long.
double step_time(const CampaignPoint& point, int repeat) {
  const bool far = point.nodes == 4 && repeat == 2;
  return (1 + 0.1 * point.nodes + 0.001 * repeat) * (far ? 3 : 1);
}

const ReportChart& chart_named(const ReportSection& section, const std::string& title) {
  for (const auto& chart : section.charts) {
    if (chart.title == title) return chart;
  }
  throw std::out_of_range("no chart " + title);
}

const ReportTable& table_titled(const ReportSection& section, const std::string& title) {
  for (const auto& table : section.tables) {
    if (table.title == title) return table;
  }
  throw std::out_of_range("no table " + title);
}

json figure_of(const ReportChart& chart) { return json::parse(chart.figure); }

std::size_t column_of(const ReportTable& table, const std::string& heading) {
  const auto found = std::find(table.heading.begin(), table.heading.end(), heading);
  EXPECT_NE(found, table.heading.end()) << heading;
  return static_cast<std::size_t>(found - table.heading.begin());
}

fs::path write_projection(const TemporaryFolder& folder, const std::string& name = "weak") {
  auto rows = json::array();
  for (const int nodes : {4, 64, 512}) {
    for (const char* cap : {"1MiB", "25MiB"}) {
      rows.push_back({{"point", {{"nodes", std::to_string(nodes)}, {"bucket-cap", cap}}},
                      {"nodes", nodes},
                      {"value", "step_s"},
                      {"projected", true},
                      {"median", 2.0},
                      {"low", 1.8},
                      {"high", 2.2},
                      {"efficiency", 0.55},
                      {"efficiency_low", 0.5},
                      {"efficiency_high", 0.6}});
    }
  }
  write_file(
      folder / "projected.json",
      json{{"schema", "isobar.projection.1"}, {"commit", "d4"}, {"campaign", name}, {"rows", rows}}
          .dump());
  return folder / "projected.json";
}

TEST(Report, HasACurveByNodesForEachValueOfTheOtherAxis) {
  const TemporaryFolder folder;
  const auto report = make_report({make_campaign_folder(folder.path(), "weak", kAxes, step_time)});
  ASSERT_EQ(report.sections.size(), 1u);
  const auto figure = figure_of(chart_named(report.sections[0], "Efficiency by nodes"));
  ASSERT_EQ(figure.at("data").size(), 2u);
  for (const auto& trace : figure.at("data")) {
    EXPECT_EQ(trace.at("x"), (std::vector<double>{1, 2, 4}));
    EXPECT_EQ(trace.at("line").at("dash"), "solid");
    const auto& interval = trace.at("error_y");
    for (std::size_t i = 0; i < 3; ++i) {
      EXPECT_GE(interval.at("array")[i].get<double>(), 0);
      EXPECT_GE(interval.at("arrayminus")[i].get<double>(), 0);
    }
  }
  EXPECT_DOUBLE_EQ(figure.at("data")[0].at("y")[0].get<double>(), 1);
  EXPECT_LT(figure.at("data")[0].at("y")[2].get<double>(), 1);
}

TEST(Report, SweepsAnAxisOfBytesOnALogarithmicScale) {
  const TemporaryFolder folder;
  const auto report = make_report({make_campaign_folder(folder.path(), "weak", kAxes, step_time)});
  const auto figure = figure_of(chart_named(report.sections[0], "Step time by bucket-cap"));
  EXPECT_EQ(figure.at("data").size(), 3u);
  const auto& x = figure.at("layout").at("xaxis");
  EXPECT_EQ(x.at("type"), "log");
  EXPECT_EQ(x.at("tickvals"), (std::vector<double>{1048576, 25 * 1048576.0}));
  EXPECT_EQ(x.at("ticktext"), (std::vector<std::string>{"1MiB", "25MiB"}));
  EXPECT_EQ(x.at("title").at("text"), "bucket-cap (bytes)");
  EXPECT_EQ(figure.at("layout").at("yaxis").at("title").at("text"), "step time (s)");
}

TEST(Report, DrawsBarsOverAnAxisOfWords) {
  const TemporaryFolder folder;
  const auto place =
      make_campaign_folder(folder.path(), "c", "{compress: [none, bf16]}", step_time);
  const auto report = make_report({place});
  const auto figure = figure_of(chart_named(report.sections[0], "Step time by compress"));
  ASSERT_EQ(figure.at("data").size(), 1u);
  EXPECT_EQ(figure.at("data")[0].at("type"), "bar");
  EXPECT_EQ(figure.at("data")[0].at("x"), (std::vector<std::string>{"none", "bf16"}));
}

TEST(Report, StacksThePartsOfAStepUpToTheStep) {
  const TemporaryFolder folder;
  const auto report = make_report({make_campaign_folder(folder.path(), "weak", kAxes, step_time)});
  const auto& chart = chart_named(report.sections[0], "Where the step's time goes");
  const auto figure = figure_of(chart);
  EXPECT_EQ(figure.at("layout").at("barmode"), "stack");
  std::vector<double> sums(6, 0);
  for (const auto& trace : figure.at("data")) {
    for (std::size_t i = 0; i < 6; ++i) sums[i] += trace.at("y")[i].get<double>();
  }
  const auto step = column_of(chart.table, "step (s)");
  for (std::size_t i = 0; i < 6; ++i) {
    EXPECT_NEAR(sums[i], std::get<double>(chart.table.rows[i][step]), 1e-12);
  }
}

TEST(Report, KeepsEveryRunAndMarksThoseFarOff) {
  const TemporaryFolder folder;
  const auto report = make_report({make_campaign_folder(folder.path(), "weak", kAxes, step_time)});
  const auto& chart = chart_named(report.sections[0], "Every run");
  const auto figure = figure_of(chart);
  ASSERT_EQ(figure.at("data").size(), 2u);
  EXPECT_EQ(figure.at("data")[0].at("y").size(), 16u);
  EXPECT_EQ(figure.at("data")[1].at("y").size(), 2u);
  EXPECT_EQ(chart.table.rows.size(), 18u);
  const auto& points = table_titled(report.sections[0], "All points");
  EXPECT_EQ(points.rows.size(), 6u);
  EXPECT_EQ(std::get<double>(points.rows.back()[column_of(points, "far off")]), 1);
}

TEST(Report, SaysHowRunsWereMadeAndWhatWasMixed) {
  const TemporaryFolder folder;
  const auto place = make_campaign_folder(folder.path(), "weak", kAxes, step_time);
  const auto other = place / "runs/nodes=2,bucket-cap=1MiB/3/run.json";
  auto record = json::parse(read_file(other));
  record["conditions"]["commit"] = "ffff";
  write_file(other, record.dump());
  const auto report = make_report({place});
  const auto& made = table_titled(report.sections[0], "How it was made");
  EXPECT_EQ(made.rows[0], (std::vector<ReportCell>{"commit", "a1b2c3; ffff"}));
  const auto text = table_as_csv(made);
  for (const char* part : {"OMP_NUM_THREADS,1", "n[1-2]", "0123456789abcdef"}) {
    expect_contains(text, part);
  }
  const auto& points = table_titled(report.sections[0], "All points");
  EXPECT_EQ(points.rows[2][column_of(points, "mixed")], ReportCell("commit: a1b2c3 and ffff"));
}

TEST(Report, NamesRunsThatMeasuredNoNumber) {
  const TemporaryFolder folder;
  const auto place = make_campaign_folder(
      folder.path(), "weak", kAxes, [](const CampaignPoint& point, int repeat) {
        return point.nodes == 4 && repeat == 2 ? std::nan("") : step_time(point, repeat);
      });
  const auto report = make_report({place});
  EXPECT_EQ(chart_named(report.sections[0], "Every run").table.rows.size(), 16u);
  expect_contains(table_as_csv(table_titled(report.sections[0], "How it was made")),
                  "nodes=4,bucket-cap=1MiB repeat 2; nodes=4,bucket-cap=25MiB repeat 2");
  EXPECT_EQ(read_measurements(place).left_out.size(), 2u);
}

TEST(Report, NeverPutsMeasuredAndProjectedIntoOneColumnOrLine) {
  const TemporaryFolder folder;
  const auto place = make_campaign_folder(folder.path(), "weak", kAxes, step_time);
  const auto report = make_report({write_projection(folder), place});
  ASSERT_EQ(report.sections.size(), 1u);
  const auto figure = figure_of(chart_named(report.sections[0], "Efficiency by nodes"));
  ASSERT_EQ(figure.at("data").size(), 4u);
  for (const auto& trace : figure.at("data")) {
    const bool projected = trace.at("name").get<std::string>().ends_with(" (projected)");
    EXPECT_EQ(trace.at("line").at("dash"), projected ? "dash" : "solid");
    EXPECT_EQ(trace.at("marker").at("symbol").get<std::string>().ends_with("-open"), projected);
    EXPECT_EQ(trace.at("x"), projected ? json({4, 64, 512}) : json({1, 2, 4}));
  }
  const auto& points = table_titled(report.sections[0], "All points");
  ASSERT_EQ(points.rows.size(), 12u);
  const auto measured = column_of(points, "measured step time (s)");
  const auto projected = column_of(points, "projected step time (s)");
  for (const auto& row : points.rows) {
    EXPECT_NE(std::holds_alternative<double>(row[measured]),
              std::holds_alternative<double>(row[projected]));
  }
  for (const auto& chart : report.sections[0].charts) {
    if (chart.title != "Every run") continue;
    EXPECT_EQ(chart.table.rows.size(), 18u) << "a projection has no runs";
  }
}

TEST(Report, ComparesCampaignsOfOneField) {
  const TemporaryFolder folder;
  const auto steady = [](double times) {
    return [times](const CampaignPoint& point, int repeat) {
      return times * (1 + 0.1 * point.nodes + 0.001 * repeat);
    };
  };
  const auto a = make_campaign_folder(folder.path(), "before", kAxes, steady(1), "aaaa");
  const auto b = make_campaign_folder(folder.path(), "after", kAxes, steady(2), "bbbb");
  const auto report = make_report({a, b});
  ASSERT_EQ(report.sections.size(), 3u);
  const auto& section = report.sections[0];
  EXPECT_EQ(section.notes,
            (std::vector<std::string>{"before: commit aaaa.", "after: commit bbbb."}));
  EXPECT_EQ(figure_of(chart_named(section, "Efficiency by nodes")).at("data").size(), 4u);
  EXPECT_EQ(figure_of(chart_named(section, "Point by point")).at("data").size(), 2u);
  const auto& verdicts = table_titled(section, "Against before");
  ASSERT_EQ(verdicts.rows.size(), 6u);
  for (const auto& row : verdicts.rows) {
    EXPECT_DOUBLE_EQ(std::get<double>(row[column_of(verdicts, "quotient")]), 2);
    EXPECT_EQ(row.back(), ReportCell("slower"));
  }
}

TEST(Report, ReadsReportsOfTheProgram) {
  const TemporaryFolder folder;
  const json step{{"model", "mlp"},    {"nodes", 1},         {"ranks", 2},
                  {"step_s", 0.1},     {"step_low_s", 0.09}, {"step_high_s", 0.12},
                  {"forward_s", 0.03}, {"backward_s", 0.05}};
  auto wider = step;
  wider["width"] = 1024;
  auto narrow = step;
  narrow["width"] = 512;
  write_file(
      folder / "step.json",
      json{{"schema", "isobar.bench.step.1"}, {"commit", "c"}, {"rows", {narrow, wider}}}.dump());
  const auto report = make_report({folder / "step.json"});
  const auto& section = report.sections.at(0);
  const auto figure = figure_of(chart_named(section, "Step time by width"));
  EXPECT_EQ(figure.at("data")[0].at("x"), (std::vector<double>{512, 1024}));
  EXPECT_NEAR(figure.at("data")[0].at("error_y").at("array")[0].get<double>(), 0.02, 1e-12);
  EXPECT_NO_THROW(chart_named(section, "Where the step's time goes"));
}

TEST(Report, GivesChartsNamesAsTheyAreWritten) {
  const TemporaryFolder folder;
  auto rows = json::array();
  for (const char* word : {"<b>1</b>", "a&b"}) {
    for (const int nodes : {1, 2}) {
      rows.push_back(
          {{"point", {{"set", word}}}, {"nodes", nodes}, {"value", "step_s"}, {"median", nodes}});
    }
  }
  write_file(folder / "rows.json", json{{"rows", rows}}.dump());
  const auto report = make_report({folder / "rows.json"});
  const auto lines = figure_of(chart_named(report.sections.at(0), "Step time by nodes"));
  EXPECT_EQ(lines.at("data")[0].at("name"), "set &lt;b&gt;1&lt;/b&gt;");
  EXPECT_EQ(lines.at("data")[1].at("name"), "set a&amp;b");
  const auto bars = figure_of(chart_named(report.sections.at(0), "Step time by set"));
  EXPECT_EQ(bars.at("data")[0].at("x")[0], "&lt;b&gt;1&lt;/b&gt;");
}

TEST(Report, ShowsScoresByLeadTime) {
  const TemporaryFolder folder;
  auto rows = json::array();
  for (const int lead : {12, 6}) {
    rows.push_back({{"split", "test"},
                    {"lead_hours", lead},
                    {"variable", "t2m"},
                    {"samples", 9},
                    {"rmse", 0.1 * lead},
                    {"bias", 0.1},
                    {"acc", 0.9},
                    {"persistence", 0.2 * lead},
                    {"previous_day", nullptr}});
  }
  write_file(folder / "scores.json",
             json{{"schema", "isobar.evaluate.1"}, {"commit", "c"}, {"rows", rows}}.dump());
  const auto report = make_report({folder / "scores.json"});
  const auto& section = report.sections.at(0);
  const auto share = figure_of(chart_named(section, "Error as a share of persistence's, test"));
  EXPECT_EQ(share.at("data")[0].at("x"), (std::vector<double>{6, 12}));
  EXPECT_EQ(share.at("data")[0].at("y"), (std::vector<double>{0.5, 0.5}));
  const auto own = figure_of(chart_named(section, "RMSE of t2m, test"));
  EXPECT_EQ(own.at("data").size(), 2u) << "what was not scored has no line";
  EXPECT_EQ(table_titled(section, "Scores").rows.size(), 2u);
}

/// A run's folder with a profile, as `isobar train` leaves it.
fs::path make_training_run(const TemporaryFolder& folder, const std::string& name, double loss) {
  const auto place = folder / name;
  fs::create_directories(place);
  std::string lines;
  for (int step = 10; step <= 40; step += 10) {
    lines += json{{"event", "step"},    {"step", step},        {"loss", loss / step},
                  {"step_s", 0.2},      {"data_wait_s", 0.02}, {"exposed_comm_s", 0.01},
                  {"samples_per_s", 40}}
                 .dump() +
             "\n";
    lines += json{{"event", "validation"},
                  {"split", "validation"},
                  {"step", step},
                  {"lead_hours", 6},
                  {"samples", 8},
                  {"ratio_to_persistence", 5.0 / step},
                  {"rmse", {{"t2m", 1.0}}},
                  {"bias", {{"t2m", 0.0}}},
                  {"persistence", {{"t2m", 2.0}}},
                  {"previous_day", {{"t2m", 3.0}}}}
                 .dump() +
             "\n";
  }
  write_file(place / "metrics.jsonl", lines + "{\"event\": \"st");
  write_file(place / "record.json", json{{"isobar", {{"commit", "c0ffee"}}}, {"ranks", 2}}.dump());
  const auto rank = [](int number, double backward) {
    return json{{"rank", number},
                {"host", "n" + std::to_string(number)},
                {"step_s", 0.2},
                {"seconds",
                 {{"data_wait", 0.02},
                  {"forward", 0.05},
                  {"backward", backward},
                  {"exposed_comm", 0.01},
                  {"optimizer", 0.01},
                  {"other", 0.01}}}};
  };
  write_file(place / "profile.json", json{{"schema", "isobar.profile.1"},
                                          {"steps", 38},
                                          {"warmup_steps", 2},
                                          {"world", 2},
                                          {"step_s", 0.2},
                                          {"energy_j", nullptr},
                                          {"ranks", {rank(0, 0.1), rank(1, 0.05)}},
                                          {"collectives",
                                           {{{"asker", "Reducer"},
                                             {"operation", "allreduce"},
                                             {"calls_per_step", 3},
                                             {"bytes_per_step", 4096}}}}}
                                         .dump());
  return place;
}

TEST(Report, ShowsATrainingRunWithItsProfile) {
  const TemporaryFolder folder;
  const auto report = make_report({make_training_run(folder, "mine", 10)});
  const auto& section = report.sections.at(0);
  const auto loss = figure_of(chart_named(section, "Loss by step"));
  EXPECT_EQ(loss.at("data")[0].at("x"), (std::vector<double>{10, 20, 30, 40}));
  EXPECT_EQ(loss.at("layout").at("yaxis").at("type"), "log");
  EXPECT_NO_THROW(chart_named(section, "Validation by step"));
  EXPECT_NO_THROW(chart_named(section, "RMSE of t2m, validation"));
  const auto ranks = figure_of(chart_named(section, "Parts of a step, by rank"));
  EXPECT_EQ(ranks.at("data")[0].at("x"), (std::vector<std::string>{"rank 0 (n0)", "rank 1 (n1)"}));
  const auto profile = table_as_csv(table_titled(section, "Profile"));
  expect_contains(profile, "energy (J),n/a\n");
  expect_contains(section.findings.at(0), "rank 0 on n0 computes 170.0 ms in a step");
  EXPECT_EQ(table_titled(section, "Collectives of a step").rows.size(), 1u);
}

/// Of a rank that computes, sends two buckets and waits for each; it computes `longer_s` longer
/// than it could, and waits less.
json timeline_rank(int rank, double longer_s) {
  const auto span = [](const char* part, double begin_s, double end_s) {
    return json{{"part", part}, {"begin_s", begin_s}, {"end_s", end_s}};
  };
  const auto bucket = [](int number, double begin_s, double end_s) {
    return json{{"bucket", number},
                {"bytes", 4096},
                {"begin_s", begin_s},
                {"end_s", end_s},
                {"waited_s", 0.0}};
  };
  return {{"rank", rank},
          {"step_s", 0.2},
          {"parts",
           {span("forward", 0, 0.02 + longer_s), span("backward", 0.02 + longer_s, 0.05 + longer_s),
            span("exposed_comm", 0.05 + longer_s, 0.16), span("optimizer", 0.16, 0.17),
            span("exposed_comm", 0.17, 0.19), span("optimizer", 0.19, 0.2)}},
          {"buckets", {bucket(1, 0.045 + longer_s, 0.19), bucket(0, 0.03 + longer_s, 0.16)}}};
}

/// The slowest and the fastest rank are in the middle.
fs::path make_timeline_run(const TemporaryFolder& folder, int ranks) {
  const auto place = make_training_run(folder, "mine", 10);
  auto profile = json::parse(std::ifstream(place / "profile.json"));
  auto rows = json::array();
  for (int rank = 0; rank < ranks; ++rank) {
    double longer_s = 0.02 + 1e-4 * rank;
    if (rank == ranks / 2) longer_s = 0.05;
    if (rank == ranks / 2 + 1) longer_s = 0;
    rows.push_back(timeline_rank(rank, longer_s));
  }
  profile["timeline"] = {{"step", 31}, {"ranks", rows}};
  write_file(place / "profile.json", profile.dump());
  return place;
}

ReportChart timeline_of(const TemporaryFolder& folder, int ranks) {
  const auto report = make_report({make_timeline_run(folder, ranks)});
  return chart_named(report.sections.at(0), "Timeline of a step");
}

/// The bars of one name begin there and are as long as that.
void expect_bars(const json& figure, const std::string& name,
                 const std::vector<std::pair<double, double>>& wanted) {
  const auto& traces = figure.at("data");
  const auto found = std::find_if(traces.begin(), traces.end(),
                                  [&](const auto& trace) { return trace.at("name") == name; });
  ASSERT_NE(found, traces.end()) << name;
  EXPECT_EQ(found->at("orientation"), "h");
  ASSERT_EQ(found->at("x").size(), wanted.size()) << name;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    EXPECT_NEAR(found->at("base")[i].get<double>(), wanted[i].first, 1e-12) << name;
    EXPECT_NEAR(found->at("x")[i].get<double>(), wanted[i].second, 1e-12) << name;
  }
}

TEST(Report, DrawsAStepOnAnAxisOfTime) {
  const TemporaryFolder folder;
  const auto chart = timeline_of(folder, 1);
  expect_contains(chart.note, "Step 31, of median length");
  const auto figure = figure_of(chart);
  expect_bars(figure, "forward", {{0, 0.07}});
  expect_bars(figure, "backward", {{0.07, 0.03}});
  expect_bars(figure, "exposed communication", {{0.1, 0.06}, {0.17, 0.02}});
  expect_bars(figure, "optimizer", {{0.16, 0.01}, {0.19, 0.01}});
}

// Bucket 0 leaves first. While the loop waits for it bucket 1, behind it, hides behind nothing
// either; it does while bucket 0 is used for the update.
TEST(Report, TellsHiddenFromExposedPiecesOfABucket) {
  const TemporaryFolder folder;
  const auto figure = figure_of(timeline_of(folder, 1));
  expect_bars(figure, "bucket, hidden", {{0.08, 0.02}, {0.095, 0.005}, {0.16, 0.01}});
  expect_bars(figure, "bucket, exposed", {{0.1, 0.06}, {0.1, 0.06}, {0.17, 0.02}});
}

TEST(Report, DrawsBucketsThatOverlapBesideEachOther) {
  const TemporaryFolder folder;
  const auto figure = figure_of(timeline_of(folder, 2));
  std::map<double, std::vector<std::pair<double, double>>> rows;
  for (const auto& trace : figure.at("data")) {
    for (std::size_t i = 0; i < trace.at("x").size(); ++i) {
      const auto begin_s = trace.at("base")[i].get<double>();
      rows[trace.at("y")[i].get<double>()].emplace_back(begin_s,
                                                        begin_s + trace.at("x")[i].get<double>());
    }
  }
  EXPECT_EQ(rows.size(), 6u) << "of each rank its parts and two buckets";
  for (auto& [place, bars] : rows) {
    std::sort(bars.begin(), bars.end());
    for (std::size_t i = 1; i < bars.size(); ++i) {
      EXPECT_LE(bars[i - 1].second, bars[i].first + 1e-12) << "at " << place;
    }
  }
}

TEST(Report, TellsATimelineAsATable) {
  const TemporaryFolder folder;
  const auto table = timeline_of(folder, 1).table;
  EXPECT_EQ(table.name, "Training-run-mine-step-timeline");
  ASSERT_EQ(table.rows.size(), 8u) << "six spans of the loop, two buckets";
  const auto& bucket = table.rows[7];
  EXPECT_EQ(std::get<std::string>(bucket[1]), "bucket 1");
  EXPECT_EQ(std::get<double>(bucket[4]), 4096);
  EXPECT_NEAR(std::get<double>(bucket[5]), 0.08, 1e-12) << "it waited behind bucket 0, too";
}

TEST(Report, ShowsSixteenOfManyRanksAndSaysWhich) {
  const TemporaryFolder folder;
  const auto chart = timeline_of(folder, 40);
  expect_contains(chart.note,
                  "16 of 40 ranks are shown: the slowest (rank 20), the fastest (rank 21)");
  const auto ticks = figure_of(chart).at("layout").at("yaxis").at("ticktext");
  const std::set<std::string> shown(ticks.begin(), ticks.end());
  EXPECT_EQ(ticks.size(), 16u);
  EXPECT_EQ(shown.size(), 16u);
  EXPECT_TRUE(shown.count("rank 20") == 1 && shown.count("rank 21") == 1);
}

TEST(Report, SaysNothingOfATimelineThatAnOlderProfileHasNot) {
  const TemporaryFolder folder;
  const auto report = make_report({make_training_run(folder, "mine", 10)});
  for (const auto& chart : report.sections.at(0).charts) {
    EXPECT_EQ(chart.title.find("Timeline"), std::string::npos);
  }
}

TEST(Report, RefusesATimelineOfAnotherShape) {
  const TemporaryFolder folder;
  const auto place = make_timeline_run(folder, 1);
  auto profile = json::parse(std::ifstream(place / "profile.json"));
  profile["timeline"]["ranks"][0].erase("parts");
  write_file(place / "profile.json", profile.dump());
  EXPECT_THROW(make_report({place}), DataError);
}

TEST(Report, DrawsMapsOnOneScaleAndTheirErrorEvenAroundZero) {
  const TemporaryFolder folder;
  const auto place = make_training_run(folder, "mine", 10);
  write_file(
      place / "maps.json",
      R"({"schema": "isobar.maps.1", "latitudes": [60, 60, 50, 50], "longitudes": [0, 10, 0, 10],
                 "maps": [{"variable": "t2m", "unit": "K", "lead_hours": 6, "time": "2019-03-31T23:00",
                           "forecast": [1, 2, 3, 9], "truth": [1, 4, 3, null]}]})");
  const auto report = make_report({place});
  const auto map = [&](const std::string& what) {
    const auto title = what + " of t2m at 2019-03-31T23:00, 6 h ahead";
    return figure_of(chart_named(report.sections.at(0), title)).at("data")[0];
  };
  EXPECT_EQ(map("Truth").at("y"), (std::vector<double>{50, 60}));
  EXPECT_EQ(map("Truth").at("z"), json::parse("[[3, null], [1, 4]]"));
  for (const char* what : {"Forecast", "Truth"}) {
    EXPECT_EQ(map(what).at("zmin"), 1);
    EXPECT_EQ(map(what).at("zmax"), 9);
  }
  EXPECT_EQ(map("Error").at("z"), json::parse("[[0, null], [0, -2]]"));
  EXPECT_EQ(map("Error").at("zmin"), -2);
  EXPECT_EQ(map("Error").at("zmax"), 2);
}

TEST(Report, ComparesTrainingRuns) {
  const TemporaryFolder folder;
  const auto report =
      make_report({make_training_run(folder, "one", 10), make_training_run(folder, "two", 20)});
  ASSERT_EQ(report.sections.size(), 3u);
  EXPECT_EQ(figure_of(chart_named(report.sections[0], "Loss by step")).at("data").size(), 2u);
}

TEST(ReportPage, HoldsAllThatItNeedsAndTakesTextForText) {
  const TemporaryFolder folder;
  Report report{.title = "</title><script>alert(1)</script>"};
  report.sections.push_back({.title = "a & b", .notes = {"1 < 2"}});
  report.sections[0].charts.push_back(
      {.title = "c",
       .figure = R"({"data":[{"name":"</script>"}],"layout":{}})",
       .table = {.name = "t", .title = "t", .heading = {"<h>"}, .rows = {{std::string("<i>")}}}});
  const auto page = report_page(report);
  for (const char* part : {"<title>&lt;/title&gt;&lt;script&gt;alert(1)", "a &amp; b", "1 &lt; 2",
                           "\\u003c/script>", "&lt;h&gt;", "&lt;i&gt;", "default-src 'none'",
                           "plotly.js v", "Permission is hereby granted"}) {
    expect_contains(page, part);
  }
  EXPECT_EQ(page.find("<script>alert"), std::string::npos);
  EXPECT_EQ(page.find("<script src"), std::string::npos);
  EXPECT_EQ(page.find("<link"), std::string::npos);
}

TEST(ReportTables, AreWrittenUnderNamesOfTheirOwn) {
  const TemporaryFolder folder;
  const auto a = make_campaign_folder(folder.path(), "before", kAxes, step_time);
  const auto report = make_report({a, a});
  const auto names = write_report_tables(report, folder / "csv");
  EXPECT_EQ(std::set<std::string>(names.begin(), names.end()).size(), names.size());
  for (const auto& name : names) EXPECT_TRUE(fs::exists(folder / "csv" / name)) << name;
  EXPECT_EQ(table_as_csv({.heading = {"a", "b,c"},
                          .rows = {{0.1 + 0.2, std::string("x\"y")}, {std::monostate(), 3.0}}}),
            "a,\"b,c\"\n0.30000000000000004,\"x\"\"y\"\n,3\n");
}

TEST(Report, SaysWhatAPathIsNot) {
  const TemporaryFolder folder;
  const auto said = [](const fs::path& path) {
    return error_of<Error>([&] { make_report({path}); });
  };
  expect_contains(said(folder / "none"), "there is no");
  expect_contains(said(folder.path()), "is none of a campaign");
  write_file(folder / "x.json", "{\"rows\": [{\"a\": 1}]}");
  expect_contains(said(folder / "x.json"), "is no report of a campaign");
  write_file(folder / "y.json", "[1]");
  expect_contains(said(folder / "y.json"), "is not a whole object");
  write_file(folder / "z.json", "{\"schema\": \"isobar.plan.1\"}");
  expect_contains(said(folder / "z.json"), "is no report of --json");
  fs::create_directories(folder / "run");
  write_file(folder / "run" / "metrics.jsonl", "");
  expect_contains(said(folder / "run"), "has no line of a step");
}

}  // namespace
}  // namespace isobar::test::report_test
