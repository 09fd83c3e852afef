// SPDX-License-Identifier: Apache-2.0
// Called on one thread: on rank 0 to save and to remove, on every rank to load. What other ranks
// hold has been collected before (ShardedPart, CompressorPart).
//
// A folder `step_N` with a manifest is a whole checkpoint, at every moment and after any crash: it
// is written under a name that begins with a dot, made durable, read back and only then renamed,
// and one that is removed loses its manifest first. Older ones go last, when the new one is there:
// a run that dies while it saves can go on from the one before.
#include <isobar/core/atomic_file.hpp>
#include <isobar/core/error.hpp>
#include <isobar/core/text.hpp>
#include <isobar/train/checkpoint.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <set>

#include "train/checkpoint_manifest.hpp"
#include "train/safetensors_write.hpp"

namespace isobar {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPrefix = "step_";

std::string folder_name(std::int64_t step) { return fmt::format("{}{:08}", kPrefix, step); }

std::optional<std::int64_t> step_of(const fs::path& path) {
  const std::string name = path.filename().string();
  std::int64_t step = 0;
  const char* begin = name.data() + std::string_view(kPrefix).size();
  const char* end = name.data() + name.size();
  if (name.rfind(kPrefix, 0) != 0) return std::nullopt;
  const auto [rest, error] = std::from_chars(begin, end, step);
  if (error != std::errc() || rest != end || step < 0) return std::nullopt;
  return step;
}

/// Complete checkpoints by step.
std::map<std::int64_t, fs::path> checkpoints_in(const fs::path& folder) {
  std::map<std::int64_t, fs::path> found;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(folder, none)) {
    const auto step = step_of(entry.path());
    if (step && fs::exists(entry.path() / kManifestName, none)) found.emplace(*step, entry.path());
  }
  return found;
}

void check_names(const std::vector<const Stateful*>& parts) {
  std::set<std::string> names;
  for (const Stateful* part : parts) {
    const std::string name = part->name();
    const bool valid = !name.empty() && name.find_first_not_of(
                                            "abcdefghijklmnopqrstuvwxyz_"
                                            "0123456789") == std::string::npos;
    ISOBAR_CHECK(valid, "save checkpoint: part name '", name,
                 "' must be small letters, digits and '_'");
    ISOBAR_CHECK(names.insert(name).second, "save checkpoint: two parts are named '", name, "'");
  }
}

ManifestPart write_part(const fs::path& folder, const Stateful& part) {
  StateDict state;
  part.save(state);
  const std::string file = part.name() + ".safetensors";
  return {.name = part.name(),
          .version = part.version(),
          .file = file,
          .hash = write_and_hash_safetensors(folder / file, state.tensors()),
          .scalars = state.scalars()};
}

/// Writes a checkpoint under a name that no reader takes for one.
void write_unnamed(const fs::path& folder, std::int64_t step,
                   const std::vector<const Stateful*>& parts, const CheckpointOptions& options) {
  fs::remove_all(folder);
  fs::create_directories(folder);
  Manifest manifest{.step = step, .metadata = options.metadata, .parts = {}};
  for (const Stateful* part : parts) manifest.parts.push_back(write_part(folder, *part));
  write_manifest(folder, manifest);
  for (const ManifestPart& part : read_manifest(folder).parts) verify_part(folder, part);
}

/// Gives the checkpoint its name. One that has it steps aside first, since a
/// folder with files in it cannot be renamed over.
void give_name(const fs::path& unnamed, const fs::path& path) {
  if (fs::exists(path)) {
    const fs::path aside = path.parent_path() / fmt::format(".{}.old", path.filename().string());
    fs::remove_all(aside);
    fs::rename(path, aside);
  }
  fs::rename(unnamed, path);
  sync_folder(path.parent_path());
}

bool is_leftover(const fs::path& path) {
  return path.filename().string().rfind(fmt::format(".{}", kPrefix), 0) == 0;
}

/// Removes what a run that died left, and checkpoints that need not stay. A
/// checkpoint loses its manifest first: half removed, it is none.
void remove_old(const fs::path& folder, std::optional<std::int64_t> saved,
                const CheckpointOptions& options) {
  std::vector<fs::path> leftovers;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (is_leftover(entry.path())) leftovers.push_back(entry.path());
  }
  for (const fs::path& leftover : leftovers) fs::remove_all(leftover);
  if (options.keep == 0) return;
  const auto found = checkpoints_in(folder);
  int newer = 0;
  for (auto it = found.rbegin(); it != found.rend(); ++it) {
    if (newer++ < options.keep || it->first == saved || it->first == options.protected_step) {
      continue;
    }
    fs::remove(it->second / kManifestName);
    fs::remove_all(it->second);
  }
}

const ManifestPart& find_part(const fs::path& path, const Manifest& manifest,
                              const Stateful& wanted) {
  std::vector<std::string> names;
  for (const ManifestPart& part : manifest.parts) {
    if (part.name == wanted.name()) return part;
    names.push_back(part.name);
  }
  throw DataError(fmt::format("checkpoint {}: part '{}' is missing; it has {}", path.string(),
                              wanted.name(), join_words(names)));
}

StateDict read_state(const fs::path& path, const ManifestPart& part, const Stateful& wanted) {
  if (part.version > wanted.version()) {
    throw DataError(fmt::format(
        "checkpoint {}: part '{}' has version {}, this isobar reads up to {}; use a newer one",
        path.string(), part.name, part.version, wanted.version()));
  }
  verify_part(path, part);
  StateDict state;
  for (auto& [key, tensor] : read_safetensors(path / part.file).tensors) state.put(key, tensor);
  for (const auto& [key, scalar] : part.scalars) state.put_scalar(key, scalar);
  return state;
}

void load_part(const fs::path& path, Stateful& part, const StateDict& state, int version) {
  try {
    part.load(state, version);
  } catch (const DataError& error) {
    throw DataError(
        fmt::format("checkpoint {}: part '{}': {}", path.string(), part.name(), error.what()));
  }
}

std::vector<std::string> names_not_in(const std::vector<Stateful*>& parts,
                                      const Manifest& manifest) {
  std::vector<std::string> names;
  for (const ManifestPart& entry : manifest.parts) {
    const bool asked = std::any_of(parts.begin(), parts.end(), [&](const Stateful* part) {
      return part->name() == entry.name;
    });
    if (!asked) names.push_back(entry.name);
  }
  return names;
}

}  // namespace

std::filesystem::path save_checkpoint(const std::filesystem::path& folder, std::int64_t step,
                                      const std::vector<const Stateful*>& parts,
                                      const CheckpointOptions& options) {
  ISOBAR_CHECK(step >= 0, "save checkpoint: step must not be negative, got ", step);
  ISOBAR_CHECK(options.keep >= 0, "save checkpoint: keep must not be negative, got ", options.keep);
  check_names(parts);
  fs::path path = folder / folder_name(step);
  const fs::path unnamed = folder / fmt::format(".{}.tmp", folder_name(step));
  try {
    write_unnamed(unnamed, step, parts, options);
    give_name(unnamed, path);
    remove_old(folder, step, options);
  } catch (const fs::filesystem_error& error) {
    throw Error(fmt::format("save checkpoint {}: {}", path.string(), error.what()));
  }
  return path;
}

void remove_checkpoints(const std::filesystem::path& folder, const CheckpointOptions& options) {
  ISOBAR_CHECK(options.keep >= 0, "remove checkpoints: keep must not be negative, got ",
               options.keep);
  try {
    remove_old(folder, std::nullopt, options);
  } catch (const fs::filesystem_error& error) {
    throw Error(fmt::format("remove checkpoints of {}: {}", folder.string(), error.what()));
  }
}

LoadedCheckpoint load_checkpoint(const std::filesystem::path& path,
                                 const std::vector<Stateful*>& parts) {
  const Manifest manifest = read_manifest(path);
  std::vector<StateDict> states;
  states.reserve(parts.size());
  for (const Stateful* part : parts) {
    states.push_back(read_state(path, find_part(path, manifest, *part), *part));
  }
  for (std::size_t i = 0; i < parts.size(); ++i) {
    load_part(path, *parts[i], states[i], find_part(path, manifest, *parts[i]).version);
  }
  return {.step = manifest.step,
          .metadata = manifest.metadata,
          .unknown_parts = names_not_in(parts, manifest)};
}

std::optional<std::filesystem::path> find_latest(const std::filesystem::path& folder) {
  const auto found = checkpoints_in(folder);
  if (found.empty()) return std::nullopt;
  return found.rbegin()->second;
}

}  // namespace isobar
