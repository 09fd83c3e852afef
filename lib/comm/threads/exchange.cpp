// SPDX-License-Identifier: Apache-2.0
#include "comm/threads/exchange.hpp"

#include <isobar/core/error.hpp>

#include "comm/backend/operation_facts.hpp"
#include "comm/backend/reduce_kernels.hpp"
#include "comm/backend/tensor_bytes.hpp"

namespace isobar {
namespace {

/// to = all ranks' values from element `first` on, combined in the order of ranks.
void combine(const std::vector<Operation>& parts, at::Tensor Operation::*values, int64_t first,
             const at::Tensor& to) {
  const auto offset = first * static_cast<int64_t>(to.element_size());
  std::vector<const void*> sources;
  for (const auto& part : parts) sources.push_back(const_bytes_of(part.*values) + offset);
  const auto& any = parts.front();
  combine_in_order(to.data_ptr(), sources, to.numel(), to.scalar_type(), any.reduce, any.divisor);
}

void allreduce(const std::vector<Operation>& parts) {
  const auto& result = parts.front().output;
  combine(parts, &Operation::output, 0, result);
  for (const auto& part : parts) {
    if (part.output.const_data_ptr() == result.const_data_ptr()) continue;
    copy_bytes(bytes_of(part.output), const_bytes_of(result), byte_count(result));
  }
}

void reduce_scatter(const std::vector<Operation>& parts) {
  int64_t first = 0;
  for (const auto& part : parts) {
    combine(parts, &Operation::input, first, part.output);
    first += part.output.numel();
  }
}

void all_gather(const std::vector<Operation>& parts) {
  for (const auto& to : parts) {
    int64_t offset = 0;
    for (const auto& from : parts) {
      const auto count = byte_count(from.input);
      copy_bytes(bytes_of(to.output) + offset, const_bytes_of(from.input), count);
      offset += count;
    }
  }
}

void broadcast(const std::vector<Operation>& parts) {
  const auto& root = parts[parts.front().peer].output;
  for (const auto& part : parts) {
    if (part.output.const_data_ptr() == root.const_data_ptr()) continue;
    copy_bytes(bytes_of(part.output), const_bytes_of(root), byte_count(root));
  }
}

void check_rows_agree(const std::vector<Operation>& parts) {
  for (size_t from = 0; from < parts.size(); ++from) {
    for (size_t to = 0; to < parts.size(); ++to) {
      const auto sent = parts[from].input_rows[to];
      const auto expected = parts[to].output_rows[from];
      if (sent == expected) continue;
      throw CommError(detail::join(parts[from].name(), ": rank ", from, " sends ", sent,
                                   " rows to rank ", to, ", which expects ", expected));
    }
  }
}

void all_to_all(const std::vector<Operation>& parts) {
  check_rows_agree(parts);
  const auto row = row_bytes(parts.front().input);
  std::vector<int64_t> received(parts.size(), 0);
  for (const auto& from : parts) {
    int64_t sent = 0;
    for (size_t to = 0; to < parts.size(); ++to) {
      const auto count = from.input_rows[to] * row;
      copy_bytes(bytes_of(parts[to].output) + received[to], const_bytes_of(from.input) + sent,
                 count);
      received[to] += count;
      sent += count;
    }
  }
}

void deliver(const Operation& send, const Operation& receive) {
  const auto& from = send.input;
  const auto& to = receive.output;
  if (from.scalar_type() != to.scalar_type() || from.numel() != to.numel()) {
    throw CommError(detail::join("message from rank ", receive.peer, " to rank ", send.peer,
                                 " tag ", send.tag, ": sent ", send.signature(), ", wanted ",
                                 receive.signature()));
  }
  copy_bytes(bytes_of(to), const_bytes_of(from), byte_count(from));
}

}  // namespace

void exchange(const std::vector<Operation>& parts) {
  switch (parts.front().kind) {
    case OperationKind::allreduce:
      return allreduce(parts);
    case OperationKind::reduce_scatter:
      return reduce_scatter(parts);
    case OperationKind::all_gather:
      return all_gather(parts);
    case OperationKind::all_to_all:
      return all_to_all(parts);
    case OperationKind::broadcast:
      return broadcast(parts);
    case OperationKind::barrier:
      return;
    case OperationKind::send:
    case OperationKind::receive:
      return deliver(parts[0], parts[1]);
  }
}

}  // namespace isobar
