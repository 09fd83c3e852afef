// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <thread>

namespace isobar::test {

/// That something has happened on one thread, for others that wait for it: an order of events which
/// no busy machine can change, as it does one that is made by naps.
class SignalFlag {
 public:
  void raise() { raised_ = true; }

  bool is_raised() const { return raised_; }

  /// Gives up after half a minute.
  void await() const {
    for (int i = 0; i < 30'000 && !raised_; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }

 private:
  std::atomic<bool> raised_{false};
};

}  // namespace isobar::test
