// SPDX-License-Identifier: Apache-2.0
// How the processes of a launch find rank 0, called once for a world, by the thread that makes it.
// Whoever is met has shown the same token, which the launch makes, with the number of the world;
// what is made of the meeting (names in shared memory) goes by the session, which no two meetings
// share.
#include "comm/rendezvous.hpp"

#include <isobar/core/error.hpp>
#include <isobar/core/machine.hpp>
#include <isobar/launch/endpoint.hpp>
#include <isobar/launch/node.hpp>

#include <algorithm>
#include <sstream>
#include <utility>

#include "comm/control/join.hpp"
#include "comm/mpi/communicator.hpp"

namespace isobar {
namespace {

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

bool Rendezvous::on_one_node() const {
  return std::all_of(nodes.begin(), nodes.end(),
                     [this](const auto& node) { return node == nodes.front(); });
}

bool Rendezvous::has_fabric() const {
  return std::none_of(fabrics.begin(), fabrics.end(),
                      [](const auto& fabric) { return fabric.empty(); });
}

Rendezvous meet(const LaunchEnvironment& launch, const CommunicatorOptions& options, bool by_mpi,
                EarlierWorlds& earlier) {
  Rendezvous found;
  found.launch = launch;
  found.cause = std::make_shared<FirstCause>();
  Endpoint endpoint;
  std::string met_by;
  std::unique_ptr<ControlListener> listener;
  if (launch.size > 1) {
    if (!by_mpi) endpoint = read_endpoint(launch);
    by_mpi = endpoint.addresses.empty();
    if (!by_mpi) {
      met_by = endpoint.token;
      endpoint = endpoint_of_world(std::move(endpoint), earlier[met_by]);
    }
    ISOBAR_CHECK(!by_mpi || starts_mpi(launch), "rendezvous on rank ", launch.rank, " of ",
                 launch.size, ": nothing says where rank 0 is; set MASTER_ADDR and MASTER_PORT, ",
                 "or start the program by srun or mpirun");
    if (launch.rank == 0) listener = listen_as_rank_0(control_options(launch, options, endpoint));
    if (by_mpi) endpoint = endpoint_by_mpi(listener.get(), options.start_timeout);
  }
  connect(found, control_options(launch, options, endpoint), std::move(listener));
  if (!met_by.empty()) ++earlier[met_by];
  return found;
}

Rendezvous meet_survivors(const LaunchEnvironment& launch, const CommunicatorOptions& options,
                          const SurvivorOptions& survivors) {
  auto endpoint = read_endpoint(launch);
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
  control.regroup = Regroup{.expected = survivors.expected, .settle = survivors.settle};
  connect(found, control, std::move(listener));
  return found;
}

}  // namespace isobar
