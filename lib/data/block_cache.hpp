// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace isobar {

/// Decoded fields, whether a value of a variable is missing at a time, and what is amiss there: a
/// time that nobody asks for may be as it is.
struct Block {
  at::Tensor values;                // [times, points, variables]
  at::Tensor missing;               // bool [times, variables]
  std::vector<char> impossible;     // by time, whether some value is
  std::vector<std::string> errors;  // by time, why it cannot be read; "" where it can
};

/// What is kept in memory of some points.
class KeptBlocks {
 public:
  KeptBlocks(at::Tensor rows, int64_t budget_bytes, int64_t all_bytes)
      : rows_(std::move(rows)), budget_(budget_bytes), whole_(budget_bytes >= all_bytes) {}

  /// Undefined for all points.
  const at::Tensor& rows() const noexcept { return rows_; }
  /// Whether all times fit.
  bool whole() const noexcept { return whole_; }

  /// The block whose first time is at `first`, by `load` where it is not kept. What was not asked
  /// for the longest makes room for it. Valid until the next call.
  const Block& get(int64_t first, const std::function<Block()>& load);

 private:
  struct Kept {
    Block block;
    std::list<int64_t>::iterator asked;
  };

  at::Tensor rows_;
  int64_t budget_;
  bool whole_;
  int64_t bytes_ = 0;
  std::map<int64_t, Kept> blocks_;
  std::list<int64_t> order_;  // least recently asked for first
};

/// What a data set keeps, by the points that were asked for. Not for several threads at once.
class BlockCache {
 public:
  explicit BlockCache(int64_t bytes) : limit_(bytes) {}

  /// Sizes of what these points are.
  struct Size {
    int64_t all_bytes = 0;
    int64_t block_bytes = 0;
    int64_t block_times = 1;
  };

  /// Where blocks of these rows are kept, alone or among all points; null where there is no room
  /// for one. All times of what is asked for first are kept if they fit; what comes later gets what
  /// is left, and one block at least where reading a time means to decode several.
  KeptBlocks* blocks_of(const at::Tensor& rows, const Size& size);

 private:
  int64_t limit_;
  int64_t reserved_ = 0;
  std::deque<KeptBlocks> kept_;
};

}  // namespace isobar
