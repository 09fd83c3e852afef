// SPDX-License-Identifier: Apache-2.0
// Where a node of the job is, on machines whose compute nodes have no name service. The resolver is
// asked first and nearly always answers; the rest is asked only where there was an error before, so
// that it may cost a process.
#include "launch/host_lookup.hpp"

#include <isobar/core/error.hpp>
#include <isobar/launch/node.hpp>

#include <sys/wait.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <chrono>
#include <csignal>
#include <fstream>
#include <sstream>

#include "launch/variables.hpp"

namespace isobar {
namespace {

/// scontrol itself waits for ten seconds for each controller.
constexpr std::chrono::seconds kScontrolLimit{25};

bool is_host_name(const std::string& text) {
  return !text.empty() && text.front() != '-' &&
         std::all_of(text.begin(), text.end(), [](unsigned char c) {
           return std::isalnum(c) || c == '-' || c == '_' || c == '.';
         });
}

/// What comes out of `pipe` until it ends or the time is over.
std::string read_all(int pipe, std::chrono::steady_clock::time_point deadline) {
  std::string text;
  std::array<char, 4096> part{};
  for (;;) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline - std::chrono::steady_clock::now());
    pollfd ready{.fd = pipe, .events = POLLIN, .revents = 0};
    if (left.count() <= 0 || poll(&ready, 1, static_cast<int>(left.count())) <= 0) return {};
    const auto count = read(pipe, part.data(), part.size());
    if (count <= 0) return text;
    text.append(part.data(), static_cast<size_t>(count));
  }
}

std::string ask_scontrol(const std::string& node) {
  if (!is_host_name(node)) return {};
  std::array<int, 2> pipe_ends{};
  if (pipe2(pipe_ends.data(), O_CLOEXEC) != 0) return {};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, pipe_ends[1], STDOUT_FILENO);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  std::array<std::string, 5> words{"scontrol", "--oneliner", "show", "node", node};
  std::array<char*, 6> arguments{};
  for (size_t n = 0; n < words.size(); ++n) arguments[n] = words[n].data();
  pid_t child = 0;
  const bool started = posix_spawnp(&child, "scontrol", &actions, nullptr, arguments.data(),
                                    environment_block()) == 0;
  posix_spawn_file_actions_destroy(&actions);
  close(pipe_ends[1]);
  std::string text;
  int status = 0;
  if (started) {
    text = read_all(pipe_ends[0], std::chrono::steady_clock::now() + kScontrolLimit);
    if (text.empty()) kill(child, SIGKILL);
    waitpid(child, &status, 0);
  }
  close(pipe_ends[0]);
  return status == 0 ? text : std::string();
}

/// The word after `key` in what scontrol prints, such as "NodeAddr=10.0.0.1".
std::string field(const std::string& record, const std::string& key) {
  std::istringstream words(record);
  for (std::string word; words >> word;) {
    if (word.starts_with(key)) return word.substr(key.size());
  }
  return {};
}

/// Of "n1:10.0.0.1:host1,n2:[fe:1]:host2", what stands in the place of the address.
std::string alias_of(const std::string& node) {
  std::istringstream entries(variable("SLURM_NODE_ALIASES"));
  for (std::string entry; std::getline(entries, entry, ',');) {
    if (!entry.starts_with(node + ":")) continue;
    const auto rest = entry.substr(node.size() + 1);
    if (rest.starts_with('[')) return rest.substr(1, rest.find(']') - 1);
    return rest.substr(0, rest.find(':'));
  }
  return {};
}

}  // namespace

HostLookup system_lookup() { return {.resolve = addresses_of, .slurm_record = ask_scontrol}; }

std::vector<std::string> node_addresses(const std::string& node, const HostLookup& lookup) {
  auto addresses = lookup.resolve(node);
  if (!addresses.empty() || variable("SLURM_JOB_ID").empty()) return addresses;
  if (const auto alias = alias_of(node); !alias.empty()) addresses = lookup.resolve(alias);
  if (!addresses.empty()) return addresses;
  const auto record = lookup.slurm_record(node);
  for (const auto* key : {"NodeAddr=", "NodeHostName="}) {
    const auto name = field(record, key);
    if (name.empty() || name == node) continue;
    addresses = lookup.resolve(name);
    if (!addresses.empty()) return addresses;
  }
  return {};
}

std::vector<std::string> batch_host_address(const std::string& node) {
  const auto address = variable("SLURM_LAUNCH_NODE_IPADDR");
  const auto first = variable("SLURM_JOB_NODELIST_HET_GROUP_0");
  const auto job = first.empty() ? variable("SLURM_JOB_NODELIST") : first;
  const bool is_batch = variable("ENVIRONMENT") == "BATCH" && !job.empty();
  if (address.empty() || !is_batch || first_host(job) != node) return {};
  return {address};
}

std::string node_of_task_0(const std::string& list) {
  if (variable("SLURM_DISTRIBUTION") != "arbitrary") return first_host(list);
  const auto path = variable("SLURM_HOSTFILE");
  std::ifstream file(path);
  std::string hosts;
  file >> hosts;
  ISOBAR_CHECK(!hosts.empty(), "SLURM_DISTRIBUTION=arbitrary, and SLURM_HOSTFILE '", path,
               "', which says where task 0 is, cannot be read here; set MASTER_ADDR to a numeric "
               "address of rank 0");
  return first_host(hosts.substr(0, hosts.find('*')));
}

std::string first_host(const std::string& list) {
  std::string host;
  for (size_t at = 0; at < list.size() && list[at] != ','; ++at) {
    if (list[at] != '[') {
      host += list[at];
      continue;
    }
    host += list.substr(at + 1, list.find_first_of("-,]", at) - at - 1);
    at = std::min(list.find(']', at), list.size());
  }
  return host;
}

}  // namespace isobar
