// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/train/state.hpp>

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace isobar {

struct CheckpointOptions {
  /// Free text for the manifest: configuration, scores, ...
  std::map<std::string, std::string> metadata = {};
  /// How many of the newest checkpoints stay, this one included; 0 keeps all.
  int keep = 3;
  /// The step of one more that stays, such as the best.
  std::optional<std::int64_t> protected_step = {};
};

/// Saves `parts` as `<folder>/step_00000120/`: for each part a safetensors file
/// and, in `manifest.json`, its version, scalars, and the file's size and hash.
///
/// The checkpoint is there complete or not at all: it is written under another
/// name, made durable, read back, compared with its hashes, and renamed; then
/// only are older ones removed. One of the same step is replaced. Returns the
/// checkpoint's folder.
///
/// One rank calls this. Throws UsageError for a part's name that is not valid
/// or given twice, Error where something cannot be written, DataError where
/// what was read back differs.
std::filesystem::path save_checkpoint(const std::filesystem::path& folder, std::int64_t step,
                                      const std::vector<const Stateful*>& parts,
                                      const CheckpointOptions& options = {});

/// Removes the checkpoints in `folder` that need not stay by `options`, as save_checkpoint() does.
/// One rank calls this.
void remove_checkpoints(const std::filesystem::path& folder, const CheckpointOptions& options);

struct LoadedCheckpoint {
  std::int64_t step = 0;
  std::map<std::string, std::string> metadata;
  /// Parts in the checkpoint that nobody asked for.
  std::vector<std::string> unknown_parts;
};

/// Loads `parts` from a checkpoint's folder, in the order given.
///
/// All files asked for are read and compared with their hashes, and all
/// versions compared, before the first part is changed. Throws DataError naming
/// file and part where one is damaged, missing, or newer than the code.
LoadedCheckpoint load_checkpoint(const std::filesystem::path& path,
                                 const std::vector<Stateful*>& parts);

/// The checkpoint of the greatest step in `folder`; nothing where there is none
/// or no folder.
std::optional<std::filesystem::path> find_latest(const std::filesystem::path& folder);

}  // namespace isobar
