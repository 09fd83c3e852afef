// SPDX-License-Identifier: Apache-2.0
// What is known of a machine, read from one YAML file a machine (scripts/slurm/clusters). The files
// are part of the program; ISOBAR_CLUSTER_CONFIG names a file of the user's that is laid over them.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace isobar {

/// How a machine is known. Regular expressions are ECMAScript's, match the whole text, and do not
/// look at capitals.
struct DetectionRules {
  /// Variables of the environment and what they hold there. Each alone is proof.
  std::map<std::string, std::string> environment;
  /// A file's whole text, without the line end. Each alone is proof.
  std::map<std::string, std::string> files;
  /// Slurm's ClusterName (SLURM_CLUSTER_NAME). Proof.
  std::string slurm_cluster_name;
  /// The full host name. Proof: no other machine in the world has such names.
  std::string host_name;
  /// A host name, with or without its domain, that other machines have too, such as login01: a
  /// marker or a variable makes it proof.
  std::string host_name_alike;
  /// Variables and folders that are there on this machine: one of them beside `host_name_alike`, or
  /// all of them, two at least.
  std::vector<std::string> marker_variables;
  std::vector<std::string> marker_paths;
};

/// One way to ask Slurm for nodes. A limit of 0 is not known, or there is none.
struct Queue {
  std::string name;       ///< the profile's, such as "bprod"
  std::string partition;  ///< empty where the QoS selects it
  std::string qos;        ///< empty for none
  int least_nodes = 1;
  int most_nodes = 0;
  std::int64_t most_minutes = 0;
  /// Only for tests, or only for those to whom it was granted: taken where it is asked for.
  bool on_request = false;
  /// For people, such as "full nodes only".
  std::string note;
};

/// How Slurm is spoken to.
struct SlurmHabits {
  std::string launcher = "srun";  ///< of ranks; "mpirun" where there is no Slurm
  bool wants_account = true;
  std::string account_pattern;          ///< regular expression; empty: any
  std::string account_example;          ///< for messages
  std::vector<std::string> directives;  ///< further "#SBATCH" options, such as "--exclusive"
  std::string gpu_request;              ///< "--gres=gpu:4", whole nodes; empty without GPUs
  std::string srun_options;             ///< such as "--mpi=pmix"
  bool exclusive = true;                ///< whole nodes
  int most_queued_jobs = 0;             ///< 0: not known
  std::vector<Queue> queues;            ///< the first that fits is taken
};

/// One node.
struct NodeShape {
  int count = 0;  ///< of the machine; 0: not known
  int gpus = 0;
  std::string gpu;
  std::int64_t gpu_memory_bytes = 0;
  std::string cpu;
  int cores = 0;
  int threads_per_core = 1;
  int numa_nodes = 0;
  std::int64_t memory_bytes = 0;  ///< what a job may have
  std::string local_disk;         ///< empty for none
};

/// Which cores and which GPU a rank has; one rank a GPU, in the order of local ranks.
struct Binding {
  int cpus_per_rank = 1;
  std::string cpu_bind;                ///< of srun, such as "mask_cpu:7e,7e00"; empty: cores
  std::vector<std::string> gpu_cores;  ///< near each GPU, such as "0-15"; empty: not known
  std::vector<int> gpu_numa;           ///< NUMA node of each GPU; empty: not known
  std::string gpu_visibility;  ///< variable that hides other GPUs from a rank; empty: all are seen
};

struct NetworkShape {
  std::string nic;
  std::vector<std::string> hcas;
  std::string interfaces;      ///< for NCCL_SOCKET_IFNAME; empty: not known
  double gbit_s_per_gpu = 0;   ///< each way; 0: not known
  double gbit_s_per_node = 0;  ///< each way; 0: not known
  std::string topology;
  int cell_nodes = 0;  ///< nodes of a dragonfly's cell or an island; 0: not known
};

/// How programs run in a container.
struct ContainerHabits {
  std::string command;               ///< such as "singularity exec --nv"; empty: not known
  std::vector<std::string> modules;  ///< loaded for it
  std::vector<std::string> binds;
  std::map<std::string, std::string> environment;
};

enum class Internet { unknown, no, yes };

struct ClusterProfile {
  std::string name;          ///< the file's, such as "leonardo"
  std::string title;         ///< such as "Leonardo Booster (CINECA)"
  std::string gpu_platform;  ///< "cuda", "rocm" or "none"
  std::string architecture;  ///< "x86_64" or "aarch64"; empty: either
  DetectionRules detection;
  SlurmHabits slurm;
  NodeShape node;
  Binding binding;
  NetworkShape network;
  std::map<std::string, std::string> environment;  ///< of every rank
  std::vector<std::string> modules;                ///< loaded in this order
  ContainerHabits container;
  /// File systems by what they are for, such as {"scratch": "/scratch/project_465000001"}; may
  /// hold $VARIABLES of the job's environment.
  std::map<std::string, std::string> roots;
  /// Dataset roots by name as they are written, for `data.path: "{NAME}/file.nc"`; the user's file
  /// adds them.
  std::map<std::string, std::string> data_roots;
  /// Where a secret is, by name: a file or "env:VARIABLE". Never the secret.
  std::map<std::string, std::string> secrets;
  std::string account;  ///< the user's
  Internet compute_internet = Internet::unknown;
  /// What is not certain: key of the file or a section of it, such as "network.cell_nodes" or
  /// "queues.lprod", and why. What the user's file sets is certain.
  std::map<std::string, std::string> unverified;
  std::vector<std::string> sources;
  /// Keys that the user's file set, such as "queues.normal.most_nodes".
  std::vector<std::string> overlaid;
};

/// Why the value of a key is not certain, if it or a section that it is in is marked. A key is
/// written with dots: "network.cell_nodes", "environment.NCCL_IB_TIMEOUT".
std::optional<std::string> unverified_reason(const ClusterProfile& profile, const std::string& key);

/// All profiles by name, the user's file laid over them; one read of the file. Throws UsageError
/// for a file that cannot be read and for values that a profile cannot have.
std::vector<ClusterProfile> read_profiles();

/// The one of that name, whatever its letters' case. Throws UsageError with the nearest name.
const ClusterProfile& profile_named(const std::vector<ClusterProfile>& profiles,
                                    const std::string& name);

/// The folder of data sets of that name, with a ~ in front and $VARIABLES replaced by this
/// process's. Throws UsageError for a name that the machine does not have, and for a variable that
/// is not set.
std::string data_root(const ClusterProfile& profile, const std::string& name);

/// Reads a profile from YAML text; `file` stands for it in messages.
ClusterProfile parse_profile(const std::string& yaml, const std::string& name,
                             const std::string& file);

/// The YAML text of a profile that is part of the program, else of the user's file the section of
/// that name. Throws UsageError for no such name.
std::string profile_text(const std::string& name);

/// Names of the profiles that are part of the program, sorted.
std::vector<std::string> profile_names();

}  // namespace isobar
