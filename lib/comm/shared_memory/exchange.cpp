// SPDX-License-Identifier: Apache-2.0
// Run by SharedQueue on one thread at a time. A rank writes only its own slots, and two turns
// alternate: what is put into a slot in turn t is read by others after barrier t, and overwritten
// in turn t + 2, that is after barrier t + 1, which each of them passes only once it has read. So
// one barrier a piece is enough. All ranks cut a buffer into the same pieces, since they have
// compared what they call at the first barrier.
#include "comm/shared_memory/exchange.hpp"

#include <isobar/core/error.hpp>
#include <isobar/core/hash.hpp>

#include <algorithm>
#include <numeric>

#include "comm/backend/operation_facts.hpp"
#include "comm/backend/reduce_kernels.hpp"

namespace isobar {
namespace {

/// Up to here, over all ranks, each rank combines everything itself: reading the slots costs less
/// than the barrier that it saves (measured with four ranks on two cores: 16, 32 and 64 KiB each).
constexpr int64_t kByEveryoneBytes = 128 * 1024;

Announcement announcement_of(const Operation& operation) {
  Announcement announcement{.sequence = operation.sequence, .call = call_of(operation)};
  if (operation.kind == OperationKind::all_to_all) announcement.rows = fnv1a(operation.signature());
  return announcement;
}

bool have_same_signature(Announcement a, const Announcement& b) {
  a.sequence = b.sequence;
  return a == b;
}

}  // namespace

SharedExchange::SharedExchange(SharedBarrier& barrier)
    : barrier_(barrier), rank_(barrier.rank()), size_(barrier.size()) {}

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
      return pass_barrier();
    case OperationKind::send:
    case OperationKind::receive:
      break;  // SharedMessages carries them
  }
}

// A signature's text takes longer to make than a small collective takes, so it is made for the
// first of several equal calls.
void SharedExchange::announce() {
  auto& announced = barrier_.segment().block(rank_).announced[++announcements_ % 2];
  const auto announcement = announcement_of(*operation_);
  if (!have_same_signature(announced.announcement, announcement)) {
    auto& text = announced.signature;
    text[operation_->signature().copy(text.data(), text.size() - 1)] = '\0';
  }
  announced.announcement = announcement;
}

void SharedExchange::pass_barrier() {
  barrier_.arrive_and_wait(*operation_, deadline_);
  if (!compared_) compare();
  compared_ = true;
}

// All compare with rank 0, so that all find the same two.
void SharedExchange::compare() const {
  const auto of = [&](int rank) -> const Announced& {
    return barrier_.segment().block(rank).announced[announcements_ % 2];
  };
  for (int r = 1; r < size_; ++r) {
    if (of(r).announcement == of(0).announcement) continue;
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

// The reductions combine the ranks' values in the order of ranks, in one pass that reads the slots
// where they are.
void SharedExchange::allreduce() {
  const auto bytes = byte_count(operation_->output);
  bytes* size_ <= kByEveryoneBytes ? allreduce_by_everyone() : allreduce_by_owners();
}

void SharedExchange::allreduce_by_everyone() {
  const auto& buffer = operation_->output;
  copy_bytes(slot(rank_, turn_), bytes_of(buffer), byte_count(buffer));
  pass_barrier();
  std::vector<const void*> parts;
  for (int r = 0; r < size_; ++r) parts.push_back(slot(r, turn_));
  combine(buffer.data_ptr(), parts, byte_count(buffer));
  ++turn_;
}

// A rank's own share of a piece stays out of its slot, and the result takes the place there: one
// barrier a piece, while the next is put in. A result is read one barrier later than the rest of
// its slot, and overwritten one later, by the next result there.
void SharedExchange::allreduce_by_owners() {
  const auto total = byte_count(operation_->output);
  const auto piece = section_bytes() * size_;
  put_shares(0);
  pass_barrier();
  for (int64_t start = 0; start < total; start += piece) {
    combine_own_share(start);
    ++turn_;
    if (start + piece < total) put_shares(start + piece);
    pass_barrier();
    take_shares(start);
  }
}

void SharedExchange::combine(void* to, const std::vector<const void*>& parts, int64_t bytes) const {
  const auto& output = operation_->output;
  combine_in_order(to, parts, bytes / static_cast<int64_t>(output.element_size()),
                   output.scalar_type(), operation_->reduce, operation_->divisor);
}

/// Rank r's share of the piece at `start`, in whole cache lines.
SharedExchange::Share SharedExchange::share(int64_t start, int rank) const {
  constexpr int64_t kCacheLine = 64;
  const auto total = byte_count(operation_->output);
  const auto end = std::min(total, start + section_bytes() * size_);
  const auto lines = (end - start + kCacheLine - 1) / kCacheLine;
  const auto each = (lines + size_ - 1) / size_ * kCacheLine;
  const auto first = std::min(end, start + rank * each);
  return {first, std::min(each, end - first)};
}

void SharedExchange::put_shares(int64_t start) {
  for (int r = 0; r < size_; ++r) {
    if (r == rank_) continue;
    const auto [first, count] = share(start, r);
    copy_bytes(section(rank_, turn_, r), bytes_of(operation_->output) + first, count);
  }
}

void SharedExchange::combine_own_share(int64_t start) {
  const auto [first, count] = share(start, rank_);
  auto* own = bytes_of(operation_->output) + first;
  std::vector<const void*> parts;
  for (int r = 0; r < size_; ++r) {
    parts.push_back(r == rank_ ? own : section(r, turn_, rank_));
  }
  combine(own, parts, count);
  copy_bytes(section(rank_, turn_, rank_), own, count);
}

/// Of the piece before turn_.
void SharedExchange::take_shares(int64_t start) {
  for (int r = 0; r < size_; ++r) {
    if (r == rank_) continue;
    const auto [first, count] = share(start, r);
    copy_bytes(bytes_of(operation_->output) + first, section(r, turn_ - 1, r), count);
  }
}

void SharedExchange::reduce_scatter() {
  const auto* input = bytes_of(operation_->input);
  const auto& output = operation_->output;
  const auto total = byte_count(output);
  int64_t start = 0;
  do {
    const auto count = std::min(section_bytes(), total - start);
    std::vector<const void*> parts;
    for (int r = 0; r < size_; ++r) {
      const auto* own = input + r * total + start;
      if (r != rank_) copy_bytes(section(rank_, turn_, r), own, count);
      parts.push_back(r == rank_ ? own : section(r, turn_, rank_));
    }
    pass_barrier();
    combine(bytes_of(output) + start, parts, count);
    ++turn_;
    start += count;
  } while (start < total);
}

void SharedExchange::all_gather() {
  auto* output = bytes_of(operation_->output);
  const auto* input = bytes_of(operation_->input);
  const auto total = byte_count(operation_->input);
  int64_t start = 0;
  do {
    const auto count = std::min(slot_bytes(), total - start);
    copy_bytes(slot(rank_, turn_), input + start, count);
    pass_barrier();
    for (int r = 0; r < size_; ++r) {
      copy_bytes(output + r * total + start, r == rank_ ? input + start : slot(r, turn_), count);
    }
    ++turn_;
    start += count;
  } while (start < total);
}

void SharedExchange::broadcast() {
  auto* buffer = bytes_of(operation_->output);
  const auto total = byte_count(operation_->output);
  const int root = operation_->peer;
  int64_t start = 0;
  do {
    const auto count = std::min(slot_bytes(), total - start);
    if (rank_ == root) copy_bytes(slot(root, turn_), buffer + start, count);
    pass_barrier();
    if (rank_ != root) copy_bytes(buffer + start, slot(root, turn_), count);
    ++turn_;
    start += count;
  } while (start < total);
}

void SharedExchange::all_to_all() {
  const auto most = agree_on_rows() * row_bytes(operation_->input);
  for (int64_t start = 0; start < most; start += section_bytes()) {
    put_rows(start);
    pass_barrier();
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
  pass_barrier();
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
