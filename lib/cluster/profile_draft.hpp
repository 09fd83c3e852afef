// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/cluster/profile.hpp>
#include <isobar/core/config.hpp>

#include <set>
#include <string>
#include <vector>

namespace isobar {

/// A profile while files are laid over each other.
struct ProfileDraft {
  ClusterProfile profile;
  /// Every key that a file gave, such as "node.gpus" or "queues.normal.qos".
  std::set<std::string> given;
};

/// Reads a file's section over the draft: a value or a list replaces what was there, maps and
/// queues are read entry by entry, and an empty text takes a map's entry away. Marks of what is not
/// certain go from keys that are given. Returns the keys. `path` is where in its file the section
/// lies, with a dot at its end; `origin` begins messages.
std::vector<std::string> read_over(ProfileDraft& draft, const Config& section,
                                   const std::string& path, const std::string& origin);

/// Throws UsageError for what no machine can be. `origin` begins messages.
void check_draft(const ProfileDraft& draft, const std::string& origin);

/// Throws UsageError for a word that a key of a profile cannot be: a dot would make it two.
void check_key_word(const std::string& word, const std::string& what, const std::string& origin);

}  // namespace isobar
