// SPDX-License-Identifier: Apache-2.0
// Which machines are known: those that are part of the library, and what the user's file says of
// them and of others. Whoever makes a job or describes a machine calls read_profiles() once;
// nothing is kept between calls. Of the user's file it is known what a secret's place is, never the
// secret.
#include <isobar/cluster/profile.hpp>

#include <isobar/core/config.hpp>
#include <isobar/core/error.hpp>
#include <isobar/core/text.hpp>
#include <isobar/launch/environment.hpp>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <regex>

#include "cluster/builtin_profiles.hpp"
#include "cluster/profile_draft.hpp"

namespace isobar {
namespace {

constexpr const char* kUsersFile = "ISOBAR_CLUSTER_CONFIG";

using Drafts = std::map<std::string, ProfileDraft>;

ProfileDraft empty_draft(const std::string& name) {
  ProfileDraft draft;
  draft.profile.name = name;
  return draft;
}

ProfileDraft read_draft(const std::string& yaml, const std::string& name, const std::string& file) {
  const auto config = Config::parse(yaml, file);
  auto draft = empty_draft(name);
  read_over(draft, config, "", file);
  config.finish();
  check_draft(draft, file);
  return draft;
}

Drafts builtin_drafts() {
  Drafts drafts;
  for (const auto& [name, text] : builtin_profiles()) {
    drafts.emplace(name, read_draft(text, name, name + ".yaml"));
  }
  return drafts;
}

std::vector<std::string> names_of(const Drafts& drafts) {
  std::vector<std::string> names;
  for (const auto& [name, draft] : drafts) names.push_back(name);
  return names;
}

/// The draft that a section of the user's file is about: one that is there, or a machine of its
/// own.
ProfileDraft& draft_for(Drafts& drafts, const std::string& name, const Config& section,
                        const std::string& origin) {
  if (const auto found = drafts.find(name); found != drafts.end()) return found->second;
  check_key_word(name, "a machine's name", origin);
  ISOBAR_CHECK(section.has("title"), origin, ": no machine '", name,
               "' is known, and without a 'title' this describes no new one; ",
               did_you_mean(name, names_of(drafts)));
  return drafts.emplace(name, empty_draft(name)).first->second;
}

void lay_over(Drafts& drafts, const std::filesystem::path& file) {
  ISOBAR_CHECK(std::filesystem::is_regular_file(file), kUsersFile, " names '", file.string(),
               "', which is no file; correct the variable or unset it");
  const auto config = load_config(file);
  const auto clusters = config.child("clusters");
  const auto names = clusters.keys();
  const auto origin_of = [&](const std::string& name) {
    return file.string() + ": clusters." + name;
  };
  for (const auto& name : names) {
    const auto section = clusters.child(name);
    auto& draft = draft_for(drafts, name, section, origin_of(name));
    draft.profile.overlaid = read_over(draft, section, "clusters." + name + ".", origin_of(name));
  }
  config.finish();
  for (const auto& name : names) check_draft(drafts.at(name), origin_of(name));
}

std::string lower_case(std::string text) {
  for (char& letter : text) {
    letter = static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
  }
  return text;
}

/// A folder as it is used: a ~ in front, $NAME and ${NAME} are this process's. `key` begins the
/// message where one of them is not set.
std::string expanded(const std::string& folder, const std::string& key) {
  static const std::regex variable(R"(\$(\{([A-Za-z_]\w*)\}|([A-Za-z_]\w*)))");
  const auto value_of = [&](const std::string& name) {
    const auto value = environment_variable(name);
    ISOBAR_CHECK(!value.empty(), key, " is '", folder, "', and ", name, " is not set here");
    return value;
  };
  const bool in_home = folder.starts_with("~");
  std::string text = in_home ? value_of("HOME") : "";
  auto rest = folder.cbegin() + (in_home ? 1 : 0);
  for (std::sregex_iterator found(rest, folder.cend(), variable), end; found != end; ++found) {
    text.append(rest, (*found)[0].first);
    text += value_of((*found)[2].matched ? (*found)[2] : (*found)[3]);
    rest = (*found)[0].second;
  }
  return text.append(rest, folder.cend());
}

/// A queue with nothing below is one, too: once it was asked for, the text has it.
std::string section_text(const Config& machine) {
  if (machine.has("queues")) {
    const auto queues = machine.child("queues");
    for (const auto& name : queues.keys()) queues.child(name);
  }
  return machine.yaml();
}

UsageError unknown_machine(const std::string& name, const std::vector<std::string>& names) {
  return UsageError(
      detail::join("no machine '", name, "' is known; ", did_you_mean(lower_case(name), names)));
}

}  // namespace

std::optional<std::string> unverified_reason(const ClusterProfile& profile,
                                             const std::string& key) {
  if (const auto marked = profile.unverified.find(key); marked != profile.unverified.end()) {
    return marked->second;
  }
  const auto& own = profile.overlaid;
  const auto dot = key.rfind('.');
  // A section's mark is about what the user's file left as it was.
  if (dot == std::string::npos || std::find(own.begin(), own.end(), key) != own.end()) {
    return std::nullopt;
  }
  return unverified_reason(profile, key.substr(0, dot));
}

std::vector<ClusterProfile> read_profiles() {
  auto drafts = builtin_drafts();
  const auto file = environment_variable(kUsersFile);
  if (!file.empty()) lay_over(drafts, file);
  std::vector<ClusterProfile> profiles;
  for (auto& [name, draft] : drafts) profiles.push_back(std::move(draft.profile));
  return profiles;
}

const ClusterProfile& profile_named(const std::vector<ClusterProfile>& profiles,
                                    const std::string& name) {
  std::vector<std::string> names;
  for (const auto& profile : profiles) {
    if (profile.name == lower_case(name)) return profile;
    names.push_back(profile.name);
  }
  throw unknown_machine(name, names);
}

std::string data_root(const ClusterProfile& profile, const std::string& name) {
  const auto found = profile.data_roots.find(name);
  std::vector<std::string> known;
  for (const auto& [each, folder] : profile.data_roots) known.push_back(each);
  ISOBAR_CHECK(found != profile.data_roots.end(), profile.name, " has no data root '", name, "'; ",
               known.empty() ? "" : did_you_mean(name, known) + "; ",
               "data_roots in the file that ", kUsersFile, " names adds one");
  const auto& own = profile.overlaid;
  const auto key = "data_roots." + name;
  const bool is_own = std::find(own.begin(), own.end(), key) != own.end();
  const auto origin =
      is_own ? environment_variable(kUsersFile) + ": clusters." + profile.name + "." : "";
  return expanded(found->second, origin + key);
}

ClusterProfile parse_profile(const std::string& yaml, const std::string& name,
                             const std::string& file) {
  return read_draft(yaml, name, file).profile;
}

std::string profile_text(const std::string& name) {
  for (const auto& profile : builtin_profiles()) {
    if (profile.name == lower_case(name)) return profile.text;
  }
  auto names = profile_names();
  if (const auto file = environment_variable(kUsersFile); !file.empty()) {
    const auto clusters = load_config(file).child("clusters");
    if (clusters.has(lower_case(name))) return section_text(clusters.child(lower_case(name)));
    const auto own = clusters.keys();
    names.insert(names.end(), own.begin(), own.end());
  }
  throw unknown_machine(name, names);
}

std::vector<std::string> profile_names() {
  std::vector<std::string> names;
  for (const auto& profile : builtin_profiles()) names.push_back(profile.name);
  return names;
}

}  // namespace isobar
