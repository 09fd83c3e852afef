// SPDX-License-Identifier: Apache-2.0
// Which machine this is, by what a process sees of it. Evidence is of two sorts. Files, folders and
// the host name belong to the machine that the process runs on. Variables travel: with ssh and
// sbatch, into containers, in start-up files that were copied from another machine. So the
// machine's own word goes first, and a variable that contradicts it is left over. A host name that
// many machines have is not such a word, and never decides against a variable.
#include <isobar/cluster/detect.hpp>

#include <isobar/core/error.hpp>
#include <isobar/core/machine.hpp>
#include <isobar/core/text.hpp>
#include <isobar/launch/environment.hpp>
#include <sys/socket.h>
#include <netdb.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <future>
#include <iterator>
#include <memory>
#include <regex>
#include <set>
#include <sstream>
#include <thread>

namespace isobar {
namespace {

using Names = std::set<std::string>;

Names common(const Names& a, const Names& b) {
  Names both;
  std::set_intersection(a.begin(), a.end(), b.begin(), b.end(), std::inserter(both, both.end()));
  return both;
}

Names united(Names a, const Names& b) {
  a.insert(b.begin(), b.end());
  return a;
}

Names without(const Names& a, const Names& b) {
  Names rest;
  std::set_difference(a.begin(), a.end(), b.begin(), b.end(), std::inserter(rest, rest.end()));
  return rest;
}

/// Those of `names` that `more` speaks for as well, if there are any.
Names narrowed(const Names& names, const Names& more) {
  auto both = common(names, more);
  return both.empty() ? names : both;
}

bool matches(const std::string& text, const std::string& pattern) {
  return !pattern.empty() &&
         std::regex_match(text, std::regex(pattern, std::regex::ECMAScript | std::regex::icase));
}

/// What one kind of evidence says.
struct Evidence {
  Names fits;
  Names excludes;  ///< machines that have something else in its place
  std::vector<std::string> seen;
  std::vector<std::string> unknown;  ///< seen, and nobody's

  void note(const std::string& name, bool fit, const std::string& words) {
    (fit ? fits : excludes).insert(name);
    auto& list = fit ? seen : unknown;
    if (std::find(list.begin(), list.end(), words) == list.end()) list.push_back(words);
  }

  std::string words() const { return join_words(seen, " and "); }
};

std::string value_of(const MachineFacts& facts, const std::string& variable) {
  const auto found = facts.environment.find(variable);
  return found == facts.environment.end() ? std::string() : found->second;
}

Evidence of_files(const std::vector<ClusterProfile>& profiles, const MachineFacts& facts) {
  Evidence evidence;
  for (const auto& profile : profiles) {
    for (const auto& [path, pattern] : profile.detection.files) {
      const auto text = facts.text_of(path);
      if (text.empty()) continue;
      evidence.note(profile.name, matches(text, pattern), path + " holds '" + text + "'");
    }
  }
  return evidence;
}

Evidence of_variables(const std::vector<ClusterProfile>& profiles, const MachineFacts& facts) {
  Evidence evidence;
  for (const auto& profile : profiles) {
    for (const auto& [name, pattern] : profile.detection.environment) {
      const auto value = value_of(facts, name);
      if (value.empty()) continue;
      evidence.note(profile.name, matches(value, pattern), name + "=" + value);
    }
  }
  return evidence;
}

Evidence of_slurm(const std::vector<ClusterProfile>& profiles, const MachineFacts& facts) {
  Evidence evidence;
  const auto value = value_of(facts, "SLURM_CLUSTER_NAME");
  for (const auto& profile : profiles) {
    const auto& pattern = profile.detection.slurm_cluster_name;
    if (value.empty() || pattern.empty()) continue;
    evidence.note(profile.name, matches(value, pattern), "SLURM_CLUSTER_NAME=" + value);
  }
  return evidence;
}

Evidence of_host(const std::vector<ClusterProfile>& profiles, const MachineFacts& facts) {
  Evidence evidence;
  for (const auto& profile : profiles) {
    if (!matches(facts.host_name, profile.detection.host_name)) continue;
    evidence.note(profile.name, true, "host name " + facts.host_name);
  }
  return evidence;
}

Evidence of_likeness(const std::vector<ClusterProfile>& profiles, const MachineFacts& facts) {
  Evidence evidence;
  const auto short_name = facts.host_name.substr(0, facts.host_name.find('.'));
  for (const auto& profile : profiles) {
    const auto& pattern = profile.detection.host_name_alike;
    if (!matches(facts.host_name, pattern) && !matches(short_name, pattern)) continue;
    evidence.note(profile.name, true, "host name " + facts.host_name);
  }
  return evidence;
}

/// The machines of which one folder at least is here, one marker of either sort, or all markers.
struct Markers {
  Evidence folder;
  Evidence some;
  Evidence all;
};

void note_markers(Markers& markers, const ClusterProfile& profile, const MachineFacts& facts) {
  const auto& rules = profile.detection;
  std::vector<std::string> here;
  for (const auto& path : rules.marker_paths) {
    if (facts.exists(path)) here.push_back(path);
  }
  if (!here.empty()) markers.folder.note(profile.name, true, join_words(here, " and "));
  for (const auto& name : rules.marker_variables) {
    if (!value_of(facts, name).empty()) here.push_back(name);
  }
  if (here.empty()) return;
  markers.some.note(profile.name, true, join_words(here, " and "));
  const auto count = rules.marker_variables.size() + rules.marker_paths.size();
  if (count > 1 && here.size() == count) {
    markers.all.note(profile.name, true, join_words(here, " and "));
  }
}

Markers markers_of(const std::vector<ClusterProfile>& profiles, const MachineFacts& facts) {
  Markers markers;
  for (const auto& profile : profiles) note_markers(markers, profile, facts);
  return markers;
}

struct AllEvidence {
  Evidence files, variables, slurm, host, likeness;
  Markers markers;
};

Detection detected(const Names& names, const std::string& reason) {
  return {{names.begin(), names.end()}, reason};
}

std::string either(const Names& names) { return join_words({names.begin(), names.end()}, " or "); }

/// What travels and speaks for none of `names`, for the end of a reason.
std::string left_over(const AllEvidence& evidence, const Names& names) {
  std::string text;
  for (const auto* one : {&evidence.variables, &evidence.slurm}) {
    if (one->fits.empty() || !common(one->fits, names).empty()) continue;
    text += detail::join("; ", one->words(), ", which is ", either(one->fits),
                         "'s, is taken for left over from there");
  }
  return text;
}

/// By what belongs to the machine itself; no reason where that says nothing.
Detection by_machine(const AllEvidence& evidence) {
  const auto& [files, variables, slurm, host, likeness, markers] = evidence;
  if (!files.fits.empty() && !host.fits.empty() && common(files.fits, host.fits).empty()) {
    return detected(united(files.fits, host.fits),
                    files.words() + ", and " + host.words() + " contradicts it");
  }
  auto words = files.fits.empty() ? host.words() : files.words();
  auto own =
      files.fits.empty() ? without(host.fits, files.excludes) : narrowed(files.fits, host.fits);
  if (own.empty()) {
    own = without(common(likeness.fits, markers.folder.fits), files.excludes);
    words = likeness.words() + " beside " + markers.folder.words();
  }
  if (own.empty()) return {};
  const auto rest = left_over(evidence, own);
  for (const auto* more : {&variables, &slurm, &markers.some}) own = narrowed(own, more->fits);
  return detected(own, words + rest);
}

/// By variables, where the machine says nothing; no reason where they do not either.
Detection by_what_travels(const AllEvidence& evidence) {
  const auto& [files, variables, slurm, host, likeness, markers] = evidence;
  auto names = without(united(variables.fits, slurm.fits), files.excludes);
  if (names.empty()) return {};
  auto seen = variables.seen;
  seen.insert(seen.end(), slurm.seen.begin(), slurm.seen.end());
  const auto words = join_words(seen, " and ");
  if (!likeness.fits.empty() && common(names, likeness.fits).empty()) {
    return detected(united(names, likeness.fits),
                    words + ", and " + likeness.words() + " contradicts it");
  }
  for (const auto& more : {common(variables.fits, slurm.fits), likeness.fits, markers.some.fits}) {
    names = narrowed(names, more);
  }
  if (names.size() > 1) return detected(names, words + ", which speaks for each of them");
  for (const auto* one : {&variables, &slurm}) {
    if (common(one->fits, names).empty()) continue;
    return detected(names, one->words() + left_over(evidence, names));
  }
  return {};
}

/// Where nothing alone is proof.
Detection by_likeness(const AllEvidence& evidence, const MachineFacts& facts) {
  const auto& [files, variables, slurm, host, likeness, markers] = evidence;
  const auto excluded = united(united(files.excludes, variables.excludes), slurm.excludes);
  const auto alike = without(likeness.fits, excluded);
  const auto marked = common(alike, markers.some.fits);
  if (!marked.empty()) {
    return detected(marked, likeness.words() + " beside " + markers.some.words());
  }
  const auto fully_marked = without(markers.all.fits, excluded);
  if (likeness.fits.empty() && !fully_marked.empty()) {
    return detected(fully_marked, markers.all.words());
  }
  std::vector<std::string> seen{"host name " + facts.host_name};
  for (const auto* one : {&files, &variables, &slurm}) {
    seen.insert(seen.end(), one->unknown.begin(), one->unknown.end());
  }
  const auto words = join_words(seen, ", ");
  if (!facts.has_slurm) return {{"local"}, "no Slurm, and no known machine has " + words};
  if (alike.size() > 1) return detected(alike, words + ": they look alike, and nothing decides");
  if (alike.empty()) return {{}, words};
  return {{}, detail::join(words, ": like ", either(alike), "'s, and nothing else says so")};
}

/// The name with its domain, as the resolver knows it; empty where it does not answer in time. It
/// may take half a minute where no name server is reached: the thread is then left to itself.
std::string canonical_name(const std::string& host) {
  auto answer = std::make_shared<std::promise<std::string>>();
  auto result = answer->get_future();
  std::thread([host, answer] {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_CANONNAME;
    addrinfo* raw = nullptr;
    const bool found = getaddrinfo(host.c_str(), nullptr, &hints, &raw) == 0 && raw->ai_canonname;
    answer->set_value(found ? raw->ai_canonname : "");
    if (raw) freeaddrinfo(raw);
  }).detach();
  const bool in_time = result.wait_for(std::chrono::seconds(2)) == std::future_status::ready;
  return in_time ? result.get() : std::string();
}

std::string full_host_name() {
  const auto host = host_name();
  if (host.find('.') != std::string::npos) return host;
  // A hosts file may give the loopback address another name before this one.
  const auto full = canonical_name(host);
  return full.starts_with(host + ".") ? full : host;
}

std::string text_of_file(const std::string& path) {
  std::ifstream stream(path);
  std::string line;
  std::getline(stream, line);
  return line.substr(0, line.find_last_not_of(" \t\r") + 1);
}

bool is_in_one_of(const std::string& folders, const std::string& program) {
  std::istringstream stream(folders);
  for (std::string folder; std::getline(stream, folder, ':');) {
    if (!folder.empty() && access((folder + "/" + program).c_str(), X_OK) == 0) return true;
  }
  return false;
}

}  // namespace

MachineFacts read_machine_facts() {
  MachineFacts facts;
  facts.environment = environment_variables();
  facts.host_name = full_host_name();
  facts.text_of = text_of_file;
  facts.exists = [](const std::string& path) {
    std::error_code none;
    return std::filesystem::exists(path, none);
  };
  facts.has_slurm =
      !value_of(facts, "SLURM_JOB_ID").empty() || is_in_one_of(value_of(facts, "PATH"), "sbatch");
  return facts;
}

Detection detect_cluster(const std::vector<ClusterProfile>& profiles, const MachineFacts& facts) {
  const auto chosen = value_of(facts, "ISOBAR_CLUSTER");
  if (!chosen.empty()) {
    try {
      return {{profile_named(profiles, chosen).name}, "ISOBAR_CLUSTER=" + chosen};
    } catch (const UsageError& error) {
      throw UsageError(detail::join("ISOBAR_CLUSTER=", chosen, ": ", error.what()));
    }
  }
  const AllEvidence evidence{of_files(profiles, facts),    of_variables(profiles, facts),
                             of_slurm(profiles, facts),    of_host(profiles, facts),
                             of_likeness(profiles, facts), markers_of(profiles, facts)};
  auto found = by_machine(evidence);
  if (found.reason.empty()) found = by_what_travels(evidence);
  return found.reason.empty() ? by_likeness(evidence, facts) : found;
}

const ClusterProfile& profile_here(const std::vector<ClusterProfile>& profiles,
                                   const std::string& name) {
  if (!name.empty()) return profile_named(profiles, name);
  const auto [clusters, reason] = detect_cluster(profiles, read_machine_facts());
  std::vector<std::string> known;
  for (const auto& profile : profiles) known.push_back(profile.name);
  ISOBAR_CHECK(!clusters.empty(), "cluster: this machine is not known (", reason,
               "); set ISOBAR_CLUSTER to one of ", join_words(known),
               ", or describe it in the file that ISOBAR_CLUSTER_CONFIG names");
  ISOBAR_CHECK(clusters.size() == 1, "cluster: this may be ", join_words(clusters, " or "), " (",
               reason, "); set ISOBAR_CLUSTER to the right one");
  return profile_named(profiles, clusters.front());
}

}  // namespace isobar
