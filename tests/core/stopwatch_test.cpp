// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/stopwatch.hpp>

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

namespace isobar::stopwatch_test {
namespace {

TEST(Stopwatch, MeasuresAtLeastTheTimeSlept) {
  const Stopwatch watch;
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_GE(watch.elapsed_s(), 0.005);
}

TEST(Stopwatch, SplitsTimeIntoPartsThatAddUp) {
  const Stopwatch whole;
  Stopwatch part;
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  const double first = part.restart();
  const double second = part.restart();
  EXPECT_GE(first, 0.005);
  EXPECT_LE(first + second, whole.elapsed_s());
}

}  // namespace
}  // namespace isobar::stopwatch_test
