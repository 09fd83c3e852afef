// SPDX-License-Identifier: Apache-2.0
// From what a user asks for to the batch script that a careful colleague would write. Functions of
// their arguments: nothing is asked of Slurm, nothing is written.
#pragma once

#include <isobar/cluster/profile.hpp>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace isobar {

/// What a user asks for. Empty and 0: the profile's choice.
struct JobRequest {
  std::string name;                  ///< of the job
  std::vector<std::string> command;  ///< what every rank runs, words
  /// Not isobar's: its ranks may not end when one of them has, and it may want the signal.
  bool is_own_program = false;
  std::string folder;                ///< in which it is run; absolute
  std::vector<std::string> folders;  ///< others that it reads or writes; absolute
  std::string output;                ///< Slurm's output file, may hold %j; absolute
  int nodes = 1;
  int spares = 0;  ///< further nodes, for those that fail
  std::int64_t minutes = 0;
  std::string account;
  std::string partition;
  std::string qos;
  std::string reservation;
  int ranks_per_node = 0;
  int signal_minutes = 5;  ///< SIGUSR1 to the ranks so long before the time limit; 0: none
  bool requeue = true;
  std::string container;                                         ///< an image; empty: modules
  std::string mail;                                              ///< address for end and failure
  std::vector<std::string> modules;                              ///< in place of the profile's
  std::vector<std::string> directives;                           ///< further "#SBATCH" options
  std::vector<std::pair<std::string, std::string>> environment;  ///< over the profile's
};

/// What was made of it.
struct JobPlan {
  Queue queue;
  int nodes = 0;             ///< with spares
  std::int64_t minutes = 0;  ///< time limit; 0: Slurm's default, since none is known
  int signal_minutes = 0;    ///< 0: no signal
  std::string account;
  int ranks_per_node = 1;
  int cpus_per_rank = 1;
  std::string cpu_bind;
  /// Values of the profile may hold $VARIABLES of the job's environment; the request's do not.
  std::vector<std::pair<std::string, std::string>> environment;
  std::vector<std::string> modules;
  /// What a reader has to know: values that are not certain, a limit that is not known.
  std::vector<std::string> warnings;
};

/// The first queue that takes nodes and time, by the rules of the machine. Throws UsageError, one
/// line that says what to change, for what the machine forbids: nodes, time, an account that is
/// missing or looks wrong, a partition or QoS that it does not have, ranks that do not fit a node.
JobPlan plan_job(const ClusterProfile& profile, const JobRequest& request);

/// The text for sbatch: a bash script that shellcheck finds nothing in.
std::string batch_script(const ClusterProfile& profile, const JobRequest& request,
                         const JobPlan& plan);

/// The word as bash reads it back, in quotes where it needs any.
std::string shell_word(const std::string& word);

/// Minutes of "90" (minutes), "H:MM:SS", "MM:SS" and "D-HH:MM:SS", as Slurm reads them, rounded up.
/// Throws UsageError.
std::int64_t parse_minutes(const std::string& text);

/// As Slurm writes it: "2-00:00:00", "01:30:00".
std::string minutes_text(std::int64_t minutes);

}  // namespace isobar
