// SPDX-License-Identifier: Apache-2.0
#include "block_cache.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

namespace isobar {
namespace {

/// HDF5 takes as much to inflate a chunk, so keeping it is no more than twice that.
constexpr int64_t kLargestLoneBlock = int64_t{1} << 30;

bool same_rows(const at::Tensor& a, const at::Tensor& b) {
  return a.is_same(b) || (a.defined() && b.defined() && at::equal(a, b));
}

int64_t bytes_of(const Block& block) { return static_cast<int64_t>(block.values.nbytes()); }

}  // namespace

const Block& KeptBlocks::get(int64_t first, const std::function<Block()>& load) {
  const auto found = blocks_.find(first);
  if (found != blocks_.end()) {
    order_.splice(order_.end(), order_, found->second.asked);
    return found->second.block;
  }
  Block block = load();
  while (!order_.empty() && bytes_ + bytes_of(block) > budget_) {
    const auto oldest = blocks_.find(order_.front());
    bytes_ -= bytes_of(oldest->second.block);
    blocks_.erase(oldest);
    order_.pop_front();
  }
  bytes_ += bytes_of(block);
  order_.push_back(first);
  return blocks_.emplace(first, Kept{std::move(block), std::prev(order_.end())})
      .first->second.block;
}

KeptBlocks* BlockCache::blocks_of(const at::Tensor& rows, const Size& size) {
  for (KeptBlocks& kept : kept_) {
    if (same_rows(kept.rows(), rows) || (!kept.rows().defined() && kept.whole())) return &kept;
  }
  const int64_t left = limit_ - reserved_;
  int64_t budget = std::min(left, size.all_bytes);
  const bool lone = limit_ > 0 && size.block_times > 1 && size.block_bytes <= kLargestLoneBlock;
  if (budget < size.block_bytes && lone) budget = size.block_bytes;
  if (budget < size.block_bytes) return nullptr;
  reserved_ += std::min(left, budget);
  return &kept_.emplace_back(rows, budget, size.all_bytes);
}

}  // namespace isobar
