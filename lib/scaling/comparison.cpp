// SPDX-License-Identifier: Apache-2.0
// Called with two files or folders that may be of two machines, builds or years: what names a point
// has to come out of the reports alone. Of a report of bench those fields do that which say what
// was asked for; a field that came or went with a version makes points differ, and the error names
// it.
#include <isobar/scaling/comparison.hpp>

#include "scaling/run_record.hpp"

#include <isobar/core/error.hpp>
#include <isobar/core/text.hpp>
#include <isobar/scaling/campaign_rows.hpp>
#include <isobar/scaling/campaign_run.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <optional>

namespace isobar {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

/// What a report of bench has to say of a point.
struct ReportFields {
  std::string schema;
  std::vector<std::string> names;  ///< what tells points apart
  std::string value, low, high;
};

const std::vector<ReportFields>& known_reports() {
  static const std::vector<ReportFields> kReports{
      {"isobar.bench.step.1",
       {"model",
        "layers",
        "width",
        "grid",
        "hidden",
        "channels",
        "prognostic",
        "forcing",
        "shard",
        "precision",
        "chunk_edges",
        "recompute",
        "batch",
        "optimizer",
        "device",
        "threads",
        "ranks",
        "nodes",
        "backend",
        "sync",
        "compress",
        "bucket_cap_bytes",
        "first_bucket_cap_bytes",
        "last_bucket_cap",
        "launch",
        "update",
        "buffers",
        "levels",
        "model_ranks"},
       "step_s",
       "step_low_s",
       "step_high_s"},
      {"isobar.bench.collective.1",
       {"op", "bytes", "type", "device", "backend", "ranks", "nodes", "in_flight"},
       "median_s",
       "median_low_s",
       "median_high_s"}};
  return kReports;
}

constexpr const char* kCollected = "isobar.campaign.collect.1";

std::string text_of(const json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

MeasuredPoint point_of_report(const json& row, const ReportFields& fields) {
  MeasuredPoint point;
  for (const auto& name : fields.names) {
    if (row.contains(name) && !row.at(name).is_null()) {
      point.values.emplace_back(name, text_of(row.at(name)));
    }
  }
  const double value = row.at(fields.value);
  point.measured = {
      .value = value, .low = row.value(fields.low, value), .high = row.value(fields.high, value)};
  return point;
}

MeasuredPoint point_of_collected(const json& row) {
  MeasuredPoint point{.samples = row.at("samples").get<std::vector<double>>()};
  for (const auto& item : row.at("point").items()) {
    point.values.emplace_back(item.key(), text_of(item.value()));
  }
  return point;
}

Measurements parse_report(const json& report) {
  const auto schema = report.at("schema").get<std::string>();
  Measurements all{.commit = report.value("commit", "unknown")};
  for (const auto& fields : known_reports()) {
    if (fields.schema != schema) continue;
    all.value = fields.value;
    for (const auto& row : report.at("rows")) all.points.push_back(point_of_report(row, fields));
  }
  if (schema == kCollected) {
    for (const auto& row : report.at("rows")) {
      all.value = row.at("value").get<std::string>();
      all.points.push_back(point_of_collected(row));
    }
  }
  return all;
}

Measurements of_report(const fs::path& path, const json& report) {
  Measurements all;
  try {
    all = parse_report(report);
  } catch (const json::exception& error) {
    throw DataError(detail::join("compare: ", path.string(), ": ", error.what()));
  }
  ISOBAR_CHECK(!all.points.empty(), "compare: ", path.string(),
               " has no rows of a campaign or of isobar bench step or collective; its schema is '",
               report.value("schema", "none"), "'");
  return all;
}

Measurements of_campaign(const fs::path& path) {
  const auto campaign = load_campaign(path);
  Measurements all{.value = campaign.value, .left_out = runs_without_value(campaign)};
  for (const auto& row : collect_campaign(campaign)) {
    MeasuredPoint point{.values = row.point.values, .samples = row.samples};
    std::sort(point.values.begin(), point.values.end());
    all.points.push_back(std::move(point));
    const auto folder = run_folder(campaign, {row.point, row.repeats.front()});
    const auto record = read_object(folder / kRecordFile);
    if (all.commit.empty() && record) {
      all.commit = record->value("/isobar/commit"_json_pointer, "unknown");
    }
  }
  ISOBAR_CHECK(!all.points.empty(), "compare: no run of ", path.string(),
               all.left_out.empty() ? " is done" : " has measured a number");
  return all;
}

Ratio ratio_of(const MeasuredPoint& b, const MeasuredPoint& a) {
  if (!a.samples.empty() && !b.samples.empty()) return ratio_of_medians(b.samples, a.samples);
  const auto interval = [](const MeasuredPoint& point) {
    if (point.samples.empty()) return point.measured;
    const auto found = estimate(point.samples);
    return Ratio{.value = found.median, .low = found.low, .high = found.high};
  };
  return ratio_of_intervals(interval(b), interval(a));
}

double median_of_point(const MeasuredPoint& point) {
  return point.samples.empty() ? point.measured.value : estimate(point.samples).median;
}

Verdict judge_ratio(const Ratio& ratio, bool less_is_better, double tolerance) {
  const bool holds_one = ratio.low <= 1 && 1 <= ratio.high;
  if (holds_one || std::abs(ratio.value - 1) < tolerance) return Verdict::same;
  return (ratio.value > 1) == less_is_better ? Verdict::slower : Verdict::faster;
}

const MeasuredPoint* find_point(const Measurements& all, const CampaignValues& values) {
  for (const auto& point : all.points) {
    if (point.values == values) return &point;
  }
  return nullptr;
}

/// What the first points say differently, for an error.
std::string first_difference(const Measurements& a, const Measurements& b) {
  std::vector<std::string> words;
  const auto& in_a = a.points.front().values;
  for (const auto& setting : b.points.front().values) {
    const auto& name = setting.first;
    const auto& value = setting.second;
    const auto other = std::find_if(in_a.begin(), in_a.end(),
                                    [&](const auto& each) { return each.first == name; });
    if (other == in_a.end() || other->second != value) {
      words.push_back(name + " " + (other == in_a.end() ? "none" : other->second) + " and " +
                      value);
    }
  }
  return words.empty() ? "A has more settings than B" : join_words(words);
}

}  // namespace

Measurements read_measurements(const fs::path& path) {
  ISOBAR_CHECK(fs::exists(path), "compare: there is no ", path.string());
  if (!fs::is_directory(path)) {
    if (const auto report = read_object(path); report && report->contains("schema")) {
      return of_report(path, *report);
    }
  }
  return of_campaign(path);
}

Comparison compare_measurements(const Measurements& a, const Measurements& b, double tolerance) {
  ISOBAR_CHECK(a.value == b.value, "compare: A measures ", a.value, " and B ", b.value);
  ISOBAR_CHECK(tolerance >= 0, "compare: the tolerance is 0 or more, got ", tolerance);
  Comparison found;
  for (const auto& point : a.points) {
    const auto* other = find_point(b, point.values);
    if (other == nullptr) {
      found.only_a.push_back(point.values);
      continue;
    }
    const auto ratio = ratio_of(*other, point);
    found.points.push_back({.values = point.values,
                            .a = median_of_point(point),
                            .b = median_of_point(*other),
                            .ratio = ratio,
                            .verdict = judge_ratio(ratio, is_time(a.value), tolerance)});
  }
  for (const auto& point : b.points) {
    if (find_point(a, point.values) == nullptr) found.only_b.push_back(point.values);
  }
  ISOBAR_CHECK(!found.points.empty(), "compare: no point is in both; A and B differ in ",
               first_difference(a, b));
  return found;
}

}  // namespace isobar
