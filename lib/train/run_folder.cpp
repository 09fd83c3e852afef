// SPDX-License-Identifier: Apache-2.0
#include <isobar/train/run_folder.hpp>

#include "train/folder_lock.hpp"

#include <isobar/comm/agreement.hpp>
#include <isobar/core/error.hpp>
#include <nlohmann/json.hpp>

namespace isobar {
RunFolder::RunFolder(Communicator& world, const std::filesystem::path& parent,
                     const std::string& name)
    : path_(parent / name) {
  run_agreed(world, [&] {
    ISOBAR_CHECK(!name.empty() && name.find('/') == std::string::npos && name[0] != '.',
                 "run.name must be a plain folder name, got '", name, "'");
    if (world.rank() != 0) return;
    makes_parent_ = !std::filesystem::exists(parent);
    lock_ = std::make_unique<FolderLock>(path_);
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
  if (!lock_ || is_kept_) return;
  metrics_.reset();
  log_.reset();
  std::error_code ignored;  // a folder that cannot go stays
  std::filesystem::remove_all(path_, ignored);
  // Where another run has taken the name since, this fails.
  if (!lock_->aside().empty()) std::filesystem::rename(lock_->aside(), path_, ignored);
  if (makes_parent_) std::filesystem::remove(path_.parent_path(), ignored);  // if it is empty
}

void RunFolder::metric(const nlohmann::json& event) {
  keep();
  if (metrics_) metrics_->append(event);
}

}  // namespace isobar
