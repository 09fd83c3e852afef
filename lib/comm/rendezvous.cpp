// SPDX-License-Identifier: Apache-2.0
#include "comm/rendezvous.hpp"

#include <isobar/core/error.hpp>
#include <isobar/core/hash.hpp>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdlib>
#include <random>
#include <sstream>
#include <utility>

#include "comm/mpi/communicator.hpp"
#include "comm/node_identity.hpp"

namespace isobar {
namespace {

/// torchrun's default.
constexpr int kMasterPort = 29500;
/// Above the well-known ports and below those that systems hand out.
constexpr int kFirstStepPort = 20000;
constexpr int kStepPorts = 10000;

std::string variable(const char* name) {
  const char* text = std::getenv(name);
  return text ? text : "";
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

std::string new_token() {
  std::random_device random;
  std::ostringstream text;
  text << std::hex << random() << random() << '.' << getpid();
  return text.str();
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
    mine = detail::join(new_token(), " ", listener->port());
    for (const auto& address : own_addresses()) mine += " " + address;
  }
  const auto words = words_of(mpi_gather(mine, timeout).front());
  if (words.size() < 3) throw CommError("rendezvous by MPI: rank 0 has no network address");
  return {.addresses = {words.begin() + 2, words.end()},
          .port = std::stoi(words[1]),
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
          .token = endpoint.token,
          .start_timeout = options.start_timeout,
          .silence_limit = options.silence_limit};
}

/// Everybody comes, and says where it is.
void connect(Rendezvous& found, const ControlOptions& options,
             std::unique_ptr<ControlListener> listener) {
  found.control = Control::open(options, std::move(listener), found.cause);
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
  endpoint.token = detail::join(host, ":", endpoint.port, " ", variable("TORCHELASTIC_RUN_ID"), " ",
                                variable("SLURM_JOB_ID"), ".", variable("SLURM_STEP_ID"));
  return endpoint;
}

Endpoint slurm_endpoint() {
  const auto nodes = variable("SLURM_STEP_NODELIST");
  const auto job = variable("SLURM_JOB_ID");
  const auto step = variable("SLURM_STEP_ID");
  if (nodes.empty() || job.empty() || step.empty()) return {};
  Endpoint endpoint;
  endpoint.addresses = resolved(first_host(nodes), "SLURM_STEP_NODELIST");
  endpoint.token = detail::join("slurm ", job, ".", step, " ", variable("SLURM_RESTART_COUNT"));
  endpoint.port = kFirstStepPort + static_cast<int>(fnv1a(job + "." + step) % kStepPorts);
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
    if (launch.rank == 0) listener = std::make_unique<ControlListener>(endpoint.port);
    if (by_mpi) endpoint = endpoint_by_mpi(listener.get(), options.start_timeout);
  }
  found.token = endpoint.token;
  connect(found, control_options(launch, options, endpoint), std::move(listener));
  return found;
}

Rendezvous meet_survivors(const LaunchEnvironment& launch, const CommunicatorOptions& options,
                          const SurvivorOptions& survivors) {
  auto endpoint = endpoint_by_environment(launch);
  ISOBAR_CHECK(!endpoint.addresses.empty(), "survivors' rendezvous on rank ", launch.rank, " of ",
               launch.size, ": nothing says where rank 0 is; set MASTER_ADDR and MASTER_PORT");
  // The last world may still hold its own port: what a failed transport left behind keeps it.
  endpoint.port = 1024 + (endpoint.port - 1024 + survivors.generation) % (65536 - 1024);
  endpoint.token += detail::join(" generation ", survivors.generation);
  Rendezvous found{.launch = launch,
                   .cause = std::make_shared<FirstCause>(),
                   .control = nullptr,
                   .token = endpoint.token,
                   .nodes = {},
                   .fabrics = {}};
  auto listener = launch.rank == 0 ? std::make_unique<ControlListener>(endpoint.port) : nullptr;
  auto control = control_options(launch, options, endpoint);
  control.muster = Muster{.expected = survivors.expected, .settle = survivors.settle};
  connect(found, control, std::move(listener));
  return found;
}

}  // namespace isobar
