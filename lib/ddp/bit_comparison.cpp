// SPDX-License-Identifier: Apache-2.0
#include "ddp/bit_comparison.hpp"

#include <isobar/comm/agreement.hpp>
#include <isobar/core/error.hpp>
#include <isobar/core/hash.hpp>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <map>

namespace isobar {
namespace {

/// Every rank's numbers, as many each, in the order of ranks.
std::vector<int64_t> gather(Communicator& group, const std::vector<int64_t>& mine) {
  const auto count = static_cast<int64_t>(mine.size());
  auto gathered = at::empty({count * group.size()}, at::kLong);
  group.all_gather(gathered, at::tensor(mine, at::kLong)).synchronize();
  const auto* first = gathered.const_data_ptr<int64_t>();
  return {first, first + gathered.numel()};
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

/// The place of the value that is there most often; of several such the first.
int most_frequent(const std::vector<int64_t>& values) {
  std::map<int64_t, int> counts;
  for (const int64_t value : values) ++counts[value];
  const auto best = std::max_element(values.begin(), values.end(), [&](int64_t a, int64_t b) {
    return counts.find(a)->second < counts.find(b)->second;
  });
  return static_cast<int>(best - values.begin());
}

}  // namespace

void require_same_hashes(
    Communicator& world, Communicator& group, const std::vector<NamedHash>& mine,
    const std::function<std::string(const std::string&, const std::string&)>& message) {
  const auto digests = gather(group, {digest_of(mine)});
  std::string found;
  if (std::any_of(digests.begin(), digests.end(), [&](auto d) { return d != digests[0]; })) {
    std::vector<int64_t> hashes;
    for (const auto& [name, hash] : mine) hashes.push_back(hash);
    const auto all = gather(group, hashes);
    const int step = world.size() / group.size();
    const int first = world.rank() % step;
    for (size_t i = 0; i < mine.size() && found.empty(); ++i) {
      std::vector<int64_t> of_ranks;
      for (int r = 0; r < group.size(); ++r) of_ranks.push_back(all[r * mine.size() + i]);
      const int usual = most_frequent(of_ranks);
      std::vector<int> others;
      for (int r = 0; r < group.size(); ++r) {
        if (of_ranks[r] != of_ranks[usual]) others.push_back(first + r * step);
      }
      if (others.empty()) continue;
      found =
          message(mine[i].name, detail::join(listed(others), " of ", world.size(),
                                             " differs from that of rank ", first + usual * step));
    }
  }
  // Only the ranks of one group see a difference in it: the world is told.
  run_agreed(world, [&] { ISOBAR_CHECK(found.empty(), found); });
}

}  // namespace isobar
