// SPDX-License-Identifier: Apache-2.0
#include "comm/threads/exchange.hpp"

#include <isobar/core/error.hpp>

#include <cstring>

#include "comm/backend.hpp"
#include "comm/reduce_kernels.hpp"

namespace isobar {
namespace {

const char* bytes_of(const at::Tensor& tensor) {
  return static_cast<const char*>(tensor.const_data_ptr());
}

void copy_bytes(const at::Tensor& to, int64_t to_offset, const at::Tensor& from,
                int64_t from_offset, int64_t count) {
  if (count == 0) return;  // an empty tensor may have no memory at all
  std::memcpy(static_cast<char*>(to.data_ptr()) + to_offset, bytes_of(from) + from_offset,
              static_cast<size_t>(count));
}

/// to = all ranks' values from element `first` on, combined in the order of ranks.
void combine(const std::vector<Operation>& parts, at::Tensor Operation::*values, int64_t first,
             const at::Tensor& to) {
  const auto offset = first * static_cast<int64_t>(to.element_size());
  std::vector<const void*> sources;
  for (const auto& part : parts) sources.push_back(bytes_of(part.*values) + offset);
  combine_in_order(to.data_ptr(), sources, to.numel(), to.scalar_type(), parts.front().reduce);
}

void allreduce(const std::vector<Operation>& parts) {
  const auto& result = parts.front().output;
  combine(parts, &Operation::output, 0, result);
  for (const auto& part : parts) {
    if (part.output.const_data_ptr() == result.const_data_ptr()) continue;
    copy_bytes(part.output, 0, result, 0, static_cast<int64_t>(result.nbytes()));
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
      const auto count = static_cast<int64_t>(from.input.nbytes());
      copy_bytes(to.output, offset, from.input, 0, count);
      offset += count;
    }
  }
}

void broadcast(const std::vector<Operation>& parts) {
  const auto& root = parts[parts.front().peer].output;
  for (const auto& part : parts) {
    if (part.output.const_data_ptr() == root.const_data_ptr()) continue;
    copy_bytes(part.output, 0, root, 0, static_cast<int64_t>(root.nbytes()));
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
      copy_bytes(parts[to].output, received[to], from.input, sent, count);
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
  copy_bytes(to, 0, from, 0, static_cast<int64_t>(from.nbytes()));
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
