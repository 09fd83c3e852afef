// SPDX-License-Identifier: Apache-2.0
// What limits a training step, why, what would cure it and what that would gain, from the profile
// that a run leaves. Functions of their arguments.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace isobar {

/// Of one rank, means a step.
struct ProfiledRank {
  int rank = 0;
  std::string host = {};
  double step_s = 0;
  std::map<std::string, double> seconds = {};  ///< by part, such as "backward"
  /// The thread that computes was ready to run and did not; nothing where it was not counted.
  std::optional<double> run_delay_s = {};
  /// That a quota of its control group kept it from running; nothing where it was not counted.
  std::optional<double> throttled_s = {};
  /// Processor time of its other threads, which may have the core that it waits for.
  std::optional<double> helpers_cpu_s = {};
};

/// Collectives that one part of the program asks for, a step.
struct ProfiledCollective {
  std::string asker;
  std::string operation;
  double calls = 0;
  double bytes = 0;
  double seconds = 0;
  double exposed_s = 0;
};

/// The data of a rank's samples, as its run's record tells of them.
struct ProfiledData {
  double bytes = 0;          ///< of all fields in memory
  double cache_bytes = 0;    ///< what may stay there (data.cache_bytes)
  double machine_bytes = 0;  ///< a node's memory
};

/// A run's profile.json, and what its record.json adds.
struct ProfiledStep {
  std::int64_t steps = 0;
  double step_s = 0;
  std::vector<ProfiledRank> ranks;
  std::vector<ProfiledCollective> collectives;
  std::optional<ProfiledData> data = {};
};

/// Throws UsageError for what is no profile of a run.
ProfiledStep read_profiled_step(const nlohmann::json& profile);
/// Of a run's folder, with what its record.json says of the data, or of a profile.json alone.
ProfiledStep load_profiled_step(const std::filesystem::path& path);

/// What collectives should take: T = latency_s + 2 (n - 1) / n * bytes / bytes_per_s.
struct NetworkReference {
  double latency_s = 0;
  double bytes_per_s = 0;
  std::string basis;  ///< such as "the profile of leonardo"
};

enum class Cause {
  nothing,        ///< computation
  data,           ///< ranks wait for samples
  slow_rank,      ///< one computes longer than the others
  taken_cores,    ///< others have the cores that a rank should have
  own_threads,    ///< a rank has fewer cores than threads that compute, load and communicate
  slow_network,   ///< collectives take longer than they should
  small_buckets,  ///< collectives are so many that their latency counts
  communication,  ///< there is more of it than computation can hide
};

/// A word for tables and JSON, such as "slow_rank".
const char* name_of(Cause cause);

struct Finding {
  Cause cause = Cause::nothing;
  std::string sentence = {};     ///< what limits the step, and why
  std::string cure = {};         ///< what to do; empty where nothing is known
  std::string setting = {};      ///< key=value that does it; empty where no setting does
  double gain_s = 0;             ///< a step would be shorter by so much, once it is cured
  std::optional<int> rank = {};  ///< whose fault it is
};

struct DiagnosisOptions {
  std::optional<NetworkReference> network = {};
  double least_share = 0.03;  ///< of a step: what gains less is not mentioned
};

/// All that is found, what gains most first; one of Cause::nothing where nothing gains enough.
/// Causes that explain each other are told once: while all wait for a slow rank or for its data,
/// what they wait in their collectives is not the network's.
///
/// Gains are what the step would take less with the other ranks, their data and their sums as they
/// are: of a slow rank down to the next slowest; of buckets and links by a model of sums that go
/// over one wire, one after another, while the backward pass still fills buckets.
std::vector<Finding> diagnose(const ProfiledStep& profile, const DiagnosisOptions& options = {});

/// A finding in sentences: what limits the step, what to do, and what that gains.
std::string finding_text(const ProfiledStep& profile, const Finding& finding);

/// As objects: `cause`, `sentence`, `cure`, `setting`, `gain_s`, `gain_share` of the step, `rank`.
nlohmann::json findings_as_json(const ProfiledStep& profile, const std::vector<Finding>& findings);

}  // namespace isobar
