// SPDX-License-Identifier: Apache-2.0
#include "ddp/bit_comparison.hpp"

#include <isobar/comm/agreement.hpp>
#include <isobar/core/error.hpp>
#include <isobar/core/hash.hpp>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>

#include <algorithm>
#include <map>

namespace isobar {
namespace {

/// Every rank's number, in the order of ranks.
std::vector<int64_t> gather(Communicator& group, int64_t mine) {
  auto gathered = at::empty({group.size()}, at::kLong);
  group.all_gather(gathered, at::full({1}, mine, at::kLong)).synchronize();
  const auto* first = gathered.const_data_ptr<int64_t>();
  return {first, first + gathered.numel()};
}

/// The index of the first of the numbers that is not the same on all ranks; none: their count.
/// Where the greatest is the smallest, all are equal.
size_t first_difference(Communicator& group, const std::vector<int64_t>& mine) {
  auto extremes = at::empty({2, static_cast<int64_t>(mine.size())}, at::kLong);
  auto* const greatest = extremes.mutable_data_ptr<int64_t>();
  auto* const smallest = greatest + mine.size();
  for (size_t i = 0; i < mine.size(); ++i) {
    greatest[i] = mine[i];
    smallest[i] = ~mine[i];
  }
  group.allreduce(extremes, ReduceOp::maximum).synchronize();
  size_t index = 0;
  while (index < mine.size() && greatest[index] == ~smallest[index]) ++index;
  return index;
}

/// Whether no rank has found anything.
bool is_nowhere(Communicator& world, const std::string& found) {
  const auto differs = at::full({1}, static_cast<int64_t>(!found.empty()), at::kLong);
  world.allreduce(differs, ReduceOp::maximum).synchronize();
  return *differs.const_data_ptr<int64_t>() == 0;
}

int64_t digest_of(const std::vector<NamedHash>& hashes) {
  uint64_t digest = 0;
  for (const auto& [name, hash] : hashes) {
    digest = splitmix64(digest + kSplitmix64Step) ^ static_cast<uint64_t>(hash);
  }
  return static_cast<int64_t>(digest);
}

std::string listed(const std::vector<int>& ranks) {
  constexpr size_t kMost = 8;
  const size_t shown = std::min(ranks.size(), kMost);
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  for (size_t i = 0; i < shown; ++i) text += detail::join(i > 0 ? ", " : "", ranks[i]);
  if (shown < ranks.size()) text += detail::join(" and ", ranks.size() - shown, " more");
  return text;
}

/// The index of the value that is there most often; of several such the first.
int most_frequent(const std::vector<int64_t>& values) {
  std::map<int64_t, int> counts;
  for (const int64_t value : values) ++counts[value];
  const auto best = std::max_element(values.begin(), values.end(), [&](int64_t a, int64_t b) {
    return counts.find(a)->second < counts.find(b)->second;
  });
  return static_cast<int>(best - values.begin());
}

/// "ranks 1, 2 of 6 differs from that of rank 0" of the hashes of every k-th rank of the world.
std::string outliers(const Communicator& world, const std::vector<int64_t>& of_ranks) {
  const int size = static_cast<int>(of_ranks.size());
  const int step = world.size() / size;
  const int first = world.rank() % step;
  const int usual = most_frequent(of_ranks);
  std::vector<int> others;
  for (int r = 0; r < size; ++r) {
    if (of_ranks[r] != of_ranks[usual]) others.push_back(first + r * step);
  }
  return detail::join(listed(others), " of ", world.size(), " differs from that of rank ",
                      first + usual * step);
}

}  // namespace

// The comparison of many ranks takes what that of few takes: their hashes are reduced, not
// gathered, but for the one tensor whose ranks are named.
void require_same_hashes(
    Communicator& world, Communicator& group, const std::vector<NamedHash>& mine,
    const std::function<std::string(const std::string&, const std::string&)>& message) {
  std::string found;
  if (first_difference(group, {digest_of(mine)}) == 0) {
    std::vector<int64_t> hashes;
    for (const auto& [name, hash] : mine) hashes.push_back(hash);
    const size_t index = first_difference(group, hashes);
    if (index < mine.size()) {
      found = message(mine[index].name, outliers(world, gather(group, hashes[index])));
    }
  }
  // Only the ranks of one group see a difference in it: the world is told.
  if (is_nowhere(world, found)) return;
  run_agreed(world, [&] { ISOBAR_CHECK(found.empty(), found); });
}

}  // namespace isobar
