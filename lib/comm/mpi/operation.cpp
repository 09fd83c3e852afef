// SPDX-License-Identifier: Apache-2.0
#include "comm/mpi/operation.hpp"

#include <algorithm>

#include "comm/element_type.hpp"

namespace isobar {
namespace {

bool reduces(const Operation& operation) {
  return operation.kind == OperationKind::allreduce ||
         operation.kind == OperationKind::reduce_scatter;
}

/// The bits of these must not depend on the place in the buffer, or they are combined in a type
/// that is wider than what is sent, which a ring would round at every rank.
bool needs_owners(const Operation& operation, bool deterministic) {
  const auto type = operation.output.scalar_type();
  return reduces(operation) && at::isFloatingType(type) &&
         (deterministic || accumulation_type(type) != type);
}

int64_t longest_bytes(const Operation& operation) {
  const auto& input = operation.input;
  return static_cast<int64_t>(
      std::max(operation.output.nbytes(), input.defined() ? input.nbytes() : 0));
}

/// Null for the library's own calls.
MpiStream::MakeSchedule choose(const MpiPlace& place, const MpiLink& link) {
  const auto& operation = place.operation;
  if (operation.kind == OperationKind::all_to_all) return exchange_schedule;
  if (!operation.output.defined() || operation.kind == OperationKind::receive) return nullptr;
  if (needs_owners(operation, link.deterministic)) return owner_schedule;
  const auto bytes = longest_bytes(operation);
  const auto& tuning = link.tuning;
  if (bytes <= std::max(tuning.small_bytes, tuning.small_bytes_each_rank * place.size)) {
    return nullptr;
  }
  if (operation.kind == OperationKind::broadcast) return chain_schedule;
  const auto owners_up_to = tuning.owner_bytes_each_rank * place.size;
  return reduces(operation) && bytes <= owners_up_to ? owner_schedule : ring_schedule;
}

}  // namespace

std::shared_ptr<MpiTask> make_task(MpiPlace place, const MpiLink& link) {
  const auto make_schedule = choose(place, link);
  if (!make_schedule) return make_library_task(std::move(place), link);
  const int tag = kFirstStreamTag + static_cast<int>(place.operation.sequence % kStreamTags);
  MpiStream::Channel channel{link.comm, tag, link.one_node, link.tuning, link.lane};
  return std::make_shared<MpiStream>(std::move(place), std::move(channel), make_schedule);
}

}  // namespace isobar
