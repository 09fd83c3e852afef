// SPDX-License-Identifier: Apache-2.0
#include <isobar/train/run_progress.hpp>

#include <nlohmann/json.hpp>

#include <fstream>

namespace isobar {
namespace {

/// No object where the text is not whole.
nlohmann::json parse_whole(const std::string& text) {
  return nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
}

void take_event(const nlohmann::json& event, RunProgress& progress) {
  const auto kind = event.value("event", "");
  if (kind == "checkpoint") progress.checkpoint = event.at("step");
  if (kind != "step") return;
  progress.step = event.at("step");
  const auto& loss = event.at("loss");  // null where it is no finite number
  progress.loss = loss.is_number() ? loss.get<double>() : RunProgress().loss;
}

}  // namespace

std::optional<RunProgress> read_progress(const std::filesystem::path& folder) {
  std::ifstream record(folder / "record.json"), metrics(folder / "metrics.jsonl");
  const auto about = parse_whole({std::istreambuf_iterator<char>(record), {}});
  if (!about.is_object()) return {};
  RunProgress progress;
  progress.began = about.value("start_time", "");
  for (std::string line; std::getline(metrics, line);) {
    const auto event = parse_whole(line);
    if (event.is_object()) take_event(event, progress);
  }
  return progress;
}

}  // namespace isobar
