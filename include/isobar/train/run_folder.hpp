// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/communicator.hpp>
#include <isobar/core/log.hpp>
#include <isobar/core/record.hpp>
#include <nlohmann/json_fwd.hpp>

#include <filesystem>
#include <memory>
#include <string>

namespace isobar {

class FolderLock;

/// Where a run leaves what it has to say: `<parent>/<name>/` with
/// metrics.jsonl, record.json, checkpoints/ and log/. A run that ends before its first step leaves
/// nothing: its folder goes, and an earlier run of that name comes back to its place.
class RunFolder {
 public:
  /// Makes an empty folder; an earlier run of that name is moved aside, to
  /// `<name>.1`, `<name>.2`, ... Collective; blocks. What fails on rank 0 is
  /// thrown on every rank: UsageError where another run of that name goes on.
  RunFolder(Communicator& world, const std::filesystem::path& parent, const std::string& name);

  /// Removes the folder unless it is kept. Never communicates.
  ~RunFolder();
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;

  const std::filesystem::path& path() const noexcept { return path_; }

  /// There is something worth keeping: a step was made. A metric keeps the folder too.
  void keep() noexcept { is_kept_ = true; }

  /// Every rank's own.
  Logger& log() noexcept { return *log_; }

  /// Appends a line to metrics.jsonl. Rank 0 writes; elsewhere nothing happens.
  void metric(const nlohmann::json& event);

 private:
  void discard() noexcept;

  std::filesystem::path path_;
  std::unique_ptr<FolderLock> lock_;  ///< on rank 0, which made the folder
  bool makes_parent_ = false;
  bool is_kept_ = false;
  std::unique_ptr<Logger> log_;
  std::unique_ptr<JsonLines> metrics_;
};

}  // namespace isobar
