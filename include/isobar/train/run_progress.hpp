// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <optional>
#include <string>

namespace isobar {

/// How far a run has come, by what lies in its folder.
struct RunProgress {
  std::string began;                                       ///< UTC, ISO 8601
  std::optional<std::int64_t> step;                        ///< the last that was logged
  double loss = std::numeric_limits<double>::quiet_NaN();  ///< of that step
  std::optional<std::int64_t> checkpoint;                  ///< the step of the last one
};

/// Nothing where no run has begun in `folder`. A line that is being written counts for nothing, so
/// this may be called while the run goes on.
std::optional<RunProgress> read_progress(const std::filesystem::path& folder);

}  // namespace isobar
