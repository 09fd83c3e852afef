// SPDX-License-Identifier: Apache-2.0
// How the processes of a launch find rank 0, called once for a world, by the thread that makes it.
// Whoever is met has shown that it knows the secret of the user, or of MPI's world, and the token
// that the launch makes, with the number of the world; what is made of the meeting (names in shared
// memory) goes by the session, which no two meetings share.
#include "comm/rendezvous.hpp"

#include <isobar/core/error.hpp>
#include <isobar/core/machine.hpp>
#include <isobar/core/random_bytes.hpp>
#include <isobar/launch/endpoint.hpp>
#include <isobar/launch/node.hpp>
#include <isobar/launch/secret.hpp>
#include <fmt/format.h>

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

/// Where rank 0 is, and by what the ranks know each other.
struct MeetingPlace {
  Endpoint endpoint;
  std::string secret;
};

/// Two hexadecimal digits a byte.
std::string as_word(const std::string& bytes) {
  std::string word;
  for (const unsigned char byte : bytes) word += fmt::format("{:02x}", byte);
  return word;
}

/// The ranks meet in MPI first: rank 0 tells where it listens, and a secret of this world.
MeetingPlace meeting_by_mpi(const ControlListener* listener, std::chrono::milliseconds timeout) {
  constexpr size_t kSecret = 32;
  std::string mine;
  if (listener) {
    mine = detail::join(control::make_session(), " ", as_word(random_bytes(kSecret)), " ",
                        listener->port());
    for (const auto& address : own_addresses()) mine += " " + address;
  }
  const auto words = words_of(mpi_gather(mine, timeout).front());
  if (words.size() < 4) throw CommError("rendezvous by MPI: rank 0 has no network address");
  return {.endpoint = {.addresses = {words.begin() + 3, words.end()},
                       .port = std::stoi(words[2]),
                       .other_ports = {},
                       .token = words[0]},
          .secret = configured_secret().value_or(words[1])};
}

ControlOptions control_options(const LaunchEnvironment& launch, const CommunicatorOptions& options,
                               const MeetingPlace& meeting) {
  const auto& endpoint = meeting.endpoint;
  return {.rank = launch.rank,
          .size = launch.size,
          .host = host_name(),
          .addresses = endpoint.addresses,
          .port = endpoint.port,
          .other_ports = endpoint.other_ports,
          .token = endpoint.token,
          .secret = meeting.secret,
          .job = job_of(launch),
          .start_timeout = start_limit(options.start_timeout, launch.size),
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
  // Of thousands of nodes the names would fill the network; whether they differ does not.
  found.is_on_one_node = found.control->all_equal(node_identity());
  const auto fabrics = found.control->gather(fabric());
  found.has_fabrics = std::none_of(fabrics.begin(), fabrics.end(),
                                   [](const auto& fabric) { return fabric.empty(); });
}

}  // namespace

std::chrono::milliseconds start_limit(std::chrono::milliseconds start_timeout, int size) {
  // By every 64 ranks a sixteenth, as the docstring of start_timeout says; a few change nothing.
  return start_timeout + start_timeout * (size / 64) / 16;
}

Rendezvous meet(const LaunchEnvironment& launch, const CommunicatorOptions& options, bool by_mpi,
                EarlierWorlds& earlier) {
  Rendezvous found;
  found.launch = launch;
  found.cause = std::make_shared<FirstCause>();
  MeetingPlace place;
  std::string met_by;
  std::unique_ptr<ControlListener> listener;
  if (launch.size > 1) {
    if (!by_mpi) place.endpoint = read_endpoint(launch);
    by_mpi = place.endpoint.addresses.empty();
    if (!by_mpi) {
      met_by = place.endpoint.token;
      place.endpoint = endpoint_of_world(std::move(place.endpoint), earlier[met_by]);
    }
    ISOBAR_CHECK(!by_mpi || starts_mpi(launch), "rendezvous on rank ", launch.rank, " of ",
                 launch.size, ": nothing says where rank 0 is; set MASTER_ADDR and MASTER_PORT, ",
                 "or start the program by srun or mpirun");
    if (!by_mpi) place.secret = user_secret(launch);
    if (launch.rank == 0) listener = listen_as_rank_0(control_options(launch, options, place));
    if (by_mpi) {
      place = meeting_by_mpi(listener.get(), start_limit(options.start_timeout, launch.size));
    }
  }
  connect(found, control_options(launch, options, place), std::move(listener));
  if (!met_by.empty()) ++earlier[met_by];
  return found;
}

Rendezvous meet_survivors(const LaunchEnvironment& launch, const CommunicatorOptions& options,
                          const SurvivorOptions& survivors) {
  MeetingPlace place{.endpoint = read_endpoint(launch), .secret = {}};
  auto& endpoint = place.endpoint;
  ISOBAR_CHECK(!endpoint.addresses.empty(), "survivors' rendezvous on rank ", launch.rank, " of ",
               launch.size, ": nothing says where rank 0 is; set MASTER_ADDR and MASTER_PORT");
  place.secret = user_secret(launch);
  // The last world may still hold its own port: what a failed transport left behind keeps it.
  const auto later = [&](int port) {
    return 1024 + (port - 1024 + survivors.generation) % (65536 - 1024);
  };
  endpoint.port = later(endpoint.port);
  for (int& port : endpoint.other_ports) port = later(port);
  endpoint.token += detail::join(" generation ", survivors.generation);
  Rendezvous found{
      .launch = launch, .cause = std::make_shared<FirstCause>(), .control = nullptr, .token = {}};
  auto control = control_options(launch, options, place);
  auto listener = launch.rank == 0 ? listen_as_rank_0(control) : nullptr;
  control.regroup = Regroup{
      .lost_size = survivors.lost_size, .expected = survivors.expected, .settle = survivors.settle};
  connect(found, control, std::move(listener));
  return found;
}

}  // namespace isobar
