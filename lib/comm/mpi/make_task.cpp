// SPDX-License-Identifier: Apache-2.0
#include "comm/mpi/make_task.hpp"

#include <algorithm>

#include "comm/backend/operation_facts.hpp"
#include "comm/backend/tensor_bytes.hpp"
#include "comm/mpi/library.hpp"

namespace isobar {
namespace {

/// Null for the library's own calls.
MakeSchedule choose(const Operation& operation, int size, const MpiLink& link) {
  if (operation.kind == OperationKind::all_to_all) return exchange_schedule;
  if (!operation.output.defined() || operation.kind == OperationKind::receive) return nullptr;
  const auto type = operation.output.scalar_type();
  if (reduces(operation) && needs_owner(type, link.deterministic)) return owner_schedule;
  const auto bytes = std::max(byte_count(operation.output), byte_count(operation.input));
  const auto& tuning = link.tuning;
  if (bytes <= std::max(tuning.small_bytes, tuning.small_bytes_each_rank * size)) {
    return nullptr;
  }
  if (operation.kind == OperationKind::broadcast) return chain_schedule;
  return reduces(operation) ? sum_schedule(operation.kind, bytes, size, tuning) : ring_schedule;
}

}  // namespace

std::shared_ptr<MpiTask> make_task(Operation operation, int rank, int size, const MpiLink& link) {
  const auto make_schedule = choose(operation, size, link);
  if (!make_schedule) return make_library_task(std::move(operation), link);
  const int tag = kFirstScheduleTag + static_cast<int>(operation.sequence % kScheduleTags);
  MpiScheduleTask::Channel channel{link.comm, tag, link.one_node, link.tuning, link.lane};
  return std::make_shared<MpiScheduleTask>(std::move(operation), rank, size, std::move(channel),
                                           make_schedule);
}

}  // namespace isobar
