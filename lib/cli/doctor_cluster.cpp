// SPDX-License-Identifier: Apache-2.0
#include "cli/doctor.hpp"

#include <isobar/bench/preflight.hpp>
#include <isobar/cluster/detect.hpp>
#include <isobar/cluster/profile.hpp>
#include <isobar/comm/agreement.hpp>
#include <isobar/comm/make_communicator.hpp>
#include <isobar/core/report.hpp>
#include <isobar/hdf5/info.hpp>
#include <isobar/launch/environment.hpp>
#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <utility>

namespace isobar {
namespace {

using bench::Grade;
using bench::Verdict;

/// The machine's profile; none where the machine is not known, which keeps nobody from comparing
/// its nodes with each other.
std::optional<ClusterProfile> find_profile(const std::string& name) {
  const auto profiles = read_profiles();
  if (!name.empty()) return profile_named(profiles, name);
  const auto here = detect_cluster(profiles, read_machine_facts()).clusters;
  if (here.size() != 1) return {};
  return profile_named(profiles, here.front());
}

std::string or_auto(const std::string& word) { return word.empty() ? "auto" : word; }

bench::Expectation expectation_of(const ClusterProfile& profile) {
  const auto& network = profile.network;
  bench::Expectation wanted{.node_gbit_s = network.gbit_s_per_node,
                            .cpus_per_rank = profile.binding.cpus_per_rank,
                            .node_gpus = profile.node.gpus,
                            .gpu_cores = profile.binding.gpu_cores,
                            .nics = network.hcas};
  // Ranks that are fewer than the GPUs use no more than their GPUs' part of the network.
  const double ranks_gbit_s = network.gbit_s_per_gpu * read_launch_environment().local_size;
  if (ranks_gbit_s > 0) wanted.node_gbit_s = std::min(wanted.node_gbit_s, ranks_gbit_s);
  const std::pair<const char*, const char*> keys[] = {{"network.gbit_s_per_node", "node_gbit_s"},
                                                      {"network.gbit_s_per_gpu", "node_gbit_s"},
                                                      {"node.gpus", "rank_gpus"},
                                                      {"binding.cpus_per_rank", "cpus_per_rank"},
                                                      {"binding.gpu_cores", "gpu_cores"},
                                                      {"network.hcas", "nics"}};
  for (const auto& [key, name] : keys) {
    if (unverified_reason(profile, key)) wanted.uncertain.insert(name);
  }
  return wanted;
}

/// What the machine should be like; a rank that computes on its cores needs no GPU.
bench::Expectation expectation(const std::optional<ClusterProfile>& profile,
                               const std::string& device) {
  auto wanted = profile ? expectation_of(*profile) : bench::Expectation();
  const bool wants_gpu = device == "cuda" || (device == "auto" && wanted.node_gpus > 0);
  wanted.rank_gpus = wants_gpu ? 1 : 0;
  return wanted;
}

Verdict verdict_on_profile(const std::optional<ClusterProfile>& profile) {
  if (profile) return {.what = "profile", .measured = profile->name + ", " + profile->title};
  return {.grade = Grade::warn,
          .what = "profile",
          .measured = "this machine is not known",
          .wanted = "one to compare with",
          .advice = "nodes are compared with each other; --cluster NAME names the machine"};
}

bench::PreflightOptions preflight_options(const DoctorArguments& arguments) {
  const std::vector<std::string> here{"."};
  bench::PreflightOptions options{.folders = arguments.folders.empty() ? here : arguments.folders,
                                  .step_gpus = environment_variable("SLURM_STEP_GPUS"),
                                  .versions = {{"HDF5", hdf5_info().version}}};
  for (const char* name : {"CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"}) {
    if (const auto text = environment_variable(name); !text.empty()) options.visible_gpus = text;
  }
  return options;
}

/// "cuda" where every rank can use a GPU, unless the user says which.
std::string device_of(const std::string& asked, const std::vector<bench::RankPlace>& ranks) {
  if (asked != "auto") return asked;
  const bool all = std::all_of(ranks.begin(), ranks.end(),
                               [](const auto& rank) { return rank.usable_gpus > 0; });
  return all ? "cuda" : "cpu";
}

/// The ranks have met over host memory: one that can use no GPU is a finding, and has come too.
bench::Preflight look(std::unique_ptr<Communicator> comm, const DoctorArguments& arguments) {
  auto options = preflight_options(arguments);
  bench::Preflight found{.ranks = bench::gather_places(*comm, options)};
  if (!arguments.whole_cluster) return found;
  const auto device = device_of(or_auto(arguments.device), found.ranks);
  const auto backend = or_auto(arguments.backend);
  if (device != "cpu" || backend != "auto") {
    comm = make_communicator({.backend = backend, .device = device});
    run_agreed(*comm, [&] { options.device = rank_device(device); });
  }
  return bench::run_preflight(*comm, options);
}

}  // namespace

int run_cluster_doctor(const DoctorArguments& arguments) {
  at::set_num_threads(1);
  auto comm = make_communicator();
  std::optional<ClusterProfile> profile;
  run_agreed(*comm, [&] { profile = find_profile(arguments.cluster); });
  const auto wanted = expectation(profile, or_auto(arguments.device));
  const auto found = look(std::move(comm), arguments);
  auto verdicts = arguments.whole_cluster ? bench::judge(found, wanted)
                                          : bench::judge_binding(found.ranks, wanted);
  verdicts.insert(verdicts.begin(), verdict_on_profile(profile));
  const int code = bench::worst(verdicts) == Grade::fail ? 1 : 0;
  if (read_launch_environment().rank != 0) return code;  // one rank speaks
  auto text =
      (arguments.binding ? bench::places_table(found.ranks) : "") + bench::verdict_lines(verdicts);
  text += code == 0 ? "verdict     nothing failed\n" : "verdict     see FAIL above\n";
  if (arguments.json != "-") std::fputs(text.c_str(), stdout);
  write_report(arguments.json, "isobar.preflight.1", arguments.command,
               bench::verdict_rows(verdicts),
               {{"cluster", profile ? profile->name : ""}, {"found", preflight_object(found)}});
  return code;
}

}  // namespace isobar
