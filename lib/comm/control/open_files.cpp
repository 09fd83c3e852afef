// SPDX-License-Identifier: Apache-2.0
#include "comm/control/open_files.hpp"

#include <isobar/core/error.hpp>
#include <sys/resource.h>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <system_error>

namespace isobar::control {
namespace {

/// For what opens files besides: data, logs, libraries.
constexpr size_t kOthers = 256;

size_t open_now() {
  std::error_code error;
  const std::filesystem::directory_iterator entries("/proc/self/fd", error);
  return error ? 0 : static_cast<size_t>(std::distance(begin(entries), end(entries)));
}

}  // namespace

std::optional<std::string> raise_open_files(int rank, int size) {
  const auto ranks = static_cast<size_t>(size);
  const auto open = open_now();
  const auto needed = open + kOthers + (rank == 0 ? ranks + kMostStrangers : 0);
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return std::nullopt;
  const rlim_t wanted = std::min<rlim_t>(needed + ranks, limit.rlim_max);
  if (limit.rlim_cur < wanted) {
    limit.rlim_cur = wanted;
    setrlimit(RLIMIT_NOFILE, &limit);
    getrlimit(RLIMIT_NOFILE, &limit);
  }
  const auto least = open + ranks + 1;  // without a stranger, and nothing else
  if (rank != 0 || limit.rlim_cur > least) return std::nullopt;
  return detail::join("control connection on rank 0 of ", size, ": may have ", limit.rlim_cur,
                      " open files, wanted ", needed,
                      "; raise the hard limit of this node: ulimit ", "-Hn ", needed,
                      ", or LimitNOFILE of what starts the ranks");
}

size_t most_strangers() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return kMostStrangers;
  return static_cast<size_t>(std::min<rlim_t>(limit.rlim_cur / 4, kMostStrangers));
}

}  // namespace isobar::control
