// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/communicator.hpp>
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <iterator>
#include <thread>

namespace isobar::test {

/// Open descriptors and threads of this process.
inline size_t descriptors_and_threads() {
  size_t count = 0;
  for (const char* folder : {"/proc/self/fd", "/proc/self/task"}) {
    const std::filesystem::directory_iterator entries(folder);
    count += static_cast<size_t>(std::distance(begin(entries), end(entries)));
  }
  return count;
}

/// `act` leaves behind neither, however often it is done after a first time. A thread that has told
/// its end may be there for a moment more.
inline void expect_nothing_left(int times, const std::function<void()>& act) {
  act();
  const auto before = descriptors_and_threads();
  for (int i = 0; i < times; ++i) act();
  for (int i = 0; i < 5000 && descriptors_and_threads() > before; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_LE(descriptors_and_threads(), before);
}

/// Of two ranks: all that makes connections, groups and messages among it.
inline void use_every_connection(Communicator& comm) {
  auto values = at::ones({100});
  comm.split(comm.rank(), 0)->allreduce(values).wait();
  comm.split(0, -comm.rank())->allreduce(values).wait();
  auto sent = comm.send(values, 1 - comm.rank());
  comm.receive(at::empty({100}), 1 - comm.rank()).wait();
  sent.wait();
}

}  // namespace isobar::test
