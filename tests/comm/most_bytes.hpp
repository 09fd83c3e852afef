// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/thread_world.hpp>

#include <atomic>
#include <cstdint>
#include <functional>

#include "comm/carried_communicator.hpp"

namespace isobar::test {

/// The most bytes that one of `size` ranks, which are threads, gives to its collectives and gets
/// from them in `body`.
inline int64_t most_bytes(int size, const std::function<void(Communicator&)>& body) {
  std::atomic<int64_t> most = 0;
  run_ranks(size, [&](Communicator& comm) {
    int64_t bytes = 0;
    const Carrier counts{.there =
                             [&](const at::Tensor& host) {
                               bytes += static_cast<int64_t>(host.nbytes());
                               return host;
                             },
                         .back = [](const at::Tensor&, const at::Tensor&) {}};
    body(*carried(comm.split(0, comm.rank()), counts));
    for (int64_t before = most; before < bytes;) most.compare_exchange_weak(before, bytes);
  });
  return most;
}

}  // namespace isobar::test
