// SPDX-License-Identifier: Apache-2.0
// Called by the thread that makes a world; blocks. What decides the transport is either the same on
// all ranks (options, launcher) or gathered over the control connection first (nodes, fabric,
// GPUs): no rank may choose by what it alone sees, or the ranks would wait for each other in
// different libraries. The control connection comes before the transport and, held by the
// communicator's watch, goes after it.
#include <isobar/comm/make_communicator.hpp>
#include <isobar/core/error.hpp>
#include <isobar/core/hash.hpp>
#include <isobar/launch/environment.hpp>
#include <isobar/launch/node.hpp>

#include <algorithm>
#include <mutex>
#include <utility>

#include "comm/backend/communicator_access.hpp"
#include "comm/devices/api.hpp"
#include "comm/devices/by_device.hpp"
#include "comm/devices/staged.hpp"
#include "comm/gloo/communicator.hpp"
#include "comm/levels/levels.hpp"
#include "comm/mpi/communicator.hpp"
#include "comm/nccl/communicator.hpp"
#include "comm/rendezvous.hpp"
#include "comm/shared_memory/shared_memory.hpp"

namespace isobar {
namespace {

void check_options(const CommunicatorOptions& options) {
  constexpr const char* kBackends[] = {"auto", "nccl", "mpi", "gloo", "shm", "self"};
  const bool known = std::any_of(std::begin(kBackends), std::end(kBackends),
                                 [&](const char* name) { return options.backend == name; });
  ISOBAR_CHECK(known, "make_communicator: no backend '", options.backend,
               "'; choose auto, nccl, mpi, gloo, shm or self");
  ISOBAR_CHECK(options.device == "cpu" || options.device == "cuda",
               "make_communicator: no device '", options.device, "'; choose cpu or cuda");
  ISOBAR_CHECK(options.timeout.count() > 0, "make_communicator: timeout must be positive, got ",
               options.timeout.count(), " ms");
  levels_by_name(options.levels);
}

/// What `auto` is for CPU tensors of ranks that have met.
std::string automatic_backend(const Rendezvous& meeting) {
  // Asks only what all ranks have told each other: the answer is the same on all.
  if (meeting.on_one_node()) return "shm";
  const auto library = mpi_library_version();
  const bool mpi = !library.empty() && starts_mpi(meeting.launch, library);
  const bool is_too_many = meeting.launch.size > kMostGlooRanks;
  if (mpi && (meeting.has_fabric() || !has_gloo() || is_too_many)) return "mpi";
  return "gloo";
}

std::unique_ptr<Communicator> make_mpi(const Rendezvous& meeting,
                                       const CommunicatorOptions& options) {
  return make_mpi_communicator({.timeout = options.timeout,
                                .deterministic = options.deterministic,
                                .cause = meeting.cause,
                                .tuning = {}});
}

std::unique_ptr<Communicator> make_shm(const Rendezvous& meeting,
                                       const CommunicatorOptions& options) {
  ISOBAR_CHECK(meeting.on_one_node(),
               "make_communicator: backend shm wants all ranks on one node; "
               "choose auto, gloo or mpi");
  return make_shared_memory_communicator({.name = detail::join("isobar-", fnv1a(meeting.token)),
                                          .rank = meeting.launch.rank,
                                          .size = meeting.launch.size,
                                          .timeout = options.timeout,
                                          .cause = meeting.cause});
}

std::unique_ptr<Communicator> make_gloo(const Rendezvous& meeting,
                                        const CommunicatorOptions& options) {
  auto flat = make_gloo_communicator({.rank = meeting.launch.rank,
                                      .size = meeting.launch.size,
                                      .address = meeting.control->own_address(),
                                      .store = meeting.control->store(),
                                      .deterministic = options.deterministic,
                                      .timeout = options.timeout,
                                      .cause = meeting.cause});
  const auto levels = options.deterministic ? Levels::flat : levels_by_name(options.levels);
  return with_levels(
      std::move(flat),
      {.levels = levels, .node = node_identity(), .token = meeting.token, .cause = meeting.cause});
}

/// This rank's GPU. One that has none is everyone's error, before the others wait for it.
int agree_on_gpu(const Rendezvous& meeting, const std::string& device) {
  std::string problem;
  int index = 0;
  try {
    index = rank_device("cuda").index();
  } catch (const UsageError& error) {
    const bool by_backend = device != "cuda";  // nobody has spoken of a device
    problem = by_backend
                  ? "backend nccl, but no GPU is usable here; `isobar doctor` says what was found"
                  : error.what();
  }
  const auto problems = meeting.control->gather(problem);
  const auto first = std::find_if(problems.begin(), problems.end(),
                                  [](const auto& text) { return !text.empty(); });
  if (first == problems.end()) return index;
  UsageError error(detail::join("make_communicator on rank ", first - problems.begin(), " of ",
                                problems.size(), ": ", *first));
  error.set_known_to_all();
  throw error;
}

std::unique_ptr<Communicator> make_nccl(const Rendezvous& meeting,
                                        const CommunicatorOptions& options, int gpu) {
  const int rank = meeting.launch.rank;
  const auto id = rank == 0 ? make_nccl_unique_id() : std::vector<char>();
  const auto first = meeting.control->gather({id.begin(), id.end()}).front();
  return make_nccl_communicator({.rank = rank,
                                 .size = meeting.launch.size,
                                 .device_index = gpu,
                                 .timeout = options.timeout,
                                 .unique_id = {first.begin(), first.end()},
                                 .deterministic = options.deterministic},
                                meeting.cause);
}

std::unique_ptr<Communicator> make_for_cpu(const std::string& backend, const Rendezvous& meeting,
                                           const CommunicatorOptions& options) {
  if (backend == "mpi") return make_mpi(meeting, options);
  if (backend == "gloo") return make_gloo(meeting, options);
  return make_shm(meeting, options);
}

void check_survivors(const CommunicatorOptions& options, const SurvivorOptions& survivors) {
  const std::string where = "make_survivors_communicator: ";
  ISOBAR_CHECK(options.backend != "self", where, "backend self has no survivors but itself");
  ISOBAR_CHECK(options.backend != "mpi", where,
               "backend mpi cannot go on without a lost rank; restart the job, or use gloo or shm");
  ISOBAR_CHECK(options.backend != "nccl" && options.device == "cpu", where,
               "NCCL's ranks cannot go on without a lost one yet; restart the job");
  ISOBAR_CHECK(survivors.generation > 0, where, "generation must be 1 or more, got ",
               survivors.generation);
  ISOBAR_CHECK(survivors.expected >= 0, where, "expected must not be negative, got ",
               survivors.expected);
  ISOBAR_CHECK(survivors.settle.count() > 0, where, "settle must be positive, got ",
               survivors.settle.count(), " ms");
  ISOBAR_CHECK(survivors.expected > 0 || survivors.settle < options.start_timeout, where,
               "settle must be shorter than start_timeout, got ", survivors.settle.count(),
               " ms of ", options.start_timeout.count(), " ms");
}

std::unique_ptr<Communicator> alone(const CommunicatorOptions& options) {
  auto comm = make_self_communicator();
  comm->set_timeout(options.timeout);
  return comm;
}

/// For tensors on the CPU and on this rank's GPU.
std::unique_ptr<Communicator> make_for_gpu(const std::string& backend, const Rendezvous& meeting,
                                           const CommunicatorOptions& options) {
  const int gpu = agree_on_gpu(meeting, options.device);
  if (backend == "nccl") {
    auto for_cpu = make_for_cpu(automatic_backend(meeting), meeting, options);
    return make_by_device_communicator(std::move(for_cpu), make_nccl(meeting, options, gpu));
  }
  auto api = staging_api();
  return make_staged_communicator(make_for_cpu(backend, meeting, options), std::move(api), gpu);
}

/// Which of a process's worlds meets which of another's is a matter of their order alone: it counts
/// for the whole process, as its place in the launch does, and threads that met at once would have
/// none.
Rendezvous meet_in_order(const LaunchEnvironment& launch, const CommunicatorOptions& options) {
  static std::mutex mutex;
  static EarlierWorlds earlier;
  const std::unique_lock lock(mutex, std::try_to_lock);
  ISOBAR_CHECK(lock.owns_lock(), "make_communicator on rank ", launch.rank, " of ", launch.size,
               ": another thread of this process is making a world; make one after the other, in "
               "one order on all ranks");
  return meet(launch, options, options.backend == "mpi", earlier);
}

std::unique_ptr<Communicator> make_launched(const LaunchEnvironment& launch,
                                            const CommunicatorOptions& options) {
  const auto meeting = meet_in_order(launch, options);
  const bool for_gpu = options.device == "cuda" || options.backend == "nccl";
  // The same steps in the same order on all ranks: each of them is collective.
  const auto automatic = for_gpu ? "nccl" : automatic_backend(meeting);
  const auto backend = options.backend == "auto" ? automatic : options.backend;
  auto comm =
      for_gpu ? make_for_gpu(backend, meeting, options) : make_for_cpu(backend, meeting, options);
  // Not reached, the others would each do the whole work by themselves.
  ISOBAR_CHECK(comm->size() == launch.size, "make_communicator: ", launch.launcher, " started ",
               launch.size, " ranks, but backend ", comm->backend(), " reaches ", comm->size(),
               "; use the launcher of the library that isobar was built with");
  // NCCL alone compares no row counts.
  const auto rows = backend == "nccl" ? RowCounts::by_control : RowCounts::by_transport;
  BackendAccess::set_watch(*comm, meeting.control->watch(0, comm->rank(), comm->size(), rows));
  return comm;
}

}  // namespace

std::unique_ptr<Communicator> make_communicator(const CommunicatorOptions& options) {
  check_options(options);
  const auto launch = read_launch_environment();
  ISOBAR_CHECK(options.backend != "self" || launch.size == 1,
               "make_communicator: ", launch.launcher, " started ", launch.size,
               " ranks, but backend self reaches 1; use backend auto");
  const bool needs_transport = options.backend == "mpi" || options.backend == "nccl";
  if (launch.size > 1 || needs_transport) return make_launched(launch, options);
  return alone(options);
}

std::unique_ptr<Communicator> make_survivors_communicator(const CommunicatorOptions& options,
                                                          const SurvivorOptions& survivors) {
  check_options(options);
  check_survivors(options, survivors);
  const auto launch = read_launch_environment();
  ISOBAR_CHECK(survivors.expected <= launch.size, "make_survivors_communicator: expected ",
               survivors.expected, " survivors of ", launch.size, " ranks");
  ISOBAR_CHECK(survivors.lost_size >= 0 && survivors.lost_size <= launch.size,
               "make_survivors_communicator: lost_size must be 0 to ", launch.size, ", got ",
               survivors.lost_size);
  if (launch.size == 1) return alone(options);
  const auto meeting = meet_survivors(launch, options, survivors);
  if (meeting.launch.size == 1) return alone(options);
  // Gloo and shared memory alone can be made anew beside what the failed world left behind.
  const bool on_one_node = options.backend == "auto" && meeting.on_one_node();
  auto comm =
      make_for_cpu(on_one_node || options.backend == "shm" ? "shm" : "gloo", meeting, options);
  BackendAccess::set_watch(*comm, meeting.control->watch(0, comm->rank(), comm->size()));
  return comm;
}

}  // namespace isobar
