// SPDX-License-Identifier: Apache-2.0
// The reductions of SharedExchange. All of them combine the ranks' values in the order of ranks, in
// one pass that reads the slots where they are.
#include <algorithm>

#include "comm/reduce_kernels.hpp"
#include "comm/shared_memory/exchange.hpp"

namespace isobar {
namespace {

/// Up to here, over all ranks, each rank combines everything itself: reading the slots costs less
/// than the meeting that it saves (measured with four ranks on two cores: 16, 32 and 64 KiB each).
constexpr int64_t kByEveryoneBytes = 128 * 1024;

}  // namespace

void SharedExchange::allreduce() {
  const auto bytes = static_cast<int64_t>(operation_->output.nbytes());
  bytes* size_ <= kByEveryoneBytes ? allreduce_by_everyone() : allreduce_by_owners();
}

void SharedExchange::allreduce_by_everyone() {
  const auto& buffer = operation_->output;
  copy_bytes(slot(rank_, turn_), bytes_of(buffer), static_cast<int64_t>(buffer.nbytes()));
  meet();
  std::vector<const void*> parts;
  for (int r = 0; r < size_; ++r) parts.push_back(slot(r, turn_));
  combine_in_order(buffer.data_ptr(), parts, buffer.numel(), buffer.scalar_type(),
                   operation_->reduce);
  ++turn_;
}

// A rank's own share of a piece stays out of its slot, and the result takes the place there: one
// meeting a piece, while the next is put in.
void SharedExchange::allreduce_by_owners() {
  const auto total = static_cast<int64_t>(operation_->output.nbytes());
  const auto piece = section_bytes() * size_;
  put_shares(0);
  meet();
  for (int64_t start = 0; start < total; start += piece) {
    combine_own_share(start);
    ++turn_;
    if (start + piece < total) put_shares(start + piece);
    meet();
    take_shares(start);
  }
}

/// Rank r's share of the piece at `start`, in whole cache lines.
SharedExchange::Share SharedExchange::share(int64_t start, int rank) const {
  constexpr int64_t kCacheLine = 64;
  const auto total = static_cast<int64_t>(operation_->output.nbytes());
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
  const auto& buffer = operation_->output;
  const auto [first, count] = share(start, rank_);
  auto* own = bytes_of(buffer) + first;
  std::vector<const void*> parts;
  for (int r = 0; r < size_; ++r) {
    parts.push_back(r == rank_ ? own : section(r, turn_, rank_));
  }
  combine_in_order(own, parts, count / static_cast<int64_t>(buffer.element_size()),
                   buffer.scalar_type(), operation_->reduce);
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
  const auto total = static_cast<int64_t>(output.nbytes());
  int64_t start = 0;
  do {
    const auto count = std::min(section_bytes(), total - start);
    std::vector<const void*> parts;
    for (int r = 0; r < size_; ++r) {
      const auto* own = input + r * total + start;
      if (r != rank_) copy_bytes(section(rank_, turn_, r), own, count);
      parts.push_back(r == rank_ ? own : section(r, turn_, rank_));
    }
    meet();
    combine_in_order(bytes_of(output) + start, parts,
                     count / static_cast<int64_t>(output.element_size()), output.scalar_type(),
                     operation_->reduce);
    ++turn_;
    start += count;
  } while (start < total);
}

}  // namespace isobar
