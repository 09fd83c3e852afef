// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "comm/carried_communicator.hpp"
#include "comm/devices/api.hpp"

namespace isobar::test {

/// The way of a copy.
enum class Direction { to_host, to_device };

/// One device in memory: a stream is a thread that takes what is put on it in order, so
/// copies of two streams end in any order. Its tensors are of a device type of which
/// LibTorch knows no operation: whoever computes with one on the host throws.
class DeviceDouble {
 public:
  DeviceDouble();
  ~DeviceDouble();
  DeviceDouble(const DeviceDouble&) = delete;
  DeviceDouble& operator=(const DeviceDouble&) = delete;

  std::shared_ptr<const StagingApi> api() const;

  /// A tensor of the device with the values of `host`, and the values of one, at once.
  at::Tensor put(const at::Tensor& host) const;
  at::Tensor get(const at::Tensor& on_device) const;

  /// How long each copy takes, at least.
  void set_delay(std::chrono::microseconds delay);

  /// Copies of that way wait until release().
  void hold(Direction direction);
  void release();

  /// Blocks until so many copies have been put on streams.
  void await_copies(int count) const;

  /// From now on the device answers every question with this error.
  void fail(const std::string& error);

  /// Buffers of host memory made so far.
  int host_allocations() const;

  /// What a device does not do, such as a copy of memory that has been freed.
  std::vector<std::string> violations() const;

  struct State;

 private:
  friend class DeviceStreamOfCaller;
  std::shared_ptr<State> state_;
};

/// For a device double, which LibTorch cannot copy with.
Carrier carrier_of(const DeviceDouble& device);

/// While it lives, the calling thread's current stream; otherwise that is the host itself,
/// where everything is done at once.
class DeviceStreamOfCaller {
 public:
  explicit DeviceStreamOfCaller(DeviceDouble& device);
  ~DeviceStreamOfCaller();
  DeviceStreamOfCaller(const DeviceStreamOfCaller&) = delete;
  DeviceStreamOfCaller& operator=(const DeviceStreamOfCaller&) = delete;

  void put(std::function<void()> work);

  /// From now on it captures, or no longer.
  void capture(bool captures);

  /// Blocks until all that was put on it has ended.
  void synchronize();

 private:
  std::shared_ptr<DeviceDouble::State> state_;
  DeviceStream stream_;
};

}  // namespace isobar::test
