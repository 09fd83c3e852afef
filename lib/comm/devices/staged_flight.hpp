// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/communicator.hpp>

#include <atomic>
#include <memory>
#include <mutex>

#include "comm/backend/completion.hpp"
#include "comm/devices/staging.hpp"

namespace isobar {

/// One operation on its way over the host: to the host, exchanged by the inner
/// communicator, and back. Where its tensors are on the CPU only the middle is left.
class StagedFlight {
 public:
  /// `inputs` is where the caller's stream was; null for CPU tensors.
  StagedFlight(Operation operation, std::shared_ptr<Staging> staging, DeviceEvent inputs,
               std::shared_ptr<Completion> completion);

  /// Copies to the host and starts the exchange by `inner`. Blocks while the device comes
  /// to the operation. Throws CommError.
  void depart(Communicator& inner);

  /// After an error: blocks until the device copies neither from nor to the tensors.
  void settle() noexcept;

  /// Blocks until the ranks have exchanged; then starts the copy back. By whoever comes
  /// first. Throws CommError.
  void arrive();

  /// Blocks until the copy back has ended and gives all memory back. Once, after arrive().
  void unload();

  bool on_device() const noexcept { return inputs_ != nullptr; }

  /// depart() has returned.
  bool departed() const noexcept { return departed_; }

  /// The exchange has ended; after departed().
  bool exchanged() const { return on_host_.is_completed(); }

  /// The point behind the copy back; null without one. After arrive().
  DeviceEvent done() const;

  const std::shared_ptr<Completion>& completion() const noexcept { return completion_; }
  const std::shared_ptr<Staging>& staging() const noexcept { return staging_; }

 private:
  bool brings_back() const;
  bool takes_along(const at::Tensor& tensor) const;
  void stage(at::Tensor& tensor, HostCopy& copy);

  Operation operation_;
  std::shared_ptr<Staging> staging_;
  DeviceEvent inputs_;
  std::shared_ptr<Completion> completion_;
  HostCopy input_;
  HostCopy output_;
  Work on_host_;
  /// Of a broadcast from this rank.
  bool is_root_ = false;
  /// The point behind a copy to the host that has not been seen to end.
  DeviceEvent outward_;
  std::atomic<bool> departed_{false};

  mutable std::mutex mutex_;
  bool arrived_ = false;
  DeviceEvent done_;
};

}  // namespace isobar
