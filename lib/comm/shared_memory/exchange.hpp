// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/operation.hpp>

#include <cstdint>
#include <vector>

#include "comm/backend/tensor_bytes.hpp"
#include "comm/shared_memory/barrier.hpp"

namespace isobar {

/// Carries out collectives among the ranks of a node, one at a time.
///
/// Data goes in pieces through the ranks' slots, which are used in turn: between
/// two barriers a rank reads what the slots got before the first of them, and
/// fills its own of the other turn. So a piece costs one barrier.
class SharedExchange {
 public:
  explicit SharedExchange(SharedBarrier& barrier);

  /// Blocks until this rank's part is done. Throws CommError where the ranks call
  /// different things, naming two of them, and where one does not come.
  void run(const Operation& operation, Deadline deadline);

 private:
  /// A part of a piece: bytes from the start of the buffer.
  struct Share {
    int64_t first = 0;
    int64_t count = 0;
  };

  void announce();
  void pass_barrier();
  void compare() const;

  /// to = the parts' values, as the operation combines them.
  void combine(void* to, const std::vector<const void*>& parts, int64_t bytes) const;
  void allreduce();
  void allreduce_by_everyone();
  void allreduce_by_owners();
  Share share(int64_t start, int rank) const;
  void put_shares(int64_t start);
  void combine_own_share(int64_t start);
  void take_shares(int64_t start);
  void reduce_scatter();

  void all_gather();
  void broadcast();
  void all_to_all();
  int64_t agree_on_rows();
  void put_rows(int64_t start);
  void take_rows(int64_t start);

  /// Where `rank` has its data of piece `turn`, and in it the section for `other`.
  char* slot(int rank, int64_t turn) const { return barrier_.segment().slot(rank, turn); }
  char* section(int rank, int64_t turn, int other) const;
  int64_t slot_bytes() const { return barrier_.segment().slot_bytes(); }
  int64_t section_bytes() const;

  SharedBarrier& barrier_;
  int rank_;
  int size_;
  /// The piece that goes next, counted over all operations.
  int64_t turn_ = 0;
  int64_t announcements_ = 0;
  // Of the operation that runs.
  const Operation* operation_ = nullptr;
  Deadline deadline_;
  bool compared_ = false;
};

}  // namespace isobar
