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
  /// Its threads were ready to run and others had the cores; nothing where it was not counted.
  std::optional<double> run_delay_s = {};
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

/// A run's profile.json.
struct ProfiledStep {
  std::int64_t steps = 0;
  double step_s = 0;
  std::vector<ProfiledRank> ranks;
  std::vector<ProfiledCollective> collectives;
};

/// Throws UsageError for what is no profile of a run.
ProfiledStep read_profiled_step(const nlohmann::json& profile);
/// Of a run's folder or its profile.json.
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
  double gain_s = 0;             ///< a step would be shorter by so much
  std::optional<int> rank = {};  ///< whose fault it is
};

struct DiagnosisOptions {
  std::optional<NetworkReference> network = {};
  double least_share = 0.03;  ///< of a step: what gains less is not mentioned
};

/// All that is found, what gains most first; one of Cause::nothing where nothing gains enough.
/// Causes that explain each other are told once: while all wait for a slow rank or for its data,
/// what they wait in their collectives is not the network's.
std::vector<Finding> diagnose(const ProfiledStep& profile, const DiagnosisOptions& options = {});

}  // namespace isobar
