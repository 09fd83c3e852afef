// SPDX-License-Identifier: Apache-2.0
#include <isobar/launch/endpoint.hpp>

#include <isobar/core/error.hpp>
#include <isobar/core/hash.hpp>

#include <charconv>
#include <string>
#include <vector>

#include "launch/endpoint_sources.hpp"
#include "launch/job.hpp"
#include "launch/variables.hpp"

namespace isobar {
namespace {

/// torchrun's default.
constexpr int kMasterPort = 29500;
/// Above the well-known ports and below those that systems hand out.
constexpr int kFirstOwnPort = 20000;
constexpr int kOwnPorts = 10000;
/// One may be taken by a program that has nothing to do with us.
constexpr int kTries = 4;

/// Ports that follow from `text`.
void set_own_ports(Endpoint& endpoint, const std::string& text) {
  endpoint.other_ports.clear();
  const auto port = [&](int n) {
    return kFirstOwnPort + static_cast<int>(fnv1a(detail::join(text, ".", n)) % kOwnPorts);
  };
  endpoint.port = port(0);
  for (int n = 1; n < kTries; ++n) endpoint.other_ports.push_back(port(n));
}

int port_number(const std::string& text) {
  int port = 0;
  const auto* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, port);
  ISOBAR_CHECK(error == std::errc() && rest == end && port > 0 && port < 65536,
               "environment variable MASTER_PORT is '", text, "', wanted a port of 1 to 65535");
  return port;
}

[[noreturn]] void throw_unknown(const std::string& host, const char* source) {
  const bool in_job = !variable("SLURM_JOB_ID").empty();
  throw UsageError(detail::join(source, " names host '", host, "', which has no address here",
                                in_job ? ", nor one in Slurm's record of it" : "",
                                "; set MASTER_ADDR to a numeric address of rank 0"));
}

}  // namespace

Endpoint master_endpoint(const HostLookup& lookup) {
  const auto host = variable("MASTER_ADDR");
  if (host.empty()) return {};
  const auto port = variable("MASTER_PORT");
  Endpoint endpoint;
  endpoint.addresses = node_addresses(host, lookup);
  if (endpoint.addresses.empty()) throw_unknown(host, "MASTER_ADDR");
  endpoint.port = port.empty() ? kMasterPort : port_number(port);
  endpoint.token = detail::join(host, ":", endpoint.port, " ", launch_name());
  const bool agent_has_it = !variable("TORCHELASTIC_RUN_ID").empty() &&
                            variable("TORCHELASTIC_USE_AGENT_STORE") == "True";
  if (agent_has_it) set_own_ports(endpoint, endpoint.token);
  return endpoint;
}

Endpoint slurm_endpoint(const HostLookup& lookup) {
  const auto nodes = variable("SLURM_STEP_NODELIST");
  const auto job = variable("SLURM_JOB_ID");
  const auto step = variable("SLURM_STEP_ID");
  if (nodes.empty() || job.empty() || step.empty()) return {};
  Endpoint endpoint;
  const auto node = node_of_task_0(nodes);
  endpoint.addresses = node_addresses(node, lookup);
  if (endpoint.addresses.empty()) endpoint.addresses = batch_host_address(node);
  if (endpoint.addresses.empty()) throw_unknown(node, "SLURM_STEP_NODELIST");
  endpoint.token = detail::join("slurm ", job, ".", step, " ", variable("SLURM_RESTART_COUNT"));
  set_own_ports(endpoint, job + "." + step);
  return endpoint;
}

Endpoint endpoint_of_world(Endpoint launch, int earlier) {
  if (earlier == 0) return launch;
  launch.token += detail::join(" world ", earlier);
  set_own_ports(launch, launch.token);
  return launch;
}

// mpirun and mpiexec may be one of several in a step of Slurm's, whose variables are then not their
// own; of PMI, only srun's ranks are the step's.
Endpoint read_endpoint(const LaunchEnvironment& launch) {
  const auto lookup = system_lookup();
  auto endpoint = master_endpoint(lookup);
  if (!endpoint.addresses.empty() || launch.launcher == "openmpi") return endpoint;
  if (launch.launcher == "pmi" && !is_slurm_step(launch)) return endpoint;
  return slurm_endpoint(lookup);
}

}  // namespace isobar
