// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/device_order.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

namespace isobar {

/// What a reducer has put into a device's order: a task a bucket, in the order of the plan. Tasks
/// run on another thread and may refer to whatever outlives this.
class BucketTasks {
 public:
  explicit BucketTasks(std::unique_ptr<DeviceOrder> order);

  /// As clear(). A task that hangs inside NCCL is left behind after some seconds; it comes back
  /// with an exception and touches nothing any more.
  ~BucketTasks();
  BucketTasks(const BucketTasks&) = delete;
  BucketTasks& operator=(const BucketTasks&) = delete;

  /// Of the next bucket. Never blocks; throws as DeviceOrder::push().
  void push(std::function<void()> task);
  int64_t pushed() const { return static_cast<int64_t>(works_.size()); }

  /// Blocks until all tasks have run, and orders the current stream behind what the bucket's put on
  /// its own. Throws CommError with the first cause.
  void wait(int64_t bucket);

  /// Blocks until all tasks have run or the world has failed, and forgets them. In a world that has
  /// failed no task begins afterwards.
  void clear() noexcept;

 private:
  class Gate;

  std::unique_ptr<DeviceOrder> order_;
  std::shared_ptr<Gate> gate_;
  std::vector<Work> works_;  ///< by bucket; empty where the caller's stream is behind it
};

}  // namespace isobar
