// SPDX-License-Identifier: Apache-2.0
#include <isobar/train/run_folder.hpp>

#include <isobar/comm/agreement.hpp>
#include <isobar/core/error.hpp>
#include <nlohmann/json.hpp>

namespace isobar {
namespace {

void move_aside(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) return;
  for (int n = 1;; ++n) {
    const std::filesystem::path aside = path.string() + "." + std::to_string(n);
    if (std::filesystem::exists(aside)) continue;
    std::filesystem::rename(path, aside);
    return;
  }
}

void make(const std::filesystem::path& path) {
  try {
    move_aside(path);
    std::filesystem::create_directories(path / "log");
  } catch (const std::filesystem::filesystem_error& error) {
    throw Error(
        detail::join("run folder '", path.string(), "' cannot be made: ", error.code().message()));
  }
}

}  // namespace

RunFolder::RunFolder(Communicator& world, const std::filesystem::path& parent,
                     const std::string& name)
    : path_(parent / name) {
  run_agreed(world, [&] {
    ISOBAR_CHECK(!name.empty() && name.find('/') == std::string::npos && name[0] != '.',
                 "run.name must be a plain folder name, got '", name, "'");
    if (world.rank() == 0) make(path_);
  });
  run_agreed(world, [&] {
    log_ = std::make_unique<Logger>(
        LogOptions{.rank = world.rank(), .size = world.size(), .folder = path_ / "log"});
    if (world.rank() == 0) metrics_ = std::make_unique<JsonLines>(path_ / "metrics.jsonl");
  });
}

void RunFolder::metric(const nlohmann::json& event) {
  if (metrics_) metrics_->append(event);
}

}  // namespace isobar
