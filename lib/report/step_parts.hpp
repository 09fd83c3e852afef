// SPDX-License-Identifier: Apache-2.0
// What a step's time is made of: its parts' names and colours, and where runs have written them.
#pragma once

#include <isobar/report/report.hpp>
#include <nlohmann/json.hpp>

#include <array>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace isobar {

/// By name, in seconds a step; `step` is the whole.
using StepParts = std::map<std::string, double>;

/// In the order in which a step has them, and in which bars are stacked; a part's place is its
/// colour.
inline constexpr std::array<const char*, 8> kParts{
    "data_wait", "copy", "zero_grad", "forward", "backward", "exposed_comm", "optimizer", "other"};

/// A part's name for people.
std::string title_of_part(const std::string& part);

/// Of a row of `bench step`, or of medians over a training run's lines of steps.
StepParts parts_of_row(const nlohmann::json& row);

/// Of a profile (`isobar.profile.1`): the means over its ranks.
StepParts parts_of_profile(const nlohmann::json& profile);

/// Of what a run of a campaign has left; empty where it left no parts.
StepParts parts_of_run(const std::filesystem::path& folder);

/// Medians over the lines of steps of a metrics.jsonl, without the first line, which warms up.
nlohmann::json step_medians(const std::vector<nlohmann::json>& events);

/// The objects of a file of lines; what is not whole is left out.
std::vector<nlohmann::json> objects_of_lines(const std::filesystem::path& file);

/// The medians of several runs' parts.
StepParts median_parts(const std::vector<StepParts>& all);

/// Stacked bars, one for each label. `projected` where it is not measured.
ReportChart parts_chart(const std::string& title, const std::string& note,
                        const std::string& what_labels_are, const std::vector<std::string>& labels,
                        const std::vector<StepParts>& parts);

/// One step of a profile, each rank's parts and buckets on an axis of time; nothing where the
/// profile has none, which older ones have not.
void add_timeline(ReportSection& section, const nlohmann::json& profile);

/// A profile's charts and tables: parts by rank, a timeline, collectives, totals.
void add_profile(ReportSection& section, const nlohmann::json& profile);

}  // namespace isobar
