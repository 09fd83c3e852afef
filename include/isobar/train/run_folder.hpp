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

/// Where a run leaves what it has to say: `<parent>/<name>/` with
/// metrics.jsonl, record.json, checkpoints/ and log/.
class RunFolder {
 public:
  /// Makes an empty folder; an earlier run of that name is moved aside, to
  /// `<name>.1`, `<name>.2`, ... Collective; blocks. What fails on rank 0 is
  /// thrown on every rank.
  RunFolder(Communicator& world, const std::filesystem::path& parent, const std::string& name);

  const std::filesystem::path& path() const noexcept { return path_; }

  /// Every rank's own.
  Logger& log() noexcept { return *log_; }

  /// Appends a line to metrics.jsonl. Rank 0 writes; elsewhere nothing happens.
  void metric(const nlohmann::json& event);

 private:
  std::filesystem::path path_;
  std::unique_ptr<Logger> log_;
  std::unique_ptr<JsonLines> metrics_;
};

}  // namespace isobar
