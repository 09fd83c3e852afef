// SPDX-License-Identifier: Apache-2.0
// What the kernel says of a node and of this process's place on it. Files are read below `root`,
// which is "/" but in tests.
#pragma once

#include <isobar/bench/preflight.hpp>

#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace isobar::bench {

/// A GPU on the node's PCI bus.
struct BusGpu {
  std::string bus;
  std::string uuid = {};  ///< NVIDIA's; else empty
  int numa = -1;
  std::vector<int> cores = {};
};

/// Those that a driver of NVIDIA's or AMD's holds, in the order of the bus, which is the order in
/// which both number them where they are alike.
std::vector<BusGpu> find_bus_gpus(const std::filesystem::path& root);

/// Which of the node's GPUs a rank takes, as rank_device() does: of the visible ones that of its
/// place. -1 for none.
int gpu_of_rank(const std::vector<BusGpu>& gpus, const PreflightOptions& options, int local_rank);

/// Network interfaces that reach other nodes, with what state and rate: those of a fabric, where
/// there are any, else those of Ethernet.
std::map<std::string, std::string> read_nic_states(const std::filesystem::path& root);

/// This process's place; the rank's number is left to the caller.
RankPlace read_place(const PreflightOptions& options, int local_rank,
                     const std::filesystem::path& root = "/");

/// Of isobar, its libraries, the kernel and the GPU's driver, with those that are given.
std::map<std::string, std::string> read_versions(const PreflightOptions& options,
                                                 const std::filesystem::path& root = "/");

/// By name, without what stands behind ".so".
std::map<std::string, LoadedLibrary> loaded_libraries();

}  // namespace isobar::bench
