// SPDX-License-Identifier: Apache-2.0
#include "comm/mpi/handle.hpp"

#include <isobar/core/error.hpp>

#include <array>
#include <cstdint>
#include <functional>
#include <future>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "comm/backend/completion.hpp"
#include "comm/backend/operation_facts.hpp"
#include "comm/mpi/call.hpp"
#include "comm/mpi/link.hpp"
#include "comm/mpi/runtime.hpp"

namespace isobar {
namespace {

using std::chrono::steady_clock;
using namespace std::chrono_literals;

/// Makes calls that are no operation of a communicator's, and blocks until they have ended.
void run_calls(const char* name, MpiRuntime& runtime, const std::shared_ptr<MpiFamily>& family,
               std::chrono::milliseconds timeout, MpiCalls::Start start, MpiCalls::Finish finish) {
  auto calls = std::make_shared<MpiCalls>(std::move(start), std::move(finish));
  auto completion = std::make_shared<Completion>(name, timeout, family->cause());
  runtime.launch(std::move(calls), std::move(completion), family).synchronize();
}

/// The limit is the same for all communicators, but only the world must know it.
void check_tags() {
  constexpr int kLastTag = kFirstScheduleTag + kScheduleTags - 1;
  const int* limit = nullptr;
  int there = 0;
  mpi_check(MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_TAG_UB, &limit, &there), "MPI_Comm_get_attr");
  if (there && *limit >= kLastTag) return;
  throw CommError(detail::join("backend mpi: this MPI's tags end at ", there ? *limit : 0,
                               ", wanted ", kLastTag));
}

void describe(MpiHandle& handle) {
  if (handle.comm == MPI_COMM_NULL) return;
  mpi_check(MPI_Comm_set_errhandler(handle.comm, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  mpi_check(MPI_Comm_rank(handle.comm, &handle.rank), "MPI_Comm_rank");
  mpi_check(MPI_Comm_size(handle.comm, &handle.size), "MPI_Comm_size");
}

uint64_t node_hash() {
  char name[MPI_MAX_PROCESSOR_NAME];
  int length = 0;
  mpi_check(MPI_Get_processor_name(name, &length), "MPI_Get_processor_name");
  return std::hash<std::string_view>{}({name, static_cast<size_t>(length)});
}

/// Finds out whether the ranks share a node: the greatest of their hashes is the smallest then.
void compare_nodes(MpiRuntime& runtime, MpiHandle& handle, const std::shared_ptr<MpiFamily>& family,
                   std::chrono::milliseconds timeout) {
  if (handle.comm == MPI_COMM_NULL || handle.size == 1) return;
  const auto hashes = std::make_shared<std::array<uint64_t, 2>>();
  auto start = [hashes, comm = handle.comm](auto& requests) {
    *hashes = {node_hash(), ~node_hash()};
    mpi_check(MPI_Iallreduce(MPI_IN_PLACE, hashes->data(), 2, MPI_UINT64_T, MPI_MAX, comm,
                             &requests.emplace_back()),
              "MPI_Iallreduce");
  };
  run_calls("comparison of nodes", runtime, family, timeout, start, {});
  handle.one_node = (*hashes)[0] == ~(*hashes)[1];
}

MpiHandle split_handle(MPI_Comm parent, int color, int key) {
  MpiHandle handle;
  mpi_check(MPI_Comm_split(parent, color < 0 ? MPI_UNDEFINED : color, key, &handle.comm),
            "MPI_Comm_split");
  describe(handle);
  return handle;
}

/// On a thread of its own, which stays behind where the call never returns.
MpiHandle split_aside(std::shared_ptr<MPI_Comm> parent, int color, int key, FirstCause& cause,
                      std::chrono::milliseconds timeout) {
  std::packaged_task<MpiHandle()> call(
      [parent = std::move(parent), color, key] { return split_handle(*parent, color, key); });
  auto handle = call.get_future();
  std::thread(std::move(call)).detach();
  const auto deadline = steady_clock::now() + timeout;
  while (handle.wait_for(10ms) != std::future_status::ready) {
    cause.check();
    if (steady_clock::now() > deadline) {
      cause.fail(detail::join("split: no answer in ", in_words(timeout)));
    }
  }
  try {
    return handle.get();
  } catch (const CommError& error) {
    cause.fail(detail::join("split: ", error.what()));
  }
}

}  // namespace

MpiHandle duplicate_world(MpiRuntime& runtime, const std::shared_ptr<MpiFamily>& family,
                          std::chrono::milliseconds timeout) {
  const auto handle = std::make_shared<MpiHandle>();
  auto start = [handle](auto& requests) {
    mpi_check(MPI_Comm_idup(MPI_COMM_WORLD, &handle->comm, &requests.emplace_back()),
              "MPI_Comm_idup");
  };
  auto finish = [handle](const auto&) {
    check_tags();
    describe(*handle);
  };
  run_calls("make_mpi_communicator", runtime, family, timeout, start, finish);
  compare_nodes(runtime, *handle, family, timeout);
  return *handle;
}

// MPI has no split that does not block. On the progress thread two of them, begun in different
// orders by different ranks, would wait for each other; beside it both go on, and both Open MPI and
// MPICH give the older communicator precedence when they agree on a number for the new one.
MpiHandle split_handle(MpiRuntime& runtime, std::shared_ptr<MPI_Comm> parent, int color, int key,
                       const std::shared_ptr<MpiFamily>& family,
                       std::chrono::milliseconds timeout) {
  if (runtime.is_concurrent()) {
    auto handle = split_aside(std::move(parent), color, key, *family->cause(), timeout);
    compare_nodes(runtime, handle, family, timeout);
    return handle;
  }
  const auto handle = std::make_shared<MpiHandle>();
  auto start = [=](auto&) { *handle = split_handle(*parent, color, key); };
  run_calls("split", runtime, family, timeout, start, {});
  compare_nodes(runtime, *handle, family, timeout);
  return *handle;
}

}  // namespace isobar
