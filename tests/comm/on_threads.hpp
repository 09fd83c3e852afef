// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <exception>
#include <functional>
#include <thread>
#include <vector>

namespace isobar::test {

/// Runs `body` for each rank on a thread of its own; that one throws is a failure of the test.
inline void on_threads(int size, const std::function<void(int rank)>& body) {
  at::set_num_threads(
      at::get_num_threads());  // one thread alone makes a fork's pool, see run_ranks()
  std::vector<std::jthread> threads;
  for (int r = 0; r < size; ++r) {
    threads.emplace_back([&body, r] {
      at::set_num_threads(1);
      try {
        body(r);
      } catch (const std::exception& error) {
        ADD_FAILURE() << "rank " << r << ": " << error.what();
      }
    });
  }
}

}  // namespace isobar::test
