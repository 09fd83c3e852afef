// SPDX-License-Identifier: Apache-2.0
// The report's sections, each of one campaign, one run or what several have in common.
#pragma once

#include "report/point_rows.hpp"

#include <isobar/report/report.hpp>
#include <isobar/scaling/diagnosis.hpp>
#include <nlohmann/json.hpp>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace isobar {

/// Curves, sweeps, the parts of a step and every run, of one campaign.
ReportSection campaign_section(const PointRows& all);

/// Of campaigns that measure the same field, two or more.
ReportSection comparison_section(const std::vector<PointRows>& all);

/// What a folder of `isobar train` says.
struct TrainingRunFiles {
  std::string name = {};
  nlohmann::json record = {};
  std::vector<nlohmann::json> events = {};  ///< of metrics.jsonl
  std::filesystem::path folder = {};
};
TrainingRunFiles read_training_run(const std::filesystem::path& folder);
ReportSection training_section(const TrainingRunFiles& run, const DiagnosisOptions& diagnosis);

/// The losses of two runs or more.
ReportSection training_comparison(const std::vector<TrainingRunFiles>& runs);

/// What was scored of a variable; not a number where it was not.
struct ScoreRow {
  std::string split;
  double lead_hours = 0;
  std::string variable;
  double samples = 0;
  double rmse = 0;
  double bias = 0;
  double acc = 0;
  double persistence = 0;
  double previous_day = 0;
};

/// Charts of scores by lead time, and their table.
void add_scores(ReportSection& section, const std::vector<ScoreRow>& rows);

/// Of a maps.json: forecast, truth and their difference.
void add_sample_maps(ReportSection& section, const nlohmann::json& report);

/// Of a report of `isobar evaluate`.
ReportSection scores_section(const std::filesystem::path& path, const nlohmann::json& report);

}  // namespace isobar
