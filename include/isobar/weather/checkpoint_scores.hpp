// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/communicator.hpp>
#include <isobar/train/scoring.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace isobar {

/// What of a checkpoint's forecasts is scored.
struct CheckpointScoring {
  std::string path;                    ///< a run's folder, whose best checkpoint it is, or its own
  std::vector<std::string> overrides;  ///< "section.key=value", over the checkpoint's experiment
  std::string split = "test";          ///< or "validation"
  std::string climatology = "training";  ///< "none": without anomaly correlation
  bool spectra = false;
  std::string maps;     ///< a file for maps of the last sample (write_maps); empty for none
  int64_t rollout = 0;  ///< steps of a forecast, each scored; 0: the experiment's lead times
};

struct CheckpointScores {
  Evaluation found;                     ///< the same on every rank
  std::vector<std::string> warnings;    ///< what could make the scores mean something else
  std::unique_ptr<Communicator> world;  ///< the ranks that have scored
};

/// Scores a checkpoint's forecasts as `isobar evaluate` does: by the experiment that the checkpoint
/// holds, with its scales, over the backend that it names. `warn` gets each warning as it is known,
/// on every rank; null for none. Rank 0 shows progress. Collective over the ranks of this launch;
/// blocks. Throws on every rank: DataError where `path` is no checkpoint, or the data are in other
/// units than the scales, or a lead time has nothing to score; UsageError for an override that
/// makes another model.
CheckpointScores score_checkpoint(const CheckpointScoring& scoring,
                                  const std::function<void(const std::string&)>& warn = nullptr);

}  // namespace isobar
