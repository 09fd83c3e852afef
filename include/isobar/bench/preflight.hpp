// SPDX-License-Identifier: Apache-2.0
// A look at an allocation before it is used: what its nodes and links are, and what is to be
// thought of them. Measuring and judging are apart, so that what a fault looks like can be tried
// without it.
#pragma once

#include <isobar/comm/communicator.hpp>
#include <c10/core/Device.h>
#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace isobar::bench {

/// Where a rank runs.
struct RankPlace {
  int rank = 0;
  std::string node = {};
  int local_rank = 0;                ///< as the launcher counts
  std::vector<int> cores = {};       ///< that it may run on, by the system's numbers, ascending
  std::vector<int> numa_nodes = {};  ///< of these
  int node_cores = 0;                ///< that the node has
  int node_gpus = 0;
  int usable_gpus = 0;              ///< that LibTorch can use in this rank
  int gpu = -1;                     ///< of the node's, in the order of its bus; -1: none
  std::string gpu_bus = {};         ///< such as "0000:07:00.0"
  int gpu_numa = -1;                ///< -1: none, or the node does not say
  std::vector<int> gpu_cores = {};  ///< near it, as the node says
  std::vector<std::string> nics =
      {};                       ///< near the GPU, else near the cores; all where none is nearer
  std::int64_t open_files = 0;  ///< its limit
  std::int64_t open_files_most = 0;  ///< to which it may raise that
};

/// One folder that a node wrote a file to.
struct FolderReport {
  std::string folder = {};
  std::string problem = {};  ///< why that did not work; empty where it did
  double write_s = 0;        ///< until the bytes were on the disk
  double read_s = 0;
  std::int64_t file_bytes = 0;
  std::int64_t free_bytes = 0;
};

/// A shared library that the program has loaded.
struct LoadedLibrary {
  std::string path = {};
  std::string build = {};  ///< its build's number, its length where it has none
};

/// What one node is and can do, as the first of its ranks found.
struct NodeReport {
  std::string node = {};
  std::map<std::string, std::string> versions = {};  ///< "isobar", "MPI", ...
  std::map<std::string, LoadedLibrary> libraries = {};
  std::map<std::string, std::string> nic_states = {};  ///< by port, such as "ACTIVE, 100 Gb/sec"
  std::vector<FolderReport> folders = {};
  double clock_offset_s = 0;  ///< against the first node's
  double clock_error_s = 0;   ///< by which that may be wrong
  /// Each way, all its ranks together, of the best exchange with another node; 0 where there was
  /// none.
  double link_gbit_s = 0;
  double link_latency_s = 0;      ///< of the quickest
  std::string link_problem = {};  ///< bytes that arrived wrong; empty where all were right
};

/// What was found.
struct Preflight {
  std::vector<RankPlace> ranks = {};   ///< in their order
  std::vector<NodeReport> nodes = {};  ///< in the order of their first ranks
  std::string backend = {};
  std::int64_t allreduce_bytes = 0;
  double allreduce_gbit_s = 0;  ///< bus bandwidth; 0 for one rank
  double allreduce_error = 0;   ///< largest deviation from the right result
};

struct PreflightOptions {
  std::vector<std::string> folders = {};  ///< that each node writes a file to
  std::int64_t file_bytes = 8 << 20;      ///< of each
  at::Device device = at::kCPU;           ///< whose tensors the ranks exchange
  std::int64_t most_bytes = 0;            ///< of a message; 0: what suits the device
  std::string visible_gpus = {};          ///< CUDA_VISIBLE_DEVICES or its like; empty: all are seen
  std::string step_gpus = {};  ///< SLURM_STEP_GPUS: which of the node's the visible ones are
  std::map<std::string, std::string> versions = {};  ///< further ones that are to be equal
  std::string node = {};                      ///< a name for this rank's node; empty: the host's
  std::function<double()> wall_clock_s = {};  ///< empty: the system's
};

/// Every rank's place, on every rank. Collective; blocks.
std::vector<RankPlace> gather_places(Communicator& comm, const PreflightOptions& options);

/// Looks at the nodes and measures their links and folders, in less than a minute; the result is
/// the same on every rank. What a node cannot do is in the result, no error. Collective; blocks.
Preflight run_preflight(Communicator& comm, const PreflightOptions& options);

/// What a machine should be like. 0, empty: not known.
struct Expectation {
  double node_gbit_s = 0;         ///< of a node's link, each way
  double least_of_nominal = 0.5;  ///< that a link has to reach of that
  double least_of_median = 0.6;   ///< that a node's link has to reach of the others'
  std::int64_t open_files = 0;    ///< 0: what so many ranks need
  std::int64_t free_bytes = 1 << 30;
  double clock_skew_s = 0.1;
  int cpus_per_rank = 0;
  int node_gpus = 0;
  int rank_gpus = 0;                        ///< that each rank can use; 0: one, if any rank can
  std::vector<std::string> gpu_cores = {};  ///< near each GPU, such as "0-15,64-79"
  std::vector<std::string> nics = {};       ///< that each node has
  /// Of the above the names whose values may be wrong: what differs from them is only warned of.
  std::set<std::string> uncertain = {};
};

enum class Grade { ok, warn, fail };

/// What is thought of one thing.
struct Verdict {
  Grade grade = Grade::ok;
  std::string what = {};  ///< such as "link"
  std::string measured = {};
  std::string wanted = {};
  std::vector<std::string> nodes =
      {};                   ///< those that it is about; empty: all, or none in particular
  std::string advice = {};  ///< what to do; may be empty
};

/// What is thought of where the ranks run: of cores that ranks share, of too few, and of cores,
/// GPUs and open files that are not as expected. Each thing that is well has one verdict; each that
/// is not has one for every node or rank at fault.
std::vector<Verdict> judge_binding(const std::vector<RankPlace>& ranks, const Expectation& wanted);

/// The same of all that was found. A node that differs from most is named, beside one of those;
/// of two nodes the second.
std::vector<Verdict> judge(const Preflight& found, const Expectation& wanted);

/// The gravest.
Grade worst(const std::vector<Verdict>& verdicts);

std::string to_string(Grade grade);

/// One verdict a line, for people.
std::string verdict_lines(const std::vector<Verdict>& verdicts);

/// Where the ranks run, one a line, for people.
std::string places_table(const std::vector<RankPlace>& ranks);

/// Verdicts as rows, and all that was found as an object.
nlohmann::json verdict_rows(const std::vector<Verdict>& verdicts);
nlohmann::json preflight_object(const Preflight& found);

}  // namespace isobar::bench
