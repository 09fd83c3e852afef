// SPDX-License-Identifier: Apache-2.0
// How the processes of a launch find rank 0, called once for a world, by the thread that makes it
// and before there is any other. Whoever is met has shown the same token, which the launch makes;
// what is made of the meeting (names in shared memory) goes by the session, which no two meetings
// share.
#include "comm/rendezvous.hpp"

#include <isobar/core/error.hpp>
#include <isobar/core/hash.hpp>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <utility>

#include "comm/control/join.hpp"
#include "comm/mpi/communicator.hpp"
#include "comm/node_identity.hpp"

namespace isobar {
namespace {

/// torchrun's default.
constexpr int kMasterPort = 29500;
/// Above the well-known ports and below those that systems hand out.
constexpr int kFirstOwnPort = 20000;
constexpr int kOwnPorts = 10000;
/// One may be taken by a program that has nothing to do with us.
constexpr int kTries = 4;

std::string variable(const char* name) {
  const char* text = std::getenv(name);
  return text ? text : "";
}

/// Ports that follow from `text`.
void set_own_ports(Endpoint& endpoint, const std::string& text) {
  const auto port = [&](int n) {
    return kFirstOwnPort + static_cast<int>(fnv1a(detail::join(text, ".", n)) % kOwnPorts);
  };
  endpoint.port = port(0);
  for (int n = 1; n < kTries; ++n) endpoint.other_ports.push_back(port(n));
}

/// Whether the step of Slurm's that this process is in started these ranks, by their number: in
/// which order they are counted is the user's, and all must answer alike.
bool is_step(const LaunchEnvironment& launch) {
  return variable("SLURM_STEP_NUM_TASKS") == std::to_string(launch.size);
}

bool is_by_hand(const LaunchEnvironment& launch) {
  return launch.launcher == "torchrun" && variable("TORCHELASTIC_RUN_ID").empty() &&
         !is_step(launch);
}

/// The name of this launch, as far as the launcher gives one; ranks that were made by hand may be
/// in several steps of Slurm's or mpirun's.
std::string launch_name() {
  const auto launch = read_launch_environment();
  if (launch.launcher == "torchrun" && !is_step(launch)) return variable("TORCHELASTIC_RUN_ID");
  // Of mpirun's ranks, some may be in a step of Slurm's that started its daemons.
  if (launch.launcher == "openmpi") return variable("PMIX_NAMESPACE");
  return detail::join(variable("SLURM_JOB_ID"), ".", variable("SLURM_STEP_ID"), " ",
                      variable("PMIX_NAMESPACE"));
}

/// Such as "/opt/bin/train a.yaml seed=1 in /scratch/a".
std::string command_line() {
  std::error_code none;
  auto text = std::filesystem::read_symlink("/proc/self/exe", none).string();
  std::ifstream arguments("/proc/self/cmdline", std::ios::binary);
  std::string argument;
  std::getline(arguments, argument, '\0');  // the program by whatever name
  while (std::getline(arguments, argument, '\0')) text += " " + argument;
  return text + " in " + std::filesystem::current_path(none).string();
}

int port_number(const std::string& text) {
  int port = 0;
  const auto* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, port);
  ISOBAR_CHECK(error == std::errc() && rest == end && port > 0 && port < 65536,
               "environment variable MASTER_PORT is '", text, "', wanted a port of 1 to 65535");
  return port;
}

std::vector<std::string> resolved(const std::string& host, const char* source) {
  auto addresses = addresses_of(host);
  ISOBAR_CHECK(!addresses.empty(), source, " names host '", host,
               "', which has no address here; set MASTER_ADDR to a numeric address of rank 0");
  return addresses;
}

std::vector<std::string> words_of(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> words;
  for (std::string word; stream >> word;) words.push_back(word);
  return words;
}

/// The ranks meet in MPI first: rank 0 tells where it listens.
Endpoint endpoint_by_mpi(const ControlListener* listener, std::chrono::milliseconds timeout) {
  std::string mine;
  if (listener) {
    mine = detail::join(control::make_session(), " ", listener->port());
    for (const auto& address : own_addresses()) mine += " " + address;
  }
  const auto words = words_of(mpi_gather(mine, timeout).front());
  if (words.size() < 3) throw CommError("rendezvous by MPI: rank 0 has no network address");
  return {.addresses = {words.begin() + 2, words.end()},
          .port = std::stoi(words[1]),
          .other_ports = {},
          .token = words[0]};
}

/// Open MPI's mpirun may be one of several in a Slurm step, so the step's variables are not its
/// own.
Endpoint endpoint_by_environment(const LaunchEnvironment& launch) {
  auto endpoint = master_endpoint();
  if (endpoint.addresses.empty() && launch.launcher != "openmpi") endpoint = slurm_endpoint();
  return endpoint;
}

ControlOptions control_options(const LaunchEnvironment& launch, const CommunicatorOptions& options,
                               const Endpoint& endpoint) {
  return {.rank = launch.rank,
          .size = launch.size,
          .host = host_name(),
          .addresses = endpoint.addresses,
          .port = endpoint.port,
          .other_ports = endpoint.other_ports,
          .token = endpoint.token,
          .job = job_of(launch),
          .start_timeout = options.start_timeout,
          .silence_limit = options.silence_limit};
}

bool is_here(const std::string& address) {
  if (address.starts_with("127.") || address.starts_with("0.") || address == "::") return true;
  const auto own = own_addresses();
  return std::find(own.begin(), own.end(), address) != own.end();
}

/// Where rank 0 is found. A port that is taken may be so by another rank 0 of this job, or by
/// another job: then UsageError says who.
std::unique_ptr<ControlListener> listen_as_rank_0(ControlOptions options) {
  auto ports = options.other_ports;
  ports.insert(ports.begin(), options.port);
  for (const int port : ports) {
    try {
      return std::make_unique<ControlListener>(port);
    } catch (const CommError& error) {
      options.port = port;
      Control::ask_who_is_there(options);
      if (port != ports.back()) continue;
      throw CommError(detail::join("rank 0 of ", options.size, ": ", error.what(),
                                   "; set MASTER_ADDR, and MASTER_PORT to one that is free"));
    }
  }
  return nullptr;
}

/// Everybody comes, and says where it is.
void connect(Rendezvous& found, ControlOptions options, std::unique_ptr<ControlListener> listener) {
  // Ranks look for rank 0 elsewhere: they may find another there.
  const bool is_found_here =
      std::any_of(options.addresses.begin(), options.addresses.end(), is_here);
  if (options.rank == 0 && is_found_here) options.addresses.clear();
  found.control = Control::open(options, std::move(listener), found.cause);
  found.token = found.control->session();
  found.launch.rank = found.control->rank();
  found.launch.size = found.control->size();
  found.nodes = found.control->gather(node_identity());
  found.fabrics = found.control->gather(fabric());
}

}  // namespace

bool starts_mpi(const LaunchEnvironment& launch) {
  return launch.launcher == "openmpi" || launch.launcher == "pmi";
}

bool Rendezvous::on_one_node() const {
  return std::all_of(nodes.begin(), nodes.end(),
                     [this](const auto& node) { return node == nodes.front(); });
}

bool Rendezvous::has_fabric() const {
  return std::none_of(fabrics.begin(), fabrics.end(),
                      [](const auto& fabric) { return fabric.empty(); });
}

std::string first_host(const std::string& list) {
  const auto open = list.find_first_of("[,");
  if (open == std::string::npos || list[open] == ',') return list.substr(0, open);
  const auto close = list.find(']', open);
  const auto number = list.substr(open + 1, list.find_first_of("-,]", open) - open - 1);
  const auto rest = close == std::string::npos ? std::string() : list.substr(close + 1);
  return list.substr(0, open) + number + rest.substr(0, rest.find(','));
}

Endpoint master_endpoint() {
  const auto host = variable("MASTER_ADDR");
  if (host.empty()) return {};
  const auto port = variable("MASTER_PORT");
  Endpoint endpoint;
  endpoint.addresses = resolved(host, "MASTER_ADDR");
  endpoint.port = port.empty() ? kMasterPort : port_number(port);
  endpoint.token = detail::join(host, ":", endpoint.port, " ", launch_name());
  const bool agent_has_it = !variable("TORCHELASTIC_RUN_ID").empty() &&
                            variable("TORCHELASTIC_USE_AGENT_STORE") == "True";
  if (agent_has_it) set_own_ports(endpoint, endpoint.token);
  return endpoint;
}

std::string job_of(const LaunchEnvironment& launch) {
  const auto name = variable("ISOBAR_JOB");
  if (!name.empty()) return "ISOBAR_JOB=" + name;
  return is_by_hand(launch) ? command_line() : std::string();
}

Endpoint slurm_endpoint() {
  const auto nodes = variable("SLURM_STEP_NODELIST");
  const auto job = variable("SLURM_JOB_ID");
  const auto step = variable("SLURM_STEP_ID");
  if (nodes.empty() || job.empty() || step.empty()) return {};
  Endpoint endpoint;
  endpoint.addresses = resolved(first_host(nodes), "SLURM_STEP_NODELIST");
  endpoint.token = detail::join("slurm ", job, ".", step, " ", variable("SLURM_RESTART_COUNT"));
  set_own_ports(endpoint, job + "." + step);
  return endpoint;
}

Rendezvous meet(const LaunchEnvironment& launch, const CommunicatorOptions& options, bool by_mpi) {
  Rendezvous found;
  found.launch = launch;
  found.cause = std::make_shared<FirstCause>();
  Endpoint endpoint;
  std::unique_ptr<ControlListener> listener;
  if (launch.size > 1) {
    if (!by_mpi) endpoint = endpoint_by_environment(launch);
    by_mpi = endpoint.addresses.empty();
    ISOBAR_CHECK(!by_mpi || starts_mpi(launch), "rendezvous on rank ", launch.rank, " of ",
                 launch.size, ": nothing says where rank 0 is; set MASTER_ADDR and MASTER_PORT, ",
                 "or start the program by srun or mpirun");
    if (launch.rank == 0) listener = listen_as_rank_0(control_options(launch, options, endpoint));
    if (by_mpi) endpoint = endpoint_by_mpi(listener.get(), options.start_timeout);
  }
  connect(found, control_options(launch, options, endpoint), std::move(listener));
  return found;
}

Rendezvous meet_survivors(const LaunchEnvironment& launch, const CommunicatorOptions& options,
                          const SurvivorOptions& survivors) {
  auto endpoint = endpoint_by_environment(launch);
  ISOBAR_CHECK(!endpoint.addresses.empty(), "survivors' rendezvous on rank ", launch.rank, " of ",
               launch.size, ": nothing says where rank 0 is; set MASTER_ADDR and MASTER_PORT");
  // The last world may still hold its own port: what a failed transport left behind keeps it.
  const auto later = [&](int port) {
    return 1024 + (port - 1024 + survivors.generation) % (65536 - 1024);
  };
  endpoint.port = later(endpoint.port);
  for (int& port : endpoint.other_ports) port = later(port);
  endpoint.token += detail::join(" generation ", survivors.generation);
  Rendezvous found{.launch = launch,
                   .cause = std::make_shared<FirstCause>(),
                   .control = nullptr,
                   .token = {},
                   .nodes = {},
                   .fabrics = {}};
  auto control = control_options(launch, options, endpoint);
  auto listener = launch.rank == 0 ? listen_as_rank_0(control) : nullptr;
  control.muster = Muster{.expected = survivors.expected, .settle = survivors.settle};
  connect(found, control, std::move(listener));
  return found;
}

}  // namespace isobar
