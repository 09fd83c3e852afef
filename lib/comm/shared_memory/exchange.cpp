// SPDX-License-Identifier: Apache-2.0
#include "comm/shared_memory/exchange.hpp"

#include <isobar/core/error.hpp>
#include <isobar/core/hash.hpp>

#include <algorithm>
#include <numeric>

#include "comm/backend.hpp"

namespace isobar {
namespace {

Announcement announcement_of(const Operation& operation) {
  Announcement call;
  call.sequence = operation.sequence;
  call.kind = static_cast<int32_t>(operation.kind);
  if (operation.kind == OperationKind::barrier) return call;
  const auto& tensor = operation.input.defined() ? operation.input : operation.output;
  call.reduce = static_cast<int32_t>(operation.reduce);
  call.type = static_cast<int32_t>(tensor.scalar_type());
  call.peer = operation.peer;
  call.mark = operation.mark;
  // The rows of an all_to_all are each rank's own; only their shape is common.
  call.extent = operation.kind == OperationKind::all_to_all
                    ? static_cast<int64_t>(fnv1a(operation.signature()))
                    : tensor.numel();
  return call;
}

bool have_same_signature(Announcement a, const Announcement& b) {
  a.sequence = b.sequence;
  return a == b;
}

}  // namespace

SharedExchange::SharedExchange(SharedGate& gate)
    : gate_(gate), rank_(gate.rank()), size_(gate.size()) {}

void SharedExchange::run(const Operation& operation, Deadline deadline) {
  operation_ = &operation;
  deadline_ = deadline;
  compared_ = false;
  announce();
  switch (operation.kind) {
    case OperationKind::allreduce:
      return allreduce();
    case OperationKind::reduce_scatter:
      return reduce_scatter();
    case OperationKind::all_gather:
      return all_gather();
    case OperationKind::all_to_all:
      return all_to_all();
    case OperationKind::broadcast:
      return broadcast();
    case OperationKind::barrier:
      return meet();
    case OperationKind::send:
    case OperationKind::receive:
      break;  // SharedMessages carries them
  }
}

// A signature's text takes longer to make than a small collective takes, so it is made for the
// first of several equal calls.
void SharedExchange::announce() {
  auto& announced = gate_.segment().block(rank_).announced[++announcements_ % 2];
  const auto call = announcement_of(*operation_);
  if (!have_same_signature(announced.call, call)) {
    auto& text = announced.signature;
    text[operation_->signature().copy(text.data(), text.size() - 1)] = '\0';
  }
  announced.call = call;
}

void SharedExchange::meet() {
  gate_.meet(*operation_, deadline_);
  if (!compared_) compare();
  compared_ = true;
}

// All compare with rank 0, so that all find the same two.
void SharedExchange::compare() const {
  const auto of = [&](int rank) -> const Announced& {
    return gate_.segment().block(rank).announced[announcements_ % 2];
  };
  for (int r = 1; r < size_; ++r) {
    if (of(r).call == of(0).call) continue;
    throw CommError(detail::join("collective #", operation_->sequence, ": rank 0 of ", size_,
                                 " calls '", of(0).signature.data(), "', rank ", r, " calls '",
                                 of(r).signature.data(),
                                 "'; all ranks must issue the same collectives in the same order"));
  }
}

int64_t SharedExchange::section_bytes() const {
  constexpr int64_t kCacheLine = 64;
  return slot_bytes() / size_ / kCacheLine * kCacheLine;
}

char* SharedExchange::section(int rank, int64_t turn, int other) const {
  return slot(rank, turn) + other * section_bytes();
}

void SharedExchange::all_gather() {
  auto* output = bytes_of(operation_->output);
  const auto* input = bytes_of(operation_->input);
  const auto total = static_cast<int64_t>(operation_->input.nbytes());
  int64_t start = 0;
  do {
    const auto count = std::min(slot_bytes(), total - start);
    copy_bytes(slot(rank_, turn_), input + start, count);
    meet();
    for (int r = 0; r < size_; ++r) {
      copy_bytes(output + r * total + start, r == rank_ ? input + start : slot(r, turn_), count);
    }
    ++turn_;
    start += count;
  } while (start < total);
}

void SharedExchange::broadcast() {
  auto* buffer = bytes_of(operation_->output);
  const auto total = static_cast<int64_t>(operation_->output.nbytes());
  const int root = operation_->peer;
  int64_t start = 0;
  do {
    const auto count = std::min(slot_bytes(), total - start);
    if (rank_ == root) copy_bytes(slot(root, turn_), buffer + start, count);
    meet();
    if (rank_ != root) copy_bytes(buffer + start, slot(root, turn_), count);
    ++turn_;
    start += count;
  } while (start < total);
}

void SharedExchange::all_to_all() {
  const auto most = agree_on_rows() * row_bytes(operation_->input);
  for (int64_t start = 0; start < most; start += section_bytes()) {
    put_rows(start);
    meet();
    take_rows(start);
    ++turn_;
  }
}

/// Every rank sees all numbers of rows: so all find the same mistake, and agree on
/// the number of pieces. The most rows that go from one rank to another.
int64_t SharedExchange::agree_on_rows() {
  const auto rows_bytes = static_cast<int64_t>(sizeof(int64_t)) * size_;
  copy_bytes(slot(rank_, turn_), operation_->input_rows.data(), rows_bytes);
  copy_bytes(slot(rank_, turn_) + rows_bytes, operation_->output_rows.data(), rows_bytes);
  meet();
  const auto number = [&](int rank, int64_t index) {
    return reinterpret_cast<const int64_t*>(slot(rank, turn_))[index];
  };
  int64_t most = 0;
  for (int from = 0; from < size_; ++from) {
    for (int to = 0; to < size_; ++to) {
      const auto sent = number(from, to);
      const auto expected = number(to, int64_t{size_} + from);
      if (sent != expected) {
        throw CommError(detail::join(operation_->name(), ": rank ", from, " sends ", sent,
                                     " rows to rank ", to, ", which expects ", expected));
      }
      most = std::max(most, sent);
    }
  }
  ++turn_;
  return most;
}

void SharedExchange::put_rows(int64_t start) {
  const auto width = row_bytes(operation_->input);
  const auto* input = bytes_of(operation_->input);
  for (int r = 0; r < size_; ++r) {
    const auto total = operation_->input_rows[r] * width;
    const auto count = std::min(section_bytes(), total - start);
    if (r != rank_) copy_bytes(section(rank_, turn_, r), input + start, count);
    input += total;
  }
}

void SharedExchange::take_rows(int64_t start) {
  const auto width = row_bytes(operation_->input);
  const auto own_rows = operation_->input_rows.begin();
  const auto before = std::accumulate(own_rows, own_rows + rank_, int64_t{0}) * width;
  auto* output = bytes_of(operation_->output);
  for (int r = 0; r < size_; ++r) {
    const auto total = operation_->output_rows[r] * width;
    const auto count = std::min(section_bytes(), total - start);
    const auto* from =
        r == rank_ ? bytes_of(operation_->input) + before + start : section(r, turn_, rank_);
    copy_bytes(output + start, from, count);
    output += total;
  }
}

}  // namespace isobar
