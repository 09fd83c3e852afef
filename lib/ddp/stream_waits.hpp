// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <c10/core/Device.h>
#include <c10/core/Event.h>

#include <deque>
#include <functional>
#include <vector>

namespace isobar {

/// How long a device has stood still where its current stream was made to wait. The host goes on
/// meanwhile, so its clock does not show it: the device's does, by an event before and one behind.
class StreamWaits {
 public:
  /// `device` is no CPU.
  explicit StreamWaits(const c10::Device& device);

  /// Runs `wait`, which orders the calling thread's current stream. Of one that throws nothing is
  /// measured.
  void measure(const std::function<void()>& wait);

  /// Of all waits that the device has passed, in their order. Never blocks, and throws nothing:
  /// a device that has failed adds nothing any more.
  double seconds() noexcept;

 private:
  struct Wait {
    c10::Event begin, end;
  };

  Wait take();
  void collect();

  c10::Device device_;
  std::deque<Wait> under_way_;
  std::vector<Wait> spare_;
  double seconds_ = 0;
};

}  // namespace isobar
