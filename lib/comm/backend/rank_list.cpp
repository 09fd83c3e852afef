// SPDX-License-Identifier: Apache-2.0
#include "comm/backend/rank_list.hpp"

#include <isobar/core/error.hpp>

namespace isobar {

std::string names_of(const std::vector<int>& ranks, const std::function<std::string(int)>& name,
                     size_t most) {
  std::string text;
  for (size_t i = 0; i < ranks.size() && i < most; ++i) {
    text += (i ? ", " : "") + name(ranks[i]);
  }
  if (ranks.size() > most) text += detail::join(" and ", ranks.size() - most, " more");
  return text;
}

std::string rank_list(const std::vector<int>& ranks, size_t most) {
  if (ranks.empty()) return {};
  const auto numbers = names_of(
      ranks, [](int rank) { return std::to_string(rank); }, most);
  return (ranks.size() == 1 ? "rank " : "ranks ") + numbers;
}

}  // namespace isobar
