// SPDX-License-Identifier: Apache-2.0
// What lies in the folder of a run, and what it means. A run is done once run.json is there, says
// exit code 0 and has a result beside it; whatever else lies under its name is an attempt.
#pragma once

#include <isobar/scaling/campaign.hpp>
#include <nlohmann/json.hpp>

#include <filesystem>
#include <optional>
#include <string>

namespace isobar {

inline constexpr const char* kRecordFile = "run.json";
inline constexpr const char* kSubmittedFile = "submitted.json";
inline constexpr const char* kOutputFile = "output.log";
inline constexpr const char* kResultFile = "result.json";

enum class RunState { absent, attempted, queued, done };

RunState run_state(CampaignKind kind, const std::filesystem::path& folder);

/// What a run has measured: the row of its report; of train the median of each number in the lines
/// of steps, without the first, which warms up. Nothing where it cannot be read.
std::optional<nlohmann::json> read_row(CampaignKind kind, const std::filesystem::path& folder);

/// An object of a file; nothing where it cannot be read.
std::optional<nlohmann::json> read_object(const std::filesystem::path& file);

/// Gives an attempt another name: <repeat>.<what>-<n>.
void set_aside(const std::filesystem::path& folder, const std::string& what);

/// How many of a run's attempts were set aside as that.
int count_aside(const std::filesystem::path& folder, const std::string& what);

/// The line of a run's output that says why it failed: the first that speaks of an error, else the
/// first. What launchers add stands behind it.
std::string telling_line(const std::filesystem::path& output);

/// The time, UTC, ISO 8601.
std::string utc_time();

}  // namespace isobar
