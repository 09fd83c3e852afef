// SPDX-License-Identifier: Apache-2.0
#include <isobar/train/run_folder.hpp>

#include <isobar/comm/agreement.hpp>
#include <isobar/core/error.hpp>
#include <nlohmann/json.hpp>

namespace isobar {
namespace {

/// Where an earlier run was moved; empty where there was none.
std::filesystem::path move_aside(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) return {};
  for (int n = 1;; ++n) {
    std::filesystem::path aside = path.string() + "." + std::to_string(n);
    if (std::filesystem::exists(aside)) continue;
    std::filesystem::rename(path, aside);
    return aside;
  }
}

std::filesystem::path make(const std::filesystem::path& path) {
  try {
    auto aside = move_aside(path);
    std::filesystem::create_directories(path / "log");
    return aside;
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
    if (world.rank() != 0) return;
    makes_parent_ = !std::filesystem::exists(parent);
    aside_ = make(path_);
    is_maker_ = true;
  });
  try {
    run_agreed(world, [&] {
      log_ = std::make_unique<Logger>(
          LogOptions{.rank = world.rank(), .size = world.size(), .folder = path_ / "log"});
      if (world.rank() == 0) metrics_ = std::make_unique<JsonLines>(path_ / "metrics.jsonl");
    });
  } catch (...) {
    discard();
    throw;
  }
}

RunFolder::~RunFolder() { discard(); }

void RunFolder::discard() noexcept {
  if (!is_maker_ || is_kept_) return;
  metrics_.reset();
  log_.reset();
  std::error_code ignored;  // a folder that cannot go stays
  std::filesystem::remove_all(path_, ignored);
  if (!aside_.empty() && !std::filesystem::exists(path_, ignored)) {
    std::filesystem::rename(aside_, path_, ignored);
  }
  if (makes_parent_) std::filesystem::remove(path_.parent_path(), ignored);  // if it is empty
}

void RunFolder::metric(const nlohmann::json& event) {
  keep();
  if (metrics_) metrics_->append(event);
}

}  // namespace isobar
