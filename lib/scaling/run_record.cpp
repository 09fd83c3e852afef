// SPDX-License-Identifier: Apache-2.0
#include "scaling/run_record.hpp"

#include <isobar/core/summary.hpp>
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <fstream>
#include <map>
#include <vector>

namespace isobar {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::optional<json> parse_object(const std::string& text) {
  auto value = json::parse(text, nullptr, false);
  if (!value.is_object()) return std::nullopt;
  return value;
}

std::optional<json> report_row(const fs::path& file) {
  const auto report = read_object(file);
  if (!report || !report->contains("rows")) return std::nullopt;
  const auto& rows = report->at("rows");
  if (!rows.is_array() || rows.size() != 1 || !rows[0].is_object()) return std::nullopt;
  return rows[0];
}

/// The objects of a training run's lines of steps.
std::vector<json> step_lines(const fs::path& metrics) {
  std::ifstream file(metrics);
  std::vector<json> found;
  for (std::string line; std::getline(file, line);) {
    auto object = parse_object(line);
    if (object && object->value("event", "") == "step") found.push_back(std::move(*object));
  }
  return found;
}

std::optional<json> training_row(const fs::path& metrics) {
  const auto lines = step_lines(metrics);
  if (lines.empty()) return std::nullopt;
  std::map<std::string, std::vector<double>> values;
  for (std::size_t i = lines.size() > 1 ? 1 : 0; i < lines.size(); ++i) {
    for (const auto& item : lines[i].items()) {
      if (item.value().is_number()) values[item.key()].push_back(item.value().get<double>());
    }
  }
  auto row = json::object();
  for (auto& [name, samples] : values) {
    std::sort(samples.begin(), samples.end());
    row[name] = quantile(samples, 0.5);
  }
  return row;
}

fs::path aside_name(const fs::path& folder, const std::string& what, int n) {
  return fmt::format("{}.{}-{}", folder.string(), what, n);
}

}  // namespace

std::optional<json> read_object(const fs::path& file) {
  std::ifstream stream(file);
  if (!stream) return std::nullopt;
  return parse_object({std::istreambuf_iterator<char>(stream), {}});
}

std::optional<json> read_row(CampaignKind kind, const fs::path& folder) {
  if (kind == CampaignKind::train) return training_row(folder / "train" / "metrics.jsonl");
  return report_row(folder / kResultFile);
}

RunState run_state(CampaignKind kind, const fs::path& folder) {
  if (!fs::exists(folder)) return RunState::absent;
  const auto record = read_object(folder / kRecordFile);
  if (!record) {
    return fs::exists(folder / kSubmittedFile) ? RunState::queued : RunState::attempted;
  }
  const auto end = record->value("end", json::object());
  const bool well = end.is_object() && end.value("exit_code", -1) == 0;
  return well && read_row(kind, folder) ? RunState::done : RunState::attempted;
}

void set_aside(const fs::path& folder, const std::string& what) {
  for (int n = 1;; ++n) {
    const auto aside = aside_name(folder, what, n);
    if (fs::exists(aside)) continue;
    fs::rename(folder, aside);
    return;
  }
}

int count_aside(const fs::path& folder, const std::string& what) {
  int n = 0;
  while (fs::exists(aside_name(folder, what, n + 1))) ++n;
  return n;
}

std::string telling_line(const fs::path& output) {
  std::ifstream file(output);
  std::string first;
  for (std::string line; std::getline(file, line);) {
    if (line.find("error:") != std::string::npos) return line;
    const bool says_something = line.find_first_not_of(" \t\r-") != std::string::npos;
    if (first.empty() && says_something) first = line;
  }
  return first;
}

std::string utc_time() {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)));
}

}  // namespace isobar
