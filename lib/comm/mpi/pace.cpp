// SPDX-License-Identifier: Apache-2.0
#include "comm/mpi/pace.hpp"

#include <isobar/launch/environment.hpp>
#include <sys/prctl.h>

#include <algorithm>
#include <thread>

namespace isobar {
namespace {

using namespace std::chrono_literals;
using std::chrono::microseconds;

/// Where each rank has a core to spare, an answer is looked for this long without a pause.
constexpr auto kSpin = 20us;
/// Ranks of one node copy by themselves, so somebody has work; others' turn comes by yielding.
constexpr auto kCopySpin = 200us;
constexpr auto kShortestNap = 10us;
constexpr auto kLongestNap = 400us;
/// Bytes that no network moves in less than a microsecond for one rank of several.
constexpr int64_t kBytesEachMicrosecond = 4096;

bool has_cores_to_spare() {
  const auto ranks = static_cast<unsigned>(read_launch_environment().local_size);
  return std::thread::hardware_concurrency() > 2 * ranks;
}

}  // namespace

void MpiPace::begin() {
  spins_ = has_cores_to_spare();
  // The system rounds a nap up by 50 us, unless asked not to.
  prctl(PR_SET_TIMERSLACK, 1000UL, 0UL, 0UL, 0UL);
}

void MpiPace::restart() {
  last_moved_ = Clock::now();
  gap_ = Clock::duration{0};
}

void MpiPace::moved() {
  const auto now = Clock::now();
  gap_ = (3 * gap_ + (now - last_moved_)) / 4;
  last_moved_ = now;
}

microseconds MpiPace::nap(const MpiLoad& load) const {
  const auto idle = Clock::now() - last_moved_;
  if ((spins_ && idle < kSpin) || (load.near_bytes > 0 && idle < kCopySpin)) return 0us;
  const Clock::duration moving = microseconds(load.far_bytes / kBytesEachMicrosecond);
  const auto wanted = std::max(std::min(gap_ / 2, moving), idle / 8);
  return std::clamp(std::chrono::duration_cast<microseconds>(wanted), kShortestNap, kLongestNap);
}

}  // namespace isobar
