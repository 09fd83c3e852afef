// SPDX-License-Identifier: Apache-2.0
#include "comm/backend/naps.hpp"

#include <algorithm>
#include <chrono>
#include <thread>

namespace isobar {

void NapsThatGrow::nap() {
  constexpr int kYields = 20;
  constexpr int kLongest = 500;
  const int step = naps_++ - kYields;
  if (step < 0) return std::this_thread::yield();
  std::this_thread::sleep_for(std::chrono::microseconds(std::min(10 + 5 * step, kLongest)));
}

}  // namespace isobar
